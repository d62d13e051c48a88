"""The sum or mean of an elementwise expression in one pass over its operands: of ``(z * w).sum()`` no product
is written.

What the caller's code does next is known while an operator runs. Where that is more operators of the same
expression and then ``.sum()`` or ``.mean()``, with nothing in between that could see or change an array, the
operators are kept as a message of rows, and the sum is a walk over them; so is its derivative. Everywhere
else operators compute at once, and where every number is looked at, as by ``Tape(check=True)``."""

from __future__ import annotations

import dis
import functools
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np

from numgraph.arrays import NATIVE, recycling
from numgraph.arrays.detaching import boxed, is_product
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.tensor import TAPES, Tensor
from numgraph.compiler import execute
from numgraph.compiler.rows import blocks
from numgraph.expressions import expr
from numgraph.expressions.elementary import BY_FUNCTION, TABLE, Elementwise, Row
from numgraph.expressions.operators import Operators
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Output
from numgraph.message.algebra import algebra_of
from numgraph.message.propagate import Walk

WIDTH = 64
"""Elements of a row. Arrays of any shape are rows of so many, so an expression has one kernel."""

FEWER = 4
"""A sum in one pass pays from a quarter of the elements on from which a single function pays on all
threads.
"""

_MIXIN = Operators.__mul__.__code__.co_filename
_OPERATING = {Tensor.__mul__.__code__, Tensor.__array_ufunc__.__code__}
"""What runs between an expression and the function of an operator of it."""
_UNHEEDED = {"warn", "ignore"}
"""What np.errstate says where nothing is done about single numbers: of what is infinite on the way to a
finite sum nobody is warned."""
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_LOADS = ("LOAD_FAST", "LOAD_CONST", "LOAD_SMALL_INT", "LOAD_DEREF", "LOAD_GLOBAL", "LOAD_NAME", "PUSH_NULL")
_ATTRIBUTES = ("LOAD_METHOD", "LOAD_ATTR")
_MERGING = ("BINARY_", "UNARY_", "BUILD_", "PRECALL", "CALL")
"""What makes one value of those on top of the stack."""
_NOTHING = ("CACHE", "NOP", "KW_NAMES", "EXTENDED_ARG", "RESUME")
_KNOWN = (int, float, np.ndarray, np.generic, np.ufunc, Tensor, ModuleType)
_Paths = frozenset[tuple[str, ...]] | None
"""The names, each with attributes, that a value was computed from; None: of something else too."""


def is_summed(frame: FrameType | None) -> bool:
    """Whether a frame is of an operator or ufunc of an expression, whose value becomes an operand of more
    operators and is summed then; what they have to the left are numbers, arrays and Tensors.
    """
    inside = frame
    while frame is not None and (frame.f_code in _OPERATING or frame.f_code.co_filename == _MIXIN):
        frame = frame.f_back
    if frame is None or frame is inside or (paths := _operands(frame.f_code, frame.f_lasti)) is None:
        return False
    own, left = paths
    return all(_is_numbers(_value(frame, path)) for path in left) and not any(
        isinstance(value, np.ndarray) and value.dtype.kind == "O"  # each of its elements comes here
        for value in (_value(frame, path) for path in own or ())
    )


def _value(frame: FrameType, path: tuple[str, ...]) -> Any:
    """What is there by the names; of an array's attributes the array. No code of anybody's is run."""
    value = frame.f_locals.get(path[0], frame.f_globals.get(path[0]))
    for name in path[1:]:
        if isinstance(value, _KNOWN):
            break
        value = getattr(value, "__dict__", {}).get(name)
    return value


def _is_numbers(value: Any) -> bool:
    """Whether what is computed from a value alone is numbers, arrays or Tensors."""
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0] in ("numpy", "numgraph")
    return isinstance(value, _KNOWN) and not (isinstance(value, np.ndarray) and value.dtype.kind == "O")


