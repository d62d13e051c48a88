"""Early stopping, a callback that ends a training, and one that goes on later from a file."""

import tempfile
from pathlib import Path

import numgraph as ng

data = ng.data.load("karate")
path = Path(tempfile.mkdtemp()) / "training.npz"


def new_model():
    model = ng.nn.GAT(data.num_features, 8, data.num_classes, rng=0)
    return model, ng.optim.Adam(model.parameters(), lr=0.01)


def certain(epoch, history):
    """True ends the training."""
    return history.train_loss[-1] < 0.3


model, optimizer = new_model()
history = ng.fit(model, data, optimizer, epochs=500, patience=100, callback=certain)
print(f"stopped by {history.stopped} after {history.epochs} epochs, the best was {history.best_epoch}")
ng.save(path, model, optimizer)  # parameters, the optimiser's state, the states of random generators

model, optimizer = new_model()
ng.load(path, model, optimizer)
more = ng.fit(model, data, optimizer, epochs=20, seed=1)
print(f"loss {history.train_loss[0]:.2f} at first, {history.train_loss[-1]:.2f} when saved, {more.train_loss[-1]:.2f} after 20 more epochs")
