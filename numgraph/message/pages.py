"""What the page of ``Tape.explain(html=…)`` shows of one walk: the message, the forward and each gradient
drawn, matrices, schedules.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from numgraph.expressions.traversal import leaves_of
from numgraph.expressions.walk import Output
from numgraph.graph import Graph
from numgraph.message.drawing import EXAMPLE, Labels, Small, circle, matrix, walk
from numgraph.message.explaining import Gradient, Telling

NODES, EDGES = 8, 24
"""What is drawn as it is, at most; of a larger graph an example stands in."""


_KERNELS = (
    '<p class="why">Before the colon: whose edges a kernel walks, row by row. Lanes are the feature axes '
    "whose numbers registers hold side by side, a tile is as many numbers as are computed at a time, a loop "
    "has the axes that are gone through one by one.</p>"
)


def section(graph: Graph | None, outputs: Sequence[Output], telling: Telling, kernels: Sequence[str]) -> str:
    """The section of a record."""
    small, said = _small(graph)
    reads = {target: _fields(outputs, target) for target in ("u", "v", "e", "shared")}
    cards = [
        _forward(small, output, result, kernel, reads)
        for output, (result, kernel) in _kinds(outputs, telling)
    ]
    cards += [_backward(small, outputs, gradient, reads) for gradient in telling.gradients]
    notes = "".join(f'<p class="why">{escape(note)}</p>' for note in (*telling.notes, *telling.together))
    formulas = "".join(
        f'<div class="formula">{escape(formula)}   {escape(kernel)}</div>'
        for formula, kernel in telling.results
    )
    told = (
        f"<h3>How the kernels run</h3><pre>{escape(chr(10).join(kernels))}</pre>{_KERNELS}" if kernels else ""
    )
    drawn = f'<div class="card"><h3>The graph</h3><p class="why">{escape(said)}</p>{_graph(small)}</div>'
    return f'{formulas}{notes}<div class="grid">{drawn}{"".join(cards)}</div>{told}'


def _kinds(outputs: Sequence[Output], telling: Telling) -> list[tuple[Output, tuple[str, str]]]:
    """The outputs that differ in where they go: one drawing each."""
    kinds: dict[str, tuple[Output, tuple[str, str]]] = {}
    for output, result in zip(outputs, telling.results, strict=True):
        kinds.setdefault(output.to, (output, result))
    return list(kinds.values())


def _small(graph: Graph | None) -> tuple[Small, str]:
    """The graph if it is small, else an example, and what is said about it."""
    if graph is None:
        return EXAMPLE, "The graph of this record is gone; an example is drawn."
    counts = (
        f"{graph.num_src} sources, {graph.num_dst} destinations"
        if graph.is_bipartite
        else f"{graph.num_src} nodes"
    )
    if (
        graph.device != "cpu"
        or max(graph.num_src, graph.num_dst) > NODES
        or graph.num_edges > EDGES
        or not graph.num_edges
    ):
        return (
            EXAMPLE,
            f"Yours has {counts} and {graph.num_edges} edges; drawn is an example of 4 nodes and 6 edges.",
        )
    edges = tuple(zip(graph.src.tolist(), graph.dst.tolist(), strict=True))
    return Small(
        graph.num_src, graph.num_dst, edges, graph.is_bipartite
    ), f"{counts} and {graph.num_edges} edges, drawn as they are."


def _fields(outputs: Sequence[Output], target: str) -> str:
    names = [
        ".".join(leaf.attrs)
        for leaf in leaves_of(x for output in outputs for x in output.expressions)
        if leaf.attrs[0] == target
    ]
    return ", ".join(names)


def _graph(small: Small) -> str:
    pattern = [(v, u) for u, v in small.edges]
    drawn = walk(small, "shared", Labels(), "soft") if small.bipartite else circle(small)
    told = '<p class="why">A[v, u]: row v has the in-edges of v, column u the out-edges of u.</p>'
    grid = matrix(small.num_dst, small.num_src, pattern, [], ("v", "u"), "forward")
    return f'<div class="pair"><div class="wide">{drawn}</div><div>{grid}{told}</div></div>'


def _forward(small: Small, output: Output, result: str, kernel: str, reads: dict[str, str]) -> str:
    made = result.split(" = ")[0]
    if output.to == "e":
        return _onto_edges(
            small, "The forward", result, kernel, [], Labels(reads["u"], reads["v"], made), "forward"
        )
    if output.to not in ("u", "v"):
        return _card(
            "The forward: over all edges",
            result,
            kernel,
            [],
            walk(small, "shared", Labels(reads["u"], reads["v"]), "forward"),
            "",
        )
    title = (
        "The forward: along the edges, summed at v"
        if output.to == "v"
        else "The forward: against the edges, summed at u"
    )
    labels = Labels(*((reads["u"], made) if output.to == "v" else (made, reads["v"])), reads["e"])
    return _summed(small, output.to, title, result, kernel, [], labels, "forward")


def _backward(small: Small, outputs: Sequence[Output], gradient: Gradient, reads: dict[str, str]) -> str:
    target = gradient.key[0]
    made = gradient.formula.split(" = ")[0]
    if gradient.zero:
        return _card(made, gradient.formula, gradient.kernel, gradient.reasons, "", "")
    arrived = "g_e" if outputs[0].to == "e" else f"g_{outputs[0].to}"
    if arrived == "g_e":
        reads = reads | {"e": ", ".join([arrived, *([reads["e"]] if reads["e"] else [])])}
    if target == "e":
        labels = Labels(reads["u"], arrived if arrived == "g_v" else reads["v"], made)
        return _onto_edges(
            small,
            f"{made}: a value for each edge",
            gradient.formula,
            gradient.kernel,
            gradient.reasons,
            labels,
            "both",
        )
    if target not in ("u", "v"):
        labels = Labels(reads["u"], arrived, reads["e"])
        picture = walk(small, "shared", labels, "backward")
        return _card(
            f"{made}: over all edges", gradient.formula, gradient.kernel, gradient.reasons, picture, ""
        )
    title = (
        f"{made}: the arrows are reversed, summed at u"
        if target == "u"
        else f"{made}: along the edges, summed at v"
    )
    beside = arrived if arrived == "g_v" else reads["v"] if target == "u" else reads["u"]
    labels = Labels(made, beside, reads["e"]) if target == "u" else Labels(reads["u"], made, reads["e"])
    return _summed(
        small, target, title, gradient.formula, gradient.kernel, gradient.reasons, labels, "backward"
    )


def _summed(
    small: Small,
    target: str,
    title: str,
    formula: str,
    kernel: str,
    reasons: Sequence[str],
    labels: Labels,
    color: str,
) -> str:
    """Values that are summed at nodes, beside the matrix whose row that is: A for destinations, Aᵀ for
    sources.
    """
    end = 1 if target == "v" else 0
    node = small.busiest(end)
    cells = [edge[::-1] if target == "v" else edge for edge in small.edges]
    row = [cell for cell in cells if cell[0] == node]
    sizes, names = (
        ((small.num_dst, small.num_src), ("v", "u"))
        if target == "v"
        else ((small.num_src, small.num_dst), ("u", "v"))
    )
    name = "A" if target == "v" else "Aᵀ"
    edges = f"the {'in' if target == 'v' else 'out'}-edges of {target} = {node}"
    grid = matrix(*sizes, cells, row, names, color)
    told = f"{name}: row {node} is {edges}"
    return _card(
        title,
        formula,
        kernel,
        reasons,
        walk(small, target, labels, color),
        f'{grid}<p class="why">{told}</p>',
    )


def _onto_edges(
    small: Small, title: str, formula: str, kernel: str, reasons: Sequence[str], labels: Labels, color: str
) -> str:
    """A value for each edge, beside the pattern of the matrix of which only these entries are computed."""
    node = small.busiest(1)
    marked: list[Any] = [(v, u) for u, v in small.edges if v == node][:1]
    grid = matrix(small.num_dst, small.num_src, [(v, u) for u, v in small.edges], marked, ("v", "u"), color)
    told = f"{len(small.edges)} entries of {small.num_dst} × {small.num_src}: those where there is an edge"
    return _card(
        title, formula, kernel, reasons, walk(small, "e", labels, color), f'{grid}<p class="why">{told}</p>'
    )


def _card(title: str, formula: str, kernel: str, reasons: Sequence[str], picture: str, beside: str) -> str:
    why = "".join(f'<p class="why">{escape(reason)}</p>' for reason in reasons)
    drawn = f'<div class="pair"><div class="wide">{picture}</div><div>{beside}</div></div>' if picture else ""
    said = f'<div class="formula">{escape(formula)}</div><p><b>{escape(kernel)}</b></p>'
    return f'<div class="card"><h3>{escape(title)}</h3>{said}{drawn}{why}</div>'
