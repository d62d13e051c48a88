"""Principal neighbourhood aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from numgraph.dense import matmul
from numgraph.errors import bad_type, bad_value, check_name, shown
from numgraph.expressions.precision import narrowed, widened
from numgraph.graph import Graph, check_graph
from numgraph.message import update_all
from numgraph.nn import init
from numgraph.nn.graphs import node_features, once
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_size

AGGREGATORS = ("mean", "max", "min", "std")
SCALERS = ("identity", "amplification", "attenuation")
_EPS = 1e-5


class PNAConv(Module):
    """z_v = [x_v, scalers ⊗ aggregators of m_uv = x_u Θ + x_v Φ + b] W (Corso et al., Principal Neighbourhood Aggregation, NeurIPS 2020).

    aggregators: "mean", "max", "min", and "std" = √(mean((m − mean(m))²) + 1e-5). scalers of v with d in-edges: "identity" 1,
    "amplification" log(d + 1) / δ, "attenuation" δ / log(d + 1) (d at least 1). δ is the mean of log(d + 1) over the training graphs'
    nodes (``mean_log_degree``); None takes it from the graph of each call. x_v Φ + b is the same on all in-edges of v, so it is added to
    the aggregates, and nothing but x_u Θ passes the edges. Without in-edges mean, max and min are 0.

    Shapes: x [num_nodes, in_features], an array, Tensor or SciPy sparse matrix; returns [num_nodes, out_features].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        aggregators: Sequence[str] = AGGREGATORS,
        scalers: Sequence[str] = SCALERS,
        delta: float | None = None,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("PNAConv", in_features=in_features, out_features=out_features)
        for what, names, known in (("aggregator", aggregators, AGGREGATORS), ("scaler", scalers, SCALERS)):
            if not names or isinstance(names, str):
                if names:
                    raise bad_type("PNAConv", f"{what}s is the string {shown(names)}", f"pass a list, [{shown(names)}]")
                raise bad_value("PNAConv", f"there is no {what}", f"choose from {', '.join(known)}")
            for name in names:
                check_name("PNAConv", what, name, known)
        if delta is not None and not (isinstance(delta, int | float | np.number) and delta > 0):
            raise bad_value("PNAConv", f"delta is {shown(delta)}", "it is a mean of log(d + 1), above 0: see mean_log_degree")
        rng = np.random.default_rng(rng)
        self.aggregators, self.scalers, self.delta = tuple(aggregators), tuple(scalers), delta
        self.theta = init.glorot(rng, (in_features, in_features), dtype, (2 * in_features, in_features))
        self.phi = Linear(in_features, in_features, rng=rng, dtype=dtype)
        self.self_update = init.glorot(rng, (in_features, out_features), dtype)
        self.update = Linear(in_features * len(aggregators) * len(scalers), out_features, rng=rng, dtype=dtype)

    def forward(self, g: Graph, x: Any) -> Any:
        x = node_features("PNAConv", g, x, self.theta.shape[0], self.theta.dtype)
        h = widened(matmul(x, self.theta))  # squares and scales of half precision are float32
        own = np.where(g.in_degrees()[:, None] > 0, self.phi(x), 0)
        mean = update_all(g, lambda u: u.x, "mean", u={"x": h})
        parts = []
        for name in self.aggregators:
            if name == "std":
                variance = update_all(g, lambda u, v: np.square(u.x - v.mean), "mean", u={"x": h}, v={"mean": mean})
                parts.append(np.sqrt(variance + _EPS))
            else:
                parts.append((mean if name == "mean" else update_all(g, lambda u: u.x, name, u={"x": h})) + own)
        aggregated = np.concatenate(parts, 1)
        scaled = [aggregated if scale is None else aggregated * scale for scale in self._scales(g, aggregated.dtype)]
        own = matmul(x, self.self_update)
        return narrowed(own + self.update(np.concatenate(scaled, 1)), own.dtype)

    def _scales(self, g: Graph, dtype: Any) -> list[Any]:
        logs = np.log(np.maximum(g.in_degrees(), 1) + 1.0)[:, None]
        growth = np.log(g.in_degrees() + 1.0)[:, None]
        delta = mean_log_degree(g) if self.delta is None else self.delta
        table = {"identity": None, "amplification": (growth / delta).astype(dtype), "attenuation": (delta / logs).astype(dtype)}
        return [table[name] for name in self.scalers]


def mean_log_degree(g: Graph) -> float:
    """δ of a graph: the mean of log(in-degree + 1) over its nodes, 1 where there are no edges."""
    check_graph("mean_log_degree", "g", g)
    return once(g, "mean log degree", lambda g: float(np.log(g.in_degrees() + 1.0).mean()) if g.num_edges else 1.0)
