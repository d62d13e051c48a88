"""The CPU target: lays out the arguments of a walk's kernels and runs them over the rows of a graph on all
threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from numgraph.arrays import recycling
from numgraph.compiler import driver, reference
from numgraph.compiler import program as ir
from numgraph.compiler.build import Places
from numgraph.compiler.cost import Choice
from numgraph.compiler.cpu import shells
from numgraph.compiler.cpu.balance import EVEN_FROM, Hub, divided, each_alone, rows_are_even
from numgraph.compiler.cpu.kernel import Kernel, Printed, by_edge_ids, chosen, compiled, machine, printed
from numgraph.compiler.cpu.layout import gathered, scattered
from numgraph.compiler.index import Notation
from numgraph.compiler.reduces import REDUCES
from numgraph.compiler.schedule import Machine
from numgraph.compiler.storage import memory_dtype, memory_of
from numgraph.compiler.target import Buffer, Buffers, Made, Request, Target, length_of
from numgraph.expressions.walk import Arrays, Output, grouped, rows_of, walked_ends
from numgraph.graph import Graph, GraphWithEnds
from numgraph.runtime import threads

LENGTHS = (0, 12, 96)
"""Edges a row from which on a walk may have another plan."""
MANY = 1 << 16
"""Nodes whose rows, in no order, are asked for before they are gathered, even if each is one cache line:
beyond a core's own cache. Sums of 16 features take 0.7 of the time with 1 M nodes, 0.9 with 131,000, but 1.2
with 20,000. Edges too, found by their ids."""
_LANE_SPEED = 32
"""Features that a kernel in lanes handles while threads.SMALL counts one element. Below a million features a
thread takes about 0.2 ms; a second one saves less than the pool costs where other processes keep the cores
busy (10 ms a call, measured at a load of 3 a core)."""

Part = tuple[Hub, Buffers]
"""A hub and the results of its chunks."""


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel on the rows of one graph: the words of its argument block with the index arrays in place; the
    ranges of rows that are parts, and the hubs, with the kernel for their chunks; and the work, to judge
    whether threads are worth it. far: whose fields that many edges gather, where these are worth a layout for
    it."""

    kernel: Kernel
    words: list[int]
    ranges: Any
    work: int
    hubs: tuple[Hub, ...] = ()
    chunks: Launch | None = None
    far: str = ""
    edges: int = 0


