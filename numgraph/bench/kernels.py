"""The kernel table: each row an operation, its formulation in every library that has one, and the bytes that
it has to move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numgraph import ops
from numgraph.autodiff.tape import Tape, record
from numgraph.bench import gpu
from numgraph.bench.peers import Operands, Runs
from numgraph.expressions import elementary
from numgraph.graph import Graph
from numgraph.message import attend, update_all

HEADS = 8


@dataclass(frozen=True)
class Traffic:
    """Float32 values that one pass must read and write, if nothing but a row's accumulators is kept on the
    chip.

    gathered: an edge, from the node at its far end · edges: an edge, of edge data · rows: a node · walks: how
    often the graph's structure is read (4 bytes an edge and a node, and 4 more an edge for its id where edge
    data is not in in-edge order) · flops: an edge, an exponential counted as one.
    """

    gathered: float = 0
    edges: float = 0
    rows: float = 0
    walks: int = 1
    flops: float = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def bytes(self, g: Graph, in_order: bool) -> int:
        ids = 2 if self.edges and not in_order else 1
        per_edge = self.gathered + self.edges + ids * self.walks
        return int(4 * (g.num_edges * per_edge + g.num_nodes * (self.rows + self.walks)))


@dataclass(frozen=True)
class Product:
    """A row that is the product of the adjacency matrix and a dense one: the operand names of the dense one
    and of the matrix's values.
    """

    x: str = "x"
    values: str | None = None


Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Row:
    """operands: of F, name → (u, v or e, feature shape), all with gradients; numgraph, dgl, pyg: functions of
    the library's graph and the operands in order; product: for SciPy, MKL, torch and cuSPARSE; forward,
    backward: of F, what a pass moves; goals: (peer, pass, F) → ratio. device_features, device_goals: the same
    on a device."""

    name: str
    formula: str
    operands: Callable[[int], Shapes]
    numgraph: Callable[..., Any]
    forward: Callable[[int], Traffic]
    backward: Callable[[int], Traffic]
    dgl: Callable[..., Any] | None = None
    pyg: Callable[..., Any] | None = None
    product: Product | None = None
    features: tuple[int, ...] = (64,)
    goals: Mapping[tuple[str, str, int | None], float] = field(
        default_factory=dict
    )  # F None: at each of ``features``
    device_features: tuple[int, ...] = (64,)
    device_goals: Mapping[tuple[str, str], float] = field(
        default_factory=dict
    )  # (peer, pass) → ratio, at every F

    def goal(self, peer: str, kind: str, features: int, device: str = "cpu") -> float | None:
        if device != "cpu":
            return self.device_goals.get((peer, kind))
        everywhere = self.goals.get((peer, kind, None)) if features in self.features else None
        return self.goals.get((peer, kind, features), everywhere)


def _dgl(name: str) -> Callable[..., Any]:
    """DGL's operator of that name."""

    def run(graph: Any, *operands: Any) -> Any:
        import dgl.ops

        return getattr(dgl.ops, name)(graph, *operands)

    return run


def _dgl_gat(graph: Any, h: Any, el: Any, er: Any) -> Any:
    import dgl.ops
    import torch

    scores = torch.nn.functional.leaky_relu(dgl.ops.u_add_v(graph, el, er), 0.2)
    return dgl.ops.u_mul_e_sum(graph, h, dgl.ops.edge_softmax(graph, scores))


def _dgl_relu(graph: Any, x: Any, y: Any, w: Any) -> Any:
    import dgl.ops

    return dgl.ops.copy_e_sum(graph, dgl.ops.u_sub_v(graph, x, y).relu() * w)


def _softmax(graph: Any, scores: Any) -> Any:
    return graph.softmax(scores, graph.dst, graph.num_nodes)


def _pyg_gat(graph: Any, h: Any, el: Any, er: Any) -> Any:
    import torch

    scores = torch.nn.functional.leaky_relu(
        el.index_select(0, graph.src) + er.index_select(0, graph.dst), 0.2
    )
    return _scatter(graph, h.index_select(0, graph.src) * _softmax(graph, scores))


def _scatter(graph: Any, messages: Any, reduce: str = "sum") -> Any:
    return graph.scatter(messages, graph.dst, 0, graph.num_nodes, reduce)


def _gather(graph: Any, x: Any) -> Any:
    return x.index_select(0, graph.src)


def _by_head(f: int) -> tuple[int, int]:
    return HEADS, f // HEADS


