"""What typical mistakes are told: the operation, what was given, and what to write instead. A row is a call,
the error's kind, and words of its text; nothing may come from inside of NumPy or Python, and no text is a
list of everything that there is."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp

import numgraph as ng
from numgraph import nn, ops, optim
from numgraph.serialize import load_parameters, save_parameters
from numgraph.training import fit

G = ng.Graph([0, 1, 2, 0, 2], [1, 2, 0, 2, 1], 3)
TWO = ng.Graph([0], [0], num_src=3, num_dst=1)
X = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
W = np.arange(5, dtype=np.float32) + 1
T = ng.Tensor(X)
CSR = sp.csr_array(X)
MODEL = nn.GCN(2, 4, 2, rng=0)
KARATE = ng.data.load("karate")
RELATIONS = ng.HeteroGraph({("a", "to", "b"): ([0], [0])})
EDGE_INDEX = np.array([[0, 1], [1, 2]])


def update(reduce, **fields):
    return ng.update_all(G, lambda u: u.x, reduce, **(fields or {"u": {"x": X}}))


def gradient(inputs):
    with ng.Tape() as tape:
        loss = np.sum(MODEL(G, X))
    return tape.gradient(loss, inputs)


def adam():
    return optim.Adam(MODEL.parameters())


GRAPHS = {
    "Graph(edge_index)": (
        lambda: ng.Graph(EDGE_INDEX),
        TypeError,
        "Graph: there is no dst",
        "from_edge_index",
    ),
    "Graph(edge_index, n)": (
        lambda: ng.Graph(EDGE_INDEX, 2),
        ValueError,
        "Graph: src has shape [2, 2]",
        "from_edge_index",
    ),
    "Graph(A)": (
        lambda: ng.Graph(CSR),
        TypeError,
        "Graph: there is no dst, and src is a csr_array",
        "from_scipy",
    ),
    "Graph(weights)": (
        lambda: ng.Graph([0], [1], [1.0]),
        TypeError,
        "Graph: num_nodes is [1.0]",
        "give a whole number",
    ),
    "Graph(array count)": (
        lambda: ng.Graph([0], [1], X),
        TypeError,
        "Graph: num_nodes is",
        "give a whole number",
    ),
    "names as ids": (
        lambda: ng.Graph(["a"], ["b"]),
        TypeError,
        "Graph: src is <U1, ids must be integers",
        "return_inverse",
    ),
    "NaN as id": (
        lambda: ng.Graph([0, np.nan], [0, 0]),
        TypeError,
        "Graph: src is float64",
        "src[1], which is nan",
    ),
    "id beyond int64": (lambda: ng.Graph([2**70], [0]), TypeError, "Graph: src is object", "ids below 2**63"),
    "transposed": (
        lambda: ng.Graph.from_edge_index(np.zeros((5, 2), int)),
        ValueError,
        "must be [2, num_edges]",
        "edge_index.T",
    ),
    "from_scipy of an array": (
        lambda: ng.Graph.from_scipy(X),
        TypeError,
        "Graph.from_scipy: A is a ndarray",
        "csr_array(A)",
    ),
    "from_networkx of an array": (
        lambda: ng.Graph.from_networkx(X),
        TypeError,
        "G is a ndarray",
        "give a networkx graph",
    ),
    "from_dgl of a Graph": (lambda: ng.Graph.from_dgl(G), TypeError, "G is a Graph", "give a dgl.DGLGraph"),
    "ndata": (
        lambda: G.ndata,
        AttributeError,
        "a Graph has no 'ndata'",
        "update_all(g, message, reduce, u={'x': x})",
    ),
    "update_all of the graph": (
        lambda: G.update_all,
        AttributeError,
        "numgraph.update_all(g, message, reduce",
    ),
    "x of the graph": (lambda: G.x, AttributeError, "a Graph has no 'x'", "u={'x': x}"),
    "edge_index of the graph": (lambda: G.edge_index, AttributeError, "its rows are .src and .dst"),
    "edges of a dataset": (
        lambda: ng.data.load("karate").num_edges,
        AttributeError,
        "a Dataset has no 'num_edges'",
        ".graph.num_edges",
    ),
    "igraph's name": (lambda: G.num_vertices, AttributeError, "it is the property .num_nodes"),
    "labels of a batch": (
        lambda: next(iter(ng.NeighborLoader((G, {"x": X}), [1], batch_size=1))).y,
        AttributeError,
        "a Batch has no 'y'",
        "a batch have them as .labels",
    ),
    "graph of sampled neighbours": (
        lambda: next(iter(ng.NeighborLoader((G, {"x": X}), [1], batch_size=1))).graph,
        AttributeError,
        "has no 'graph'; its blocks are .blocks",
    ),
    "batch of a GraphBatch": (
        lambda: ng.batch([G]).batch,
        AttributeError,
        "a GraphBatch has no 'batch'",
        ".graph_ids",
    ),
    "PyG's pooling": (
        lambda: nn.global_mean_pool,
        AttributeError,
        "numgraph.nn has no 'global_mean_pool'",
        "numgraph.readout(batch, x, 'mean')",
    ),
    "a misspelt property": (lambda: G.num_node, AttributeError, "did you mean 'num_nodes'?"),
    "a device": (lambda: G.to("gpu"), ValueError, "Graph.to: unknown device 'gpu'", "did you mean 'cuda'?"),
    "an order": (
        lambda: G.reorder("rmc"),
        ValueError,
        "Graph.reorder: unknown method 'rmc'",
        "did you mean 'rcm'?",
    ),
    "a list of orders": (lambda: G.reorder(["rcm"]), ValueError, "Graph.reorder: unknown method"),
}
PACKAGE = {
    "fn": (lambda: ng.fn, AttributeError, "numgraph has no 'fn'", "lambda u, e: u.x * e.w"),
    "a layer": (lambda: ng.GCNConv, AttributeError, "it is numgraph.nn.GCNConv"),
    "an optimiser": (lambda: ng.Adam, AttributeError, "it is numgraph.optim.Adam"),
    "an op": (lambda: ng.copy_u_sum, AttributeError, "it is numgraph.ops.copy_u_sum"),
    "a misspelt function": (lambda: ng.crossentropy, AttributeError, "did you mean 'cross_entropy'?"),
    "a misspelt layer": (
        lambda: nn.GCNconv,
        AttributeError,
        "numgraph.nn has no 'GCNconv'",
        "did you mean 'GCNConv'?",
    ),
    "a misspelt optimiser": (lambda: optim.adam, AttributeError, "did you mean 'Adam'?"),
}
MESSAGES = {
    "arguments swapped": (
        lambda: ng.update_all(X, lambda u: u.x, "sum"),
        TypeError,
        "the first argument is a ndarray",
        "numgraph.Graph",
    ),
    "message and reduce swapped": (
        lambda: ng.update_all(G, "sum", lambda u: u.x),
        ValueError,
        "update_all: unknown reduce <lambda>",
    ),
    "np.sum": (
        lambda: update(np.sum),
        ValueError,
        "update_all: unknown reduce sum, which is no string",
        "did you mean 'sum'?",
    ),
    "a misspelt reduce": (lambda: update("summ"), ValueError, "unknown reduce 'summ'", "did you mean 'sum'?"),
    "DGL's reduce": (lambda: update("add"), ValueError, "unknown reduce 'add'", "did you mean 'sum'?"),
    "avg": (lambda: update("avg"), ValueError, "did you mean 'mean'?"),
    "fields without a name": (
        lambda: update("sum", u=X),
        TypeError,
        "update_all: u is a ndarray",
        'u={"x": array}',
    ),
    "a field by number": (
        lambda: update("sum", u={0: X}),
        TypeError,
        "a field of u has the name 0",
        "names are strings",
    ),
    "too few rows": (
        lambda: update("sum", u={"x": X[:2]}),
        ValueError,
        "field u.x has shape (2, 2)",
        "the first axis must be 3",
    ),
}
OPS = {
    "arguments swapped": (
        lambda: ops.copy_u_sum(X, G),
        TypeError,
        "copy_u_sum: g is a ndarray",
        "numgraph.Graph",
    ),
    "an operand": (
        lambda: ops.u_mul_e_sum(G, X, X),
        ValueError,
        "u_mul_e_sum: rhs has shape [3, 2]",
        "num_edges is 5",
    ),
    "no operand": (lambda: ops.copy_u_sum(G, None), TypeError, "copy_u_sum: lhs is None", "[num_src, …]"),
    "a misspelt op": (
        lambda: ops.gspmm(G, "mull", "sum", X, W),
        ValueError,
        "unknown op 'mull'",
        "did you mean 'mul'?",
    ),
    "a function": (
        lambda: ops.gspmm(G, np.multiply, "sum", X, W),
        ValueError,
        "unknown op multiply",
        "did you mean 'mul'?",
    ),
    "a list": (lambda: ops.gspmm(G, ["mul"], "sum", X, W), ValueError, "unknown op of type list"),
    "a target": (
        lambda: ops.gsddmm(G, "dot", X, X, "src", "v"),
        ValueError,
        "unknown lhs_target 'src'",
        "did you mean 'u'?",
    ),
    "norm_by": (
        lambda: ops.edge_softmax(G, W, "in"),
        ValueError,
        "unknown norm_by 'in'",
        "did you mean 'dst'?",
    ),
    "offsets": (lambda: ops.segment_reduce(None, X), TypeError, "segment_reduce: offsets is None"),
    "one graph for many": (
        lambda: ops.csrsum(G, W),
        TypeError,
        "csrsum: graphs is a Graph",
        "give a list of graphs",
    ),
}
LAYERS = {
    "arguments swapped": (
        lambda: MODEL(X, G),
        TypeError,
        "GCN: the first argument is a ndarray",
        "numgraph.Graph",
    ),
    "a transposed x": (
        lambda: nn.GCNConv(2, 2)(G, X.T),
        ValueError,
        "GCNConv: x has shape [2, 3]",
        "x.T has it",
    ),
    "a batch": (
        lambda: MODEL(ng.batch([G, G]), np.ones((2 * len(X), 2))),
        TypeError,
        "is a GraphBatch, a batch of graphs",
        "nn.GraphModel",
    ),
    "readout of uint64": (
        lambda: ng.readout(ng.batch([G]), np.ones((len(X), 2), np.uint64)),
        TypeError,
        "readout: x has dtype uint64",
        "int64",
    ),
    "an edge_index": (
        lambda: nn.GCNConv(2, 2)(EDGE_INDEX, X),
        TypeError,
        "the first argument is a ndarray",
        "numgraph.Graph",
    ),
    "a class": (lambda: nn.GCNConv(G, X), ValueError, "GCNConv: in_features is Graph(", "layer(g, x)"),
    "a string as activation": (
        lambda: nn.GCNConv(2, 2, activation="elu"),
        TypeError,
        "activation is 'elu'",
        "numgraph.elu",
    ),
    "a string as f": (lambda: nn.GINConv("mlp"), TypeError, "GINConv: f is 'mlp'", "MLP([in, hidden, out])"),
    "a norm": (
        lambda: nn.GCNConv(2, 2, norm="sym"),
        ValueError,
        "unknown norm 'sym'",
        "did you mean 'both'?",
    ),
    "a string of aggregators": (
        lambda: nn.PNAConv(2, 2, aggregators="mean"),
        TypeError,
        "aggregators is the string 'mean'",
        "['mean']",
    ),
    "a list of steps": (
        lambda: nn.Sequential([nn.Linear(2, 2)]),
        TypeError,
        "Sequential: step 0 is a list",
        "Sequential(*steps)",
    ),
    "a number as widths": (lambda: nn.MLP(2), TypeError, "MLP: widths is 2", "[in, hidden, out]"),
    "loops of two sets": (
        lambda: nn.GCNConv(2, 2)(TWO, X),
        ValueError,
        "GCNConv: the graph is bipartite",
        "add_self_loops=False",
    ),
    "a state": (
        lambda: MODEL.load_state_dict(MODEL),
        TypeError,
        "load_state_dict: the state is a GCN",
        "state_dict()",
    ),
    "zero_grad": (
        lambda: MODEL.zero_grad(),
        AttributeError,
        "a GCN has no 'zero_grad'",
        "tape.gradient(loss, parameters)",
    ),
}
TENSORS = {
    "a model for parameters": (
        lambda: gradient(MODEL),
        TypeError,
        "gradient: inputs is a GCN",
        "model.parameters()",
    ),
    "a method for parameters": (
        lambda: gradient(MODEL.parameters),
        TypeError,
        "the method parameters",
        "call it",
    ),
    "an array for Tensors": (
        lambda: gradient(X),
        TypeError,
        "gradient: inputs is a ndarray, which no tape watches",
        "what tape.watch(array) returned",
    ),
    "backward": (
        lambda: T.backward(),
        AttributeError,
        "a Tensor has no 'backward'",
        "tape.gradient(loss, parameters)",
    ),
    "grad": (lambda: T.grad, AttributeError, "a Tensor has no 'grad'", "tape.gradient"),
    "no rule": (
        lambda: np.linalg.eig(T),
        TypeError,
        "np.linalg.eig: an argument is a Tensor, and its result is complex",
        "tensor.data",
    ),
    "shapes": (
        lambda: T + np.ones((4, 4)),
        ValueError,
        "add: the shapes of float32[3, 2], float64[4, 4] do not fit",
    ),
    "None": (lambda: T + None, TypeError, "add: it is not defined for float32[3, 2], NoneType"),
}
OPTIMISERS = {
    "Adam(model)": (lambda: optim.Adam(MODEL), TypeError, "Adam: parameters is a GCN", "model.parameters()"),
    "Adam(model.parameters)": (
        lambda: optim.Adam(MODEL.parameters),
        TypeError,
        "the method parameters",
        "model.parameters()",
    ),
    "a group of a model": (
        lambda: optim.Adam([{"params": MODEL}]),
        TypeError,
        "params of group 0 is a GCN",
        "model.parameters()",
    ),
    "betas": (
        lambda: optim.Adam(MODEL.parameters(), betas=0.9),
        TypeError,
        "Adam: betas is 0.9",
        "(0.9, 0.999)",
    ),
    "step of a loss": (
        lambda: adam().step(ng.Tensor(np.float32(1))),
        TypeError,
        "Adam.step: grads is a Tensor",
        "tape.gradient(loss",
    ),
    "step of a dict": (
        lambda: adam().step({}),
        TypeError,
        "Adam.step: grads is a dict",
        "tape.gradient(loss",
    ),
    "zero_grad": (lambda: adam().zero_grad(), AttributeError, "an Adam has no 'zero_grad'", "tape.gradient"),
    "a state": (
        lambda: adam().load_state_dict(None),
        TypeError,
        "Adam.load_state_dict: state is None",
        "state_dict()",
    ),
}
DENSE = {
    "an axis": (
        lambda: ng.softmax(X, 5),
        ValueError,
        "softmax: axis is 5 and x has shape [3, 2]",
        "from -2 to 1",
    ),
    "einsum swapped": (
        lambda: ng.einsum(T, "ij->i"),
        TypeError,
        "einsum: the first argument is a Tensor",
        "the subscripts come first",
    ),
    "einsum's lengths": (
        lambda: ng.einsum("ij,jk->ik", T, T),
        ValueError,
        "einsum: operand 1 has shape [3, 2] for 'jk'",
    ),
    "row ids": (lambda: ng.gather(X, [0.5]), TypeError, "gather: ids have dtype float64"),
    "a number of rows": (
        lambda: ng.scatter_add(X, [0, 1, 2], "3"),
        TypeError,
        "scatter_add: num_rows is '3'",
        "a whole number",
    ),
    "a probability": (
        lambda: ng.dropout(X, "half", np.random.default_rng()),
        ValueError,
        "dropout: p is 'half'",
    ),
    "swapped": (
        lambda: ng.dropout(0.5, X, np.random.default_rng()),
        ValueError,
        "dropout: p is a ndarray of shape [3, 2]",
    ),
    "rows swapped": (
        lambda: ng.scatter_add(3, [0, 1, 2], np.ones((9, 9))),
        TypeError,
        "scatter_add: num_rows is a ndarray of shape [9, 9]",
    ),
    "axes swapped": (
        lambda: ng.softmax(X, np.ones((30, 3))),
        ValueError,
        "softmax: axis is a ndarray of shape [30, 3]",
    ),
    "a slope": (lambda: ng.leaky_relu(X, "a"), TypeError, "leaky_relu: negative_slope is a str"),
    "sparse alpha": (
        lambda: ng.elu(X, CSR),
        TypeError,
        "elu: alpha is a SciPy sparse csr_array",
        "toarray()",
    ),
    "dates": (
        lambda: ng.elu(X, np.array(["2020"], "M8[D]")),
        TypeError,
        "elu: alpha has dtype datetime64[D]",
    ),
}
OPTIONS = {
    "text": "a",
    "None": None,
    "a list": [1, 2],
    "negative": -1.0,
    "NaN": np.nan,
    "infinite": np.inf,
    "an array": np.ones((40, 3)),
}
OPTIONS |= {"complex": 1j, "a type": float, "sparse": CSR}
MEAN, VAR = np.zeros(2, np.float32), np.ones(2, np.float32)
for key, value in OPTIONS.items():
    DENSE[f"layer_norm's eps, {key}"] = (
        lambda v=value: ng.layer_norm(X, eps=v),
        ValueError,
        "layer_norm: eps is ",
        "0 ≤ eps, finite",
    )
    DENSE[f"batch_norm's eps, {key}"] = (
        lambda v=value: ng.batch_norm(X, eps=v),
        ValueError,
        "batch_norm: eps is ",
        "0 ≤ eps, finite",
    )
    DENSE[f"batch_norm's momentum, {key}"] = (
        lambda v=value: ng.batch_norm(X, None, None, MEAN, VAR, momentum=v),
        ValueError,
        "batch_norm: momentum is ",
        "0 ≤ momentum",
    )
for key, value in {
    "text": "a",
    "beyond": 2,
    "before": -3,
    "a list": [0],
    "half": 0.5,
    "a type": int,
    "twice": (0, -2),
    "beyond C": 2**70,
}.items():
    DENSE[f"logsumexp's axis, {key}"] = (
        lambda v=value: ng.logsumexp(X, v),
        ValueError,
        "logsumexp: axis is ",
    )
MANY = {f"layer{i}.weight": X for i in range(2000)}
LONG = {
    "a model of many names": (
        lambda: ng.nn.Linear(2, 2).load_state_dict(MANY),
        ValueError,
        "load_state_dict: ",
        "more characters",
    ),
    "an optimiser of many": (
        lambda: optim.SGD([ng.Parameter(X) for _ in range(900)], momentum=0.9).load_state_dict(
            {"lr": 0.1, "steps": 1, "v.0": X} | {f"velocity.{i}": X for i in range(900)}
        ),
        ValueError,
        "unknown entry 'v.0'",
        "more)",
    ),
    "a name of many lines": (lambda: G.to("cu\nda"), ValueError, "unknown device"),
    "a long name": (lambda: update("sum" * 9000), ValueError, "unknown reduce a str that begins with"),
}
FILES = {
    "a dataset": (lambda: ng.data.load("Cora"), ValueError, "unknown dataset 'Cora'", "did you mean 'cora'?"),
    "a list of datasets": (lambda: ng.data.load(["cora"]), ValueError, "load: unknown dataset"),
    "features of a dataset": (lambda: KARATE.x, AttributeError, "a Dataset has no 'x'", ".features"),
    "a misspelt array": (lambda: KARATE.feature, AttributeError, "did you mean 'features'?"),
    "a model in a file": (
        lambda: save_parameters("a.npz", MODEL),
        TypeError,
        "save: parameters is a GCN",
        "model.parameters()",
    ),
    "swapped": (
        lambda: save_parameters(MODEL.parameters(), "a.npz"),
        TypeError,
        "save: path is a list",
        "comes first",
    ),
    "no file": (
        lambda: load_parameters("no.npz", MODEL.parameters()),
        FileNotFoundError,
        "load: there is no file no.npz",
    ),
    "text among parameters": (lambda: save_parameters("a.npz", {"a": "b"}), TypeError, "save: a is a str"),
    "fit swapped": (
        lambda: fit(MODEL, adam(), KARATE),
        TypeError,
        "fit: dataset is an Adam",
        "numgraph.data.load",
    ),
    "fit a graph": (lambda: fit(MODEL, G), TypeError, "fit: dataset is a Graph", "from_arrays(graph, x, y)"),
    "fit relations": (lambda: fit(MODEL, RELATIONS), TypeError, "fit: dataset is a HeteroGraph", "loop"),
    "fit triples": (
        lambda: fit(MODEL, ng.data.Triples("t", *[np.zeros((1, 3), int)] * 3, ["a", "b"], ["r"])),
        TypeError,
        "fit_triples(model, triples)",
    ),
    "links of a graph": (
        lambda: ng.data.split_links(G),
        TypeError,
        "split_links: data is a Graph",
        "from_arrays(graph, x)",
    ),
    "a layer on relations": (
        lambda: MODEL(RELATIONS, X),
        TypeError,
        "is a HeteroGraph",
        "h['cites']",
        "HeteroConv",
    ),
    "a dict of arrays": (lambda: ng.relu({"a": X}), TypeError, "relu: x is a dict", "x['a']"),
    "a name of a room": (
        lambda: ng.fit_triples,
        AttributeError,
        "numgraph has no 'fit_triples'; it is numgraph.training.fit_triples",
    ),
    "an optimiser of another kind": (
        lambda: optim.SGD(MODEL.parameters()).load_state_dict(adam().state_dict()),
        ValueError,
        "unknown entry 'm.0'",
        "the state of another kind of optimiser",
    ),
    "fit of a function": (
        lambda: fit(lambda g, x: x, KARATE, adam()),
        TypeError,
        "fit: model is a function",
        "numgraph.nn.Module",
    ),
    "fit with a class": (
        lambda: fit(MODEL, KARATE, optim.Adam),
        TypeError,
        "fit: optimizer is the class Adam",
        "model.parameters()",
    ),
    "epochs": (
        lambda: fit(MODEL, KARATE, adam(), epochs=1.5),
        ValueError,
        "fit: epochs is 1.5",
        "a whole number",
    ),
}
TABLES = {
    "graphs": GRAPHS,
    "package": PACKAGE,
    "messages": MESSAGES,
    "ops": OPS,
    "layers": LAYERS,
    "tensors": TENSORS,
}
TABLES |= {"optimisers": OPTIMISERS, "dense": DENSE, "files": FILES, "long": LONG}
CALLS = {f"{topic}: {name}": row for topic, table in TABLES.items() for name, row in table.items()}


@pytest.mark.parametrize("name", CALLS)
def test_says_what_to_do(name):
    call, kind, *words = CALLS[name]
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    for word in words:
        assert word in text, f"{text!r} lacks {word!r}"
    assert type(caught.value) is kind
    assert not re.search(
        "object has no attribute|unsupported operand|not iterable|unhashable|inhomogeneous|ufunc", text
    )
    assert len(text) < (1500 if name.startswith("long") else 400)
    assert "\n" not in text
