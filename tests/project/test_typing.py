"""What a checker of types sees of the public functions: a script that calls them under ``mypy --strict``, and
the type of every result.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, GenericAlias, MethodType

import pytest

import numgraph as ng
import numgraph.training

SETUP = """
import numpy as np
import numgraph as ng
import numgraph.distributed
import numgraph.training
from numpy.typing import NDArray

A = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

def product(x: A, y: ng.Tensor) -> ng.Tensor:
    return (y * x).sum()

def beside(x: ng.Tensor) -> tuple[ng.Tensor, str]:
    return x.sum(), "beside"

def arrays(h: ng.HeteroGraph, a: A, t: ng.Tensor, ids: NDArray[np.int64], one: ng.Array, folder: str) -> None:
    g = ng.Graph([0, 1, 2], [1, 2, 0])
    b = ng.batch([g, g])
    tape = ng.Tape()
    gcn = ng.nn.GCN(4, 8, 2)
    conv = ng.nn.GATConv(4, 2)
    adam = ng.optim.Adam(gcn.parameters())
    data = ng.data.load("karate")
    loader = ng.NeighborLoader(data, [5, 5])
    sample = next(iter(loader))
    pairs = next(iter(ng.LinkLoader(data, [5, 5])))
    graphs = next(iter(ng.GraphLoader([(g, a, 0)])))
    plan = numgraph.distributed.partition(g, 2)
    shared = numgraph.distributed.DistGraph.from_graph(g, None)
    edges = g.add_self_loops(return_edges=True)[1]
