"""Which edges are missing? A tenth of the edges is held out, and told from pairs of nodes without an edge."""

import numpy as np

import numgraph as ng
from numgraph.training.metrics import link_values

data = ng.data.load("digits")
links = ng.data.split_links(data, split=(0.8, 0.1, 0.1), rng=0)
print(links)

# ⟨h_u, h_v⟩ is the score of an edge between u and v, h what the model gives. It sees the edges for training alone.
model = ng.nn.GCN(data.num_features, 32, 16, dropout=0.0, rng=0)
history = ng.fit(model, links, epochs=60, patience=20)
print(f"validation AUC {max(history.val_score):.3f} in epoch {history.best_epoch}")

h = model(links.data.graph, data.features)
pairs = np.concatenate([links.test, links.test_negatives])
scores = (h[pairs[:, 0]] * h[pairs[:, 1]]).sum(axis=1)
is_edge = np.arange(len(pairs)) < len(links.test)
values = link_values(is_edge, scores)
print(f"test AUC {values['auc']:.3f}, average precision {values['average_precision']:.3f}")
