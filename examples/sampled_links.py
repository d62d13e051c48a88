"""Link prediction on a graph that is too large for a step: batches of edges, none of which the model sees among its neighbours."""

import numpy as np

import numgraph as ng
from numgraph.training.metrics import link_values

links = ng.data.split_links(ng.data.load("digits"), split=(0.8, 0.1, 0.1), rng=0)
loader = ng.LinkLoader(links, [10, 10], batch_size=512, shuffle=True)
model = ng.nn.SAGE(links.data.num_features, 32, 16, dropout=0.0, rng=0)
optimizer = ng.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(6):
    for batch in loader:
        with ng.Tape() as tape:
            h = model(batch.blocks, batch.x)
            scores = (h[batch.pairs[:, 0]] * h[batch.pairs[:, 1]]).sum(axis=1)
            loss = ng.binary_cross_entropy_with_logits(scores, batch.labels)
        optimizer.step(tape.gradient(loss, model.parameters()))
    print(f"epoch {epoch + 1}: {len(loader)} steps, the last loss {loss.item():.3f}")

h = model.inference(loader)  # of all nodes, layer by layer, with all in-edges that are for training
pairs = np.concatenate([links.test, links.test_negatives])
is_edge = np.arange(len(pairs)) < len(links.test)
print(f"test AUC {link_values(is_edge, (h[pairs[:, 0]] * h[pairs[:, 1]]).sum(axis=1))['auc']:.3f}")

# Walks, as node2vec learns embeddings from, and pairs that are no edges, evenly drawn.
graph = links.data.graph
walks = ng.sampling.random_walk(graph, np.arange(graph.num_nodes), 10, p=0.5, q=2.0, seed=0)
src, dst = ng.sampling.negative_edges(graph, 1000, seed=0)
print(f"{len(walks)} walks; {graph.has_edges(src, dst).sum()} of 1000 negative pairs are edges")
