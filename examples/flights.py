"""Nodes of several types: which flights are late depends on the plane's age and on the weather where they start and land."""

import numpy as np

import numgraph as ng

rng = np.random.default_rng(0)
flights, airports, planes = 1200, 30, 200
start, end, plane = (rng.integers(0, count, flights) for count in (airports, airports, planes))
weather = rng.normal(size=(airports, 2)).astype(np.float32)  # wind, rain
age = rng.exponential(1, (planes, 1)).astype(np.float32)
hour = rng.uniform(-1, 1, (flights, 1)).astype(np.float32)
late = (weather[start, 0] + weather[end, 1] + age[plane, 0] + hour[:, 0] > 1).astype(int)

each = np.arange(flights)
graph = ng.HeteroGraph(
    {("airport", "start", "flight"): (start, each), ("airport", "end", "flight"): (end, each), ("plane", "of", "flight"): (plane, each)}
).add_reverse_relations()
x = {"airport": weather, "plane": age, "flight": hour}
print(graph)


class Model(ng.nn.Module):
    def __init__(self):
        self.first = ng.nn.HGTConv({kind: array.shape[1] for kind, array in x.items()}, 16, graph.edge_types, heads=2, rng=1)
        self.second = ng.nn.HeteroConv({name: ng.nn.SAGEConv(16, 2, rng=2) for name in ("start", "end", "of")})

    def forward(self, graph, x):
        return self.second(graph, {kind: ng.relu(z) for kind, z in self.first(graph, x).items()})["flight"]


model, train = Model(), each < 600
optimizer = ng.optim.Adam(model.parameters(), lr=0.01)
for _ in range(100):
    with ng.Tape() as tape:
        loss = ng.cross_entropy(model(graph, x), late, train)
    optimizer.step(tape.gradient(loss, optimizer.parameters))
right = model(graph, x).argmax(1) == late
print(f"right about {100 * right[~train].mean():.0f} % of {(~train).sum()} flights, where {100 * (1 - late.mean()):.0f} % are in time")
