"""Message expressions: what a Python function of u, v, e computes, as a graph of elementary functions that
can be differentiated.

A message such as ``lambda u, v, e: np.maximum(u.x - v.y, 0) * e.w`` is called once with symbols. NumPy's
operators and functions build nodes (``Expr``) through ``__array_ufunc__`` and ``__array_function__``. Shapes
are feature shapes, without the node or edge axis.

Nodes are interned: two equal expressions are one object, so shared subexpressions exist once and a plan is
found by its root."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, Library, framework, library_of
from numgraph.arrays.inputs import as_array
from numgraph.expressions import elementary
from numgraph.expressions.advice import instead
from numgraph.expressions.dtypes import COMPARISONS, comparison_beyond, result_dtype
from numgraph.expressions.dtypes import check_dtype as check_dtype
from numgraph.expressions.dtypes import is_float as is_float
from numgraph.expressions.formulas import text as text
from numgraph.expressions.functions import apply_function
from numgraph.expressions.indexing import parsed
from numgraph.expressions.operators import Operators
from numgraph.expressions.rewrites import simplified

READS_U, READS_V, READS_E = 1, 2, 4
TARGET_READS = {"u": READS_U, "v": READS_V, "e": READS_E, "shared": 0}
"""Of other targets, the further ends of edges (see GraphWithEnds), every edge reads the row that it names:
READS_E.
"""

_interned: weakref.WeakValueDictionary[tuple[Any, ...], Expr] = weakref.WeakValueDictionary()
_intern_lock = threading.Lock()


class Expr(Operators["Expr"]):
    """One node of a message: ``op`` names an elementary row or one of field, edge_id, constant, cast, axes,
    broadcast, sum, max; or one of part, join, take, of which messages are rid once they are traced
    (pieces.py).

    shape, dtype: of the value for one edge. reads: which of u, v, e (bits) the value depends on.
    """

    __slots__ = ("__weakref__", "args", "attrs", "dtype", "op", "reads", "shape")
    __array_priority__ = 1000

    op: str
    args: tuple[Expr, ...]
    attrs: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reads: int

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def weak(self) -> bool:
        """A Python number: it takes the dtype of what it meets."""
        return self.op == "constant" and self.attrs[0] in ("int", "float", "bool")

    @property
    def number(self) -> Any:
        """The Python number of a constant, of a dtype or not; None for anything else."""
        node = self
        while node.op == "cast":
            (node,) = node.args
        return constant_value(node) if node.op == "constant" else None

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<message {text(self)}: {self.dtype.name}{list(self.shape)}>"

    def __bool__(self) -> bool:
        raise errors.bad_type(
            "message",
            f"a Python branch (if, and, or, not, while) on {text(self)}, whose value differs from edge to "
            "edge",
            "use np.where(condition, a, b), np.maximum, & and | instead",
        )

    def __iter__(self) -> Any:
        raise errors.bad_type(
            "message", f"{text(self)} is a symbol and cannot be iterated", "write it with whole feature axes"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        fix = (
            "use NumPy functions that numgraph knows, such as np.exp and .sum(-1), not float, math or "
            "np.asarray"
        )
        raise errors.bad_type("message", f"{text(self)} is a symbol, not an array", fix)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        context = getattr(_lifting, "captured", None)
        if context is not None and (method := context[2].method(self, name)) is not None:
            return method
        raise AttributeError(f"message: {text(self)} is a symbol and has no .{name}{instead(name)}")

    def __len__(self) -> int:
        raise errors.bad_type(
            "message", f"{text(self)} is a symbol and has no length", "its feature axes are in .shape"
        )

    __float__ = __int__ = __complex__ = __index__ = __array__

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Any:
        if method != "__call__" or any(value is not None for value in options.values()):
            raise errors.bad_type(
                "message",
                f"np.{ufunc.__name__}.{method} with {sorted(options)} is not known",
                "call the plain function",
            )
        return apply_function(apply, ufunc, operands, {})

    def __array_function__(self, function: Any, types: Any, operands: Any, options: Any) -> Any:
        return apply_function(apply, function, operands, options)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, operands: Any = (), options: Any = None) -> Any:
        return framework("torch").in_message(function, operands, dict(options or {}))

    @staticmethod
    def __elementary__(row: elementary.Row, operands: Sequence[Any]) -> Expr:
        return apply(row, operands)

    def __getitem__(self, index: Any) -> Expr:
        """Entries of feature axes by constants: numbers, slices, lists; None adds an axis of length one."""
        taken, axes = parsed(index, self.shape, text(self))
        node = self
        for axis, positions in taken:
            shape = (*node.shape[:axis], len(positions), *node.shape[axis + 1 :])
            node = _make("part", (node,), (axis, positions), shape, node.dtype, node.reads)
        return view_axes(node, axes)

    def astype(self, dtype: Any) -> Expr:
        """The value converted to dtype."""
        return cast(self, np.dtype(dtype))

    def sum(
        self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False
    ) -> Expr:
        """Sum over feature axes."""
        return reduce_axes("sum", self, axis if dim is None else dim, keepdims or keepdim)

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Expr:
        """Maximum over feature axes."""
        return reduce_axes("max", self, axis, keepdims)

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Expr:
        """Minimum over feature axes: the maximum in the reversed order, which for integers ~ gives without
        overflow.
        """
        reverse: Any = np.bitwise_not if self.dtype.kind in "biu" else np.negative
        found: Expr = reverse(reduce_axes("max", reverse(self), axis, keepdims))
        return found

    def mean(
        self, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False
    ) -> Expr:
        """Mean over feature axes; of integers in float64."""
        total = (cast(self, np.dtype(np.float64)) if self.dtype.kind in "biu" else self).sum(
            axis, keepdims, dim=dim, keepdim=keepdim
        )
        return total / max(math.prod(self.shape) // max(math.prod(total.shape), 1), 1)

    def _broadcast_to(self, shape: tuple[int, ...]) -> Expr:
        return broadcast_to(self, shape)

    def _viewed(self, axes: tuple[int | None, ...]) -> Expr:
        return view_axes(self, axes)

    @staticmethod
    def _lifted(value: Any) -> Expr:
        return lift(value)

    @staticmethod
    def _joined(parts: Sequence[Expr], axis: int) -> Expr:
        """Parts one after the other along an axis; they have equal lengths in the others."""
        dtype = np.result_type(*[part.dtype for part in parts])
        nodes = tuple([cast(part, dtype) for part in parts])
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return nodes[0] if len(nodes) == 1 else node("join", nodes, (axis,), tuple(shape), dtype)


def _make(
    op: str,
    args: tuple[Expr, ...],
    attrs: tuple[Any, ...],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    reads: int,
) -> Expr:
    key = (op, tuple(map(id, args)), attrs, shape, dtype.str)
    node = _interned.get(key)
    if node is None:
        with _intern_lock:
            node = _interned.get(key)
            if node is None:
                node = object.__new__(Expr)
                node.op, node.args, node.attrs, node.shape, node.dtype, node.reads = (
                    op,
                    args,
                    attrs,
                    shape,
                    dtype,
                    reads,
                )
                _interned[key] = node
    return node


def node(
    op: str, args: tuple[Expr, ...], attrs: tuple[Any, ...], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Expr:
    """The node that had these attributes, as ``bridges.torch_text`` reads it."""
    reads = TARGET_READS.get(attrs[0], READS_E) if op == "field" else READS_E if op == "edge_id" else 0
    return _make(
        op, args, attrs, shape, dtype, functools.reduce(operator.or_, [arg.reads for arg in args], reads)
    )


@functools.lru_cache(maxsize=4096)
def field(target: str, name: str, shape: tuple[int, ...], dtype: Any) -> Expr:
    """A leaf: field ``name`` of u, v, e or another end, or a ``shared`` array that every edge reads whole; in
    this machine's byte order.
    """
    return _make(
        "field",
        (),
        (target, name),
        tuple(shape),
        np.dtype(dtype).newbyteorder("="),
        TARGET_READS.get(target, READS_E),
    )


def edge_id() -> Expr:
    """The id of the edge that the message is on."""
    return _make("edge_id", (), (), (), np.dtype(np.int64), READS_E)


def constant(value: Any) -> Expr:
    """A number. Python's are weak (they keep the other operand's dtype); NumPy's, and those of subclasses as
    enums, bring theirs.
    """
    if type(value) in (bool, int, float):
        kind = type(value).__name__
        return _make("constant", (), (kind, repr(value)), (), np.dtype(type(value)), 0)
    scalar = np.asarray(value)
    check_dtype("message", repr(value), scalar.dtype)
    return _make("constant", (), (scalar.dtype.name, repr(scalar.item())), (), scalar.dtype, 0)


def constant_value(node: Expr) -> Any:
    """The Python number of a constant node."""
    return {"True": True, "False": False}.get(node.attrs[1]) if node.dtype.kind == "b" else _number(node)


def _number(node: Expr) -> Any:
    return int(node.attrs[1]) if node.dtype.kind in "iu" else float(node.attrs[1])


# --- building nodes -----------------------------------------------------------------------------------------

_lifting = threading.local()


@contextlib.contextmanager
def capturing(library: Library = NATIVE, dtypes: Sequence[np.dtype[Any]] = ()) -> Iterator[dict[str, Any]]:
    """While a message function is called: arrays from outside that meet a symbol become shared fields,
    collected here by name.

    library: whose arrays the fields are; what NumPy's arrays become among them, if it says so. dtypes: the
    fields'."""
    outer = getattr(_lifting, "captured", None)
    captured: dict[str, Any] = {}
    _lifting.captured = captured, {}, library, dtypes
    try:
        yield captured
    finally:
        _lifting.captured = outer


