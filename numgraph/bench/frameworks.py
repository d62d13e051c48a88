"""The suite of frameworks: models and messages of torch and JAX on numgraph's kernels, beside what people use
there without it.

Each row computes a loss and its gradients in one framework, three times: by numgraph from the framework's own
arrays, by the framework's usual way (PyG's layers; gather, compute and index_add through torch.compile;
gather and segment_sum under jit), and, where ``native`` is there, by numgraph alone with the tape. All must
agree."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph import data
from numgraph.autodiff.tape import Tape
from numgraph.bench import graphs
from numgraph.bench.report import epoch_header, epoch_line
from numgraph.bench.session import Disagreement, Request, Session, against, difference
from numgraph.dense import dropout
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.message import attend, update_all

Step = Callable[[], list[Any]]
SIZE = (15, 500_000)
"""log2 of nodes, and edges, of the R-MAT graph of these rows: small enough for what the others make of every
edge.
"""
WIDTH, HEADS, CLASSES = 128, 8, 40


@dataclass(frozen=True)
class Compared:
    """What a row runs. Each step gives its loss and gradients as NumPy's arrays; timed: the steps with
    dropout, if the row has it.
    """

    ours: Step
    theirs: Step
    native: Step | None = None
    timed: tuple[Step, Step] | None = None


@dataclass(frozen=True)
class Row:
    """needs: the modules that it imports; peer: what it is compared with; goal: the ratio to reach at the
    default size.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    peer: str
    make: Callable[[Request], Compared]
    goal: float | None = None


def _rmat(request: Request) -> tuple[Graph, np.random.Generator]:
    nodes_log2, edges = (
        SIZE
        if (request.nodes_log2, request.edges) == (17, 2_000_000)
        else (request.nodes_log2, request.edges)
    )
    return graphs.built(
        graphs.rmat(nodes_log2, edges, request.seed, request.edge_order)
    ), np.random.default_rng(request.seed)


# torch: models


def _model(kind: str, widths: tuple[int, int, int]) -> Any:
    """Two of PyG's layers, called with features, an edge index and a function for dropout."""
    import torch
    from torch_geometric.nn import GATConv, GCNConv

    into, hidden, out = widths

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = (
                GCNConv(into, hidden) if kind == "gcn" else GATConv(into, hidden // HEADS, heads=HEADS)
            )
            self.second = GCNConv(hidden, out) if kind == "gcn" else GATConv(hidden, out, heads=1)

        def forward(self, x: Any, index: Any, drop: Callable[[Any], Any]) -> Any:
            activation = torch.relu if kind == "gcn" else torch.nn.functional.elu
            return self.second(drop(activation(self.first(drop(x), index))), index)

    torch.manual_seed(0)
    return Model()


def _training(model: Any, x: Any, index: Any, labels: Any, rows: Any, drop: Callable[[Any], Any]) -> Step:
    import torch

    def step() -> list[Any]:
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x, index, drop)[rows], labels[rows])
        loss.backward()
        return [loss.detach().numpy(), *[p.grad.numpy() for p in model.parameters()]]

    return step


def _models(
    kind: str, task: Callable[[Request], tuple[Graph, Any, Any, Any, int]], hidden: int, p: float = 0.0
) -> Callable[..., Compared]:
    def make(request: Request) -> Compared:
        import torch

        from numgraph.torch import accelerate

        g, features, labels, rows, classes = task(request)
        x, labels, rows = (torch.from_numpy(np.asarray(array)) for array in (features, labels, rows))
        index = torch.from_numpy(np.stack([g.src, g.dst]).astype(np.int64))
        theirs = _model(kind, (x.shape[1], hidden, classes))
        ours = accelerate(copy.deepcopy(theirs))

        def step(model: Any, drop: Callable[[Any], Any]) -> Step:
            return _training(model, x, index, labels, rows, drop)

        checked = step(ours, lambda h: h), step(theirs, lambda h: h)
        dropping = (
            step(ours, lambda h: dropout(h, p, None)),
            step(theirs, lambda h: torch.nn.functional.dropout(h, p)),
        )
        return Compared(*checked, timed=dropping if p else None)

    return make


def _random(request: Request) -> tuple[Graph, Any, Any, Any, int]:
    g, rng = _rmat(request)
    x, labels = rng.standard_normal((g.num_nodes, WIDTH), np.float32), rng.integers(0, CLASSES, g.num_nodes)
    return g, x, labels, np.arange(g.num_nodes), CLASSES


def _cora(request: Request) -> tuple[Graph, Any, Any, Any, int]:
    cora = data.load("cora", request.data_dir)
    return (
        cora.graph,
        cora.features,
        np.asarray(cora.labels, np.int64),
        np.flatnonzero(cora.train_mask),
        cora.num_classes,
    )


