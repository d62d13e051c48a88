"""Relational graph convolution with basis decomposition."""

from __future__ import annotations

from typing import Any

import numpy as np

from numgraph.arrays.devices import moved, namespace_of, same_device
from numgraph.arrays.inputs import as_array, is_sparse
from numgraph.autodiff.tape import unwrap
from numgraph.dense import gather, matmul
from numgraph.dense.activations import biased
from numgraph.errors import bad_index, bad_type, bad_value
from numgraph.expressions.precision import narrowed, wide
from numgraph.graph import Graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.graphs import both_sides, node_features, once
from numgraph.nn.module import Module, check_size


class RGCNConv(Module):
    """z_v = x_v W_self + Σ_r Σ_{u → v of relation r} x_u W_r / c_vr + b with W_r = Σ_b a_rb V_b (Schlichtkrull et al., ESWC 2018).

    c_vr is the number of v's in-edges of relation r. The sum over b is swapped with that over edges, so the products with the bases V_b
    are over nodes; an edge has one coefficient a_rb / c_vr for each basis, the only array over edges: [num_edges, num_bases]. num_bases
    None takes one basis a relation with a_rb = 1 for b = r, a matrix of its own for each relation.

    Shapes: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix, or on a bipartite graph a pair ([num_src, in_features],
    [num_dst, in_features]); relations [num_edges] integers, 0 ≤ r < num_relations; returns [num_dst, out_features].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_relations: int,
        *,
        num_bases: int | None = None,
        self_loop: bool = True,
        bias: bool = True,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        bases = num_relations if num_bases is None else num_bases
        check_size("RGCNConv", in_features=in_features, out_features=out_features, num_relations=num_relations, num_bases=bases)
        rng = np.random.default_rng(rng)
        self.num_relations = num_relations
        self.bases = init.glorot(rng, (bases, in_features, out_features), dtype)
        self.coefficients = None if num_bases is None else init.glorot(rng, (num_relations, bases), dtype)
        self.weight_self = init.glorot(rng, (in_features, out_features), dtype) if self_loop else None
        self.bias = init.zeros((out_features,), dtype) if bias else None

    def forward(self, g: Graph, x: Any, relations: Any) -> Any:
        bases, width_in, width_out = self.bases.shape
        if self.weight_self is not None or isinstance(x, tuple):
            x, x_self = both_sides("RGCNConv", g, x, width_in, width_in, self.bases.dtype)
        else:
            x = x_self = node_features("RGCNConv", g, x, width_in, self.bases.dtype, "u")
        relations = _checked(g, relations, self.num_relations)
        coefficients = namespace_of(self.bases.data).eye(bases, dtype=self.bases.dtype) if self.coefficients is None else self.coefficients
        c = (gather(coefficients, relations) * _shares(g, relations, self.num_relations, wide(self.bases.dtype)))[..., None]
        dtype = np.result_type(x.dtype, self.bases.dtype)
        if width_out < width_in or is_sparse(x):  # the narrower side passes the edges
            flat = np.reshape(np.swapaxes(self.bases, 0, 1), (width_in, bases * width_out))
            h = matmul(x, flat).reshape(-1, bases, width_out)
            z = narrowed(update_all(g, lambda u, e: (u.h * e.c).sum(0), "sum", u={"h": h}, e={"c": c}), dtype)
        else:
            z = narrowed(update_all(g, lambda u, e: u.x[None] * e.c, "sum", u={"x": x}, e={"c": c}), dtype)
            z = matmul(z.reshape(z.shape[0], bases * width_in), self.bases.reshape(bases * width_in, width_out))
        if self.weight_self is not None:
            z = z + matmul(x_self, self.weight_self)
        return biased(z, self.bias)


def _checked(g: Graph, relations: Any, num_relations: int) -> np.ndarray:
    ids = as_array("RGCNConv", "relations", unwrap(relations))
    ids = ids if hasattr(relations, "dtype") else moved(ids, g.device)
    same_device("RGCNConv", relations=ids, **{"the graph": g.dst})
    if ids.dtype.kind not in "iu" and (ids.size or hasattr(relations, "dtype")):
        raise bad_type("RGCNConv", f"relations have dtype {ids.dtype}", "they are relation numbers, integers")
    if ids.shape != (g.num_edges,):
        raise bad_value("RGCNConv", f"relations have shape {list(ids.shape)}", f"one relation an edge: [{g.num_edges}]")
    if ids.size and (ids.min() < 0 or ids.max() >= num_relations):
        edge = int(np.argmax((ids < 0) | (ids >= num_relations)))
        raise bad_index("RGCNConv", f"relations[{edge}] is {ids[edge]}", f"relations run from 0 to {num_relations - 1}")
    return ids if ids.size else ids.astype(np.int64)  # an empty list is one of floats


def _shares(g: Graph, relations: np.ndarray, num_relations: int, dtype: Any) -> np.ndarray:
    """1 / c_vr of each edge, [num_edges, 1]; remembered with the graph for the relations it was last asked for."""
    known: dict[str, Any] = once(g, "shares of relations", lambda g: {})
    found = known.get("last")
    if found is None or not np.array_equal(found[0], relations):
        pairs = g.dst.astype(np.int64) * num_relations + relations.astype(np.int64)
        _, pair, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        found = known["last"] = (relations.copy(), 1 / counts[pair])
    return found[1].astype(dtype)[:, None]
