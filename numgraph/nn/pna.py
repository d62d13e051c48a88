"""Principal neighbourhood aggregation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from numgraph.arrays.inputs import generator
from numgraph.dense import matmul
from numgraph.errors import bad_type, bad_value, shown
from numgraph.expressions.precision import narrowed, widened
from numgraph.graph import Block, Graph, Shard, check_graph
from numgraph.nn import init
from numgraph.nn.aggregation import aggregate, check_aggregations
from numgraph.nn.blocks import Convolution
from numgraph.nn.graphs import both_sides, edge_attributes, once
from numgraph.nn.linear import Linear
from numgraph.nn.module import Module, check_size
from numgraph.nn.typed import of_graph

AGGREGATORS = ("mean", "max", "min", "std")
SCALERS = ("identity", "amplification", "attenuation")
_SCALERS = (*SCALERS, "linear", "inverse_linear")
_KNOWN = (*AGGREGATORS, "sum", "var", "median")


class _Tower(Module):
    """[x_v, scalers ⊗ aggregators of m] W for a message of x_u Θ + x_v Φ + b, and of w Ψ for edges with
    features w.
    """

    def __init__(
        self, width: int, out: int, parts: int, of_edges: bool, rng: np.random.Generator, dtype: Any
    ) -> None:
        self.theta: Any = init.glorot(rng, (width, width), dtype, (2 * width, width))
        self.phi: Any = Linear(width, width, rng=rng, dtype=dtype)
        self.self_update: Any = init.glorot(rng, (width, out), dtype)
        self.update: Any = Linear(width * parts, out, rng=rng, dtype=dtype)
        self.psi: Any = init.glorot(rng, (width, width), dtype, (2 * width, width)) if of_edges else None

    def combined(self, layer: PNAConv, g: Graph, x_src: Any, x_dst: Any, w: Any) -> Any:
        """With the aggregators and scalers of ``layer``."""
        h = widened(matmul(x_src, self.theta))  # squares and scales of half precision are float32
        degrees = g.in_degrees()[:, None]
        own = np.where(degrees > 0, self.phi(x_dst), 0)
        e = None if w is None else {"w": widened(matmul(w, self.psi))}
        smooth = layer.std_eps > 0
        names = ["var" if name == "std" and smooth else name for name in layer.aggregators]
        parts = aggregate(
            g, (lambda u, v, e: u.x) if e is None else (lambda u, v, e: u.x + e.w), names, u={"x": h}, e=e
        )
        for i, name in enumerate(layer.aggregators):
            if name in ("mean", "max", "min", "median"):
                parts[i] = parts[i] + own
            elif name == "sum":
                parts[i] = parts[i] + own * degrees.astype(own.dtype)
            elif name == "std" and smooth:
                parts[i] = np.sqrt(parts[i] + layer.std_eps)
        aggregated = np.concatenate(parts, 1)
        scaled = [
            aggregated if scale is None else aggregated * scale for scale in layer.scales(g, aggregated.dtype)
        ]
        own = matmul(x_dst, self.self_update)
        return narrowed(own + self.update(np.concatenate(scaled, 1)), own.dtype)


class PNAConv(_Tower, Convolution):
    """z_v = [x_v, scalers ⊗ aggregators of m_uv = x_u Θ + x_v Φ + b] W (Corso et al., Principal Neighbourhood
    Aggregation, NeurIPS 2020).

    Parameters
    ----------
    in_features, out_features : widths
    aggregators : of "mean", "max", "min", "std", "sum", "var", "median". std is √(var + std_eps).
        Without in-edges mean, max, min, sum and median are 0
    scalers : of v with d in-edges: "identity" 1, "amplification" log(d + 1) / δ,
        "attenuation" δ / log(d + 1) (d at least 1), "linear" d / D, "inverse_linear" D / d (d at least 1)
    delta : δ, the mean of log(d + 1) over the training graphs' nodes (``mean_log_degree``);
        None takes it from the graph of each call
    mean_degree : D, the mean of d; None takes it from the graph of each call
    edge_dim : width of edge_attr, where there is some; m has the term (edge_attr W_edge + b_edge) Ψ more
    towers : how many such functions there are, of out_features / towers each, side by side
    divide_input : each tower reads in_features / towers of the features
    mix : a Linear comes last, which mixes the towers; None is: where there are several
    std_eps : added to the variance under std's root; 0 as in PyG, then std has no gradient where it is 0
    rng, dtype : of the parameters' first values

    Notes
    -----
    x_v Φ + b is the same on all in-edges of v, so it is added to the aggregates, and nothing but x_u Θ passes
    the edges. Called as ``conv(g, x, edge_attr=None)``: x [num_nodes, in_features], an array, Tensor or
    (without divide_input) SciPy sparse matrix, or a pair ([num_src, in_features], [num_dst, in_features]);
    edge_attr [num_edges, edge_dim]. Returns [num_dst, out_features].

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> g = ng.Graph([0, 1, 2], [1, 2, 0])
    >>> conv = ng.nn.PNAConv(4, 6, towers=2, divide_input=True, edge_dim=1)
    >>> conv(g, np.ones((3, 4), np.float32), np.ones((3, 1))).shape
    (3, 6)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        aggregators: Sequence[str] = AGGREGATORS,
        scalers: Sequence[str] = SCALERS,
        delta: float | None = None,
        mean_degree: float | None = None,
        edge_dim: int | None = None,
        towers: int = 1,
        divide_input: bool = False,
        mix: bool | None = None,
        std_eps: float = 1e-5,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size("PNAConv", in_features=in_features, out_features=out_features, towers=towers)
        _check_list("aggregator", aggregators, _KNOWN)
        _check_list("scaler", scalers, _SCALERS)
        for name, number, what in (
            ("delta", delta, "log(d + 1), above 0: see mean_log_degree"),
            ("mean_degree", mean_degree, "in-degrees, above 0"),
        ):
            if number is not None and not (isinstance(number, int | float | np.number) and number > 0):
                raise bad_value("PNAConv", f"{name} is {shown(number)}", f"it is a mean of {what}")
        if not isinstance(std_eps, int | float | np.number) or not std_eps >= 0:
            raise bad_value(
                "PNAConv", f"std_eps is {shown(std_eps)}", "it is added to a variance, a number of at least 0"
            )
        if out_features % towers or (divide_input and in_features % towers):
            problem = f"towers is {towers}, the widths are {in_features} and {out_features}"
            raise bad_value(
                "PNAConv", problem, "choose a number that divides out_features, and with divide_input both"
            )
        rng = generator(type(self).__name__, rng)
        self.aggregators, self.scalers = tuple(aggregators), tuple(scalers)
        self.delta, self.mean_degree = delta, mean_degree
        self.divide_input, self.std_eps, self.in_features = divide_input, std_eps, in_features
        width, parts = in_features // towers if divide_input else in_features, len(aggregators) * len(scalers)
        sizes: Any = (width, out_features // towers, parts, edge_dim is not None, rng, dtype)
        mixed = towers > 1 if mix is None else mix
        self.towers: list[_Tower] = [_Tower(*sizes) for _ in range(towers)] if towers > 1 or mixed else []
        if not self.towers:
            super().__init__(*sizes)
        self.mix = Linear(out_features, out_features, rng=rng, dtype=dtype) if mixed else None
        if edge_dim is not None:
            check_size("PNAConv", edge_dim=edge_dim)
        self.edge = None if edge_dim is None else Linear(edge_dim, width, rng=rng, dtype=dtype)

    @of_graph
    def forward(self, g: Graph, x: Any, edge_attr: Any = None) -> Any:
        """The convolution."""
        towers = self.towers or [self]
        like = towers[0].theta.dtype
        x_src, x_dst = both_sides("PNAConv", g, x, self.in_features, self.in_features, like)
        w = edge_attributes(
            "PNAConv", g, edge_attr, None if self.edge is None else self.edge.weight.shape[0], like
        )
        if self.edge is not None:
            if w is None:
                raise bad_value(
                    "PNAConv", "edge_attr is None and the layer has an edge_dim", "give conv(g, x, edge_attr)"
                )
            w = self.edge(w)
        if self.divide_input and len(towers) > 1:
            of_src = np.split(x_src, len(towers), axis=1)
            sides = list(zip(of_src, of_src if x_dst is x_src else np.split(x_dst, len(towers), axis=1)))
        else:
            sides = [(x_src, x_dst)] * len(towers)
        found = [tower.combined(self, g, *both, w) for tower, both in zip(towers, sides)]
        z = found[0] if len(found) == 1 else np.concatenate(found, 1)
        return z if self.mix is None else self.mix(z)

    def scales(self, g: Graph, dtype: Any) -> list[Any]:
        """The factors of the nodes by scaler, [num_dst, 1]; None is 1."""
        degrees = g.in_degrees()[:, None]
        some, delta, mean = np.maximum(degrees, 1), self.delta, self.mean_degree
        delta = mean_log_degree(g) if delta is None else delta
        whole: Any = g.spread if isinstance(g, Shard) else g
        mean = (
            max(whole.num_edges, 1) / max(whole.num_nodes if isinstance(g, Shard) else g.num_dst, 1)
            if mean is None
            else mean
        )
        table: dict[str, Callable[[], Any]] = {
            "amplification": lambda: np.log(degrees + 1.0) / delta,
            "attenuation": lambda: delta / np.log(some + 1.0),
            "linear": lambda: degrees / mean,
            "inverse_linear": lambda: mean / some,
        }
        return [table[name]().astype(dtype) if name in table else None for name in self.scalers]


def _check_list(what: str, names: Any, known: Sequence[str]) -> None:
    if isinstance(names, str):
        raise bad_type("PNAConv", f"{what}s is the string {shown(names)}", f"pass a list, [{shown(names)}]")
    check_aggregations("PNAConv", what, names, known)


def mean_log_degree(g: Graph) -> float:
    """δ of a graph: the mean of log(in-degree + 1) over its nodes, 1 where there are no edges.

    Parameters
    ----------
    g : the graph of the training

    Returns
    -------
    a number, which ``PNAConv`` takes

    Examples
    --------
    >>> import numgraph as ng
    >>> round(ng.nn.mean_log_degree(ng.Graph([0, 1, 2], [1, 2, 0])), 4)
    0.6931
    """
    check_graph("mean_log_degree", "g", g)
    if isinstance(g, Shard):
        found: float = once(g, "mean log degree", _mean_over_processes)
        return found
    g = g.origin.graph if isinstance(g, Block) else g
    found = once(
        g, "mean log degree", lambda g: float(np.log(g.in_degrees() + 1.0).mean()) if g.num_edges else 1.0
    )
    return found


def _mean_over_processes(g: Any) -> float:
    logs, nodes, edges = g.spread.total(
        np.array([np.log(g.in_degrees() + 1.0).sum(), g.num_dst, g.num_edges], np.float64)
    )
    return float(logs / nodes) if edges else 1.0