# Messages: one function of arrays of any library for numgraph, one of gathered rows for the others


@dataclass(frozen=True)
class _Message:
    """operands: name → (u, v or e, feature shape); numgraph: of graph and arrays; gathered: of a library
    (_Torch, _Jax), src, dst, number of destinations and arrays."""

    operands: Mapping[str, tuple[str, tuple[int, ...]]]
    numgraph: Callable[..., Any]
    gathered: Callable[..., Any]

    def arrays(self, g: Graph, rng: np.random.Generator) -> list[np.ndarray]:
        rows = {"u": g.num_src, "v": g.num_dst, "e": g.num_edges}
        return [
            rng.standard_normal((rows[side], *shape), np.float32) for side, shape in self.operands.values()
        ]

    def native(self, g: Graph, arrays: list[np.ndarray], weights: np.ndarray) -> Step:
        def step() -> list[Any]:
            with Tape() as tape:
                watched = [tape.watch(x) for x in arrays]
                z = self.numgraph(g, *watched)
            return [z.data, *tape.gradient(z, watched, seed=weights)]

        return step


_RELU = _Message(
    {"x": ("u", (64,)), "y": ("v", (64,)), "w": ("e", (1,))},
    lambda g, x, y, w: update_all(
        g, lambda u, v, e: np.maximum(u.x - v.y, 0) * e.w, "sum", u={"x": x}, v={"y": y}, e={"w": w}
    ),
    lambda lib, src, dst, num, x, y, w: lib.total(lib.relu(x[src] - y[dst]) * w, dst, num),
)
_WEIGHTED = _Message(
    {"x": ("u", (64,)), "w": ("e", (1,))},
    lambda g, x, w: update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w}),
    lambda lib, src, dst, num, x, w: lib.total(x[src] * w, dst, num),
)


def _attention(lib: Any, src: Any, dst: Any, num: int, h: Any, el: Any, er: Any) -> Any:
    score = lib.leaky_relu(el[src] + er[dst])
    shifted = lib.exp(score - lib.stopped(lib.largest(score, dst, num))[dst])
    return lib.total(h[src] * (shifted / lib.total(shifted, dst, num)[dst]), dst, num)


_ATTENTION = _Message(
    {"h": ("u", (HEADS, 8)), "el": ("u", (HEADS, 1)), "er": ("v", (HEADS, 1))},
    lambda g, h, el, er: attend(
        g,
        lambda u, v: elementary.leaky_relu(u.el + v.er, 0.2),
        lambda u: u.h,
        u={"h": h, "el": el},
        v={"er": er},
    ),
    _attention,
)


