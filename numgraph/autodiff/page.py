"""The page of ``Tape.explain(html=…)``: a table of the records, and a section for each that has one. One file
without scripts.

It reads on narrow and on wide screens, light and dark. Its rules hold inside of ``.numgraph`` alone, so a
notebook can show it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

NO_BREAK = "\N{NO-BREAK SPACE}"
_STYLE = """
.numgraph { --ink: #1c2430; --soft: #5b6675; --faint: #c4ccd6; --paper: #ffffff; --panel: #f4f6f9; --forward: #1f5fa8; --backward: #b8480f;
  --both: #6a3d9a; color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; color-scheme: light dark;
  box-sizing: border-box; padding: 1rem clamp(.75rem, 3vw, 2.5rem); max-width: 72rem; margin: 0 auto; }
@media (prefers-color-scheme: dark) { .numgraph { --ink: #e6eaf0; --soft: #a3aebd; --faint: #4a5564; --paper: #12161c; --panel: #1b212a;
  --forward: #6fb1ff; --backward: #ff9d5c; --both: #c9a2ff; } }
.numgraph *, .numgraph *::before { box-sizing: border-box; }
.numgraph h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 1rem; }
.numgraph h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--faint); padding-top: 1rem; }
.numgraph h3 { font-size: 1rem; margin: 0 0 .25rem; }
.numgraph p { margin: .4rem 0; max-width: 60rem; }
.numgraph ul { margin: .4rem 0; padding-left: 1.2rem; max-width: 60rem; }
.numgraph a { color: var(--forward); }
.numgraph .formula, .numgraph pre { font: .9rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere;
  margin: .3rem 0; padding: .3rem .5rem; background: var(--panel); border-radius: .3rem; max-width: 100%; }
.numgraph .answer { background: var(--panel); border-left: .3rem solid var(--forward); padding: .5rem 1rem; border-radius: .2rem; }
.numgraph .scroll { overflow-x: auto; max-width: 100%; }
.numgraph table { border-collapse: collapse; font-size: .9rem; color: inherit; }
.numgraph th, .numgraph td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--faint); vertical-align: top; }
.numgraph .grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; margin: .75rem 0; }
.numgraph .card { background: var(--panel); border-radius: .4rem; padding: .75rem; margin: 0; min-width: 0; }
.numgraph .card .formula { background: var(--paper); }
.numgraph .pair { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: flex-start; }
.numgraph .pair > * { flex: 1 1 9rem; min-width: 0; }
.numgraph .pair > .wide { flex: 2 1 20rem; }
.numgraph svg { width: 100%; height: auto; max-width: 24rem; display: block; }
.numgraph svg text { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: var(--ink); }
.numgraph svg .soft { fill: var(--soft); }
.numgraph svg .halo { paint-order: stroke; stroke: var(--panel); stroke-width: 5px; }
.numgraph .why { color: var(--soft); font-size: .92rem; }
.numgraph .forward { color: var(--forward); } .numgraph .backward { color: var(--backward); } .numgraph .both { color: var(--both); }
"""

_ANSWER = """<div class="answer"><h3>Why does the backward of a message run on the reversed graph, and why does SDDMM appear in it?</h3>
<p>Forward, every destination v sums over its <b>in-edges</b>: z_v = Σ φ(x_u, y_v, w_e). A gradient is summed over those who <b>read</b>
the field:</p>
<ul><li>The field x_u of a source was read by all <b>out-edges</b> of u, so ∂x_u is a sum over them. They are the in-edges of u in the
<b class="backward">reversed graph</b>; as matrices, z = A x has ∂x = Aᵀ g.</li>
<li>The field w_e of an edge was read by edge e alone, so there is nothing to sum over edges: ∂w_e is one value for each edge, made of x_u
and g_v at its two ends. That is an <b class="both">SDDMM</b>: of the dense product g xᵀ only the entries where the graph has edges.</li>
<li>The field y_v of a destination was read by the in-edges of v, which are grouped already: nothing is reversed.</li></ul></div>"""


def document(summaries: Sequence[tuple[Any, ...]]) -> str:
    """The page as a file."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>What the tape recorded</title>'
    style = "<style>html { background: Canvas; color-scheme: light dark; } body { margin: 0; }</style>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{style}</head>\n<body>\n{fragment(summaries)}\n</body></html>\n'


def fragment(summaries: Sequence[tuple[Any, ...]]) -> str:
    """The page inside of another one. summaries: name, shapes of inputs and of results, needs, and explain of
    each record.
    """
    rows, sections = [], []
    known: dict[str, int] = {}
    for number, (name, shapes_in, shapes_out, needs, explain) in enumerate(summaries):
        into, out = (
            ", ".join(str(list(shape)).replace(" ", NO_BREAK) for shape in shapes)
            for shapes in (shapes_in, shapes_out)
        )
        body = explain.section(needs) if hasattr(explain, "section") else ""
        link = escape(name)
        if body:
            first = known.setdefault(body, number)
            link = f'<a href="#numgraph-{first}">{link}</a>'
            if first == number:
                heading = f"<h2>#{number} {escape(name)}</h2>"
                sections.append(f'<section id="numgraph-{number}">{heading}{body}</section>')
        rows.append(f"<tr><td>#{number}</td><td>{link}</td><td>{into}</td><td>{out}</td></tr>")
    title = f"<h1>What the tape recorded: {len(summaries)} record{'' if len(summaries) == 1 else 's'}</h1>"
    head = "<tr><th>record</th><th>operation</th><th>reads</th><th>makes</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    told = "" if sections else "<p>No message was recorded with something that a gradient is wanted of.</p>"
    content = (
        f'{title}{_ANSWER}{told}{"".join(sections)}<h2>All records</h2><div class="scroll">{table}</div>'
    )
    return f'<div class="numgraph"><style>{_STYLE}</style>{content}</div>'
