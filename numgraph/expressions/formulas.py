"""Expressions as a person writes them, for ``tape.explain()`` and for errors: infix arithmetic, ``u.x``, ⟨a,
b⟩ for a sum of products.

A formula is for reading only: nothing depends on its text. It is built from strings of bounded length, so
that an expression whose shared parts would unfold to millions of characters costs as little as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_INFIX = {  # binding strength and sign; a − (b − c) and a / (b / c) keep their brackets
    "logical_or": (1, "|"),
    "logical_xor": (1, "^"),
    "logical_and": (2, "&"),
    "bitwise_or": (1, "|"),
    "bitwise_xor": (1, "^"),
    "bitwise_and": (2, "&"),
    "left_shift": (3, "<<"),
    "right_shift": (3, ">>"),
    "equal": (3, "="),
    "not_equal": (3, "≠"),
    "less": (3, "<"),
    "less_equal": (3, "≤"),
    "greater": (3, ">"),
    "greater_equal": (3, "≥"),
    "add": (4, "+"),
    "subtract": (4, "−"),
    "multiply": (5, "·"),
    "divide": (5, "/"),
    "floor_divide": (5, "//"),
    "remainder": (5, "%"),
    "power": (7, "**"),
}
_OPPOSITE = {
    "equal": "≠",
    "not_equal": "=",
    "less": "≥",
    "less_equal": ">",
    "greater": "≤",
    "greater_equal": "<",
}
_SIGN, _ATOM = 6, 9
_TRANSPARENT = ("cast", "broadcast", "axes", "detached")
_LIMIT = 160


def text(node: Any, names: Mapping[int, str] | None = None, limit: int = _LIMIT) -> str:
    """The formula of an expression; ``names`` gives subexpressions (by id) names. Longer than ``limit`` it
    has … in places.
    """
    done: dict[int, tuple[int, str]] = {}
    stack = [node]
    while stack:
        top = stack[-1]
        if id(top) in done:
            stack.pop()
        elif names and id(top) in names:
            done[id(top)] = _ATOM, names[id(top)]
        else:
            missing = [arg for arg in top.args if id(arg) not in done]
            stack += missing
            if not missing:
                done[id(top)] = _fitted(top, done, limit)
    return done[id(node)][1]


def bare(node: Any) -> Any:
    """The node below casts and changes of shape, which formulas do not show."""
    while node.op in _TRANSPARENT:
        node = node.args[0]
    return node


def _fitted(node: Any, done: Mapping[int, tuple[int, str]], limit: int) -> tuple[int, str]:
    """As _written, with the longest operands given as … until it fits."""
    strength, written = _written(node, done)
    shortened = dict(done) if len(written) > limit else {}
    for arg in sorted(node.args, key=lambda arg: -len(done[id(arg)][1])):
        if len(written) <= limit:
            break
        shortened[id(arg)] = _ATOM, "…"
        strength, written = _written(node, shortened)
    return strength, written


def _written(node: Any, done: Mapping[int, tuple[int, str]]) -> tuple[int, str]:
    """Binding strength and text of a node whose operands are in ``done``."""

    def operand(arg: Any, at_least: int) -> str:
        strength, written = done[id(arg)]
        return written if strength >= at_least else f"({written})"

    op, args = node.op, node.args
    if op == "field":
        return _ATOM, _field(*node.attrs)
    if op == "constant":
        written = node.attrs[1] if node.dtype.kind != "f" else f"{float(node.attrs[1]):.6g}"
        return (_SIGN if written.startswith("-") else _ATOM), written.replace("-", "−")
    if op == "edge_id":
        return _ATOM, "e"
    if op in _TRANSPARENT:
        return done[id(args[0])]
    if op == "add" and bare(args[1]).op == "negative" and done[id(args[1])][1].startswith("−"):
        return 4, f"{operand(args[0], 4)} − {operand(bare(args[1]).args[0], 5)}"
    if op == "square" or (op == "multiply" and args[0] is args[1]):
        return 8, f"{operand(args[0], _ATOM)}²"
    if op in _INFIX:
        strength, sign = _INFIX[op]
        grouped = op in ("add", "multiply", "logical_or", "logical_and", "bitwise_or", "bitwise_and")
        return (
            strength,
            f"{operand(args[0], strength)} {sign} {operand(args[1], strength if grouped else strength + 1)}",
        )
    if op == "negative":
        return _SIGN, f"−{operand(args[0], _SIGN)}"
    if op == "absolute":
        return _ATOM, f"|{done[id(args[0])][1]}|"
    if op == "bitwise_not":
        return _SIGN, f"~{operand(args[0], _SIGN)}"
    if op == "logical_not":
        return _SIGN, f"not {operand(args[0], _SIGN)}"
    if op in ("sum", "max"):
        return _ATOM, _over_axes(node, done)
    if op == "part":
        axis, positions = node.attrs
        chosen = positions[0] if len(positions) == 1 else positions
        return _ATOM, f"{operand(args[0], _ATOM)}[{'…, ' if axis else ''}{chosen}]"
    if op == "join":
        return _ATOM, f"[{', '.join(done[id(arg)][1] for arg in args)}]"
    if op == "where":
        return _choice(args, done, operand)
    return _ATOM, f"{op}({', '.join(done[id(arg)][1] for arg in args)})"


def _field(target: str, name: str) -> str:
    """``u.x``; an array that the engine itself attached to the nodes, whose name ends in ′, reads ``g_v``."""
    if name.endswith("′"):
        base = name.rstrip("′")
        return f"{base}_{target}" + "′" * (len(name) - len(base) - 1)
    return f"{target}.{name}" if target in ("u", "v", "e") else name


def _over_axes(node: Any, done: Mapping[int, tuple[int, str]]) -> str:
    (arg,) = node.args
    last = node.attrs in ((arg.ndim - 1,), tuple(range(arg.ndim)))
    axes = "" if last else f", axis={node.attrs[0] if len(node.attrs) == 1 else node.attrs}"
    product = bare(arg)
    if node.op == "sum" and last and product.op == "multiply" and "·" in done[id(arg)][1]:
        return f"⟨{', '.join(done[id(factor)][1] for factor in product.args)}⟩"
    return f"{node.op}({done[id(arg)][1]}{axes})"


def _choice(args: Any, done: Mapping[int, tuple[int, str]], operand: Any) -> tuple[int, str]:
    """``np.where``; what relu and leaky_relu build keeps its name, and where(c, a, 0) reads [c] · a, with [c]
    = 1 if c holds, else 0.
    """
    condition, a, b = args
    c = bare(condition)
    subject = bare(c.args[0]) if c.args else None
    if c.op == "less_equal" and _is_zero(c.args[1]) and _is_zero(a) and bare(b) is subject:
        return _ATOM, f"relu({done[id(b)][1]})"
    slope = bare(b)
    if (
        c.op == "greater"
        and _is_zero(c.args[1])
        and bare(a) is subject
        and slope.op == "multiply"
        and bare(slope.args[0]) is subject
    ):
        return _ATOM, f"leaky_relu({done[id(a)][1]}, {done[id(slope.args[1])][1]})"
    if _is_zero(b):
        return 5, f"[{done[id(condition)][1]}] · {operand(a, 5)}"
    if _is_zero(a):
        otherwise = f"not {operand(condition, _ATOM)}"
        if c.op in _OPPOSITE and done[id(condition)][0] != _ATOM:  # it has no name
            otherwise = f" {_OPPOSITE[c.op]} ".join(done[id(arg)][1] for arg in c.args)
        return 5, f"[{otherwise}] · {operand(b, 5)}"
    return _ATOM, f"where({', '.join(done[id(arg)][1] for arg in args)})"


def _is_zero(node: Any) -> bool:
    node = bare(node)
    return node.op == "constant" and node.attrs[1] in ("0", "0.0", "-0.0", "False")
