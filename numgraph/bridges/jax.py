"""JAX: a walk is one primitive, which is its own derivative: its transpose is a walk, and its jvp the
transpose of its vjp.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from numgraph import errors
from numgraph.arrays import Library, recycling, static_in_jax
from numgraph.arrays.inputs import kind_of
from numgraph.bridges import jax_ffi
from numgraph.expressions.dtypes import check_dtype, is_float
from numgraph.graph import Graph
from numgraph.message.propagate import Walk

_WALK = Primitive("numgraph_walk")
_WALK.multiple_results = True
_ON_CPU = "and numgraph's kernels in JAX run on the CPU"
_PUT = (
    "give arrays that are there, by jax.device_put(x, jax.devices('cpu')[0]) or under "
    "jax.default_device(jax.devices('cpu')[0]); or set JAX_PLATFORMS=cpu"
)
_LINE = 64
_SMALL = 1 << 16
"""Bytes that are copied in less time than it takes JAX to take memory over, and to give it back."""


def _canonical(dtype: Any) -> np.dtype[Any]:
    """The dtype that JAX has for one of NumPy's: with 64 bits off, float32 for float64."""
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


@_WALK.def_impl
def _eager(*values: Any, walk: Walk) -> list[Any]:
    """Outside of jit: on the arrays' own memory, in this thread, without a program of XLA's."""
    place = _place(values, walk)
    out = [_aligned(shape, _canonical(dtype)) for shape, dtype in walk.results()]
    jax_ffi.run(walk, [np.asarray(x) for x in values], out)
    _check_numbers(out, walk)
    made: list[Any] = [
        jnp.asarray(y) if y.nbytes <= _SMALL else jax.device_put(y) for y in out
    ]  # the latter leaves memory where it is
    return made if place is None or made[0].sharding == place else jax.device_put(made, place)


def _place(values: Sequence[Any], walk: Walk) -> Any:
    """Where the results belong: on the devices of the fields that were put somewhere, else on those of the
    first.
    """
    arrays = [x for x in values if isinstance(x, jax.Array)]  # a constant of a jaxpr may be NumPy's
    put = [x for x in arrays if x.committed]
    if not put:
        return arrays[0].sharding if arrays else None
    place = put[0].sharding
    if any(x.sharding.device_set != place.device_set for x in put[1:]):
        where = ", ".join(
            f"{target}.{field} on {' and '.join(sorted(map(str, x.devices())))}"
            for (target, field), x in zip(walk.keys, values)
            if isinstance(x, jax.Array) and x.committed
        )
        raise errors.bad_value(
            walk.name,
            f"the fields are on different devices: {where}",
            "put them on one, by jax.device_put(x, device)",
        )
    return NamedSharding(place.mesh, P()) if isinstance(place, NamedSharding) else place


