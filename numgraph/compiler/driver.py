"""The loop above targets: plan a walk, compute what is per node, allocate, launch, combine, finish."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numgraph.arrays import devices
from numgraph.compiler import reference, traffic
from numgraph.compiler.cost import Choice
from numgraph.compiler.index import Notation
from numgraph.compiler.lowering import hoist, lowered, node_walk
from numgraph.compiler.schedule import Schedule
from numgraph.compiler.storage import memory_dtype, memory_of
from numgraph.compiler.target import Buffer, Buffers, Made, Place, Request, Target
from numgraph.compiler.verify import verify
from numgraph.expressions.expr import Expr
from numgraph.expressions.traversal import leaves_of, topological
from numgraph.expressions.walk import Arrays, Key, Output, Reads, check_arrays, on_graph, rows_of, sides
from numgraph.runtime import spans


@dataclass
class Plan:
    """The kernels of a walk, the fields that it reads, the values computed per node before the kernels, and
    the arrays that they make.
    """

    outputs: tuple[Output, ...]
    reads: Reads
    hoisted: list[tuple[Key, Expr]]
    kernels: list[Any]
    results: list[list[tuple[tuple[int, ...], np.dtype[Any]]]]
    empty: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A plan on one graph: the arrays that it reads there, its kernels as they are launched, the memory of
    the results, and for each result, in order, its place, its rows and its dtype; None where that is the
    memory's."""

    plan: Plan
    reads: Reads
    launches: list[Any]
    buffers: list[Buffer]
    results: list[tuple[Place, int, np.dtype[Any] | None]]