"""

CALLS = {
    "Graph": """
        g  g.reverse()  g.add_self_loops()  g.to_bidirected()  g.coalesce()  g.subgraph([0, 1])  g.line_graph()  g.to("cpu")
        g.add_nodes(3)  ng.Graph.from_csr([0, 1], [0], num_dst=1)  b.graph  ng.unbatch(b)[0]
    """,
    "tuple[Graph, EdgeMap]": "g.add_self_loops(return_edges=True)  g.subgraph([0], return_edges=True)",
    "GraphBatch": "b  ng.batch([g])",
    "Adjacency": "g.in_edges  g.out_edges",
    "int": "g.num_nodes  g.num_edges  len(loader)  g.edge_ids(0, 1)  data.num_features",
    "bool": "g.has_edges(0, 1)  g.is_bipartite  gcn.training",
    "bools": "t == a  t != t  t < 1  t >= t",
    "str": "tape.explain()  ng.grad(beside, has_aux=True)(a)[1]  data.name  str(t)",
    "tuple[int, ...]": "t.shape",
    "GCN": "gcn.train()  gcn.eval()  gcn.to('cpu')",
    "ids": (
        "g.src  g.in_degrees()  g.edge_ids([0], [1])  plan  b.graph_ids  ng.sampling.random_walk(g, [0], 3)  "
        "sample.nodes"
    ),
    "array": """
        shared.exchange(a)  shared.total(a)  numgraph.distributed.allreduce(a, None)  edges.gather(a, fill=1.0)
        ng.relu(a)  ng.sigmoid(a)  ng.softmax(a, axis=0)  ng.log_softmax(a)  ng.gelu(a)  ng.elu(a)  ng.softplus(a)  ng.silu(a)
        ng.leaky_relu(a, 0.2)  ng.erf(a)  ng.logsumexp(a)  ng.mse(a, a)  ng.mae(a, a)  ng.huber(a, a, delta=2.0)  ng.matmul(a, a)
        ng.cross_entropy(a, ids)  ng.binary_cross_entropy_with_logits(a, a)  ng.dropout(a, 0.5)  ng.gather(a, ids)  ng.take(a, ids)
        ng.scatter_add(a, ids, 3)  ng.relu([1.0, 2.0])  ng.readout(b, a, "max")  ng.einsum("ij,jk->ik", a, a)
        ng.update_all(g, lambda u: u.x, "sum", u={"x": a})  ng.apply_edges(g, lambda u, e: u.x * e.w, u={"x": a}, e={"w": a})
        ng.attend(g, lambda u: u.s, lambda u: u.x, u={"x": a, "s": a})
        ng.ops.gspmm(g, "mul", "sum", a, a)  ng.ops.gspmm(g, "copy_lhs", "sum", a, None)  ng.ops.gsddmm(g, "dot", a, a)
        ng.ops.edge_softmax(g, a)  ng.ops.segment_reduce([0, 2], a)  ng.ops.segment_softmax([0, 2], a)  ng.ops.u_mul_e_sum(g, a, a)
        ng.ops.copy_u_sum(g, a)  ng.ops.u_dot_v(g, a, a)  ng.ops.copy_e(g, a)  ng.ops.segment_mm(a, a, [0, 2])
        ng.ops.gather_mm(a, a, ids)  ng.ops.csrmm(g, a, g, a)[1]  ng.ops.csrmask(g, a, g)
        tape.gradient(t.sum(), t)  tape.gradient(t.sum(), [t, t])[0]  tape.gradient(t.sum(), {"x": t})["x"]  t.numpy()  t.data
        ng.grad(lambda x: x.sum())(a)  ng.value_and_grad(lambda x: x.sum())(a)[1]  ng.jacobian(lambda x: x)(a)
        ng.grad(product)(a, t)  ng.grad(product, 1)(a, a)  ng.grad(product)(a, y=t)  ng.value_and_grad(product, argnums=(0, 1))(a, t)[1][0]  ng.jacobian(product)(a, t)
        ng.grad(beside, has_aux=True)(a)[0]
        ng.grad(lambda x, y: x.sum(), argnums=(0, 1))(a, a)[0]  data.features  data.labels  sample.x  sample.labels  pairs.pairs  graphs.x
    """,
    "tensor": """
        shared.exchange(t)  numgraph.distributed.replicate(t, None)  edges.gather(t)
        tape.watch(a)  t + 1  1 + t  t * a  t @ t  -t  t[0]  t.T  t.sum()  t.mean(0)  t.reshape(2, 3)  t.astype(np.float64)  t.detach()
        ng.relu(t)  ng.softmax(t)  ng.mse(t, a)  ng.mse(a, t)  ng.cross_entropy(t, ids)  ng.matmul(a, t)  ng.layer_norm(t, t)
        ng.update_all(g, lambda u: u.x, "sum", u={"x": t})  ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": a}, e={"w": t})
        ng.attend(g, lambda u: u.s, lambda u: u.x, u={"x": t, "s": a})  ng.apply_edges(g, lambda u: u.x, u={"x": t})
        ng.ops.gspmm(g, "mul", "sum", a, t)  ng.ops.edge_softmax(g, t)  ng.ops.u_mul_e_sum(g, t, a)  ng.readout(b, t)
        t.mT  t.max()  t.var(0)  t.cumsum()  t.trace()  t.clip(0, 1)  t.dot(t)  t.ravel()  t.squeeze()  t.transpose()  t.take(ids)  t.repeat(2)
        t.round()  t**2  abs(t)  t / 2  2 // t  t.copy()  t.diagonal()  t.swapaxes(0, 1)  list(t)[0]  ng.no_grad()(product)(a, t)
        shared.exchange_ahead(t)  shared.collect(t)  shared.total(t)  ng.ops.segment_reduce([0], t)  ng.ops.csrsum([g], [t])[1]
        gcn(g, t)  conv(g, t)  ng.nn.Linear(3, 4)(t)  ng.detach(t)  ng.nn.RGCNConv(2, 2, 3)(g, t, ids)
    """,
    "array or tensor": """
        gcn(g, a)  gcn(sample.blocks, sample.x, rng=np.random.default_rng(0))  conv(g, a, edge_weight=a)  ng.nn.GCNConv(3, 4)(g, a, a)
        ng.nn.SAGEConv(3, 4)(g, (a, a))  ng.nn.GINConv(lambda x: x)(g, a)  ng.nn.TransformerConv(3, 4)(g, a)  ng.nn.PNAConv(3, 4)(g, a)
        ng.nn.Linear(3, 4)(a)  ng.nn.MLP([3, 4])(a)  ng.nn.BatchNorm(3)(a)  ng.nn.Dropout(0.5)(a)  ng.nn.Embedding(3, 4)(ids)
        ng.nn.Set2Set(3)(b, a)  ng.nn.SortPooling(2)(b, a)  ng.nn.GraphModel(gcn, "sum", ng.nn.Linear(2, 2))(b, a)
        ng.nn.AttentionPooling(3)(b, a)  ng.nn.GraphNorm(3)(b, a)  ng.nn.GAT(3, 4, 2)(g, a)  ng.nn.APPNP()(g, a)  ng.nn.EdgeConv(3, 4)(g, a)
        ng.nn.DistMult(3, 2).score([0], [0], [1])  ng.nn.HGTConv(4, 4, h)(h, {"a": a})["a"]  ng.layer_norm(a, t)
        ng.multi_update_all(h, {"r": (lambda u: u.x, "sum")})["a"]  ng.relu(gcn(g, a))
    """,
    "tuple[array, ...]": 'ng.update_all(g, lambda u: u.x, ("mean", "std"), u={"x": a})',
    "list[Parameter]": "gcn.parameters()",
    "History": "ng.fit(gcn, data)",
    "Dataset": 'data  ng.data.read_tables("edges.csv")',
    "StoredDataset": "ng.data.open_dataset(folder)",
    "Batch": "sample",
    "list[Block]": "sample.blocks",
    "float": "ng.optim.clip_gradients([a], 1.0)  adam.lr  t.item()",
    "None": (
        "adam.step(tape.gradient(t, gcn.parameters()))  ng.save(folder, gcn)  ng.load(folder, gcn)  "
        "ng.data.save(folder, data)"
    ),
    "HeteroGraph": "h.reverse()  h.add_reverse_relations()",
    "list[str]": "h.node_types",
    "NeighborLoader": "loader  numgraph.distributed.divide(loader, None)",
    "EdgeMap": 'edges  edges.to("cpu")',
    "DistGraph": "numgraph.distributed.DistGraph.from_graph(g, None)",
}
"""Calls, by what they give."""

REFUSED = {
    "call-overload": 'ng.grad(product)(a, "text")  ng.value_and_grad(product)(a)',
    "attr-defined": "t.sun()  g.sort()  data.graphs  h.relation  b.number  sample.x0",
}
"""Calls that are wrong, by the kind of error that a checker has for them."""


CONFIG = """
[mypy]
strict = True
follow_imports = silent
ignore_missing_imports = True
[mypy-numba.*,llvmlite.*]
follow_imports = skip
"""
"""What the package itself needs is not looked into, for speed."""


def expressions(text: str) -> list[str]:
    return [call for line in text.splitlines() for call in re.split(r"  +", line.strip()) if call]


def named(revealed: str, array: str) -> str:
    """A type as this table writes it: numbers' arrays are arrays, whatever their dtypes."""
    text = re.sub(r"numgraph(\.\w+)+\.(\w+)", r"\2", revealed.replace(array, "array"))
    text = re.sub(
        r"numpy\.ndarray\[tuple\[Any, \.\.\.\], numpy\.dtype\[numpy\.signedinteger\[(Any|[\w.]+)\]\]\]",
        "ids",
        text,
    )
    text = re.sub(
        r"numpy\.ndarray\[tuple\[Any, \.\.\.\], numpy\.dtype\[numpy\.bool\[bool\]\]\]", "bools", text
    )
    return text.replace("Tensor", "tensor").replace("array | tensor", "array or tensor")


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed: pip install mypy")
def test_no_result_is_any(tmp_path):
    """A script of a user's, in which no result is Any, and each is what the table says."""
    calls = [(call, kind) for kind, text in CALLS.items() for call in expressions(text)]
    refused = [
        f"    {call}  # type: ignore[{kind}]\n"
        for kind, text in REFUSED.items()
        for call in expressions(text)
    ]
    script = SETUP + "    reveal_type(one)\n" + "".join(f"    reveal_type({call})\n" for call, _ in calls)
    script += "".join(refused)  # strict: what would be right without its comment is an error
    (tmp_path / "script.py").write_text(script, "utf-8")
    (tmp_path / "mypy.ini").write_text(CONFIG, "utf-8")
    root = Path(ng.__file__).parents[1]
    environment = os.environ if root.name == "site-packages" else os.environ | {"MYPYPATH": str(root)}
    command = [sys.executable, "-m", "mypy", f"--cache-dir={root / '.mypy_cache' / 'consumer'}", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert not (errors := [line for line in done.stdout.splitlines() if ": error:" in line]), "\n".join(
        errors
    )
    found = re.findall(r'script\.py:(\d+): note: Revealed type is "(.*)"', done.stdout)
    (_, array), *found = found
    assert len(found) == len(calls) > 120
    wrong = [
        f"{call}: {named(got, array)}, not {kind}"
        for (call, kind), (_, got) in zip(calls, found)
        if named(got, array) != kind
    ]
    assert not wrong, "\n".join(wrong)


PLACES = (ng, ng.nn, ng.ops, ng.optim, ng.dense, ng.data, ng.sampling, ng.training, ng.distributed, ng.extend)
MANY = {"reshape", "transpose", "item", "by", "Sequential", "rule"}
"""What takes as many arguments as one likes, by place."""
PUBLIC = [(place, name) for place in PLACES for name in place.__all__ if callable(getattr(place, name))]


@pytest.mark.parametrize(
    ("place", "name"), PUBLIC, ids=[f"{place.__name__}.{name}" for place, name in PUBLIC]
)
def test_help_shows_the_arguments(place, name):
    """Those of functions, of what makes an object, of its methods, and of a layer's call, not ``(*args,
    **options)``; and what functions return.
    """
    found = getattr(place, name)
    if isinstance(found, GenericAlias) or (inspect.isclass(found) and issubclass(found, Exception)):
        return  # Array; an error is made by numgraph alone
    shown = [found] if name != "Module" else []  # whose subclasses have arguments
    if inspect.isclass(found) and issubclass(found, ng.nn.Module) and shown:
        shown.append(found.__call__)
    if inspect.isclass(found):
        public = [getattr(found, method) for method in dir(found) if method[0] != "_"]
        shown += [
            one for one in public if isinstance(one, FunctionType | MethodType) and one.__name__ != "forward"
        ]
    for function in shown:
        signature = inspect.signature(function)
        parameters = [one for one in signature.parameters.values() if one.name != "self"]
        stars = [one for one in parameters if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        assert not stars or len(stars) < len(parameters) or function.__name__ in MANY, (
            f"{function} shows {signature}"
        )
        is_told = inspect.isclass(function) or function.__name__ == "<lambda>"  # a field's default
        assert is_told or signature.return_annotation is not signature.empty, function


def test_a_layer_of_the_users_shows_its_forward():
    class Mine(ng.nn.Module):
        def forward(self, g: ng.Graph, x: ng.Array, scale: float = 2.0) -> ng.Array:
            """Scaled."""
            return x * scale

    assert list(inspect.signature(Mine()).parameters) == ["g", "x", "scale"]
    assert inspect.getdoc(Mine.__call__) == "Scaled."
    assert Mine()(None, 3.0) == 6.0


FUNCTIONS = (
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "sigmoid",
    "erf",
    "softmax",
    "mse",
    "mae",
    "huber",
)
TABLES = [name for name in ng.ops.__all__ if re.fullmatch(r"copy_[uve](_\w+)?|[uve]_\w+_[uve](_\w+)?", name)]


@pytest.mark.parametrize(
    "function", [getattr(ng.ops, name) for name in TABLES] + [getattr(ng, name) for name in FUNCTIONS]
)
def test_functions_say_what_they_take_and_give(function):
    """In NumPy's sections, which DGL's operations have from their tables."""
    said = (
        inspect.getdoc(function).partition("Parameters\n----------\n")[2].partition("\n\nReturns\n-------\n")
    )
    assert re.findall(r"\w+", " ".join(re.findall(r"(?m)^([\w, ]+) : ", said[0]))) == list(
        inspect.signature(function).parameters
    )
    assert said[2]


def test_the_tables_are_whole():
    assert len(TABLES) == 24 + 30 + 3  # reduced, of two operands, copied
