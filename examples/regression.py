"""A number for each node, known of some: the heat of a rod that is warm in places, learnt from where the heaters are."""

import numpy as np

import numgraph as ng

rng = np.random.default_rng(0)
n = 400
graph = ng.Graph(np.arange(n - 1), np.arange(1, n), n).to_bidirected()
heaters = (rng.random(n) < 0.2).astype(np.float32)

heat = heaters.copy()  # what is to be learnt: three steps of diffusion
for _ in range(3):
    heat = 0.5 * heat + 0.5 * ng.update_all(graph, lambda u: u.h, "mean", u={"h": heat[:, None]})[:, 0]
known = np.where(rng.random(n) < 0.5, heat, np.nan)  # NaN: to be predicted

data = ng.Dataset.from_arrays(graph, heaters, known, split=(0.8, 0.2, 0.0), rng=0)
model = ng.nn.SAGE(1, 32, 1, layers=3, dropout=0.0, rng=0)
history = ng.fit(model, data, ng.optim.Adam(model.parameters(), lr=0.01), epochs=300, patience=100)

predicted = model(data.graph, data.features)[:, 0]
missing = np.isnan(known)
error = np.sqrt(np.mean((predicted - heat)[missing] ** 2))
print(f"validation R² {max(history.val_score):.3f}")
print(f"root mean squared error {error:.3f} where nothing was known; deviation of the heat {heat.std():.3f}")