def execute(
    target: Target, graph: Any, outputs: tuple[Output, ...], fields: Arrays, out: Sequence[Any] | None = None
) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results). out: contiguous arrays of the host that take
    them, of any dtypes.
    """
    known = route(target, graph, outputs)
    plan = known.plan
    check_arrays(known.reads, fields)
    if plan.empty:
        return placed(_by_definition(graph, outputs, fields), out)
    if plan.hoisted:
        fields = dict(fields)
        for key, expression in plan.hoisted:
            fields[key] = _per_node(target, graph, key[0], expression, fields)
    buffers: Buffers = {} if out is None else _given(known, out)
    for buffer in known.buffers:
        if buffer.place not in buffers:
            buffers[buffer.place] = target.allocate(buffer)
    if spans.OPEN:
        _launch_timed(target, known, graph, fields, buffers)
    else:
        for launch in known.launches:
            _launch(target, launch, graph, fields, buffers)
    return placed([_finished(buffers[place], rows, dtype) for place, rows, dtype in known.results], out)


def _launch(target: Target, launch: Any, graph: Any, fields: Arrays, buffers: Buffers) -> None:
    parts = target.launch(launch, graph, fields, buffers)
    if parts:
        target.combine(launch, parts, graph, buffers)


def _launch_timed(target: Target, known: Route, graph: Any, fields: Arrays, buffers: Buffers) -> None:
    """Each kernel as a span of the open profiles."""
    for kernel, launch in zip(known.plan.kernels, known.launches, strict=True):
        size = functools.partial(traffic.moved, kernel, graph, fields, buffers)
        run = functools.partial(_launch, target, launch, graph, fields, buffers)
        spans.timed(functools.partial(traffic.named, kernel), size, run)


def route(target: Target, graph: Any, outputs: tuple[Output, ...]) -> Route:
    """The route of a walk, made once for a graph."""
    found: Route = graph.remembered((target, outputs), _route)
    return found


def _route(graph: Any, key: tuple[Target, tuple[Output, ...]]) -> Route:
    target, outputs = key
    requests = (target.nodes,) if isinstance(graph, Nodes) else target.requests(graph, outputs)
    plan = make_plan(target, outputs, requests, _dense(graph))
    buffers, results = [], []
    for kernel in plan.kernels:
        for made in kernel.outputs:
            rows, size = rows_of(graph, made.output.to), target.rows(made, graph)
            for place, stored in enumerate(made.stored):
                shape, dtype = plan.results[made.number][place]
                memory = memory_dtype(stored)
                buffers.append(Buffer((made.number, place), (size, *shape), memory, made.atomic))
                same = (
                    made.output.is_winner(place) or memory == dtype
                )  # winners stay in the dtype of the edge ids
                results.append(((made.number, place), rows, None if same else dtype))
    launches = [target.prepare(kernel, graph) for kernel in plan.kernels]
    return Route(
        plan, on_graph(graph, plan.reads), launches, buffers, sorted(results, key=lambda one: one[0])
    )


def _dense(graph: Any) -> bool:
    """Whether what depends on one node is better computed once a node."""
    found: bool = graph.num_edges > graph.num_src + graph.num_dst
    return found


@functools.lru_cache(maxsize=1024)
def make_plan(
    target: Target, outputs: tuple[Output, ...], requests: tuple[Request, ...], dense: bool
) -> Plan:
    """The kernels of a walk: a request for each end of ``walked_ends``. dense: more edges than nodes."""
    leaves = leaves_of(expression for output in outputs for expression in output.expressions)
    reads = tuple([(leaf.attrs, leaf.shape, leaf.dtype) for leaf in leaves])
    if _without_lanes(outputs):
        return Plan(outputs, reads, [], [], [], empty=True)
    hoisted, shares = _shared_out(target, outputs, requests, dense)
    kernels = [kernel(target, share.outputs, share.numbers, share.request, share.choice) for share in shares]
    return Plan(outputs, reads, hoisted, kernels, [output.results() for output in outputs])


def schedules(target: Target, graph: Any, outputs: tuple[Output, ...]) -> list[tuple[list[int], Schedule]]:
    """The schedule of each kernel of a walk, with the numbers of its outputs. Nothing is compiled."""
    if _without_lanes(outputs):
        return []
    _, shares = _shared_out(target, outputs, target.requests(graph, outputs), _dense(graph))
    return [(share.numbers, share.choice.schedule) for share in shares]


def _without_lanes(outputs: Sequence[Output]) -> bool:
    """Whether there is a feature axis of length 0."""
    return any(0 in node.shape for output in outputs for node in topological(output.expressions))


class _Share(NamedTuple):
    """Outputs of a walk, as kernels compute them, by their numbers: what one kernel makes."""

    outputs: list[Output]
    numbers: list[int]
    request: Request
    choice: Choice


def _shared_out(
    target: Target, outputs: Sequence[Output], requests: Sequence[Request], dense: bool
) -> tuple[list[tuple[Key, Expr]], list[_Share]]:
    """What is computed per node, and which kernel makes which outputs."""
    low = [Output(tuple(lowered(output.expressions)), output.to, output.reduce) for output in outputs]
    hoisted: list[tuple[Key, Expr]] = []
    shares: list[_Share] = []
    for request in requests:
        numbers = [i for i, side in enumerate(sides(outputs)) if request.rows in (side, "e")]
        group = [low[i] for i in numbers]
        if dense:
            group, found = hoist(group, "u" if request.rows == "v" else "v", len(hoisted))
            hoisted += found
        for chosen, choice in grouped(target, group, request):
            shares.append(_Share([group[i] for i in chosen], [numbers[i] for i in chosen], request, choice))
    return hoisted, shares


def grouped(target: Target, outputs: Sequence[Output], request: Request) -> list[tuple[list[int], Choice]]:
    """Which outputs go into one kernel, by their places: those that cost no more together than apart."""
    machine = target.describe()
    groups: list[tuple[list[int], Choice]] = []
    for number in range(len(outputs)):
        alone = _choice(target, outputs[number : number + 1], request)
        for i, (group, choice) in enumerate(groups):
            together = _choice(target, [outputs[k] for k in (*group, number)], request)
            if together.price <= (choice.price + alone.price) * (1 + machine.slack) + machine.loop:
                groups[i] = [*group, number], together
                break
        else:
            groups.append(([number], alone))
    return groups


def _choice(target: Target, outputs: Sequence[Output], request: Request) -> Choice:
    request = target.walked(outputs, request)
    return target.choose(Notation(outputs, request.rows), request.places(outputs), request.length)


def kernel(
    target: Target,
    outputs: Sequence[Output],
    numbers: Sequence[int],
    request: Request,
    choice: Choice | None = None,
) -> Any:
    """One kernel: its program is proven before it is printed."""
    program = (choice or _choice(target, outputs, request)).program
    request = target.walked(outputs, request)
    verify(program)
    addable = [request.atomic and output.reduce in ("sum", "mean") for output in outputs]
    stored = [request.stored(output) for output in outputs]
    made = [
        Made(number, output, names, atomic and names[0] in ("float32", "float64"))
        for number, output, names, atomic in zip(numbers, outputs, stored, addable, strict=True)
    ]
    return target.build(target.print(program, made, request), made, request)


def stores_as(known: Route, buffer: Buffer, dtype: np.dtype[Any]) -> bool:
    """Whether a result of a dtype is stored as its buffer is: then kernels may store into the caller's
    memory.
    """
    number, place = buffer.place
    return memory_of(dtype) == buffer.dtype and dtype in (buffer.dtype, known.plan.results[number][place][1])


def _given(known: Route, out: Sequence[Any]) -> Buffers:
    """The caller's arrays that kernels can store into."""
    pairs = zip(out, sorted(known.buffers), strict=True)
    found = {
        buffer.place: array.view(buffer.dtype)
        for array, buffer in pairs
        if stores_as(known, buffer, array.dtype)
    }
    for buffer in known.buffers:
        if buffer.zeroed and buffer.place in found:
            found[buffer.place].fill(0)
    return found