class _Torch:
    """What a message needs besides operators, in torch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.exp, self.relu = torch.exp, torch.relu

    def leaky_relu(self, x: Any) -> Any:
        return self.torch.nn.functional.leaky_relu(x, 0.2)

    def stopped(self, x: Any) -> Any:
        return x.detach()

    def total(self, x: Any, dst: Any, num: int) -> Any:
        return self.torch.zeros((num, *x.shape[1:]), dtype=x.dtype).index_add(0, dst, x)

    def largest(self, x: Any, dst: Any, num: int) -> Any:
        index = dst.reshape(-1, *[1] * (x.ndim - 1)).expand(x.shape)
        return self.torch.full((num, *x.shape[1:]), -np.inf).scatter_reduce(0, index, x, "amax")


class _Jax:
    """The same in JAX."""

    def __init__(self) -> None:
        import jax

        self.jax = jax
        self.exp, self.relu, self.stopped = jax.numpy.exp, jax.nn.relu, jax.lax.stop_gradient

    def leaky_relu(self, x: Any) -> Any:
        return self.jax.nn.leaky_relu(x, 0.2)

    def total(self, x: Any, dst: Any, num: int) -> Any:
        return self.jax.ops.segment_sum(x, dst, num)

    def largest(self, x: Any, dst: Any, num: int) -> Any:
        return self.jax.ops.segment_max(x, dst, num)


def _in_torch(message: _Message) -> Callable[[Request], Compared]:
    def make(request: Request) -> Compared:
        import torch

        g, rng = _rmat(request)
        arrays = message.arrays(g, rng)
        leaves = [torch.from_numpy(x).requires_grad_() for x in arrays]
        src, dst = (torch.from_numpy(np.array(ids, np.int64)) for ids in (g.src, g.dst))
        library = _Torch()
        compiled = torch.compile(lambda *operands: message.gathered(library, src, dst, g.num_dst, *operands))
        weights = rng.standard_normal(message.numgraph(g, *arrays).shape, np.float32)
        seed = torch.from_numpy(weights)

        def step(function: Callable[..., Any]) -> Step:
            def run() -> list[Any]:
                z = function(*leaves)
                return [x.detach().numpy() for x in (z, *torch.autograd.grad(z, leaves, seed))]

            return run

        return Compared(
            step(lambda *operands: message.numgraph(g, *operands)),
            step(compiled),
            message.native(g, arrays, weights),
        )

    return make


def _in_jax(message: _Message) -> Callable[[Request], Compared]:
    def make(request: Request) -> Compared:
        import jax

        g, rng = _rmat(request)
        arrays = message.arrays(g, rng)
        operands = [jax.numpy.asarray(x) for x in arrays]
        src, dst = (jax.numpy.asarray(np.array(ids)) for ids in (g.src, g.dst))
        library = _Jax()
        weights = rng.standard_normal(message.numgraph(g, *arrays).shape, np.float32)
        seed = jax.numpy.asarray(weights)

        def step(function: Callable[..., Any]) -> Step:
            @jax.jit
            def both(seed: Any, *xs: Any) -> Any:
                z, pull = jax.vjp(function, *xs)
                return z, *pull(seed)

            return lambda: [np.asarray(x) for x in jax.block_until_ready(both(seed, *operands))]

        ours = step(lambda *xs: message.numgraph(g, *xs))
        theirs = step(lambda *xs: message.gathered(library, src, dst, g.num_dst, *xs))
        return Compared(ours, theirs, message.native(g, arrays, weights))

    return make


_PYG, _COMPILE, _SEGMENTS = ("torch", "torch_geometric"), ("torch",), ("jax",)

ROWS = {
    row.name: row
    for row in (
        Row("torch_gcn", "R-MAT, GCN 128 → 128 → 40", _PYG, "pyg", _models("gcn", _random, WIDTH), 10),
        Row("torch_gat", "R-MAT, GAT 128 → 8×16 → 40", _PYG, "pyg", _models("gat", _random, WIDTH), 8),
        Row("torch_cora_gcn", "Cora, GCN 16, dropout 0.5", _PYG, "pyg", _models("gcn", _cora, 16, 0.5), 3.5),
        Row("torch_cora_gat", "Cora, GAT 8×8, dropout 0.6", _PYG, "pyg", _models("gat", _cora, 64, 0.6), 2.3),
        Row("torch_u_mul_e", "Σ x_u · w_e", _COMPILE, "torch.compile", _in_torch(_WEIGHTED)),
        Row("torch_relu_sub_mul", "Σ relu(x_u − y_v) · w_e", _COMPILE, "torch.compile", _in_torch(_RELU)),
        Row("torch_attend", "attention, 8 heads × 8", _COMPILE, "torch.compile", _in_torch(_ATTENTION)),
        Row("jax_u_mul_e", "Σ x_u · w_e", _SEGMENTS, "segment_sum", _in_jax(_WEIGHTED)),
        Row("jax_relu_sub_mul", "Σ relu(x_u − y_v) · w_e", _SEGMENTS, "segment_sum", _in_jax(_RELU)),
        Row("jax_attend", "attention, 8 heads × 8", _SEGMENTS, "segment_sum", _in_jax(_ATTENTION)),
    )
}


def run(session: Session) -> list[dict[str, Any]]:
    """One result a row: median milliseconds of a step, the ratio to the peer, and to numgraph without the
    framework.
    """
    rows = session.chosen(ROWS)
    peers = dict.fromkeys(row.peer for row in rows)
    if rows:
        session.say("\nframeworks: forward and backward, in torch and in JAX")
        session.say(epoch_header([*peers, "numgraph alone"]))
    for row in rows:
        try:
            result = _measure(session, row)
        except Disagreement as error:
            session.wrong(error)
            continue
        except (ImportError, OSError) as error:
            session.note(f"{row.name} is left out: {error}")
            continue
        except Exception as error:
            session.failed(error, f"{row.name} is left out")
            continue
        session.say(epoch_line(result, [*peers, "numgraph alone"]))
        session.add("frameworks", result)
    return session.results.get("frameworks", [])


def _measure(session: Session, row: Row) -> dict[str, Any]:
    for module in row.needs:
        __import__(module)
    compared = row.make(session.request)
    ours = compared.ours()
    gap = difference(row.name, row.peer, ours, compared.theirs())
    timed = compared.timed or (compared.ours, compared.theirs)
    for step in timed:
        step()
    facts = session.pair(*timed).facts()
    goal = row.goal if session.at_goal_size() else None
    peers = {row.peer: facts | {"difference": gap} | against(facts["ratio"], goal)}
    if compared.native is not None:
        alone = difference(row.name, "numgraph alone", ours, compared.native())
        peers["numgraph alone"] = session.pair(compared.ours, compared.native).facts() | {"difference": alone}
    return {"row": row.name, "title": row.title, "numgraph_ms": facts["numgraph_ms"], "peers": peers}