@functools.lru_cache(maxsize=1024)
def _operands(code: CodeType, offset: int) -> tuple[_Paths, frozenset[tuple[str, ...]]] | None:
    """What the value that the instruction at an offset makes is computed from, and what the operators that
    follow until it is summed have to their left; None where it is not summed, or that is not known.
    """
    stack: list[_Paths] = []
    own: _Paths = None
    left: frozenset[tuple[str, ...]] = frozenset()
    place = -1  # of the value on the stack

    def taken(count: int) -> list[_Paths]:
        found = [None] * (count - len(stack)) + stack[max(len(stack) - count, 0) :]
        del stack[max(len(stack) - count, 0) :]
        return found

    instructions = [one for one in dis.get_instructions(code) if one.opname not in _NOTHING]
    for i, one in enumerate(instructions):
        is_attribute, is_load = one.opname in _ATTRIBUTES, one.opname.startswith(_LOADS)
        if one.offset > offset:
            if is_attribute and one.argval in ("sum", "mean") and place == len(stack) - 1:
                call = [other for other in instructions[i + 1 : i + 3] if other.opname != "PRECALL"]
                return (own, left) if call and call[0].opname == "CALL" and call[0].arg == 0 else None
            if one.is_jump_target or not (is_load or one.opname == "BINARY_OP"):
                return None
        elif one.is_jump_target:
            stack.clear()
        effect = dis.stack_effect(one.opcode, one.arg, jump=False)
        if is_load:
            names = one.argval if isinstance(one.argval, tuple) else (one.argval,)
            is_name = "CONST" not in one.opname and "INT" not in one.opname and one.opname != "PUSH_NULL"
            loaded: list[_Paths] = [frozenset([(name,)] if is_name else []) for name in names]
            stack += [frozenset[tuple[str, ...]]()] * (effect - len(loaded)) + loaded
        elif is_attribute:
            (of,) = taken(1)
            path = None if of is None or len(of) != 1 else frozenset([(*next(iter(of)), one.argval)])
            stack += [of if path is None else path] * (1 + effect)
        elif one.opname.startswith(_MERGING) and effect <= 0:
            is_right = place == len(stack) - 1
            operands = taken(1 - effect)
            if one.offset > offset and is_right:  # the value is the operand to the right
                if operands[0] is None:
                    return None
                left |= operands[0]
            known = [paths for paths in operands if paths is not None]
            stack.append(frozenset(chain(*known)) if len(known) == len(operands) else None)
            place = min(place, len(stack) - 1)
        else:
            stack.clear()
        if one.offset == offset:
            own, place = (stack[-1] if stack else None), max(len(stack) - 1, 0)
            stack[place:] = [frozenset()]
    return None


def pending(
    row: Elementwise | Row, operands: Sequence[Any], frame: FrameType | None, eager: Callable[..., Any]
) -> Pending | None:
    """row(*operands) for a frame that sums it; None where it is to be computed at once, as by ``eager``."""
    known = TABLE.get(row.name)
    if known is None or known is not row or not is_summed(frame):
        return None
    if any(tape.is_checked for tape in TAPES.get()) or not _UNHEEDED.issuperset(np.geterr().values()):
        return None
    arrays = [unwrap(x) for x in operands if isinstance(x, Tensor | np.ndarray)] + [
        x.like for x in operands if isinstance(x, Pending)
    ]
    others = [x for x in operands if not isinstance(x, Tensor | np.ndarray | Pending)]
    first = arrays[0]
    if any(type(x) not in (int, float) for x in others) or first.dtype not in _DTYPES or first.size % WIDTH:
        return None
    if any(
        type(x) is not np.ndarray
        or x.shape != first.shape
        or x.dtype != first.dtype
        or not x.flags.c_contiguous
        for x in arrays
    ):
        return None
    made = Pending(known, tuple(operands), eager, first)
    return made if made.node.dtype == first.dtype and made.node.shape == (WIDTH,) else None


class Pending(Operators["Any"]):
    """An elementwise expression of arrays and Tensors of one shape that is about to be summed.

    inputs: its arrays and Tensors, node: the expression, whose fields are rows of them; like: one of the
    arrays.
    """

    __slots__ = ("_eager", "_operands", "_real", "_row", "inputs", "like", "node")

    def __init__(self, row: Row, operands: tuple[Any, ...], eager: Callable[..., Any], like: Any) -> None:
        self._row, self._operands, self._eager, self._real, self.like = row, operands, eager, None, like
        self.inputs: list[Any] = []
        self.node = expr.apply(row, [self._symbol(x) for x in operands])

    def _symbol(self, x: Any) -> Any:
        if isinstance(x, Pending):
            fields = {
                leaf.attrs: self._symbol(x.inputs[int(leaf.attrs[1][1:])]) for leaf in leaves_of((x.node,))
            }
            return _renamed(x.node, tuple(fields.items()))
        if not isinstance(x, Tensor | np.ndarray):
            return x
        place = next((i for i, known in enumerate(self.inputs) if known is x), len(self.inputs))
        if place == len(self.inputs):
            self.inputs.append(x)
        return expr.field("e", f"x{place}", (WIDTH,), self.like.dtype)

    def real(self) -> Any:
        """The value, computed and recorded."""
        if self._real is None:
            self._real = self._eager(
                self._row, *[x.real() if isinstance(x, Pending) else x for x in self._operands]
            )
        return self._real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)

    def __len__(self) -> int:
        return len(self.real())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.real())

    def __array__(self, *args: Any, **options: Any) -> Any:
        if is_product(sys._getframe(1)):
            return boxed(self)
        return self.real().__array__(*args, **options)

    @staticmethod
    def __elementary__(row: Any, operands: Sequence[Any]) -> Any:
        """Where it is there, ufuncs of a Tensor and this object ask this one."""
        return row(*[x.real() if isinstance(x, Pending) else x for x in operands])

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        row = BY_FUNCTION.get(ufunc)
        if row is not None and method == "__call__" and not options:
            made = pending(row, inputs, sys._getframe(), self._eager)
            if made is not None:
                return made
        return getattr(ufunc, method)(*[x.real() if isinstance(x, Pending) else x for x in inputs], **options)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self.real().sum(axis, keepdims) if axis is not None or keepdims else _summed("sum", self, 1)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return (
            self.real().mean(axis, keepdims)
            if axis is not None or keepdims
            else _summed("mean", self, self.like.size)
        )


