"""Index notation: what every node of a message is at index variables.

    x[:, None] * x[None, :]   at (a, b)   is   x[a] * x[b]
    x.sum(-1, keepdims=True)  at (a, 0)   is   Σ_b x[a, b]

Views vanish here, a broadcast axis has no variable, a sum brings a variable of its own. Two terms are one
where they are equal, and never because their axes look alike: so any composition of views, broadcasting and
reductions means what NumPy means by it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numgraph.compiler.storage import compute_name
from numgraph.expressions.dtypes import COMPARISONS
from numgraph.expressions.expr import Expr, constant_value
from numgraph.expressions.traversal import leaves_of
from numgraph.expressions.walk import Output

_OVERFLOWING = (
    "add",
    "subtract",
    "multiply",
    "negative",
    "absolute",
    "power",
    "floor_divide",
    "bitwise_not",
    "left_shift",
)
_NAMES = "abcdefghijlmnopq"  # k is the edge
_ORDERS = 24
"""How many ways to name a result's variables are tried for the one that shares most."""


@dataclass(frozen=True)
class Variable:
    """A loop: ``name`` takes the values 0 … extent − 1. None: the extent is known only when a kernel runs."""

    name: str
    extent: int | None

    def __repr__(self) -> str:
        return self.name if self.extent is None else f"{self.name}:{self.extent}"


ROW, EDGE = Variable("row", None), Variable("k", None)
"""The rows of a walk, and the positions of a row's edges in the adjacency."""

Indices = tuple[Variable | None, ...]
"""The variable of each feature axis of a node; None where its length is one."""


@dataclass(frozen=True)
class Column:
    """Σ stride · variable, where an element stands in its row: ``Column(((h, 11), (f, 1)))`` is 11·h + f.
    Largest strides first.
    """

    strides: tuple[tuple[Variable, int], ...] = ()

    @property
    def variables(self) -> frozenset[Variable]:
        return frozenset(v for v, _ in self.strides)

    def renamed(self, old: Variable, new: Variable) -> Column:
        return Column(tuple((new if v == old else v, stride) for v, stride in self.strides))

    def __str__(self) -> str:
        return (
            " + ".join(v.name if stride == 1 else f"{stride} * {v.name}" for v, stride in self.strides) or "0"
        )


def row_major(shape: Sequence[int], indices: Indices) -> Column:
    """The column of an element of an array: ``row_major((5, 11), (h, f))`` is 11·h + f."""
    strides: dict[Variable, int] = {}
    stride = 1
    for length, index in zip(reversed(shape), reversed(indices), strict=True):
        if index is not None:
            strides[index] = strides.get(index, 0) + stride
        stride *= length
    return Column(tuple(sorted(strides.items(), key=lambda item: (-item[1], item[0].name))))


def aligned(shape: Sequence[int], indices: Indices) -> Indices:
    """Where an operand of this shape stands in NumPy's broadcasting: from the last axis, without a variable
    where its length is one.
    """
    return tuple(
        None if length == 1 else index
        for length, index in zip(shape, indices[len(indices) - len(shape) :], strict=True)
    )


@dataclass(frozen=True, eq=False)
class Term:
    """A node at index variables. Equal terms are one object.

    detail: (field, column) of a load, the number of a constant, the variables of a sum or max, the dtype that
    a wrap overflows in. dtype: what the value is computed in. free: the variables that it varies with.
    """

    op: str
    args: tuple[Term, ...]
    detail: Any
    dtype: str
    free: frozenset[Variable]


@dataclass(frozen=True)
class Result:
    """An output of a walk: its reduce, its terms (a message; score, masses and value of a softmax), and each
    array's column, number of features, and dtype."""

    reduce: str
    terms: tuple[Term, ...]
    arrays: tuple[tuple[Column, int, np.dtype[Any]], ...]


