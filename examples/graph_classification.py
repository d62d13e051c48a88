"""A class for each graph: is it a ring, or a chain? A step over a batch of graphs, then the maximum over each graph's nodes."""

import numpy as np

import numgraph as ng

rng = np.random.default_rng(0)
items = []
for label in rng.integers(0, 2, 260):
    n = int(rng.integers(5, 20))
    nodes = np.arange(n) if label else np.arange(n - 1)  # a ring has the edge from the last node to the first
    graph = ng.Graph(nodes, (nodes + 1) % n, n).to_bidirected()
    items.append((graph, rng.normal(1, 0.1, (n, 1)).astype(np.float32), label))

gnn = ng.nn.GIN(1, 16, 16, layers=2, dropout=0.0, rng=0)
head = ng.nn.Linear(16, 2, rng=1)
optimizer = ng.optim.Adam([*gnn.parameters(), *head.parameters()], lr=0.01)


def scores(batch):
    return head(ng.readout(batch, gnn(batch.graph, batch.x), "max"))


for _ in range(30):
    for batch in ng.GraphLoader(items[:200], 32, shuffle=True):
        with ng.Tape() as tape:
            loss = ng.cross_entropy(scores(batch), batch.labels)
        optimizer.step(tape.gradient(loss, optimizer.parameters))

(test,) = ng.GraphLoader(items[200:], 60)
right = np.mean(scores(test).argmax(1) == test.labels)
print(f"right about {100 * right:.0f} % of {len(test)} graphs that were not learnt from")
