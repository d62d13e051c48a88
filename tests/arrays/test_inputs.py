"""Inputs of every kind, wherever arrays are taken: what NumPy reads gives the numbers of its array,
everything else an error that says what to pass."""

from __future__ import annotations

import array
import re

import numpy as np
import pytest
import scipy.sparse as sp

import numgraph as ng
from numgraph import nn, ops
from numgraph.autodiff.tape import unwrap

G = ng.Graph([0, 1, 2, 0, 2], [1, 2, 0, 2, 1], 3)
X = np.arange(6, dtype=np.float64).reshape(3, 2) + 1
LABELS = np.array([0, 1, 0])
RELATIONS = np.array([0, 1, 0, 1, 1])


class Table:
    """Like a data frame: shape, len and __array__, but names for columns."""

    def __init__(self, values):
        self.values, self.columns = np.asarray(values), ["a"]
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)

    def __getitem__(self, key):
        raise KeyError(key)


class Foreign:
    """Like a tensor of another library on the host: its dtype is none of NumPy's."""

    def __init__(self, values):
        self.values, self.dtype = np.asarray(values), object()
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


class Tracked(Foreign):
    """One that is on its library's own tape."""

    def detach(self):
        return Foreign(self.values)

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("cannot be converted while its gradient is recorded")


TAKEN = {
    "a list": lambda values: values.tolist(),
    "a tuple": lambda values: tuple(values.tolist()),
    "a table": Table,
    "a foreign tensor": Foreign,
    "a masked array without a mask": np.ma.array,
    "memory": memoryview,
    "strided": lambda values: np.repeat(values, 2, 0)[::2],
}
FLAT = {"an array of array": lambda values: array.array(values.dtype.char, values.tolist())}

CALLS = {
    "update_all": (X, lambda x: ng.update_all(G, lambda u: u.x, "sum", u={"x": x})),
    "apply_edges": (X, lambda x: ng.apply_edges(G, lambda u, v: u.x - v.x, u={"x": x}, v={"x": x})),
    "attend": (X, lambda x: ng.attend(G, lambda u: u.x, lambda u: u.x, u={"x": x})),
    "captured": (X[0], lambda w: ng.update_all(G, lambda u: u.x * w, "sum", u={"x": X})),
    "copy_u_sum": (X, lambda x: ops.copy_u_sum(G, x)),
    "u_dot_v": (X, lambda x: ops.u_dot_v(G, x, x)),
    "edge_softmax": (np.arange(5.0), lambda s: ops.edge_softmax(G, s)),
    "segment_reduce": (X, lambda x: ops.segment_reduce([0, 1, 3], x)),
    "segment_mm": (X, lambda a: ops.segment_mm(a, np.ones((1, 2, 2)), [0, 3])),
    "csrmask": (np.arange(5.0), lambda w: ops.csrmask(G, w, G)),
    "GCNConv": (X, lambda x: nn.GCNConv(2, 2, rng=0)(G, x)),
    "SAGEConv": (X, lambda x: nn.SAGEConv(2, 2, rng=0)(G, x)),
    "SAGEConv of a pair": (X, lambda x: nn.SAGEConv((2, 2), 2, rng=0)(G, (x, x))),
    "GATConv": (X, lambda x: nn.GATConv(2, 2, rng=0)(G, x)),
    "GATv2Conv": (X, lambda x: nn.GATv2Conv(2, 2, rng=0)(G, x)),
    "GINConv": (X, lambda x: nn.GINConv(nn.MLP([2, 2], rng=0))(G, x)),
    "EdgeConv": (X, lambda x: nn.EdgeConv(2, 2, rng=0)(G, x)),
    "TransformerConv": (X, lambda x: nn.TransformerConv(2, 2, rng=0)(G, x)),
    "SGConv": (X, lambda x: nn.SGConv(2, 2, rng=0)(G, x)),
    "APPNP": (X, lambda x: nn.APPNP()(G, x)),
    "RGCNConv": (X, lambda x: nn.RGCNConv(2, 2, 2, rng=0)(G, x, RELATIONS)),
    "PNAConv": (X, lambda x: nn.PNAConv(2, 2, rng=0)(G, x)),
    "GCN": (X, lambda x: nn.GCN(2, 2, 2, rng=0).eval()(G, x)),
    "Linear": (X, lambda x: nn.Linear(2, 2, rng=0)(x)),
    "LayerNorm": (X, lambda x: nn.LayerNorm(2)(x)),
    "BatchNorm": (X, lambda x: nn.BatchNorm(2)(x)),
    "edge_weight": (np.arange(5.0), lambda w: nn.GCNConv(2, 2, rng=0)(G, X, w)),
    "relations": (RELATIONS, lambda r: nn.RGCNConv(2, 2, 2, rng=0)(G, X, r)),
    "labels": (LABELS, lambda y: ng.cross_entropy(X, y)),
    "row mask": (np.array([True, False, True]), lambda rows: ng.cross_entropy(X, LABELS, rows)),
    "row ids": (np.array([2, 0]), lambda rows: ng.cross_entropy(X, LABELS, rows)),
    "logits": (X, lambda x: ng.cross_entropy(x, LABELS)),
    "mse": (X, lambda x: ng.mse(x, X * 2)),
    "targets": (X, lambda x: ng.mse(X * 2, x)),
    "binary cross entropy": (X, lambda x: ng.binary_cross_entropy_with_logits(X, x)),
    "softmax": (X, lambda x: ng.softmax(x)),
    "log_softmax": (X, lambda x: ng.log_softmax(x)),
    "logsumexp": (X, lambda x: ng.logsumexp(x)),
    "layer_norm": (X, lambda x: ng.layer_norm(x)),
    "relu": (X, lambda x: ng.relu(x)),
    "gelu": (X, lambda x: ng.gelu(x)),
    "sigmoid": (X, lambda x: ng.sigmoid(x)),
    "erf": (X, lambda x: ng.erf(x)),
    "matmul": (X, lambda x: ng.matmul(x, X.T)),
    "dropout": (X, lambda x: ng.dropout(x, 0.5, np.random.default_rng(0))),
    "gather": (X, lambda x: ng.gather(x, [0, 2])),
    "gather's ids": (np.array([0, 2]), lambda ids: ng.gather(X, ids)),
    "scatter_add": (X, lambda x: ng.scatter_add(x, [0, 2, 0], 3)),
    "scatter_add's ids": (np.array([0, 2, 0]), lambda ids: ng.scatter_add(X, ids, 3)),
    "Graph": (np.array([0, 1, 2]), lambda ids: ng.Graph(ids, [0, 0, 0]).src),
    "from_csr": (np.array([0, 1, 2]), lambda indptr: ng.Graph.from_csr(indptr, [0, 0], num_dst=2).dst),
    "from_edge_index": (np.array([[0, 1], [1, 0]]), lambda ids: ng.Graph.from_edge_index(ids).src),
    "subgraph": (np.array([0, 2]), lambda nodes: G.subgraph(nodes).src),
    "offsets": (np.array([0, 1, 3]), lambda offsets: ops.segment_reduce(offsets, X)),
    "idx_b": (np.array([0, 1, 0]), lambda ids: ops.gather_mm(X, np.ones((2, 2, 2)), ids)),
}