def placed(made: list[Any], out: Sequence[Any] | None) -> list[Any]:
    """The results in the caller's arrays, cast to their dtypes."""
    if out is None:
        return made
    for array, result in zip(out, made, strict=True):
        if not np.may_share_memory(array, result):
            with np.errstate(all="ignore"):
                array[...] = result
    return list(out)


def _finished(array: Any, rows: int, dtype: np.dtype[Any] | None) -> Any:
    """A buffer as a result: its own rows, in its dtype."""
    if len(array) != rows:
        array = array[:rows]
    if dtype is None:
        return array
    return array.view(dtype) if array.dtype == memory_of(dtype) else array.astype(dtype)


def _per_node(target: Target, graph: Any, end: str, expression: Expr, fields: Arrays) -> Any:
    """The value of an expression of one node's fields, for every node: a walk over the nodes themselves, each
    an edge of its own.
    """
    outputs, names = node_walk(end, expression)
    return execute(target, nodes(graph, end), outputs, {name: fields[key] for key, name in names})[0]


class Nodes:
    """Nodes as a graph without arrays, each an edge of its own."""

    def __init__(self, count: int) -> None:
        self.num_src = self.num_dst = self.num_edges = count
        self._known: dict[Any, Route] = {}

    def remembered(self, key: Any, make: Callable[[Any, Any], Route]) -> Route:
        """As Graph has it."""
        if key not in self._known:
            self._known[key] = make(self, key)
        return self._known[key]


_nodes = functools.lru_cache(maxsize=16)(Nodes)


def nodes(graph: Any, end: str) -> Nodes:
    """The sources or destinations of a graph."""
    return _nodes(rows_of(graph, end))


def _by_definition(graph: Any, outputs: Sequence[Output], fields: Arrays) -> list[Any]:
    """Axes of length 0: next to nothing is computed, on the host."""
    found = reference.execute(
        graph.to("cpu"), outputs, {key: devices.moved(array, "cpu") for key, array in fields.items()}
    )
    return [devices.moved(array, graph.device) for array in found]