def lift(value: Any) -> Expr:
    """A node for what a message combines with symbols: a node itself, a number, or a captured array or Tensor
    (a shared field).
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, (bool, int, float, np.generic)):
        return constant(value)
    if isinstance(value, complex):
        raise errors.bad_type("message", f"{value!r} is complex", "use real numbers")
    owner = library_of(value)
    if (
        type(value) is not np.ndarray
        and not hasattr(type(value), "__elementary__")
        and not owner.has_autodiff
    ):
        value = as_array("message", "a captured value", value)
    if getattr(_lifting, "captured", None) is None:
        raise errors.bad_type(
            "message", "an array met a symbol outside of a message", "call update_all, apply_edges or attend"
        )
    captured, known, library, dtypes = _lifting.captured
    found = known.get(id(value))
    if found is None:
        taker = owner if owner.has_autodiff else library
        array = (
            taker.settled(taker.taken("message", "a captured array", value), dtypes)
            if taker.has_autodiff
            else value
        )
        dtype = library_of(array).dtype(array)
        check_dtype("message", "a captured array", np.dtype(dtype))
        name = f"captured{len(captured)}"
        captured[name] = array
        found = known[id(value)] = value, field("shared", name, tuple(array.shape), dtype)
    made: Expr = found[1]
    return made


def _sample(node: Expr) -> Any:
    """What dtypes.result_dtype is told of an operand: a dtype, or that of a number and the number."""
    if node.op != "constant":
        return node.dtype
    if node.dtype.kind not in "iu":
        return ("float", 1.0) if node.weak and node.dtype.kind == "f" else node.dtype
    return node.attrs[0], constant_value(node)


_OF_BOOLS = {
    "add": "logical_or",
    "multiply": "logical_and",
    "maximum": "logical_or",
    "minimum": "logical_and",
    **{f"bitwise_{name}": f"logical_{name}" for name in ("and", "or", "xor", "not")},
}
"""What NumPy's arithmetic means where every operand is bool."""


