"""Dropout of features, and of attention coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numgraph.autodiff.tape import unwrap
from numgraph.dense import dropout
from numgraph.dense.masks import kept
from numgraph.errors import bad_value, shown
from numgraph.expressions.precision import narrowed
from numgraph.graph import Graph
from numgraph.message import attend
from numgraph.nn.init import Seed
from numgraph.nn.module import Module


def check_dropout(op: str, p: float) -> float:
    if not isinstance(p, int | float | np.number) or not 0 <= p < 1:
        raise bad_value(op, f"dropout is {shown(p)}", "it is a probability, 0 ≤ dropout < 1")
    return float(p)


class Dropout(Module):
    """While training, each element is 0 with probability p, and the others are scaled by 1 / (1 − p) (Srivastava et al., JMLR 2014).

    x: array, Tensor or SciPy sparse matrix (its stored elements are dropped). ``rng`` at a call draws instead of the layer's own.
    """

    def __init__(self, p: float = 0.5, *, rng: Seed = None) -> None:
        self.p = check_dropout("Dropout", p)
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Any, *, rng: np.random.Generator | None = None) -> Any:
        return dropout(x, self.p, self.rng if rng is None else rng, self.training)


def attend_dropping(
    g: Graph,
    score: Callable[..., Any],
    p: float,
    rng: np.random.Generator,
    *,
    u: Mapping[str, Any],
    v: Mapping[str, Any],
) -> Any:
    """z_v = Σ_e α_e · keep_e / (1 − p) · h_u with α = softmax_v(score): attention whose coefficients are dropped with probability p.

    u["h"]: [num_src, heads, features]; score: [heads, 1] an edge. Returns [num_dst, heads, features] in h's dtype. The mask is one byte for
    each edge and head.
    """
    if p == 0:
        return narrowed(attend(g, score, lambda u: u.h, u=u, v=v), u["h"].dtype)
    mask, scale = kept(rng, (g.num_edges, u["h"].shape[1], 1), p, unwrap(u["h"])), 1 / (1 - p)
    z = attend(g, score, lambda u, e: np.where(e.kept, u.h * scale, 0), u=u, v=v, e={"kept": mask})
    return narrowed(z, u["h"].dtype)