def _check_numbers(out: Sequence[Any], walk: Walk) -> None:
    """What JAX checks after each of its functions while the settings jax_debug_nans and jax_debug_infs are
    on.
    """
    config: Any = jax.config
    for wanted, name, test in (
        (config.jax_debug_nans, "nan", np.isnan),
        (config.jax_debug_infs, "inf", np.isinf),
    ):
        if wanted and any(is_float(y.dtype) and test(y).any() for y in out):
            raise FloatingPointError(f"invalid value ({name}) encountered in {walk.name} of numgraph")


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """An array that begins where a cache line does, as XLA wants it: then it need not be copied. Small ones
    are.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= _SMALL:
        return np.empty(shape, dtype)
    memory = recycling.empty((size + _LINE,), np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


@_WALK.def_abstract_eval
def _results(*avals: Any, walk: Walk) -> list[Any]:
    made = [jax.core.ShapedArray(shape, _canonical(dtype)) for shape, dtype in walk.results()]
    like = next((aval for aval in avals if _varying(aval)), None)
    if like is None:
        return made
    mesh = like.sharding.mesh  # the results vary over the axes over which, after ``_bound``, every field does
    return [
        like.update(y.shape, y.dtype, False, sharding=NamedSharding(mesh, P(*[None] * y.ndim))) for y in made
    ]


def _bound(values: Sequence[Any], walk: Walk) -> list[Any]:
    """The walk of these fields. Inside shard_map those that are the same on each device are cast to vary as
    the others do: what their gradients are summed by is the transpose of that cast."""
    if not jax.sharding.get_abstract_mesh().empty:
        varying = [_varying(jax.typeof(x)) for x in values]
        axes = frozenset[str]().union(*varying)
        values = [
            x if mine == axes else jax.lax.pcast(x, tuple(sorted(axes - mine)), to="varying")
            for x, mine in zip(values, varying)
        ]
    made: list[Any] = _WALK.bind(*values, walk=walk)
    return made


def _varying(aval: Any) -> frozenset[str]:
    """The axes of shard_map over which an array differs from device to device."""
    found = getattr(aval, "manual_axis_type", None)
    varying: frozenset[str] = aval.vma if found is None else found.varying
    return varying


# --- derivatives --------------------------------------------------------------------------------------------


def _transpose(cotangents: Sequence[Any], *values: Any, walk: Walk) -> list[Any]:
    """The gradients of the fields in which the walk is linear. They do not read those fields, nor the
    results.
    """
    linear = [ad.is_undefined_primal(x) for x in values]
    known = [None if unknown else x for unknown, x in zip(linear, values)]
    grads = [None if type(g) is ad.Zero else g for g in cotangents]
    found = walk.gradients(LIBRARY, known, grads, [None] * len(grads), linear)
    return [
        None if not unknown else ad.Zero(x.aval) if g is None else g
        for unknown, g, x in zip(linear, found, values)
    ]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, walk: Walk) -> tuple[Any, Any]:
    made = _bound(primals, walk)
    needs = tuple([type(t) is not ad.Zero and is_float(np.dtype(x.dtype)) for x, t in zip(primals, tangents)])
    if not any(needs):
        return made, [ad.Zero(_tangent_aval(y)) for y in made]
    pushed = _pushed(walk, needs)
    found = iter(pushed(list(primals), list(made), [t for t, need in zip(tangents, needs) if need]))
    return made, [next(found) if is_float(np.dtype(y.dtype)) else ad.Zero(_tangent_aval(y)) for y in made]


@functools.lru_cache(maxsize=128)
def _pushed(walk: Walk, needs: tuple[bool, ...]) -> Any:
    """``_tangents`` as JAX traces it once. The graph cannot keep it: what JAX keeps of it keeps the graph,
    where no collector sees it.
    """
    return jax.jit(functools.partial(_tangents, walk, needs))


def _tangent_aval(y: Any) -> Any:
    return jax.typeof(y).to_tangent_aval()


def _tangents(
    walk: Walk, needs: tuple[bool, ...], primals: Sequence[Any], made: Sequence[Any], tangents: Sequence[Any]
) -> Any:
    """The tangents of the results that are floats: the transpose of the gradients, which are linear in the
    results' gradients.
    """
    floats = [is_float(np.dtype(y.dtype)) for y in made]

    def gradients(*arrived: Any) -> list[Any]:
        rest = iter(arrived)
        found = walk.gradients(
            LIBRARY, primals, [next(rest) if real else None for real in floats], made, needs
        )
        return [jnp.zeros_like(x) if g is None else g for g, x, need in zip(found, primals, needs) if need]

    return jax.linear_transpose(gradients, *[y for y, real in zip(made, floats) if real])(list(tangents))


ad.primitive_transposes[_WALK] = _transpose
ad.primitive_jvps[_WALK] = _jvp


# --- batches and lowering -----------------------------------------------------------------------------------


def _batch(values: Sequence[Any], axes: Sequence[int | None], *, walk: Walk) -> tuple[Any, Any]:
    """The batch is the first feature axis, in the fields that have it and in every result."""
    size = next(x.shape[axis] for x, axis in zip(values, axes) if axis is not None)
    which = [key for key, axis in zip(walk.keys, axes) if axis is not None]
    moved = [
        x if axis is None else jnp.moveaxis(x, axis, 0 if key[0] == "shared" else 1)
        for key, x, axis in zip(walk.keys, values, axes)
    ]
    made = _bound(moved, walk.batched(size, which))
    return made, [1] * len(made)


batching.primitive_batchers[_WALK] = _batch


def _lower(context: Any, *operands: Any, walk: Walk) -> Any:
    return jax_ffi.lowered(context, operands, walk)


mlir.register_lowering(_WALK, _lower, platform="cpu")


def _refuse(context: Any, *operands: Any, walk: Walk) -> Any:
    platforms = " and ".join(context.module_context.platforms)
    raise errors.not_possible(walk.name, f"it is compiled for {platforms}, {_ON_CPU}", _PUT)


mlir.register_lowering(_WALK, _refuse)  # for every other platform


def _no_series(*args: Any, walk: Walk) -> Any:
    raise errors.not_possible(
        walk.name,
        "jax.experimental.jet has no rule for numgraph in JAX",
        "nest jax.jvp for higher derivatives",
    )


with contextlib.suppress(ImportError):  # what is experimental may go
    jet: Any = importlib.import_module("jax.experimental.jet")
    jet.jet_rules[_WALK] = _no_series


# --- the library --------------------------------------------------------------------------------------------


class Jax(Library):
    """jax.Array and the tracers of its transformations."""

    name = "JAX"
    has_autodiff = True
    structure = (
        "it must be static: make it outside of jit, grad and vmap, and close over it or pass the graph"
    )
    dense = (
        "use jax.nn's function of that kind; there are no layers for JAX: update_all, attend and "
        "numgraph.ops, which may be traced, "
        "are what they are made of"
    )

    def owns(self, kind: type) -> bool:
        return issubclass(kind, jax.Array | jax.core.Tracer)

    moving = "kernels of JAX's arrays run on the CPU: give the graph there, graph.to('cpu')"

    def device(self, x: Any) -> str:
        return "cpu"  # ``taken`` and ``_refuse`` let no others pass

    def dtype(self, x: Any) -> np.dtype[Any]:
        return x.dtype

    def taken(self, op: str, what: str, x: Any) -> Any:
        if isinstance(x, jax.Array):
            if jnp.issubdtype(x.dtype, jax.dtypes.extended):
                raise errors.bad_type(
                    op, f"{what} has dtype {x.dtype}", "give numbers; jax.random makes some of a key"
                )
            if not all(isinstance(size, int) for size in x.shape):
                fix = "numgraph's kernels cannot be exported by jax.export; under jit shapes are numbers"
                raise errors.not_possible(op, f"{what} has the symbolic shape {x.shape}", fix)
            if not isinstance(x, jax.core.Tracer) and any(one.platform != "cpu" for one in x.devices()):
                where = " and ".join(sorted(map(str, x.devices())))
                raise errors.not_possible(op, f"{what} is on {where}, {_ON_CPU}", _PUT)
            return x
        check_dtype(op, what, x.dtype)  # before JAX makes 32 bits of 64
        with jax.ensure_compile_time_eval():  # under jit too an array with numbers: ids of rows are looked at
            return jnp.asarray(x)

    def settled(self, x: Any, dtypes: Sequence[np.dtype[Any]]) -> Any:
        """A number of Python that jit made an array is still weak: it takes the widest dtype of the fields
        that holds its kind.
        """
        if x.ndim or not jax.typeof(x).weak_type:
            return x
        floats, integers = (
            [dtype for dtype in dtypes if real(dtype)]
            for real in (is_float, lambda dtype: dtype.kind in "iu")
        )
        near = floats if is_float(x.dtype) else integers or floats
        return self.cast(x, functools.reduce(jnp.promote_types, near)) if near else x

    def plain(self, x: Any) -> Any:
        return None if isinstance(x, jax.core.Tracer) else np.asarray(x)

    def constant(self, array: Any) -> Any:
        return jnp.asarray(array)

    def detached(self, x: Any) -> Any:
        return jax.lax.stop_gradient(x)

    def cast(self, x: Any, dtype: Any) -> Any:
        dtype = _canonical(dtype)
        return x if x.dtype == dtype else x.astype(dtype)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
        return jnp.sum(x, axis=axes, keepdims=keepdims)

    def take(self, x: Any, ids: np.ndarray) -> Any:
        return x[ids]

    def concatenated(self, parts: Sequence[Any], axis: int = 0) -> Any:
        return jnp.concatenate(list(parts), axis)

    def entries(self, x: Any, index: tuple[Any, ...]) -> Any:
        return x[tuple([np.array(item, np.int32) if isinstance(item, tuple) else item for item in index])]

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return jnp.where(condition, x, y)

    def kept(
        self, op: str, rng: Any, shape: tuple[int, ...], p: float, like: Any, fill: Callable[..., Any]
    ) -> Any:
        if not isinstance(rng, jax.Array):
            fix = "pass a key of jax.random, as in jax.random.key(seed), another one for each call"
            raise errors.bad_type(op, f"x is an array of JAX and rng is {kind_of(rng)}", fix)
        return jax.random.bernoulli(rng, 1 - p, shape)

    def propagate(self, walk: Walk, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_bound(values, walk))


static_in_jax(Graph)  # those that were made before JAX was imported
LIBRARY = Jax()