class Cpu(Target):
    """The processor that this process runs on."""

    nodes = Request("e", "int64", ordered=True)

    def describe(self) -> Machine:
        return machine()

    def requests(self, graph: Graph, outputs: tuple[Output, ...]) -> tuple[Request, ...]:
        made = []
        for rows in walked_ends(outputs):
            adjacency = _walked(graph, rows)
            ids, nodes = (
                "int32" if array.itemsize == 4 else "int64" for array in (adjacency.indptr, adjacency.indices)
            )
            made.append(
                Request(
                    rows,
                    ids,
                    adjacency.ordered,
                    length=length_of(adjacency, LENGTHS),
                    nodes="" if nodes == ids else nodes,
                    many=max(graph.num_src, graph.num_dst) >= MANY and scattered(adjacency, "indices"),
                    strewn=graph.num_edges >= MANY
                    and not adjacency.ordered
                    and scattered(adjacency, "edge_ids"),
                    even=adjacency.num_edges >= EVEN_FROM and adjacency.derived("even", rows_are_even),
                )
            )
        return tuple(made)

    def walked(self, outputs: Sequence[Output], request: Request) -> Request:
        if request.ordered or not by_edge_ids(outputs, request.rows):
            return request
        return request._replace(rows="e", ordered=True, even=False)

    def choose(self, notation: Notation, places: Places, length: int) -> Choice:
        return chosen(notation, places, length)

    def print(self, program: ir.Program, outputs: Sequence[Made], request: Request) -> Printed:
        return printed(program, request)

    def build(self, printed: Printed, outputs: Sequence[Made], request: Request) -> Kernel:
        return compiled(printed, outputs, request)

    def prepare(self, kernel: Kernel, graph: Graph) -> Launch:
        walked, rows = _walked(graph, kernel.rows), kernel.rows
        work = _work(kernel, graph.num_edges + (0 if rows == "e" else walked.num_rows))
        parts = divided(graph.num_edges if rows == "e" else walked, work < threads.SMALL)
        chunks = None
        if parts.hubs:
            for_chunks = self.for_chunks(kernel)
            chunks = Launch(for_chunks, _on(for_chunks, graph), None, 0)
        far = "" if work < threads.SMALL else {"v": "u", "u": "v"}.get(rows, "")
        return Launch(
            kernel, _on(kernel, graph), parts.ranges, work, parts.hubs, chunks, far, graph.num_edges
        )

    def for_chunks(self, kernel: Kernel) -> Kernel:
        """The kernel for parts of rows: 16-bit results are rounded when these are together."""
        if not kernel.halves:
            return kernel
        if kernel.for_chunks is None:
            outputs, numbers = (
                [made.output for made in kernel.outputs],
                [made.number for made in kernel.outputs],
            )
            kernel.for_chunks = driver.kernel(self, outputs, numbers, kernel.request._replace(wide=True))
        return kernel.for_chunks

    def rows(self, made: Made, graph: Graph) -> int:
        return rows_of(graph, made.output.to)

    def allocate(self, buffer: Buffer) -> Any:
        return recycling.empty(buffer.shape, buffer.dtype)

    def launch(self, prepared: Launch, graph: Graph, fields: Arrays, buffers: Buffers) -> Sequence[Part]:
        """The parts by threads, then the hubs one after another, each in chunks by threads. Returns what the
        chunks are.
        """
        words, kept = _block(prepared, fields, buffers)
        _enter(prepared.kernel, words, prepared.ranges, prepared.work)
        if prepared.chunks is None:
            return ()
        if prepared.chunks.kernel is not prepared.kernel:
            words, kept = _block(prepared.chunks, fields, buffers)
        made = [(hub, _of_hub(prepared.chunks.kernel, hub, words, buffers)) for hub in prepared.hubs]
        del kept
        return made

    def combine(self, prepared: Launch, parts: Sequence[Part], graph: Graph, buffers: Buffers) -> None:
        for hub, scratch in parts:
            for made in prepared.kernel.outputs:
                arrays = [scratch[key] for key in sorted(scratch) if key[0] == made.number]
                if arrays:
                    for place, value in enumerate(_of_chunks(made.output.reduce, arrays, hub)):
                        array, dtype = buffers[made.number, place], made.output.results()[place][1]
                        array[hub.row] = _in_bits(value, array.dtype, dtype)


TARGET = Cpu()


def execute(
    graph: Graph, outputs: Sequence[Output], fields: Arrays, out: Sequence[Any] | None = None
) -> list[Any]:
    """All arrays of all outputs, in order (see Output.results). out: contiguous arrays that take them, of any
    dtypes.
    """
    if numba.config.DISABLE_JIT:  # for coverage and debuggers
        return driver.placed(reference.execute(graph, outputs, fields), out)
    return driver.execute(TARGET, graph, tuple(outputs), fields, out)


def _walked(graph: Any, rows: str) -> Any:
    """What has the index arrays of a walk."""
    return graph if rows == "e" else grouped(graph, rows)


def index_arrays(kernel: Kernel, graph: Any) -> list[Any]:
    """The arrays of the graph that a kernel reads."""
    walked, known = _walked(graph, kernel.rows), ("indptr", "indices", "edge_ids")
    simple = kernel.rows == "e" and not isinstance(graph, GraphWithEnds)
    return [
        getattr(walked, name) if simple or name in known else graph.along(kernel.rows, name)
        for _, name in kernel.ids
    ]


def _on(kernel: Kernel, graph: Any) -> list[int]:
    """A kernel's words with the index arrays in place."""
    words = kernel.words.copy()
    for (offset, _), array in zip(kernel.ids, index_arrays(kernel, graph), strict=True):
        words[offset : offset + 2] = _ids_of(array)
    return words


def _of_hub(kernel: Kernel, hub: Hub, words: list[int], buffers: Buffers) -> Buffers:
    """The results of a hub's chunks. The words for them: its bounds for indptr, its row of fields for every
    chunk, scratch rows.
    """
    words, chunks = words.copy(), len(hub.bounds) - 1
    scratch: Buffers = {}
    for made in kernel.outputs:
        if made.output.reduce != "edge":
            for place, stored in enumerate(made.stored):
                shape = buffers[made.number, place].shape[1:]
                scratch[made.number, place] = np.zeros((chunks, *shape), memory_dtype(stored))
    for offset, name in kernel.ids:
        if name == "indptr":
            words[offset : offset + 2] = _ids_of(hub.bounds)
    for offset, key, _ in kernel.fields:
        if key[0] == kernel.rows:
            words[offset : offset + 3] = words[offset] + hub.row * words[offset + 2], chunks, 0
    for offset, out in kernel.outs:
        if out in scratch:
            words[offset : offset + 3] = _rows(scratch[out])
    _enter(kernel, words, each_alone(chunks), _work(kernel, int(hub.bounds[-1] - hub.bounds[0])))
    return scratch


