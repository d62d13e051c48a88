"""A training that goes on from a checkpoint gives what it gives without a stop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import numgraph as ng

DATA = ng.data.load("karate")


def trained(epochs, path=None, *, loader=False, hidden=8, **options):
    model = ng.nn.GCN(DATA.num_features, hidden, DATA.num_classes, rng=0)
    batches = (
        ng.NeighborLoader(DATA, [3, 3], input_nodes=DATA.train_mask, batch_size=1, shuffle=True)
        if loader
        else None
    )
    history = ng.fit(model, DATA, epochs=epochs, checkpoint=path, seed=3, loader=batches, **options)
    return model.state_dict(), history


@pytest.mark.parametrize("loader", [False, True], ids=["whole", "batches"])
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_training_in_two_parts_is_the_training(tmp_path, loader, suffix):
    """With dropout, whose generator is kept; also after a stop between two writings."""
    path = tmp_path / f"point.{suffix}"
    whole, once = trained(12, loader=loader)
    trained(4, path, loader=loader)
    trained(7, path, loader=loader, checkpoint_every=2, callback=lambda epoch, history: epoch == 5)
    parts, again = trained(12, path, loader=loader)
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert dataclasses.replace(once, seconds=0) == dataclasses.replace(again, seconds=0)
    over, same = trained(12, path, loader=loader)
    assert same.epochs == 12
    assert all(np.array_equal(whole[name], over[name]) for name in whole)


def test_a_file_that_does_not_fit_is_an_error(tmp_path):
    path = tmp_path / "point.npz"
    trained(2, path)
    with pytest.raises(ValueError, match=r"weight has shape \(34, 8\) in the file"):
        trained(3, path, hidden=5)
    with pytest.raises(ValueError, match=r"load: .*point.npz is a checkpoint of numgraph.fit"):
        ng.load(path, ng.nn.Linear(1, 1))
    np.savez(path, weight=np.ones(3))
    with pytest.raises(ValueError, match="no checkpoint"):
        trained(3, path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged"):
        trained(3, path)
    with pytest.raises(ValueError, match="checkpoint_every is 0"):
        trained(3, path, checkpoint_every=0)
