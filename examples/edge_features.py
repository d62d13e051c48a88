"""Roads as edges with features: attention reads them, and says which of a crossing's roads it looked at."""

import numpy as np

import numgraph as ng

rng = np.random.default_rng(0)
crossings, roads = 300, 1500
graph = ng.Graph(rng.integers(0, crossings, roads), rng.integers(0, crossings, roads), crossings)
kinds, noise = rng.integers(0, 3, roads), rng.standard_normal((roads, 1)).astype(np.float32)  # of each road
x = rng.standard_normal((crossings, 4)).astype(np.float32)

# What is to be learnt: the mean of a feature over the roads of kind 2 that lead to a crossing.
main = (kinds == 2).astype(np.float32)[:, None]
total = ng.update_all(graph, lambda u, e: u.x * e.main, "sum", u={"x": x[:, :1]}, e={"main": main})
count = ng.update_all(graph, lambda e: e.main, "sum", e={"main": main})
wanted, asked = total / np.maximum(count, 1), count[:, 0] > 0


class Model(ng.nn.Module):
    def __init__(self):
        self.kind = ng.nn.Embedding(3, 4, rng=1)
        self.conv = ng.nn.GATConv(4, 8, heads=2, edge_dim=5, add_self_loops=False, rng=2)
        self.out = ng.nn.Linear(16, 1, rng=3)

    def forward(self, g, x, **options):
        return self.conv(g, x, np.concatenate([self.kind(kinds), noise], 1), **options)


model = Model()
opt = ng.optim.Adam(model.parameters(), lr=0.02)
for _ in range(300):
    with ng.Tape() as tape:
        loss = (((model.out(model(graph, x)) - wanted) ** 2) * asked[:, None]).sum() / asked.sum()
    opt.step(tape.gradient(loss, opt.parameters))

_, (_, alpha) = model(graph, x, return_attention_weights=True)
print(f"mean squared error {float(loss.data):.4f}; variance of the target {wanted[asked].var():.3f}")
print(f"mean attention to a road of kind 2: {alpha[kinds == 2].mean():.2f}, of another: {alpha[kinds != 2].mean():.2f}")
