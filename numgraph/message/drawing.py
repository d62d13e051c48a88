"""Small graphs and their matrices as SVG: the arrows of a walk, and what is summed where.

Sources stand left and destinations right, so that a node that is both is there twice and the direction of
every arrow shows. Colours are those of the page (autodiff/page.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LEFT, RIGHT, WIDTH = 104, 316, 420
"""Where sources and destinations stand, and how wide a picture is."""
ROW, RADIUS = 46, 13
CELL = 26


class Small(NamedTuple):
    """A graph that is small enough to be drawn: its edges in order."""

    num_src: int
    num_dst: int
    edges: tuple[tuple[int, int], ...]
    bipartite: bool = False

    def busiest(self, end: int) -> int:
        """The node with most edges: the first as a source (0) or as a destination (1)."""
        count = self.num_dst if end else self.num_src
        return max(
            range(max(count, 1)), key=lambda node: (sum(edge[end] == node for edge in self.edges), -node)
        )


EXAMPLE = Small(4, 4, ((0, 1), (0, 2), (1, 2), (3, 2), (2, 0), (1, 3)))


class Labels(NamedTuple):
    """What is written at the ends of the marked edges, and on them."""

    u: str = ""
    v: str = ""
    e: str = ""


def walk(graph: Small, target: str, labels: Labels, color: str) -> str:
    """The arrows of a walk.

    target: where values go: "v", the destination (along the edges); "u", the source (the edges reversed);
    "e", onto the edges, from both ends; "shared", to the destinations, and from all of them into one.
    """
    height = ROW * max(graph.num_src, graph.num_dst) + 44
    marked_v, marked_u = graph.busiest(1), graph.busiest(0)
    marked_e = next((i for i, edge in enumerate(graph.edges) if edge[1] == marked_v), 0)
    faint: list[str] = []
    strong: list[str] = []
    for i, (u, v) in enumerate(graph.edges):
        start, end = _ends(u, v)
        marked = {"v": v == marked_v, "u": u == marked_u, "e": i == marked_e}.get(target, True)
        paint, width = (f"var(--{color})", 2.2) if marked else ("var(--faint)", 1.2)
        place = strong if marked else faint
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        if target == "e":
            place += [
                _arrow(start, middle, paint, width, 9),
                _arrow(end, middle, paint, width, 9),
                _square(middle, paint, marked),
            ]
        else:
            place.append(_arrow(*((end, start) if target == "u" else (start, end)), paint, width))
            if labels.e and marked:
                place.append(_square(middle, "var(--soft)", True))
    nodes = []
    for side, x, count in (("u", LEFT, graph.num_src), ("v", RIGHT, graph.num_dst)):
        title = {"u": "sources u", "v": "destinations v"}[side]
        nodes.append(f'<text class="soft" x="{x}" y="14" text-anchor="middle">{title}</text>')
        for node in range(count):
            goal = (side, node) in {
                ("v", marked_v if target == "v" else -1),
                ("u", marked_u if target == "u" else -1),
            }
            nodes.append(_node(x, _y(node), node, f"var(--{color})" if goal else ""))
    texts = _texts(graph, target, labels, marked_u, marked_v, marked_e, color)
    if target == "shared":
        x, y = RIGHT + 46, _y((graph.num_dst - 1) / 2)
        strong += [
            _arrow((RIGHT + RADIUS, _y(v)), (x, y), f"var(--{color})", 1.4, 14) for v in range(graph.num_dst)
        ]
        texts.append(f'<text x="{x}" y="{y + 5}" text-anchor="middle">Σ</text>')
    said = {
        "v": f"Along the edges into destination {marked_v}",
        "u": f"Against the edges, into source {marked_u}",
        "e": f"From both ends onto edge {marked_e}",
        "shared": "Along the edges, and over all destinations",
    }[target]
    return _svg(WIDTH, height, said, [*faint, *strong, *nodes, *texts])


def _texts(
    graph: Small, target: str, labels: Labels, marked_u: int, marked_v: int, marked_e: int, color: str
) -> list[str]:
    """Names of fields beside the nodes where they are read, and of the result where it is summed."""
    u, v = graph.edges[marked_e] if graph.edges else (0, 0)
    made = []
    at_u, at_v = {"u": (marked_u, None), "v": (None, marked_v), "e": (u, v)}.get(target, (None, None))
    sources = (
        [u for u, w in graph.edges if w == marked_v]
        if target == "v"
        else [at_u]
        if at_u is not None
        else range(graph.num_src)
    )
    ends = (
        [v for w, v in graph.edges if w == marked_u]
        if target == "u"
        else [at_v]
        if at_v is not None
        else range(graph.num_dst)
    )
    for node in dict.fromkeys(sources):
        made.append(_label(LEFT - RADIUS - 4, _y(node), labels.u, "end", color if target == "u" else ""))
    for node in dict.fromkeys(ends):
        made.append(_label(RIGHT + RADIUS + 4, _y(node), labels.v, "start", color if target == "v" else ""))
    if target == "e" and graph.edges:
        made.append(
            _label((LEFT + RIGHT) / 2, 10, labels.e, "middle", color)
        )  # over the column of edges, where no line crosses it
    return made


def matrix(
    rows: int,
    columns: int,
    filled: Sequence[tuple[int, int]],
    marked: Sequence[tuple[int, int]],
    names: tuple[str, str],
    color: str,
) -> str:
    """The pattern of a matrix.

    filled: where it has entries; marked: those of the row or the edge that is drawn beside it. names: of its
    rows and columns."""
    width, height = CELL * columns + 34, CELL * rows + 34
    parts = [
        (
            f'<text class="soft" x="{30 + CELL * columns / 2}" y="10" text-anchor="middle">'
            f"{escape(names[1])}</text>"
        ),
        f'<text class="soft" x="6" y="{32 + CELL * rows / 2}" text-anchor="middle">{escape(names[0])}</text>',
    ]
    for row in range(rows):
        parts.append(f'<text class="soft" x="20" y="{42 + CELL * row}" text-anchor="middle">{row}</text>')
        for column in range(columns):
            paint = (
                f"var(--{color})"
                if (row, column) in marked
                else "var(--soft)"
                if (row, column) in filled
                else "var(--paper)"
            )
            place = f'x="{30 + CELL * column}" y="{26 + CELL * row}" '
            place += f'width="{CELL - 2}" height="{CELL - 2}" rx="3"'
            parts.append(f'<rect {place} fill="{paint}" stroke="var(--faint)"/>')
    parts += [
        f'<text class="soft" x="{42 + CELL * column}" y="22" text-anchor="middle">{column}</text>'
        for column in range(columns)
    ]
    return _svg(
        width,
        height,
        f"A matrix of {rows} rows and {columns} columns with {len(set(filled))} entries",
        parts,
        CELL * columns + 34,
    )


def circle(graph: Small) -> str:
    """The graph with every node once, in a circle."""
    count, size = graph.num_src, 240
    radius = 84

    def at(node: int) -> tuple[float, float]:
        angle = 2 * math.pi * node / max(count, 1) - math.pi / 2
        return size / 2 + radius * math.cos(angle), size / 2 + radius * math.sin(angle)

    parts = []
    for u, v in graph.edges:
        if u == v:
            x, y = at(u)
            out = (x - size / 2) / radius, (y - size / 2) / radius
            parts.append(
                f'<circle cx="{x + 18 * out[0]:.1f}" cy="{y + 18 * out[1]:.1f}" r="9" fill="none" '
                f'stroke="var(--soft)" stroke-width="1.5"/>'
            )
        else:
            parts.append(_arrow(at(u), at(v), "var(--soft)", 1.5, RADIUS, RADIUS))
    parts += [_node(*at(node), node, "") for node in range(count)]
    return _svg(size, size, f"A graph of {count} nodes and {len(graph.edges)} edges", parts, size)


def _y(node: float) -> float:
    return 44 + ROW * node


def _ends(u: int, v: int) -> tuple[tuple[float, float], tuple[float, float]]:
    return (LEFT + RADIUS, _y(u)), (RIGHT - RADIUS, _y(v))


def _arrow(
    start: tuple[float, float],
    end: tuple[float, float],
    paint: str,
    width: float,
    gap: float = 2,
    before: float = 2,
) -> str:
    """A line that stops ``gap`` before its end, with a head."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    ux, uy = dx / length, dy / length
    x1, y1, x2, y2 = start[0] + before * ux, start[1] + before * uy, end[0] - gap * ux, end[1] - gap * uy
    back = x2 - 8 * ux, y2 - 8 * uy
    head = (
        f"{x2:.1f},{y2:.1f} {back[0] - 4 * uy:.1f},{back[1] + 4 * ux:.1f} "
        f"{back[0] + 4 * uy:.1f},{back[1] - 4 * ux:.1f}"
    )
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{back[0]:.1f}" y2="{back[1]:.1f}"'
    line = f'<line {ends} stroke="{paint}" stroke-width="{width}"/>'
    return f'{line}<polygon points="{head}" fill="{paint}"/>'


def _square(middle: tuple[float, float], paint: str, filled: bool) -> str:
    place = f'x="{middle[0] - 5:.1f}" y="{middle[1] - 5:.1f}" width="10" height="10"'
    return f'<rect {place} fill="{paint if filled else "var(--panel)"}" stroke="{paint}"/>'


def _node(x: float, y: float, node: int, paint: str) -> str:
    fill, ink = (paint, "var(--paper)") if paint else ("var(--paper)", "var(--ink)")
    stroke = paint or "var(--soft)"
    ring = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'
    )
    return f'{ring}<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" style="fill: {ink}">{node}</text>'


def _label(x: float, y: float, text: str, anchor: str, color: str) -> str:
    if not text:
        return ""
    written = text if len(text) <= 12 else text[:11] + "…"
    style = f' style="fill: var(--{color})"' if color else ""
    place = f'class="halo" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}"{style}'
    return f"<text {place}>{escape(written)}<title>{escape(text)}</title></text>"


def _svg(width: float, height: float, title: str, parts: Sequence[str], most: float | None = None) -> str:
    style = f' style="max-width: {most:.0f}px"' if most else ""
    named = escape(title)
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{named}"{style}>'
    head += f"<title>{named}</title>"
    return head + "".join(parts) + "</svg>"
