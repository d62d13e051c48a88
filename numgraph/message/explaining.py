"""The words of ``tape.explain()`` for walks: what was computed, and for every gradient its message, its
kernel, on which graph, and why.

The formulas are the ones that the backward runs: the same derive(), on symbols without arrays.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numgraph.compiler import schedules
from numgraph.expressions import expr
from numgraph.expressions.derivatives import Key, derive
from numgraph.expressions.expr import Expr
from numgraph.expressions.formulas import bare, text
from numgraph.expressions.reduces import NEEDS, REDUCES, NeedOf, needed
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Output, sides
from numgraph.graph import Graph

_WIDTH = 114  # of a line, without the tape's indent
_FORMULA = 56  # a wider formula has its kernel on the next line
_LONG = 48  # a record with a formula longer than this has names for what occurs in it twice
_INDENT = " " * 7

_EDGES = {"v": "the in-edges of v (CSC)", "u": "the out-edges of u (CSR)"}


def _edges(end: str) -> str:
    return _EDGES.get(end) or f"the edges by {end}"


def explain_kernels(graph: Graph, outputs: Sequence[Output], gradients: Mapping[Key, Output]) -> list[str]:
    """The lines for the kernels of one record: what each makes, and its schedule."""
    made = [f"z{number}_{output.to}" for number, output in zip(_numbers(outputs), outputs, strict=True)]
    walks = [
        (made, tuple(outputs)),
        ([f"∂{text(expr.field(*key, (), float))}" for key in gradients], tuple(gradients.values())),
    ]
    lines = []
    for names, walk in walks:
        for numbers, schedule in schedules(graph, walk) if walk else ():
            lines.append(f"kernel of {', '.join([names[i] for i in numbers])}: {schedule}")
    return lines


def _numbers(outputs: Sequence[Output]) -> list[str]:
    """What tells the results of several outputs apart."""
    digits = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
    return [f"{i + 1}".translate(digits) if len(outputs) > 1 else "" for i in range(len(outputs))]


def explain_walk(outputs: Sequence[Output], wanted: Sequence[Key]) -> list[str]:
    """The lines for one record: its formulas, what they mean, and for each wanted gradient its formula, its
    kernel, and why.
    """
    telling = tell(outputs, wanted)
    rows = [*telling.results, *[("", note) for note in telling.notes]]
    for gradient in telling.gradients:
        rows += [(gradient.formula, gradient.kernel), *[("", why) for why in gradient.reasons]]
    return _laid_out(rows) + telling.together


class Gradient(NamedTuple):
    """What is told of the gradient of a field."""

    key: Key
    formula: str
    kernel: str
    reasons: list[str]
    zero: bool


class Telling(NamedTuple):
    """What is told of a walk.

    results: formula and kernel of each output; notes: what their letters mean, and what is kept for the
    backward; together: which gradients come out of one walk.
    """

    results: list[tuple[str, str]]
    notes: list[str]
    gradients: list[Gradient]
    together: list[str]


def tell(outputs: Sequence[Output], wanted: Sequence[Key]) -> Telling:
    """The formulas of a walk and of its gradients, with their kernels, and why."""
    symbols = [
        _Symbols(output, number, _letter(outputs))
        for output, number in zip(outputs, _numbers(outputs), strict=True)
    ]
    needs: list[NeedOf | None] = [symbol.need for symbol in symbols]
    gradients = derive(outputs, needs, wanted) if wanted else {}
    backward = [output.expressions[0] for output in gradients.values()]
    names = {id(node): name for symbol in symbols for node, name in symbol.made.values()}
    definitions = _name_softmax(outputs, symbols, backward, names)
    written = [_reduced(output, names) for output in outputs]
    definitions += _name_parts(outputs, backward, names)
    results = []
    for output, symbol, formula in zip(outputs, symbols, written, strict=True):
        results.append(
            (
                f"{symbol.result} = {formula if len(formula) <= _LONG else _reduced(output, names)}",
                _forward_kernel(output),
            )
        )
        if output.reduce == "edge":
            names[id(bare(output.expressions[0]))] = symbol.result
    notes = [f"with {line}" for line in definitions]
    if gradients:
        notes += dict.fromkeys(
            REDUCES[output.reduce].kept.format(to=output.to)
            for output in outputs
            if REDUCES[output.reduce].kept
        )
    told: set[str] = set()
    found = []
    for key in wanted:
        leaf = text(expr.field(*key, (), float))
        if key in gradients:
            reasons = _reasons(key, leaf, outputs, gradients[key], told)
            found.append(
                Gradient(
                    key,
                    f"∂{leaf} = {_reduced(gradients[key], names)}",
                    _backward_kernel(key[0]),
                    reasons,
                    False,
                )
            )
        else:
            found.append(
                Gradient(key, f"∂{leaf} = 0", "no value of an edge has a derivative by it", [], True)
            )
    return Telling(results, notes, found, _walked_together(gradients))


class _Symbols:
    """Stand-ins, without arrays, for what the derivative of one output reads at the nodes, and how each is
    written.
    """

    def __init__(self, output: Output, number: str, letter: str) -> None:
        self.output = output
        self.made: dict[str, tuple[Expr, str]] = {}
        to = output.to
        self.result, self.letter = f"z{number}_{to}", f"{letter}{number}_{to}"

    def need(self, name: str) -> Any:
        if NEEDS[name].gradient == -1 and REDUCES[self.output.reduce].value is None:
            return None  # only gradients of gradients have it
        if name not in self.made:
            to, g = self.output.to, self.letter
            written = {
                "g": g,
                "g/degree": f"{g}/deg_{to}",
                "winner": f"win_{to}",
                "⟨g, z⟩": f"⟨{g}, {self.result}⟩",
                "z": self.result,
            }
            symbol = expr.field(
                to, f"{name} of {self.result}′", *needed(self.output.expressions, self.output.reduce, name)
            )
            self.made[name] = symbol, written.get(name, f"{name}_{to}")
        return self.made[name][0]


def _letter(outputs: Sequence[Output]) -> str:
    """The letter for the gradients that come in: another one for each order of derivative."""
    read = {leaf.attrs[1] for leaf in leaves_of(root for output in outputs for root in output.expressions)}
    return next(
        (
            letter
            for letter in "ghkpq"
            if not any(name.startswith(letter) and name.endswith("′") for name in read)
        ),
        "g",
    )


def _name_softmax(
    outputs: Sequence[Output], symbols: Sequence[_Symbols], backward: Sequence[Expr], names: dict[int, str]
) -> list[str]:
    """Call the score of a softmax s and its weights α; returns the definitions."""
    definitions = []
    for output, symbol in zip(outputs, symbols, strict=True):
        if output.reduce != "softmax":
            continue
        score = bare(output.expressions[0])
        written = text(score, names)
        if score.args:
            definitions.append(f"s = {written}")
            names[id(score)] = "s"
        definitions.append(
            f"α = softmax of {names.get(id(score), written)} over "
            f"{_edges(output.to).removesuffix(' (CSC)').removesuffix(' (CSR)')}"
        )
        scale = symbol.made.get("scale")
        products = [node for node in topological(backward) if node.op == "multiply"]
        names |= {id(node): "α" for node in products if scale and any(arg is scale[0] for arg in node.args)}
    return definitions


def _name_parts(outputs: Sequence[Output], backward: Sequence[Expr], names: dict[int, str]) -> list[str]:
    """Where formulas are long, name what occurs in them twice; returns the definitions."""
    definitions: list[str] = []
    roots = [*(root for output in outputs for root in output.expressions), *backward]
    if max(len(text(root, names)) for root in roots) <= _LONG:
        return definitions
    results = {id(bare(output.expressions[0])) for output in outputs if output.reduce == "edge"}
    order = _visible(roots, names)
    uses = Counter(id(bare(arg)) for node in order for arg in node.args) + Counter(
        id(bare(root)) for root in roots
    )
    for node in order:
        if (
            node.args
            and uses[id(node)] > 1
            and id(node) not in results
            and 10 <= len(text(node, names)) <= _WIDTH - 12
        ):
            name = f"t{len(definitions) + 1}"
            definitions.append(f"{name} = {text(node, names)}")
            names[id(node)] = name
    return definitions


def _visible(roots: Sequence[Expr], names: Mapping[int, str]) -> list[Expr]:
    """The nodes that formulas show, operands first: nothing below a name."""
    order: dict[int, Expr] = {}

    def visit(node: Expr) -> None:
        node = bare(node)
        if id(node) not in order and id(node) not in names:
            for arg in node.args:
                visit(arg)
            order[id(node)] = node

    for root in roots:
        visit(root)
    return list(order.values())


def _reduced(output: Output, names: Mapping[int, str]) -> str:
    root = bare(output.expressions[-1])
    written = text(root, names)
    loose = root.op in (
        "add",
        "subtract",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "equal",
        "not_equal",
    )
    grouped = f"({written})" if loose and id(root) not in names else written
    sign = REDUCES[output.reduce].sign
    return f"{sign}({written})" if sign.endswith("exp") else f"{sign} {grouped}" if sign else written


def _forward_kernel(output: Output) -> str:
    if output.reduce == "edge":
        return "SDDMM: one value per edge"
    return f"{'one online pass' if output.reduce == 'softmax' else 'SpMM'} over {_edges(output.to)}"


def _backward_kernel(target: str) -> str:
    return {
        "u": "SpMM on the REVERSED graph: over the out-edges of u (CSR)",
        "v": "SpMM on the same graph: over the in-edges of v (CSC)",
        "e": "SDDMM: one value per edge",
        "shared": "SpMM over the in-edges of v (CSC), then summed over v",
    }.get(target) or f"SpMM over {_edges(target)}"


def _reasons(key: Key, leaf: str, outputs: Sequence[Output], gradient: Output, told: set[str]) -> list[str]:
    """Why this kernel on this graph (once a record for each of u, v, e), and the gradient's classical form
    where it has one.
    """
    general = {
        "u": f"every out-edge of u read {leaf}, so the gradient sums what all of them contribute",
        "v": f"only the in-edges of v read {leaf}, and they are grouped by v already: nothing is reversed",
        "e": f"edge e alone read {leaf}, so there is nothing to sum over edges",
        "shared": f"every edge read the whole of {leaf}",
    }.get(
        key[0]
    ) or f"the edges that name a row read it in {leaf}, so the gradient sums what all of them contribute"
    reasons = [] if key[0] in told else [general]
    told.add(key[0])
    return reasons + (_classical(key, outputs[0], gradient) if len(outputs) == 1 else [])


def _walked_together(gradients: Mapping[Key, Output]) -> list[str]:
    walked = sides(list(gradients.values()))
    lines = []
    for side in sorted(set(walked), reverse=True):
        together = [
            f"∂{text(expr.field(*key, (), float))}"
            for key, by in zip(gradients, walked, strict=True)
            if by == side
        ]
        if len(together) > 1:
            lines.append(
                f"{' and '.join([', '.join(together[:-1]), together[-1]])} come out of one walk over "
                f"{_edges(side)}"
            )
    return lines


def _classical(key: Key, output: Output, gradient: Output) -> list[str]:
    phi = bare(output.expressions[0])
    if output.reduce == "edge":
        return (
            ["the derivative of SDDMM is SpMM, with g as the weights of the edges"]
            if phi.op == "sum" and key[0] == "u"
            else []
        )
    factors = [bare(arg) for arg in phi.args] if phi.op == "multiply" else [phi]
    nodes = [factor.attrs for factor in factors if factor.op == "field" and factor.attrs[0] == "u"]
    weights = [
        factor
        for factor in factors
        if factor.op == "field" and factor.attrs[0] == "e" and all(n == 1 for n in factor.shape)
    ]
    if (
        output.to != "v"
        or output.reduce not in ("sum", "mean")
        or not nodes
        or len(nodes) + len(weights) != len(factors)
    ):
        return []
    inverse = "D⁻¹ " if output.reduce == "mean" else ""
    if key[0] == "u" and len(nodes) == 1:
        matrix = (
            f"the weighted adjacency matrix, A[v, u] = {text(weights[0])}"
            if weights
            else "the adjacency matrix"
        )
        return [f"as matrices: z = {inverse}A x, so ∂x = Aᵀ {inverse}g, the transpose; A is {matrix}"]
    if key[0] == "e" and bare(gradient.expressions[0]).op == "sum":
        return [
            (
                f"as matrices: of the dense {inverse}g xᵀ only the entries where the graph has edges, "
                "a sampled "
                "dense-dense product"
            )
        ]
    return []


def _laid_out(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Formulas left, kernels in one column right of them, everything else wrapped below."""
    column = max([len(left) for left, _ in rows if len(left) <= _FORMULA], default=0)
    lines = []
    for left, right in rows:
        if not left:
            lines += textwrap.wrap(right, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
        elif len(left) <= column:
            lines.append(f"{left:<{column}}   {right}")
        else:
            lines += textwrap.wrap(left, _WIDTH, subsequent_indent=_INDENT)
            lines.append(_INDENT + right)
    return lines