def apply(row: elementary.Row, operands: Sequence[Any]) -> Expr:
    """The node row(*operands), with NumPy's broadcasting on feature axes and NumPy's dtype."""
    return _apply(row, tuple([lift(x) for x in operands]))


@functools.lru_cache(maxsize=4096)
def _apply(row: elementary.Row, nodes: tuple[Expr, ...]) -> Expr:
    if row.name in _OF_BOOLS and all(node.dtype.kind == "b" for node in nodes):
        row = elementary.TABLE[_OF_BOOLS[row.name]]
    simple = simplified(row.name, nodes)
    if simple is not None:
        return lift(simple)
    shape = broadcast_shapes(row.name, nodes)
    if row.name in COMPARISONS:
        strong, weak = nodes if not nodes[0].weak else nodes[::-1]
        answer = comparison_beyond(row.name, strong.dtype, weak.number if weak.weak else None, nodes[0].weak)
        if answer is not None:
            return broadcast_to(cast(constant(answer), np.dtype(bool)), shape)
        nodes = _rounded(nodes)
    reads = 0
    for node in nodes:
        reads |= node.reads
    return _make(row.name, nodes, (), shape, result_dtype(row, tuple(map(_sample, nodes))), reads)


def _rounded(nodes: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """A Python number that is compared with 16-bit floats is one of them, though they compute in float32."""
    halves = [node.dtype for node in nodes if node.dtype.itemsize == 2 and is_float(node.dtype)]
    if not halves:
        return nodes
    with np.errstate(all="ignore"):
        return tuple(
            [
                constant(float(np.array(constant_value(node)).astype(halves[0]))) if node.weak else node
                for node in nodes
            ]
        )


def broadcast_shapes(name: str, nodes: Sequence[Expr]) -> tuple[int, ...]:
    """The common feature shape, or an error that shows every operand's."""
    shape = nodes[0].shape
    if all(node.shape in (shape, ()) for node in nodes):
        return shape
    try:
        return np.broadcast_shapes(*[node.shape for node in nodes])
    except ValueError:
        listed = ", ".join(f"{text(node)} {list(node.shape)}" for node in nodes)
        fix = "align them from the last axis; length-1 axes broadcast"
        if any(node.op == "field" and node.attrs[0] == "shared" for node in nodes):
            fix += "; every edge reads a captured array whole: pass one that has a row for each edge as "
            fix += "e={'w': w}, and write e.w"
        raise errors.bad_value(
            "message", f"feature shapes of {name} do not broadcast: {listed}", fix
        ) from None


def cast(node: Expr, dtype: np.dtype[Any]) -> Expr:
    if node.dtype == dtype and not node.weak:
        return node
    check_dtype("message", "astype", dtype)
    dtype = dtype.newbyteorder("=")
    return _make("cast", (node,), (), node.shape, dtype, node.reads)


def view_axes(node: Expr, axes: tuple[int | None, ...]) -> Expr:
    """Output axis i is input axis axes[i], or a new axis of length one; input axes left out must have length
    one.
    """
    if axes == tuple(range(node.ndim)):
        return node
    for axis in range(node.ndim):
        if axis not in axes and node.shape[axis] != 1:
            raise errors.bad_value(
                "message",
                f"axis {axis} of {text(node)} {list(node.shape)} has more than one entry",
                "reduce it first",
            )
    shape = tuple(1 if axis is None else node.shape[axis] for axis in axes)
    return _make("axes", (node,), axes, shape, node.dtype, node.reads)


def broadcast_to(node: Expr, shape: tuple[int, ...]) -> Expr:
    if node.shape == shape:
        return node
    return _make("broadcast", (node,), (), shape, node.dtype, node.reads)


def reduce_axes(op: str, node: Expr, axis: Any, keepdims: bool) -> Expr:
    """Sum or max of a node over feature axes; axis as in NumPy, counted in feature axes."""
    if axis is None:
        axis = tuple(range(node.ndim))
    items = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    for item in items:
        if not isinstance(item, (int, np.integer)) or not -node.ndim <= item < node.ndim:
            problem = (
                f"{op} over axis {errors.shown(item)} of {text(node)}, which has {node.ndim} feature axes"
            )
            raise errors.bad_value("message", problem, "count from -1")
    axes = tuple(sorted({int(item) % node.ndim for item in items}))
    if op == "max" and any(node.shape[i] == 0 for i in axes):
        raise errors.bad_value(
            "message", f"max over an axis of length 0 of {text(node)}", "a maximum needs at least one entry"
        )
    result = node
    if op == "sum" and node.dtype.kind in "biu":
        result = cast(node, np.dtype(np.int64))
    if axes and not (all(node.shape[i] == 1 for i in axes)):
        shape = tuple(1 if i in axes else n for i, n in enumerate(node.shape))
        result = _make(op, (result,), axes, shape, result.dtype, node.reads)
    return result if keepdims else view_axes(result, tuple(i for i in range(node.ndim) if i not in axes))


def unbroadcast(node: Expr, shape: tuple[int, ...]) -> Expr:
    """A node summed back over the axes along which ``shape`` was broadcast to node.shape."""
    if node.shape == shape:
        return node
    extra = node.ndim - len(shape)
    axes = tuple(i for i in range(node.ndim) if i < extra or (shape[i - extra] == 1 and node.shape[i] != 1))
    summed = reduce_axes("sum", node, axes, True)
    return view_axes(summed, tuple(range(extra, node.ndim)))
