"""The one operation behind messages, ``propagate``: it runs a walk, and its derivative is a walk again.

Every gradient of a walk is a walk (design: sums are closed under differentiation), so ``propagate`` is its
own derivative: its vjp calls ``propagate`` with the symbolic derivatives of its expressions. A gradient of a
source field is reduced over out-edges, that is on the reversed graph; of a destination field over in-edges;
of an edge field it is stored per edge (SDDMM).

For arrays of NumPy and CuPy the tape records it. A library with an autodiff of its own carries the ``Walk``
itself; what a gradient does besides walks goes through that library (arrays.Library), so it has derivatives
of every order too."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from numgraph import errors
from numgraph.arrays import NATIVE, Library, foreign
from numgraph.arrays.devices import device_of
from numgraph.autodiff.sums import unbroadcast
from numgraph.autodiff.tape import Tensor, record, unwrap
from numgraph.compiler import execute
from numgraph.compiler.rows import blocks, pays
from numgraph.expressions import expr
from numgraph.expressions.derivatives import Key, factor_walk
from numgraph.expressions.precision import narrowed, wide
from numgraph.expressions.reduces import NEEDS, needed
from numgraph.expressions.walk import Output, rows_of
from numgraph.graph import Graph, Shard
from numgraph.message.ahead import SourceGradients, arriving, can_wait, run_ahead
from numgraph.message.algebra import algebra_of
from numgraph.message.explaining import explain_kernels, explain_walk, tell
from numgraph.message.pages import section
from numgraph.message.suspects import suspects

Values = dict[Key, Any]


class Walk(NamedTuple):
    """A walk as an operation: arrays of fields in, arrays of results out. Walks of one graph with the same
    outputs and fields are equal.

    keys: the fields, target and name, in the order of the arrays. told: whether ``Tape.explain`` has lines on
    it.
    """

    name: str
    graph: Graph
    outputs: tuple[Output, ...]
    keys: tuple[Key, ...]
    told: bool = True

    def run(self, arrays: Sequence[Any], out: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """Every array of every output (see Output.results), in order. arrays: NumPy's or CuPy's, in the
        dtypes of the leaves. out: arrays that take the results."""
        fields = dict(zip(self.keys, arrays, strict=True))
        try:
            if isinstance(self.graph, Shard) and (pending := arriving(self.graph, arrays)):
                return tuple(run_ahead(self.graph, self.outputs, fields, self.results(), pending))
            return tuple(execute(self.graph, self.outputs, fields, out))
        except MemoryError as error:
            raise self._too_large(arrays) from error

    def dtypes(self) -> list[np.dtype[Any]]:
        """The dtype of every field."""
        leaves = algebra_of(self.outputs).leaves
        return [leaves[key].dtype for key in self.keys]

    def results(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of every array that ``run`` returns."""
        ids, made = self.graph.in_edges.indptr.dtype, []
        for output in self.outputs:
            for place, (shape, dtype) in enumerate(output.results()):
                made.append(
                    (
                        (rows_of(self.graph, output.to), *shape),
                        np.dtype(ids) if output.is_winner(place) else dtype,
                    )
                )
        return made

    def gradients(
        self,
        library: Library,
        values: Sequence[Any],
        grads: Sequence[Any],
        made: Sequence[Any],
        needs: Sequence[bool],
    ) -> list[Any]:
        """The gradients of the fields, None for those that have none: one more walk, whose expressions are
        derivatives.

        grads: a gradient, or None, for each array of results; made: the results; needs: whose gradient is
        wanted. What ``reads`` leaves out of values and made may be None.
        """
        wanted = tuple(key for key, need in zip(self.keys, needs, strict=True) if need)
        arrived = tuple(grad is not None for grad in grads)
        known = algebra_of(self.outputs)
        backward = known.backward(arrived, self.keys, wanted, self.graph.in_edges.indptr.dtype)
        if not backward.walk and not backward.same:
            return [None] * len(self.keys)
        fields: Values = dict(zip(self.keys, values, strict=True))
        arrays = self._node_arrays(library, fields, grads, made)
        for number, need, key, dtype in backward.bound:
            fields[key] = library.cast(arrays(number, need), dtype)
        found = {key: fields[same] for key, same in backward.same.items()}
        if can_wait(self.graph, backward.outputs, fields):
            results = _of_sources_later(f"∇ {self.name}", self.graph, backward.outputs, fields, self.told)
        else:
            results = (
                propagate(f"∇ {self.name}", self.graph, backward.outputs, fields, self.told)
                if backward.walk
                else ()
            )
        for key, value in zip(backward.walk, results, strict=True):
            found[key] = _over_rows(library, value, known.leaves[key].dtype) if key[0] == "shared" else value
        return [found.get(key) for key in self.keys]

    def reads(
        self, wanted: tuple[Key, ...], arrived: tuple[bool, ...] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The positions of the fields, and of the results, that the gradients of the wanted fields read: all
        that needs to be kept.
        """
        return algebra_of(self.outputs).reads(self.keys, wanted, arrived, self.graph.in_edges.indptr.dtype)

    def batched(self, size: int, which: Collection[Key]) -> Walk:
        """The walk for a batch: the fields in ``which`` have one more feature axis of that size, the first,
        and so has every result.
        """
        return self._replace(outputs=algebra_of(self.outputs).batched(size, frozenset(which)))

    def _too_large(self, arrays: Sequence[Any]) -> MemoryError:
        """What a walk was to make, and of what."""
        results = self.results()
        made = ", ".join(f"{list(shape)} of {dtype}" for shape, dtype in results)
        of = ", ".join(
            f"{target}.{field} {list(x.shape)}" for (target, field), x in zip(self.keys, arrays, strict=True)
        )
        size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in results)
        fix = (
            "see whether the message makes axes that were not meant: the first axis of a field is no feature "
            "axis"
        )
        return errors.no_memory(
            self.name, f"there is no memory for {made}, {size / 2**30:.3g} GiB, made of {of}", fix
        )

    def _node_arrays(
        self, library: Library, fields: Values, grads: Sequence[Any], made: Sequence[Any]
    ) -> Callable[[int, str], Any]:
        """Gives a node array by the number of its output and its name in NEEDS."""
        starts = algebra_of(self.outputs).starts
        products: dict[int, Sequence[Any]] = {}

        def array(number: int, name: str) -> Any:
            output, part = self.outputs[number], slice(starts[number], starts[number + 1])
            factor = NEEDS[name].factor
            if factor is not None:
                if number not in products:
                    products[number] = propagate("factors", self.graph, factor_walk(output), fields)
                return products[number][factor]
            return _node_array(name, library, self.graph, output, grads[part], made[part])

        return array


def propagate(
    name: str, g: Graph, outputs: tuple[Output, ...], fields: Values, told: bool = True
) -> tuple[Any, ...]:
    """Run a walk so that it can be differentiated. Returns every array of every output (see Output.results),
    in order.
    """
    read, given = algebra_of(outputs).read, fields
    if len(read) != len(fields):
        fields = {key: value for key, value in fields.items() if key in read}
    keys, values = tuple(fields), tuple(fields.values())
    walk = Walk(name, g, outputs, keys, told)
    library = foreign(values)
    if library is not None:
        return library.propagate(walk, values)
    if not values and (library := foreign(given.values())) is not None:  # a message of numbers alone
        return tuple([library.constant(array) for array in walk.run(())])

    arrays = [x.data if isinstance(x, Tensor) else x for x in values]
    made = walk.run(arrays)
    if True not in [isinstance(x, Tensor) for x in values]:
        return made

    def vjp(
        grads: Sequence[Any], inputs: Sequence[Any], made: Sequence[Any], needs: Sequence[bool]
    ) -> list[Any]:
        return walk.gradients(NATIVE, inputs, grads, made, needs)

    found: tuple[Any, ...] = record(
        name, values, made, vjp, _Told(outputs, keys, weakref.ref(g)) if told else None
    )
    return found


def _of_sources_later(
    name: str, g: Shard, outputs: tuple[Output, ...], fields: Values, told: bool
) -> Sequence[Any]:
    """The gradients of a walk, those of sources not computed yet."""
    made: list[Any] = [None] * len(outputs)
    later = tuple([output for output in outputs if output.to == "u"])
    others = tuple([output for output in outputs if output.to != "u"])
    now = iter(propagate(name, g, others, fields, told) if others else ())
    read = algebra_of(later).read
    walk = Walk(name, g, later, tuple([key for key in fields if key in read]))
    waiting = iter(
        SourceGradients(g, later, {key: fields[key] for key in walk.keys}, walk.results()).deferred()
    )
    for place, output in enumerate(outputs):
        made[place] = next(waiting if output.to == "u" else now)
    return made


class _Told:
    """What ``Tape.explain`` says about a walk. It keeps neither arrays nor the graph."""

    __slots__ = ("graph", "keys", "outputs")

    def __init__(
        self, outputs: tuple[Output, ...], keys: tuple[Key, ...], graph: Callable[[], Graph | None]
    ) -> None:
        self.outputs, self.keys, self.graph = outputs, keys, graph

    def __call__(self, needs: Sequence[bool]) -> list[str]:
        return explain_walk(self.outputs, self._wanted(needs))

    def kernels(self, needs: Sequence[bool]) -> list[str]:
        """The schedules of its kernels, and of those of the gradients where every result has one."""
        graph, wanted = self.graph(), self._wanted(needs)
        if graph is None:
            return ["its kernels depend on the graph, which is gone"]
        known = algebra_of(self.outputs)
        backward = (
            known.backward((True,) * known.starts[-1], self.keys, wanted, graph.in_edges.indptr.dtype).walk
            if wanted
            else {}
        )
        return explain_kernels(graph, self.outputs, backward)

    def section(self, needs: Sequence[bool]) -> str:
        """What the page of ``Tape.explain`` shows of it."""
        return section(
            self.graph(), self.outputs, tell(self.outputs, self._wanted(needs)), self.kernels(needs)
        )

    @property
    def fields(self) -> list[str]:
        """Names of the inputs."""
        return [".".join(key) for key in self.keys]

    def at(self, arrays: Sequence[Any], place: int, row: int) -> list[str]:
        """Which edge makes a row of a result what it is."""
        graph = self.graph()
        numbers = [number for number, output in enumerate(self.outputs) for _ in output.results()]
        return (
            suspects(graph, self.outputs[numbers[place]], dict(zip(self.keys, arrays, strict=True)), row)
            if graph is not None
            else []
        )

    def _wanted(self, needs: Sequence[bool]) -> tuple[Key, ...]:
        return tuple([key for key, need in zip(self.keys, needs, strict=True) if need])


def _node_array(
    name: str, library: Library, g: Graph, output: Output, grads: Sequence[Any], made: Sequence[Any]
) -> Any:
    need = NEEDS[name]
    if need.dotted:
        z, (score, dtype) = made[0], needed(output.expressions, output.reduce, name)
        into = library.cast(grads[0], dtype)
        lead = len(z.shape) - 1 - len(score)
        axes = tuple(
            i + 1
            for i in range(len(z.shape) - 1)
            if i < lead or (score[i - lead] == 1 and z.shape[i + 1] != 1)
        )
        return _products(library, into, z, axes).reshape((z.shape[0], *score))
    if need.gradient is None:
        assert need.result is not None
        array = made[need.result]
        return library.detached(unwrap(array)) if need.constant else array
    gradient = grads[need.gradient]
    if not need.by_degree:
        return gradient
    degrees = g.in_degrees() if output.to == "v" else g.out_degrees()
    share = (1 / np.maximum(degrees, 1)).astype(wide(library.dtype(gradient)))
    return gradient * library.constant(share.reshape((-1,) + (1,) * (len(gradient.shape) - 1)))


def _products(library: Library, g: Any, z: Any, axes: tuple[int, ...]) -> Any:
    """Σ g · z over axes after the first, kept: one pass over the rows of large arrays."""
    if not pays(tuple(z.shape), library.dtype(z)):
        return library.sum(g * z, axes, keepdims=True)
    fields = {("e", "g"): g, ("e", "z"): z}
    product: Any = math.prod(
        expr.field(*key, tuple(x.shape[1:]), library.dtype(x)) for key, x in fields.items()
    )
    over = tuple(axis - 1 for axis in axes)
    outputs = (Output((product.sum(over, keepdims=True),), "e", "edge"),)
    return propagate("⟨g, z⟩", blocks(z.shape[0], device_of(unwrap(z))), outputs, fields, told=False)[0]


def _over_rows(library: Library, value: Any, dtype: Any) -> Any:
    """The sum over all rows, in the dtype of what it is the gradient of."""
    if library.has_autodiff:
        return library.cast(library.sum(value, (0,)), dtype)
    return narrowed(unbroadcast(value, value.shape[1:]), dtype)