ROWS = {
    row.name: row
    for row in (
        Row(
            "copy_u_sum",
            "Σ x_u",
            lambda f: {"x": ("u", (f,))},
            ops.copy_u_sum,
            lambda f: Traffic(gathered=f, rows=f, flops=f),
            lambda f: Traffic(gathered=f, rows=f, flops=f),
            dgl=_dgl("copy_u_sum"),
            pyg=lambda g, x: _scatter(g, _gather(g, x)),
            product=Product(),
            features=(16, 64, 128, 256),
            goals={("mkl", "forward", None): 1.0, ("dgl", "forward", None): 1.4, ("dgl", "both", 64): 1.5},
            device_features=gpu.FEATURES,
            device_goals={("cusparse", "forward"): 1.0, ("torch", "forward"): 1.0},
        ),
        Row(
            "copy_u_max",
            "max x_u",
            lambda f: {"x": ("u", (f,))},
            ops.copy_u_max,
            lambda f: Traffic(gathered=f, rows=f, flops=f),
            lambda f: Traffic(
                gathered=2 * f, rows=2 * f, flops=f
            ),  # g and the winning edges; those were written in the forward
            dgl=_dgl("copy_u_max"),
            pyg=lambda g, x: _scatter(g, _gather(g, x), "max"),
            goals={("dgl", "both", None): 1.5},
        ),
        Row(
            "u_mul_e_sum",
            "Σ x_u · w_e, a weight an edge",
            lambda f: {"x": ("u", (f,)), "w": ("e", (1,))},
            ops.u_mul_e_sum,
            lambda f: Traffic(gathered=f, edges=1, rows=f, flops=2 * f),
            lambda f: Traffic(gathered=2 * f, edges=2, rows=2 * f, walks=2, flops=4 * f),
            dgl=_dgl("u_mul_e_sum"),
            pyg=lambda g, x, w: _scatter(g, _gather(g, x) * w),
            product=Product(values="w"),
            goals={("dgl", "both", None): 6},
            device_features=gpu.FEATURES,
            device_goals={("cusparse", "forward"): 1.0, ("torch", "forward"): 1.0},
        ),
        Row(
            "u_mul_e_sum_heads",
            "Σ x_u · w_e, 8 heads",
            lambda f: {"x": ("u", _by_head(f)), "w": ("e", (HEADS, 1))},
            ops.u_mul_e_sum,
            lambda f: Traffic(gathered=f, edges=HEADS, rows=f, flops=2 * f),
            lambda f: Traffic(gathered=2 * f, edges=2 * HEADS, rows=2 * f, walks=2, flops=4 * f),
            dgl=_dgl("u_mul_e_sum"),
            pyg=lambda g, x, w: _scatter(g, _gather(g, x) * w),
            goals={("dgl", "both", None): 5},
        ),
        Row(
            "u_mul_e_sum_vector",
            "Σ x_u · w_e, F weights an edge",
            lambda f: {"x": ("u", (f,)), "w": ("e", (f,))},
            ops.u_mul_e_sum,
            lambda f: Traffic(gathered=f, edges=f, rows=f, flops=2 * f),
            lambda f: Traffic(gathered=2 * f, edges=2 * f, rows=2 * f, walks=2, flops=3 * f),
            dgl=_dgl("u_mul_e_sum"),
            pyg=lambda g, x, w: _scatter(g, _gather(g, x) * w),
            goals={("dgl", "both", None): 3},
        ),
        Row(
            "copy_e_sum",
            "Σ w_e",
            lambda f: {"w": ("e", (f,))},
            ops.copy_e_sum,
            lambda f: Traffic(edges=f, rows=f, flops=f),
            lambda f: Traffic(edges=f, rows=f),
            dgl=_dgl("copy_e_sum"),
            pyg=lambda g, w: _scatter(g, w),
            goals={("dgl", "both", None): 3},
        ),
        Row(
            "u_dot_v",
            "⟨x_u, y_v⟩ on edges",
            lambda f: {"x": ("u", (f,)), "y": ("v", (f,))},
            ops.u_dot_v,
            lambda f: Traffic(gathered=f, edges=1, rows=f, flops=2 * f),
            lambda f: Traffic(gathered=2 * f, edges=2, rows=2 * f, walks=2, flops=4 * f),
            dgl=_dgl("u_dot_v"),
            pyg=lambda g, x, y: (_gather(g, x) * y.index_select(0, g.dst)).sum(-1, keepdim=True),
            goals={("dgl", "both", None): 5},
        ),
        Row(
            "edge_softmax",
            "softmax_v(s_e), 8 heads",
            lambda f: {"scores": ("e", (HEADS, 1))},
            ops.edge_softmax,
            lambda f: Traffic(edges=2 * HEADS, flops=4 * HEADS),
            lambda f: Traffic(edges=3 * HEADS, flops=4 * HEADS),
            dgl=_dgl("edge_softmax"),
            pyg=_softmax,
            features=(HEADS,),
            device_features=(HEADS,),
            goals={("dgl", "both", None): 4},
        ),
        Row(
            "gat",
            "Σ softmax_v(leaky_relu(l_u + r_v)) · h_u, 8 heads",
            lambda f: {"h": ("u", _by_head(f)), "el": ("u", (HEADS, 1)), "er": ("v", (HEADS, 1))},
            lambda g, h, el, er: attend(
                g,
                lambda u, v: elementary.leaky_relu(u.el + v.er, 0.2),
                lambda u: u.h,
                u={"h": h, "el": el},
                v={"er": er},
            ),
            lambda f: Traffic(
                gathered=f + HEADS, rows=f + 3 * HEADS, flops=2 * f + 6 * HEADS
            ),  # rows: z, er, maximum and sum
            # in-edges gather h and el for ∂er; out-edges gather g, er, ⟨g, z⟩ and the softmax's shift and
            # scale for ∂h and ∂el
            lambda f: Traffic(
                gathered=2 * f + 5 * HEADS, rows=4 * f + 7 * HEADS, walks=2, flops=6 * f + 18 * HEADS
            ),
            dgl=_dgl_gat,
            pyg=_pyg_gat,
            goals={("dgl", "both", None): 10},
            device_features=gpu.FEATURES,
            device_goals={("pyg", "both"): 5},
        ),
        Row(
            "relu_sub_mul",
            "Σ relu(x_u − y_v) · w_e",
            lambda f: {"x": ("u", (f,)), "y": ("v", (f,)), "w": ("e", (1,))},
            lambda g, x, y, w: update_all(
                g, lambda u, v, e: elementary.relu(u.x - v.y) * e.w, "sum", u={"x": x}, v={"y": y}, e={"w": w}
            ),
            lambda f: Traffic(gathered=f, edges=1, rows=2 * f, flops=4 * f),
            # in-edges: x_u against y, g, for ∂y and ∂w; out-edges: y_v and g_v against x, for ∂x
            lambda f: Traffic(gathered=3 * f, edges=3, rows=5 * f, walks=2, flops=10 * f),
            dgl=_dgl_relu,
            pyg=lambda g, x, y, w: _scatter(g, (_gather(g, x) - y.index_select(0, g.dst)).relu() * w),
            goals={("dgl", "both", None): 15},
            device_features=gpu.FEATURES,
            device_goals={("pyg", "both"): 10},
        ),
    )
}