def _of_chunks(reduce: str, made: list[Any], hub: Hub) -> Sequence[Any]:
    """A row's arrays from those of its chunks; without NumPy's warnings of NaN and infinity, as kernels give
    none.
    """
    with np.errstate(all="ignore"):
        return REDUCES[reduce].chunks(made, hub.counts)


def _in_bits(value: Any, memory: np.dtype[Any], dtype: np.dtype[Any]) -> Any:
    """A row of a result as its memory has it."""
    return (
        np.asarray(value).astype(dtype).view(memory)
        if memory == np.uint16 and value.dtype != memory
        else value
    )


def _block(launch: Launch, fields: Arrays, buffers: Buffers) -> tuple[list[int], list[Any]]:
    """The words of the argument block, and the arrays that they point to beside the fields and the buffers
    themselves.
    """
    words, kernel = launch.words.copy(), launch.kernel
    kept: list[Any] = []
    found: list[tuple[int, Any]] = []
    for offset, place in kernel.outs:
        words[offset : offset + 3] = _rows(buffers[place])
    for offset, key, whole in kernel.fields:
        array = fields[key]
        if (
            key[0] != launch.far and type(array) is np.ndarray and array.dtype in _READ and array.flags.carray
        ):  # nearly all
            words[offset] = ctypes.addressof(_view(array))
            words[offset + 1 : offset + 3] = (
                (1, 0) if key[0] == "shared" else (array.shape[0], array.strides[0])
            )
            continue
        array = _operand(array, whole)
        if key[0] == launch.far and not whole:
            found.append((offset, array))
            continue
        kept.append(array)
        words[offset : offset + 3] = (_address(array), 1, 0) if key[0] == "shared" else _rows(array)
    for (offset, _), array in zip(found, gathered([array for _, array in found], launch.edges), strict=True):
        kept.append(array)
        words[offset : offset + 3] = _rows(array)
    return words, kept


def _work(kernel: Kernel, size: int) -> int:
    """What tells whether threads are worth it. size: edges and rows."""
    return size * max(kernel.features, 1) // _LANE_SPEED


def _enter(kernel: Kernel, words: list[int], ranges: Any, work: int) -> None:
    """Run the body over ranges of rows."""
    threads.run(shells.parallel, shells.serial, kernel.address, np.array(words, np.int64), ranges, work=work)


_COPIED = 1 << 15
"""Bytes that are copied in less time than a view takes."""
_view: Any = (ctypes.c_char * 0).from_buffer
_READ = frozenset(map(np.dtype, (np.float32, np.float64, np.int32, np.int64)))
"""What kernels see as it is."""


def _address(array: Any) -> int:
    """Where an array begins. A view by ctypes, which takes writeable arrays without gaps, costs a quarter of
    the interface.
    """
    if array.flags.carray:
        return ctypes.addressof(_view(array))
    found: int = array.__array_interface__["data"][0]
    return found


def _ids_of(array: Any) -> tuple[int, int]:
    return _address(array), len(array)


def _rows(array: Any) -> tuple[int, int, int]:
    """An array as rows of contiguous features: address, number of rows, bytes from one to the next."""
    return _address(array), array.shape[0], array.strides[0]


def _operand(array: Any, whole: bool) -> Any:
    """A field with contiguous features, or without any gaps (whole), in a dtype that kernels read; a copy
    only where one is needed.
    """
    if type(array) is not np.ndarray:
        array = np.asarray(array)
    dtype = array.dtype
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    memory = memory_of(dtype)
    if dtype is not memory and array.dtype != memory:
        array = array.view(memory)
    flags = array.flags
    if array.size == 0 or (
        flags.aligned and (flags.c_contiguous or (not whole and array[0].flags.c_contiguous))
    ):
        return array
    if (
        not whole and array.strides[0] == 0 and array.nbytes > _COPIED
    ):  # one row for all, as the gradient that a sum passes on
        return np.broadcast_to(np.ascontiguousarray(array[0]), array.shape)
    return np.ascontiguousarray(array)
