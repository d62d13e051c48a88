"""Message passing: update_all, apply_edges and attend, and the one recorded operation behind them, ``propagate``.

Every gradient of a walk is a walk again (design: sums are closed under differentiation), so ``propagate`` is its own derivative:
its vjp calls ``propagate`` with the symbolic derivatives of its expressions. A gradient of a source field is reduced over out-edges,
that is on the reversed graph; of a destination field over in-edges; of an edge field it is stored per edge (SDDMM).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numgraph import errors, expr
from numgraph.derivatives import Key, Need, derive, factors, needed_shape
from numgraph.devices import MOVE, adopted, device_of
from numgraph.explaining import explain_walk
from numgraph.graph import Graph, check_graph
from numgraph.inputs import as_array, kind_of
from numgraph.kernels import execute
from numgraph.kernels.rows import blocks, is_large
from numgraph.kernels.walk import REDUCES, Output, rows_of
from numgraph.precision import narrowed, wide
from numgraph.sums import unbroadcast
from numgraph.tape import Tensor, record, unwrap
from numgraph.tracing import trace

Values = dict[tuple[str, str], Any]
FieldArrays = Mapping[str, Any] | None


def update_all(
    g: Graph, message: Callable[..., Any], reduce: str, *, u: FieldArrays = None, v: FieldArrays = None, e: FieldArrays = None
) -> Any:
    """z_v = ⊕ φ(x_u, y_v, w_e) over the in-edges e = (u → v) of every destination node v.

    message: φ, a function of any of u, v, e (by parameter name) whose fields are attributes: ``lambda u, e: u.x * e.w``.
    reduce: "sum", "mean", "max", "min" or "prod". Rows without in-edges give 0, and 1 for prod. In max and min the first winning edge in
    in-edge order takes the whole gradient; NaN reaches the result.
    u, v, e: fields by name, arrays or Tensors [num_src, …], [num_dst, …], [num_edges, …]. Feature axes broadcast as in NumPy.

    Returns [num_dst, …] with the message's feature shape and dtype; sums and products of integers are int64, their means float64. No array
    over edges × features is made, forward or backward.
    """
    errors.check_name("update_all", "reduce", reduce, REDUCES)
    (root,), fields = _trace("update_all", g, (message,), u, v, e)
    return propagate(f"update_all({reduce})", g, _reduction(root, reduce), fields)[0]


@functools.lru_cache(maxsize=1024)
def _reduction(root: expr.Expr, reduce: str) -> tuple[Output, ...]:
    if reduce == "mean" and not expr.is_float(root.dtype):
        root = root.astype(np.float64)
    elif reduce in ("sum", "prod") and root.dtype.kind in "biu":
        root = root.astype(np.int64)
    return (Output((root,), "v", reduce),)


def apply_edges(g: Graph, message: Callable[..., Any], *, u: FieldArrays = None, v: FieldArrays = None, e: FieldArrays = None) -> Any:
    """m_e = φ(x_u, y_v, w_e) for every edge e = (u → v), [num_edges, …] in edge-id order. Fields and φ as in update_all."""
    (root,), fields = _trace("apply_edges", g, (message,), u, v, e)
    return propagate("apply_edges", g, (Output((root,), "e", "edge"),), fields)[0]


def attend(
    g: Graph,
    score: Callable[..., Any],
    value: Callable[..., Any],
    *,
    u: FieldArrays = None,
    v: FieldArrays = None,
    e: FieldArrays = None,
) -> Any:
    """z_v = Σ_e softmax_v(s_e) · φ_e over the in-edges e of v: attention in one online pass (Milakov and Gimelshein, 2018).

    score, value: message functions as in update_all; s has the softmax's shape and broadcasts against φ: s [heads, 1] and φ [heads, D].
    Returns [num_dst, …] with the broadcast feature shape; rows without in-edges give 0. The softmax is recomputed in the backward.
    A score of −inf weighs nothing; a row of nothing else, or with a score of +inf or NaN, has no softmax and gives NaN.
    """
    (s, phi), fields = _trace("attend", g, (score, value), u, v, e)
    dtype = np.result_type(s.dtype, phi.dtype)
    dtype = dtype if expr.is_float(dtype) else np.dtype(np.float64)
    expr.broadcast_shapes("attend (score · value)", (s, phi))
    return propagate("attend", g, (Output((s.astype(dtype), phi.astype(dtype)), "v", "softmax"),), fields)[0]


def log_sum_exp(g: Graph, score: Callable[..., Any], *, e: FieldArrays) -> tuple[Any, Any]:
    """Shift and scale of every v with log Σ exp(s_e) = shift − log(scale) over its in-edges, and softmax(s)_e = exp(s_e − shift) · scale.

    The shift is a constant: neither of what is computed so from both depends on it.
    """
    (s,), fields = _trace("edge_softmax", g, (score,), None, None, e)
    output = Output((s if expr.is_float(s.dtype) else s.astype(np.float64),), "v", "logsumexp")
    shift, scale = propagate("logsumexp", g, (output,), fields)
    return unwrap(shift), scale


def _trace(
    op: str, g: Graph, functions: tuple[Callable[..., Any], ...], u: FieldArrays, v: FieldArrays, e: FieldArrays
) -> tuple[tuple[expr.Expr, ...], Values]:
    """Expressions of the message functions, and the arrays that they read."""
    check_graph(op, "the first argument", g)
    values: Values = {}
    leaves: list[expr.Expr] = []
    for target, given in (("u", u), ("v", v), ("e", e)):
        if given is None:
            continue
        if type(given) is not dict and not isinstance(given, Mapping):
            raise errors.bad_type(op, f"{target} is {kind_of(given)}", f'pass the fields by name: {target}={{"x": array}}')
        for name, value in given.items():
            if not isinstance(name, str):
                raise errors.bad_type(op, f"a field of {target} has the name {name!r}", f'names are strings: {target}={{"x": array}}')
            value = _placed(op, g, target, name, value)
            shape, rows = tuple(value.shape), rows_of(g, target)
            if not shape or shape[0] != rows:
                what = {"u": "num_src", "v": "num_dst", "e": "num_edges"}[target]
                problem = f"field {target}.{name} has shape {shape}, the graph's {what} is {rows}"
                raise errors.bad_value(op, problem, f"the first axis must be {rows}")
            expr.check_dtype(op, f"field {target}.{name}", value.dtype)
            values[target, name] = value
            leaves.append(expr.field(target, name, shape[1:], value.dtype))
    roots, captured = trace(op, functions, tuple(leaves), functools.partial(rows_of, g))
    for name, value in captured.items():
        values["shared", name] = _placed(op, g, "shared", name, value)
    for exponent in _signed_exponents(roots):
        _check_exponent(op, g, exponent, values)
    return roots, values


@functools.lru_cache(maxsize=1024)
def _signed_exponents(roots: tuple[expr.Expr, ...]) -> tuple[expr.Expr, ...]:
    """The exponents of integers' powers that may be negative."""
    powers = [node for node in expr.topological(roots) if node.op == "power" and node.dtype.kind == "i"]
    return tuple(dict.fromkeys(node.args[1] for node in powers if node.args[1].dtype.kind == "i" and node.args[1].number is None))