class Notation:
    """A walk over the edges of ``rows`` ("v": in-edges, "u": out-edges) in index notation: its ``results``,
    and the ``fields`` they read. "e": over the edges in the order of their ids, each a row by itself.

    The outputs' expressions are ``lowered``. The names of variables mean nothing: a result's axes, and a
    sum's, may be called by any that is not in use there, and they are called so that the walk has the fewest
    terms."""

    def __init__(self, outputs: Sequence[Output], rows: str) -> None:
        self.rows = rows
        self.edge = ROW if rows == "e" else EDGE
        self._at: dict[tuple[int, Indices], Term] = {}
        self._terms: dict[Any, Term] = {}
        self._variables: dict[tuple[int, int], Variable] = {}
        self.outputs = tuple(outputs)
        self.fields = {
            leaf.attrs: leaf for leaf in leaves_of(root for output in outputs for root in output.expressions)
        }
        self.results: list[Result] = []
        for output in outputs:
            self.results.append(self._sharing(output))
        while (pair := self._inseparable()) is not None:
            self._fuse(*pair)

    # --- terms of nodes ---

    def at(self, node: Expr, indices: Indices) -> Term:
        """The term of a node at indices, one for each of its feature axes."""
        key = id(node), indices
        if key not in self._at:
            self._at[key] = self._evaluated(node, indices)
        return self._at[key]

    def _evaluated(self, node: Expr, indices: Indices) -> Term:
        dtype = compute_name(node.dtype)
        if node.op == "field":
            return self._load(node, row_major(node.shape, aligned(node.shape, indices)))
        if node.op == "edge_id":
            return self._term("edge_id", (), None, "int64", frozenset({self.edge}))
        if node.op == "constant":
            return self._constant(node, dtype)
        if node.op == "axes":
            (arg,) = node.args
            inner: list[Variable | None] = [None] * arg.ndim
            for index, source in zip(indices, node.attrs, strict=True):
                if source is not None:
                    inner[source] = index
            return self.at(arg, aligned(arg.shape, tuple(inner)))
        if node.op in ("sum", "max"):
            return self._reduced(node, indices, dtype)
        if node.op == "broadcast":
            return self.at(node.args[0], aligned(node.args[0].shape, indices))
        if node.op == "cast":
            return self._wrapped(self._operand(node.args[0], indices, dtype), node.dtype)
        return self._elementwise(node, indices, dtype)

    def _reduced(self, node: Expr, indices: Indices, dtype: str) -> Term:
        (arg,) = node.args
        inside = list(indices)
        own: list[Variable | None] = []
        for axis in node.attrs:
            if arg.shape[axis] > 1:
                taken = frozenset(v for v in (*indices, *own) if v is not None)
                inside[axis] = self._variable(arg.shape[axis], arg.ndim - 1 - axis, taken)
                own.append(inside[axis])
        body = self._operand(arg, tuple(inside), dtype)
        variables = tuple(v for v in own if v is not None)
        return (
            self._term(node.op, (body,), variables, dtype, body.free - set(variables)) if variables else body
        )

    def _elementwise(self, node: Expr, indices: Indices, dtype: str) -> Term:
        if node.op == "floor" and not dtype.startswith("float"):
            return self._operand(node.args[0], indices, dtype)
        wanted = [dtype] * len(node.args)
        if node.op == "where":
            wanted[0] = "bool"
        elif node.op in COMPARISONS:
            wanted = [_compared(node.args)] * 2
        args = tuple([self._operand(arg, indices, one) for arg, one in zip(node.args, wanted, strict=True)])
        made = self._term(node.op, args, None, dtype, frozenset().union(*[arg.free for arg in args]))
        return self._wrapped(made, node.dtype) if node.op in _OVERFLOWING else made

    def _operand(self, node: Expr, indices: Indices, dtype: str) -> Term:
        """A node's term, broadcast to indices, in a dtype; constants are made in it directly."""
        if node.op == "constant":
            return self._constant(node, dtype)
        term = self.at(node, aligned(node.shape, indices))
        return term if term.dtype == dtype else self._term("cast", (term,), None, dtype, term.free)

    def _wrapped(self, term: Term, dtype: np.dtype[Any]) -> Term:
        """Integers narrower than what they are computed in overflow as NumPy's do."""
        if dtype.kind not in "iu" or dtype.itemsize == np.dtype(term.dtype).itemsize:
            return term
        return self._term("wrap", (term,), dtype.name, term.dtype, term.free)

    def _constant(self, node: Expr, dtype: str) -> Term:
        number = constant_value(node)
        number = (
            bool(number) if dtype == "bool" else float(number) if dtype.startswith("float") else int(number)
        )
        return self._term("constant", (), number, dtype, frozenset())

    def _load(self, node: Expr, column: Column) -> Term:
        target = node.attrs[0]
        row = {"shared": (), self.rows: (ROW,)}.get(target, (self.edge,))
        return self._term(
            "load", (), (node.attrs, column), compute_name(node.dtype), column.variables.union(row)
        )

    def _term(
        self, op: str, args: tuple[Term, ...], detail: Any, dtype: str, free: frozenset[Variable]
    ) -> Term:
        key = op, tuple(map(id, args)), repr(detail) if op == "constant" else detail, dtype  # −0.0 equals 0
        return self._terms.setdefault(key, Term(op, args, detail, dtype, free))

    def renamed(self, term: Term, old: Variable, new: Variable) -> Term:
        """The term with one variable for another that occurs nowhere in it: what a loop of its own needs for
        a sum's variable.
        """
        if old not in term.free:
            return term
        if term.op == "load":
            key, column = term.detail
            return self._load(self.fields[key], column.renamed(old, new))
        args = tuple([self.renamed(arg, old, new) for arg in term.args])
        return self._term(term.op, args, term.detail, term.dtype, term.free - {old} | {new})

    # --- variables that are one ---

    def _inseparable(self) -> tuple[Variable, Variable] | None:
        """Two variables that every column and every sum has side by side, or has neither of: they number one
        longer axis.
        """
        terms = terms_of(self.results)
        columns = [column for result in self.results for column, _, _ in result.arrays]
        columns += [term.detail[1] for term in terms if term.op == "load"]
        sums = [frozenset(term.detail) for term in terms if term.op in ("sum", "max")]
        neighbours = dict.fromkeys(
            (a, b) for column in columns for (a, _), (b, _) in itertools.pairwise(column.strides)
        )

        def together(a: Variable, b: Variable, column: Column) -> bool:
            strides = dict(column.strides)
            return (
                strides[a] == (b.extent or 0) * strides[b]
                if a in strides and b in strides
                else not {a, b} & strides.keys()
            )

        for a, b in neighbours:
            if all(together(a, b, column) for column in columns) and all(
                len({a, b} & own) != 1 for own in sums
            ):
                return a, b
        return None

    def _fuse(self, a: Variable, b: Variable) -> None:
        """One variable for two, everywhere."""
        whole = Variable(f"{a.name}{b.name}", (a.extent or 0) * (b.extent or 0))
        made: dict[int, Term] = {}

        def column(old: Column) -> Column:
            return Column(tuple([(whole if v == b else v, stride) for v, stride in old.strides if v != a]))

        for term in terms_of(self.results):
            args = tuple([made[id(arg)] for arg in term.args])
            free = frozenset(whole if v == b else v for v in term.free if v != a)
            detail = term.detail
            if term.op == "load":
                detail = detail[0], column(detail[1])
            elif term.op in ("sum", "max"):
                detail = tuple([whole if v == b else v for v in detail if v != a])
            made[id(term)] = self._term(term.op, args, detail, term.dtype, free)
        for i, result in enumerate(self.results):
            terms = tuple([made[id(term)] for term in result.terms])
            self.results[i] = replace(
                result,
                terms=terms,
                arrays=tuple([(column(old), size, dtype) for old, size, dtype in result.arrays]),
            )

    # --- variables ---

    def _variable(self, extent: int, place: int, taken: frozenset[Variable]) -> Variable:
        """The variable for an axis of this length at this place from the end, or the next one that is not
        taken.
        """
        while True:
            number = len(self._variables)
            name = _NAMES[number] if number < len(_NAMES) else f"i{number}"
            made = self._variables.setdefault((extent, place), Variable(name, extent))
            if made not in taken:
                return made
            place += 1

    def _sharing(self, output: Output) -> Result:
        """An output at those variables, known ones or new, that add the fewest terms."""
        shape = np.broadcast_shapes(*[node.shape for node in output.expressions])
        new: list[Variable] = []
        for axis, length in enumerate(shape):
            if length != 1:
                new.append(self._variable(length, len(shape) - 1 - axis, frozenset(new)))
        used = frozenset().union(*[term.free for term in terms_of(self.results)])
        choices = [[v, *[k for k in used if k.extent == v.extent and k != v]] for v in new]
        for more in choices:
            more[1:] = sorted(more[1:], key=lambda v: v.name)
        distinct = (named for named in itertools.product(*choices) if len(set(named)) == len(named))
        made = [self._result(output, shape, named) for named in itertools.islice(distinct, _ORDERS)]
        return min(made, key=lambda result: len(terms_of([*self.results, result])))

    def _result(self, output: Output, shape: tuple[int, ...], variables: tuple[Variable, ...]) -> Result:
        left = iter(variables)
        indices: Indices = tuple([None if length == 1 else next(left) for length in shape])
        *others, last = output.expressions
        score = compute_name(output.expressions[0].dtype)
        terms = [self._operand(node, indices, score) for node in others]
        terms.append(self._operand(last, indices, compute_name(last.dtype)))
        arrays = [
            (row_major(own, aligned(own, indices)), math.prod(own), dtype) for own, dtype in output.results()
        ]
        return Result(output.reduce, tuple(terms), tuple(arrays))


def _compared(nodes: Sequence[Expr]) -> str:
    """The dtype that a comparison is made in. Edge ids fit the dtype of what they are compared with."""
    if any(node.op == "edge_id" for node in nodes):
        other = next((node for node in nodes if node.op != "edge_id"), nodes[0])
        return compute_name(other.dtype)
    strong = [node.dtype for node in nodes if not node.weak]
    weak = [{"bool": True, "int": 1, "float": 1.0}[node.attrs[0]] for node in nodes if node.weak]
    found = compute_name(np.result_type(*strong, *weak))
    return "int32" if found == "bool" else found


def terms_of(results: Iterable[Result]) -> list[Term]:
    """Every term below the results, operands first."""
    order: dict[int, Term] = {}

    def visit(term: Term) -> None:
        if id(term) not in order:
            for arg in term.args:
                visit(arg)
            order[id(term)] = term

    for result in results:
        for term in result.terms:
            visit(term)
    return list(order.values())


def variables_in(term: Term) -> frozenset[Variable]:
    """The variables that a term varies with, and those of the sums below it."""
    own = frozenset(term.detail) if term.op in ("sum", "max") else frozenset()
    return own.union(term.free, *[variables_in(arg) for arg in term.args])