def _summed(name: str, x: Pending, count: int) -> Any:
    """Σ x / count: rows are added in float64, which is rounded once."""
    node, dtype, shape = x.node, x.like.dtype, x.like.shape
    keys = tuple([("e", f"x{i}") for i in range(len(x.inputs))])
    graph = blocks(x.like.size // WIDTH)
    forward = Output((expr.cast(node, np.dtype(np.float64)).sum(),), "v", "sum")
    walk = Walk(name, graph, (Output((node,), "e", "edge"),), keys, False)
    (partial,) = execute(
        graph, (forward,), dict(zip(keys, [unwrap(y).reshape(-1, WIDTH) for y in x.inputs], strict=True))
    )
    with np.errstate(over="ignore"):
        total = (partial.sum() / count).astype(dtype)
    if not np.isfinite(total):  # NumPy's operators warn of what is infinite or no number, kernels do not
        return getattr(x.real(), name)()

    def vjp(g: Any, xs: Sequence[Any], y: Any, needs: Sequence[bool]) -> list[Any]:
        each = np.broadcast_to(g / count if count > 1 else g, (graph.num_edges, WIDTH))
        if any(isinstance(one, Tensor) for one in (each, *xs)):
            found = walk.gradients(
                NATIVE, [np.reshape(one, (-1, WIDTH)) for one in xs], [each], [None], needs
            )
            return [None if one is None else np.reshape(one, shape) for one in found]
        return _gradients(walk, xs, each, needs)

    return record(name, x.inputs, total, vjp)


def _gradients(walk: Walk, xs: Sequence[Any], each: Any, needs: Sequence[bool]) -> list[Any]:
    """As ``Walk.gradients``, in arrays that are nobody's view."""
    wanted = tuple([key for key, need in zip(walk.keys, needs, strict=True) if need])
    backward = algebra_of(walk.outputs).backward((True,), walk.keys, wanted, walk.graph.in_edges.indptr.dtype)
    fields = dict(zip(walk.keys, [x.reshape(-1, WIDTH) for x in xs], strict=True))
    fields |= {key: each for _, _, key, _ in backward.bound}
    like = dict(zip(walk.keys, xs, strict=True))
    made = {key: recycling.empty(like[key].shape, like[key].dtype) for key in backward.walk}
    if made:
        execute(walk.graph, backward.outputs, fields, [x.reshape(-1, WIDTH) for x in made.values()])
    made |= {key: np.broadcast_to(each[0, 0], like[key].shape) for key in backward.same}
    return [made.get(key) for key in walk.keys]


def _operator(name: str, operate: Callable[[Any, Any], Any], reflected: bool) -> Callable[[Any, Any], Any]:
    """An operator of a pending expression: other objects than arrays, Tensors and numbers get its value."""
    general = getattr(Operators, name)

    def operated(self: Any, other: Any) -> Any:
        if type(other) in _OPERANDS or isinstance(other, Tensor):
            return general(self, other)
        return operate(other, self.real()) if reflected else operate(self.real(), other)

    return operated


_OPERANDS = (np.ndarray, float, int, Pending)
for _name in "add sub mul truediv floordiv mod pow matmul lshift rshift and or xor".split():  # noqa: SIM905
    for _before in ("", "r"):
        _full = f"__{_before}{_name}__"
        setattr(Pending, _full, _operator(_full, getattr(operator, f"__{_name}__"), _before == "r"))
_OPERATING |= {Pending.__array_ufunc__.__code__, Pending.__mul__.__code__}


@functools.lru_cache(maxsize=1024)
def _renamed(root: expr.Expr, fields: tuple[tuple[Any, expr.Expr], ...]) -> expr.Expr:
    """An expression of other fields."""
    made: dict[int, expr.Expr] = {}
    names = dict(fields)
    for node in topological((root,)):
        args = tuple([made[id(arg)] for arg in node.args])
        made[id(node)] = (
            names[node.attrs]
            if node.op == "field"
            else expr.node(node.op, args, node.attrs, node.shape, node.dtype)
        )
    return made[id(root)]
