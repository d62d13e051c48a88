"""Relational graph convolution with basis decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import numpy as np

from numgraph.arrays.devices import moved, namespace_of, same_device
from numgraph.arrays.inputs import as_array, generator, is_sparse
from numgraph.autodiff.tape import unwrap
from numgraph.autodiff.tensor import Tensor
from numgraph.autodiff.typed import Result
from numgraph.dense import gather, matmul
from numgraph.dense.activations import biased
from numgraph.errors import bad_index, bad_type, bad_value
from numgraph.expressions.precision import narrowed, wide
from numgraph.graph import Graph, HeteroGraph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.blocks import Convolution
from numgraph.nn.graphs import both_sides, column, node_features, once
from numgraph.nn.module import check_features, check_size, pair_of
from numgraph.nn.typed import Features, Graphs


class RGCNConv(Convolution):
    """z_v = x_v W_self + Σ_r Σ_{u → v of relation r} n_uv x_u W_r + b with n_uv = 1 / c_vr (Schlichtkrull et
    al., ESWC 2018), c_vr the number of v's in-edges of relation r.

    Parameters
    ----------
    in_features : width of x, or a pair (of sources, of destinations)
    out_features : width of z
    num_relations : how many there are
    num_bases : W_r = Σ_b a_rb V_b, with so many matrices V_b; None is a matrix of its own for each relation
    num_blocks : W_r has so many blocks on its diagonal, and nothing beside them; it divides both widths
    self_loop : have x_v W_self
    bias : have b
    rng, dtype : of the parameters' first values

    Notes
    -----
    The sum over b is swapped with that over edges, so the products with the V_b are over nodes; an edge has
    one coefficient a_rb n_uv for each basis, the only array over edges: [num_edges, num_bases]. Without bases
    a_rb is 1 for b = r. On a HeteroGraph, ``conv(h, x)`` with x {type: [nodes, in_features]} returns {type:
    [nodes, out_features]}: relation r is ``h.edge_types[r]``. Else called as
    ``conv(g, x, relations, norm=None)``: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix,
    or a pair ([num_src, in_src], [num_dst, in_dst]), whose second may be None: then x_v W_self is left out;
    relations [num_edges] integers, 0 ≤ r < num_relations; norm [num_edges] stands for n_uv. Returns [num_dst,
    out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> ng.nn.RGCNConv(4, 2, 3, num_blocks=2)(g, np.ones((3, 4), np.float32), [0, 2, 2]).shape
    (3, 2)
    """

    def __init__(
        self,
        in_features: int | tuple[int, int],
        out_features: int,
        num_relations: int,
        *,
        num_bases: int | None = None,
        num_blocks: int | None = None,
        self_loop: bool = True,
        bias: bool = True,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        bases = num_relations if num_bases is None else num_bases
        in_src, in_dst = pair_of("RGCNConv", in_features)
        check_size(
            "RGCNConv",
            in_src=in_src,
            in_dst=in_dst,
            out_features=out_features,
            num_relations=num_relations,
            num_bases=bases,
        )
        rng = generator(type(self).__name__, rng)
        self.num_relations, self.in_features = num_relations, (in_src, in_dst)
        shape: tuple[int, ...] = (bases, in_src, out_features)
        if num_blocks is not None:
            check_size("RGCNConv", num_blocks=num_blocks)
            if num_bases is not None:
                raise bad_value(
                    "RGCNConv", f"num_bases is {num_bases} and num_blocks is {num_blocks}", "give one of them"
                )
            if in_src % num_blocks or out_features % num_blocks:
                problem = f"num_blocks is {num_blocks}, the widths are {in_src} and {out_features}"
                raise bad_value("RGCNConv", problem, "choose a number that divides both")
            shape = (bases, num_blocks, in_src // num_blocks, out_features // num_blocks)
        self.bases = init.glorot(rng, shape, dtype)
        self.coefficients = None if num_bases is None else init.glorot(rng, (num_relations, bases), dtype)
        self.weight_self = init.glorot(rng, (in_dst, out_features), dtype) if self_loop else None
        self.bias = init.zeros((out_features,), dtype) if bias else None

    @overload
    def forward(
        self, g: HeteroGraph, x: Mapping[str, Any], relations: Any = None, norm: Any = None
    ) -> dict[str, Result]: ...
    @overload
    def forward(
        self, g: Graphs, x: Tensor | tuple[Tensor, Any], relations: Any, norm: Any = None
    ) -> Tensor: ...
    @overload
    def forward(self, g: Graphs, x: Features, relations: Any, norm: Any = None) -> Result: ...
    def forward(self, g: Any, x: Any, relations: Any = None, norm: Any = None) -> Any:
        """The convolution."""
        if isinstance(g, HeteroGraph):
            return self._of_types(g, x, relations, norm)
        if relations is None:
            raise bad_type(
                "RGCNConv",
                "relations is None",
                "give the number of each edge's relation, conv(g, x, relations)",
            )
        matrices = self.bases if self.bases.ndim == 3 else _block_diagonal(self.bases)
        bases, width_in, width_out = matrices.shape
        like = self.bases.dtype
        if self.weight_self is not None or isinstance(x, tuple):
            x, x_self = both_sides("RGCNConv", g, x, *self.in_features, like, lone=True)
        else:
            x = x_self = node_features("RGCNConv", g, x, width_in, like, "u")
        relations = _checked(g, relations, self.num_relations)
        coefficients = (
            namespace_of(self.bases.data).eye(bases, dtype=like)
            if self.coefficients is None
            else self.coefficients
        )
        shares = (
            _shares(g, relations, self.num_relations, wide(like))
            if norm is None
            else column("RGCNConv", g, norm, like, "norm")
        )
        c = (gather(coefficients, relations) * shares)[..., None]
        dtype = np.result_type(x.dtype, like)
        if width_out < width_in or is_sparse(x):  # the narrower side passes the edges
            flat = np.reshape(np.swapaxes(matrices, 0, 1), (width_in, bases * width_out))
            h = matmul(x, flat).reshape(-1, bases, width_out)
            z = narrowed(update_all(g, lambda u, e: (u.h * e.c).sum(0), "sum", u={"h": h}, e={"c": c}), dtype)
        else:
            z = narrowed(update_all(g, lambda u, e: u.x[None] * e.c, "sum", u={"x": x}, e={"c": c}), dtype)
            z = matmul(z.reshape(z.shape[0], bases * width_in), matrices.reshape(bases * width_in, width_out))
        if self.weight_self is not None and x_self is not None:
            z = z + matmul(x_self, self.weight_self)
        return biased(z, self.bias)

    def _of_types(self, h: HeteroGraph, x: Any, relations: Any, norm: Any) -> dict[str, Any]:
        """On all types as one graph."""
        op = "RGCNConv"
        if relations is not None or norm is not None:
            raise bad_type(
                op,
                "relations or norm are given with a HeteroGraph",
                "its edges have their relations: conv(h, x)",
            )
        if (
            len(h.edge_types) != self.num_relations
        ):  # numbers are places in the list: with fewer they would be those of others
            problem = f"h has {len(h.edge_types)} relations, num_relations is {self.num_relations}"
            raise bad_value(
                op,
                problem,
                "give a graph with every relation, also with those without edges; in blocks fanouts of 0 "
                "keep one",
            )
        given = h.by_type(op, "x", x)
        lacking = [kind for kind in h.node_types if kind not in given]
        if lacking:
            raise bad_value(
                op,
                f"x has no features of {lacking[0]!r}",
                f"give those of all types, {', '.join(map(repr, h.node_types))}",
            )
        rows = [
            check_features(op, given[kind], count, self.in_features[0], f"x[{kind!r}]")
            for kind, count in h.num_nodes.items()
        ]
        graph, _, edge_type, offsets, _ = h.to_homogeneous()
        z = self.forward(graph, np.concatenate(rows), moved(edge_type, graph.device))
        return {
            kind: z[start : start + h.num_dst[kind]]
            for kind, start in zip(h.node_types, offsets[:-1].tolist())
        }


def _block_diagonal(blocks: Any) -> Any:
    """[R, blocks, in, out] → [R, blocks · in, blocks · out]."""
    relations, count, width_in, width_out = blocks.shape
    eye = namespace_of(blocks.data).eye(count, dtype=blocks.dtype).reshape(1, count, 1, count, 1)
    return (blocks.reshape(relations, count, width_in, 1, width_out) * eye).reshape(
        relations, count * width_in, count * width_out
    )


def _checked(g: Graph, relations: Any, num_relations: int) -> np.ndarray:
    ids = as_array("RGCNConv", "relations", unwrap(relations))
    ids = ids if hasattr(relations, "dtype") else moved(ids, g.device)
    same_device("RGCNConv", relations=ids, **{"the graph": g.dst})
    if ids.dtype.kind not in "iu" and (ids.size or hasattr(relations, "dtype")):
        raise bad_type("RGCNConv", f"relations have dtype {ids.dtype}", "they are relation numbers, integers")
    if ids.shape != (g.num_edges,):
        raise bad_value(
            "RGCNConv", f"relations have shape {list(ids.shape)}", f"one relation an edge: [{g.num_edges}]"
        )
    if ids.size and (ids.min() < 0 or ids.max() >= num_relations):
        edge = int(np.argmax((ids < 0) | (ids >= num_relations)))
        raise bad_index(
            "RGCNConv", f"relations[{edge}] is {ids[edge]}", f"relations run from 0 to {num_relations - 1}"
        )
    found: np.ndarray = ids if ids.size else ids.astype(np.int64)  # an empty list is one of floats
    return found


def _shares(g: Graph, relations: np.ndarray, num_relations: int, dtype: Any) -> np.ndarray:
    """1 / c_vr of each edge, [num_edges, 1]; remembered with the graph for the relations it was last asked
    for.
    """
    known: dict[str, Any] = once(g, "shares of relations", lambda g: {})
    found = known.get("last")
    if found is None or not np.array_equal(found[0], relations):
        pairs = g.dst.astype(np.int64) * num_relations + relations.astype(np.int64)
        _, pair, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        found = known["last"] = (relations.copy(), 1 / counts[pair])
    return found[1].astype(dtype)[:, None]
