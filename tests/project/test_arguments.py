"""Arguments of a kind that nobody means, one at a time: an error of numgraph's that names the function, the
argument and what to give; nothing comes from inside of NumPy or Python.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import numgraph as ng
from numgraph import data, nn, optim, sampling

G = ng.Graph([0, 1, 2], [1, 2, 0], 3)
X = np.ones((3, 2), np.float32)
DATA = data.Dataset.from_arrays(G, X, np.array([0, 1, 0]), split=(0.4, 0.3, 0.3), rng=0)
RAGGED = [[1, 2], [3]]
SEEDS = {
    "negative": -1,
    "fraction": 2.5,
    "table": np.ones((2, 2, 2)),
    "text": np.array(["a"]),
    "0-d": np.array(3),
}

SEEDED = {
    "Linear": lambda seed: nn.Linear(2, 2, rng=seed),
    "GCNConv": lambda seed: nn.GCNConv(2, 2, rng=seed),
    "GAT": lambda seed: nn.GAT(2, 2, 2, rng=seed),
    "RGCNConv": lambda seed: nn.RGCNConv(2, 2, 2, rng=seed),
    "HGTConv": lambda seed: nn.HGTConv(2, 2, [("a", "r", "b")], rng=seed),
    "Embedding": lambda seed: nn.Embedding(2, 2, rng=seed),
    "ComplEx": lambda seed: nn.ComplEx(2, 2, 2, rng=seed),
    "Dropout": lambda seed: nn.Dropout(rng=seed),
    "from_arrays": lambda seed: data.Dataset.from_arrays(G, X, np.zeros(3, int), rng=seed),
    "split_links": lambda seed: data.split_links(DATA, rng=seed),
    "fit": lambda seed: ng.fit(nn.GCN(2, 2, 2), DATA, epochs=0, seed=seed),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SEEDED)
def test_seeds(name, seed):
    with pytest.raises(
        TypeError, match=rf"{name}: (rng|seed) is .*; give a seed, a whole number of at least 0"
    ):
        SEEDED[name](SEEDS[seed])


SIZED = {
    "Linear": lambda n: nn.Linear(n, 2),
    "GATConv": lambda n: nn.GATConv(2, 2, heads=n),
    "Embedding": lambda n: nn.Embedding(n, 2),
    "RGCNConv": lambda n: nn.RGCNConv(2, 2, n),
    "TransE": lambda n: nn.TransE(4, n),
    "BatchNorm": nn.BatchNorm,
}


@pytest.mark.parametrize("name", SIZED)
def test_sizes_beyond_any_memory(name):
    with pytest.raises(ValueError, match=rf"{name}: \w+ is 1000000.*; no array is that long"):
        SIZED[name](10**30)


CALLS = {
    "GINConv(eps=text)": (lambda: nn.GINConv(nn.Linear(2, 2), eps="a"), "GINConv: eps is 'a'; give a number"),
    "GINEConv(eps=array)": (lambda: nn.GINEConv(nn.Linear(2, 2), eps=X), "GINEConv: eps is a ndarray"),
    "load_pyg": (lambda: nn.load_pyg(nn.Linear(2, 2), None), "load_pyg: the state is None; pass what module"),
    "Embedding of ragged ids": (lambda: nn.Embedding(3, 2)(RAGGED), "Embedding: ids cannot be read"),
    "ComplEx of ragged ids": (lambda: nn.ComplEx(3, 2, 2)(RAGGED, [0], [0]), "ComplEx: h cannot be read"),
    "clip_gradients of numbers": (
        lambda: optim.clip_gradients([1, 2], 1.0),
        r"clip_gradients: grads\[0\] is an int; gradients are arrays",
    ),
    "a measure that is text": (
        lambda: optim.ReduceOnPlateau(optim.Adam(nn.Linear(2, 2).parameters())).step("a"),
        "ReduceOnPlateau.step: measure is 'a'",
    ),
    "a ragged measure": (
        lambda: optim.ReduceOnPlateau(optim.Adam(nn.Linear(2, 2).parameters())).step(RAGGED),
        "ReduceOnPlateau.step: measure is",
    ),
    "ragged parts": (lambda: sampling.ClusterLoader(DATA, RAGGED), "ClusterLoader: parts cannot be read"),
    "no features": (
        lambda: data.Dataset.from_arrays(G, [], np.zeros(3, int)),
        "x has 0 rows, the graph 3 nodes",
    ),
    "read_tu": (lambda: data.read_tu(7), "read_tu: folder is an int; give the path of a folder"),
    "degree_features of none": (lambda: data.degree_features(None), "degree_features: graphs is None"),
    "degree_features of arrays": (lambda: data.degree_features(X), r"degree_features: graphs\[0\] is"),
    "degree_features of width": (lambda: data.degree_features([G], "a"), "degree_features: width is 'a'"),
    "gradient of torch's": (
        lambda: ng.Tape().gradient(np.float32(1), [X]),
        "gradient: loss is a float32, no Tensor of numgraph",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments(name):
    call, words = CALLS[name]
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        call()
    assert not re.search("object has no attribute|not iterable|inhomogeneous shape$", str(caught.value))


TABLES = {
    "a column that is a number": ({"src": [0], "dst": 1}, None, "cannot be read"),
    "nodes without columns": ({"src": [0], "dst": [0]}, {}, "has no columns; its first one is the name"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(name):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    edges, nodes, words = TABLES[name]
    with pytest.raises(ValueError, match=words):
        data.read_tables(edges, nodes)