def _check_exponent(op: str, g: Graph, exponent: Any, values: Values) -> None:
    """NumPy's error, which a kernel cannot raise, by a walk of its own."""
    fields = {leaf.attrs: unwrap(values[leaf.attrs]) for leaf in expr.leaves_of((exponent,))}
    if execute(g, (Output((exponent < 0,), "v", "max"),), fields)[0].any():
        problem = f"the exponent {expr.text(exponent)} of an integer is negative on an edge"
        raise errors.bad_value(op, problem, "cast the base to a float")


def _placed(op: str, g: Graph, target: str, name: str, value: Any) -> Any:
    """An array or Tensor that is where the graph is, an array of another library on the device as CuPy's."""
    if type(unwrap(value)) is np.ndarray and g.device == "cpu":
        return value
    what = f"array {name}" if target == "shared" else f"field {target}.{name}"
    value = adopted(value) if isinstance(value, Tensor) else as_array(op, what, value)
    place = device_of(unwrap(value))
    if place != g.device:
        raise errors.bad_type(op, f"{what} is on {place}, the graph is on {g.device}", MOVE)
    return value


def propagate(name: str, g: Graph, outputs: tuple[Output, ...], fields: Values, told: bool = True) -> tuple[Any, ...]:
    """Run a walk and record it. Returns every array of every output (see Output.results), in order. told: explain() has lines on it."""
    read = _read(outputs)
    fields = {key: value for key, value in fields.items() if key in read}
    keys = tuple(fields)
    try:
        results = tuple(execute(g, outputs, {key: unwrap(value) for key, value in fields.items()}))
    except MemoryError as error:
        raise _too_large(name, g, outputs, fields) from error

    def vjp(grads: Sequence[Any], inputs: Sequence[Any], made: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        return _gradients(name, g, outputs, dict(zip(keys, inputs, strict=True)), grads, made, needs, told)

    def explain(needs: Sequence[bool]) -> list[str]:
        return explain_walk(outputs, [key for key, need in zip(keys, needs, strict=True) if need])

    return record(name, list(fields.values()), results, vjp, explain if told else None)


def _too_large(name: str, g: Graph, outputs: tuple[Output, ...], fields: Values) -> MemoryError:
    """What a walk was to make, and of what."""
    made = ", ".join(f"{[rows_of(g, o.to), *shape]} of {dtype}" for o in outputs for shape, dtype in o.results())
    of = ", ".join(f"{target}.{field} {list(value.shape)}" for (target, field), value in fields.items())
    size = sum(rows_of(g, o.to) * math.prod(shape) * dtype.itemsize for o in outputs for shape, dtype in o.results())
    fix = "see whether the message makes axes that were not meant: the first axis of a field is no feature axis"
    return errors.no_memory(name, f"there is no memory for {made}, {size / 2**30:.3g} GiB, made of {of}", fix)


@functools.lru_cache(maxsize=1024)
def _read(outputs: tuple[Output, ...]) -> frozenset[Key]:
    """The fields that a walk reads."""
    return frozenset(leaf.attrs for leaf in expr.leaves_of(expression for output in outputs for expression in output.expressions))


def _gradients(
    name: str,
    g: Graph,
    outputs: tuple[Output, ...],
    fields: Values,
    grads: Sequence[Any],
    made: Sequence[Any],
    needs: Sequence[bool],
    told: bool,
) -> list[Any]:
    """The gradients of a walk's fields: one more walk, whose expressions are derivatives."""
    fields = dict(fields)
    wanted = tuple(key for key, need in zip(fields, needs, strict=True) if need)
    arrived = tuple(grad is not None for grad in grads)
    backward = _backward(outputs, arrived, tuple(fields), wanted, g.in_edges.indptr.dtype)
    if not backward.walk and not backward.same:
        return [None] * len(needs)
    arrays = _node_arrays(g, outputs, fields, grads, made)
    for number, need, key, dtype in backward.bound:
        array = arrays(number, need)
        fields[key] = array if array.dtype == dtype else array.astype(dtype)
    found = {key: fields[same] for key, same in backward.same.items()}
    results = propagate(f"∇ {name}", g, tuple(backward.walk.values()), fields, told) if backward.walk else ()
    for key, value in zip(backward.walk, results, strict=True):
        found[key] = narrowed(unbroadcast(value, value.shape[1:]), fields[key].dtype) if key[0] == "shared" else value
    return [found.get(key) for key in list(fields)[: len(needs)]]


@dataclass(frozen=True)
class _Backward:
    """The walk of a backward, the gradients that are another field as it is (of ``e.x + w``, ∂e.x is the gradient of the result), and the
    node arrays that are bound to fields: (number of the output, name in NEEDS, field, dtype)."""

    walk: dict[Key, Output]
    same: dict[Key, Key]
    bound: tuple[tuple[int, str, Key, Any], ...]


@functools.lru_cache(maxsize=1024)
def _backward(
    outputs: tuple[Output, ...], arrived: tuple[bool, ...], fields: tuple[Key, ...], wanted: tuple[Key, ...], ids: Any
) -> _Backward:
    """Derive a backward once. arrived: which arrays of the outputs got a gradient. ids: dtype of edge ids."""
    taken = set(fields)
    bound: list[tuple[int, str, Key, Any]] = []
    symbols: list[Need | None] = []
    position = 0

    def binder(number: int, output: Output, got: tuple[bool, ...]) -> Need:
        def bind(name: str) -> Any:
            if (name in ("g", "g/degree", "⟨g, z⟩") and not got[0]) or (name == "g of scale" and not got[-1]):
                return None
            key = output.to, f"{name}′"
            while key in taken:
                key = output.to, f"{key[1]}′"
            taken.add(key)
            shape, dtype = needed_shape(output, name)
            bound.append((number, name, key, ids if name == "winner" else dtype))
            return expr.field(*key, shape, bound[-1][3])

        return bind

    for number, output in enumerate(outputs):
        got = arrived[position : position + len(output.results())]
        position += len(got)
        symbols.append(binder(number, output, got) if any(got) else None)
    walk = derive(outputs, symbols, wanted)
    roots = {key: output.expressions[0] for key, output in walk.items() if output.reduce == "edge"}
    same = {key: root.attrs for key, root in roots.items() if root.op == "field" and root.attrs[0] == "e"}
    walk = {key: output for key, output in walk.items() if key not in same}
    read = _read(tuple(walk.values())) | frozenset(same.values())
    return _Backward(walk, same, tuple(b for b in bound if b[2] in read))


def _node_arrays(g: Graph, outputs: tuple[Output, ...], fields: Values, grads: Sequence[Any], made: Sequence[Any]) -> Callable[..., Any]:
    """Gives a node array by the number of its output and its name in NEEDS."""
    starts = [0]
    for output in outputs:
        starts.append(starts[-1] + len(output.results()))
    products: dict[int, dict[str, Any]] = {}

    def array(number: int, name: str) -> Any:
        output, part = outputs[number], slice(starts[number], starts[number + 1])
        if output.reduce == "prod" and name != "g":
            if number not in products:
                found = propagate("factors", g, factors(output.expressions[0], output.to), fields)
                products[number] = dict(zip(("rest", "zeros", "num_zeros", "sum_zeros"), found, strict=True))
            return products[number][name]
        return _node_array(name, g, output, grads[part], made[part])

    return array


def _node_array(name: str, g: Graph, output: Output, grads: Sequence[Any], made: Sequence[Any]) -> Any:
    if name == "g/degree":
        degrees = g.in_degrees() if output.to == "v" else g.out_degrees()
        share = (1 / np.maximum(degrees, 1)).astype(wide(grads[0].dtype))
        return grads[0] * share.reshape((-1,) + (1,) * (len(grads[0].shape) - 1))
    if name == "⟨g, z⟩":
        into, z, score = grads[0], made[0], output.expressions[0].shape
        into = into if into.dtype == made[1].dtype else into.astype(made[1].dtype)
        lead = len(z.shape) - 1 - len(score)
        axes = tuple(i + 1 for i in range(len(z.shape) - 1) if i < lead or (score[i - lead] == 1 and z.shape[i + 1] != 1))
        return _products(into, z, axes).reshape((z.shape[0], *score))
    if name == "shift":
        return unwrap(made[-2])
    return {"g": grads[0], "winner": made[-1], "scale": made[-1], "g of scale": grads[-1]}[name]


def _products(g: Any, z: Any, axes: tuple[int, ...]) -> Any:
    """Σ g · z over axes after the first, kept: one pass over the rows of large arrays."""
    if not is_large(unwrap(z)):
        return np.sum(g * z, axis=axes, keepdims=True)
    fields = {("e", "g"): g, ("e", "z"): z}
    product: Any = math.prod(expr.field(*key, x.shape[1:], x.dtype) for key, x in fields.items())
    over = tuple(axis - 1 for axis in axes)
    return propagate(
        "⟨g, z⟩", blocks(len(z), device_of(unwrap(z))), (Output((product.sum(over, keepdims=True),), "e", "edge"),), fields, told=False
    )[0]