def make_operands(row: Row, g: Graph, features: int, seed: int = 0) -> Operands:
    """Normal random numbers, float32."""
    rng = np.random.default_rng(seed)
    rows = {"u": g.num_src, "v": g.num_dst, "e": g.num_edges}
    return {
        name: rng.standard_normal((rows[side], *shape), np.float32)
        for name, (side, shape) in row.operands(features).items()
    }


def output_gradient(g: Graph, z: np.ndarray, seed: int = 1) -> np.ndarray:
    """Random numbers of the output's shape, 0 for destinations without in-edges: DGL's max gives those rows'
    gradients to node 0.
    """
    gradient = np.random.default_rng(seed).standard_normal(z.shape, np.float32)
    if len(z) == g.num_dst:
        gradient[g.in_degrees() == 0] = 0
    return gradient


def numgraph_runs(row: Row, g: Graph, operands: Operands, seed: np.ndarray) -> Runs:
    def both() -> list[Any]:
        with Tape() as tape:
            watched = {name: tape.watch(array) for name, array in operands.items()}
            z = row.numgraph(g, *watched.values())
            loss = _starting_from(z, seed)
        return [z.data, *tape.gradient(loss, list(watched.values()))]

    return Runs(lambda: [row.numgraph(g, *operands.values())], both)


def _starting_from(z: Any, gradient: np.ndarray) -> Any:
    """A scalar whose gradient with respect to z is the given one, as torch's
    ``autograd.grad(z, inputs, gradient)`` starts.
    """
    return record(
        "start", [z], np.zeros((), gradient.dtype), lambda grads, inputs, outputs, needs: [gradient]
    )