@pytest.mark.parametrize("name", CALLS)
def test_whatever_numpy_reads_is_taken(name):
    value, call = CALLS[name]
    want = unwrap(call(value))
    for kind, make in (TAKEN | FLAT if value.ndim == 1 and value.dtype != bool else TAKEN).items():
        if name == "SAGEConv of a pair" or not (
            kind == "a tuple" and "Conv" in name and value is X
        ):  # two rows of a tuple are a pair
            np.testing.assert_array_equal(unwrap(call(make(value))), want, err_msg=kind)


def empty():
    yield from ()


REFUSED = {
    "None": (None, "None|array"),
    "a string": ("abc", "a str"),
    "bytes": (b"abc", "a bytes"),
    "a dict": ({"x": X}, "a dict"),
    "a set": ({1, 2}, "a set"),
    "a generator": (empty(), r"a generator.*np\.array\(list\("),
    "an iterator": (iter([1, 2, 3]), r"a list_iterator.*np\.array\(list\("),
    "a ragged list": ([[1.0], [1.0, 2.0], [3.0]], "cannot be read as an array.*one length"),
    "a graph": (G, "a Graph"),
    "a class": (dict, "the class dict"),
    "a lambda": (empty, "a function"),
    "an object": (object(), "an object"),
    "names": (["a", "b", "c"], "<U1"),
    "objects": (np.array([1, None, 2], object), "object"),
    "dates": (np.array(["2020-01-01"] * 3, "M8[D]"), "datetime64"),
    "records": (np.zeros(3, [("a", float)]), "'a'"),
    "masked": (np.ma.array([1, 2, 0], mask=[0, 1, 0]), r"a masked array.*\.filled\(0\)"),
    "a tensor on its own tape": (Tracked([[1.0, 2.0]]), r"\.detach\(\)\.numpy\(\)"),
}
OPTIONAL = ("row mask", "row ids", "edge_weight")
"""Where None has a meaning."""


@pytest.mark.parametrize("kind", REFUSED)
def test_everything_else_is_refused(kind):
    value, words = REFUSED[kind]
    for name, (_, call) in CALLS.items():
        if value is None and name in OPTIONAL:
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            call(value)
        text = str(caught.value)
        assert re.search(f"{words}|must have 2 axes", text), f"{name}: {text}"
        assert re.match(r"[\w.]+: ", text), f"{name}: {text}"
        assert not re.search(r"ufunc|int\(\)|object has no attribute|unhashable|loop of", text), (
            f"{name}: {text}"
        )


SPARSE = (
    "GCNConv",
    "SAGEConv",
    "SAGEConv of a pair",
    "GATConv",
    "GATv2Conv",
    "GINConv",
    "EdgeConv",
    "TransformerConv",
    "SGConv",
)
SPARSE += ("RGCNConv", "PNAConv", "GCN", "Linear", "matmul", "dropout")
"""What takes sparse matrices."""


@pytest.mark.parametrize("sparse", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_arrays(sparse):
    for name, (_, call) in CALLS.items():
        if name == "dropout":
            assert sp.issparse(call(sparse(X)))
        elif name in SPARSE:
            np.testing.assert_allclose(
                unwrap(call(sparse(X))), unwrap(call(X)), rtol=1e-6, atol=1e-6, err_msg=name
            )
        else:
            with pytest.raises(TypeError, match=r"a SciPy sparse c.*\.toarray\(\)"):
                call(sparse(X))


def test_the_fix_is_written_as_the_caller_wrote_it():
    """A field's name is how the caller wrote it: the fix says x, not u.x."""
    with pytest.raises(
        TypeError,
        match=re.escape(
            "update_all: field u.x is a SciPy sparse csr_array of shape [3, 2]; give x.toarray()"
        ),
    ):
        ng.update_all(G, lambda u: u.x, "sum", u={"x": sp.csr_array(X)})
