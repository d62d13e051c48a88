"""What the compiler asks of a machine that walks run on. A target is one such class; targets know nothing of
each other.

The driver (driver.py) is the loop above them: plan, values per node, allocate, launch, combine, finish.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numgraph.compiler.build import Places
from numgraph.compiler.cost import DEGREE, Choice, choose
from numgraph.compiler.index import Notation
from numgraph.compiler.program import Program
from numgraph.compiler.schedule import Machine
from numgraph.compiler.storage import HALVES, compute_name
from numgraph.expressions.walk import Arrays, Output

Place = tuple[int, int]
"""A result: the number of the output, and of its array."""
Buffers = dict[Place, Any]
"""Memory of results."""


class Buffer(NamedTuple):
    """What a result needs: its shape, with rows for parts of rows where a target has them there; the dtype of
    its memory; whether kernels add to it, so that it must be zeros before."""

    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    zeroed: bool


class Request(NamedTuple):
    """What a kernel depends on besides its outputs. rows: "v" walks in-edges, "u" out-edges, "e" edges by
    their ids. ids: dtype of edge ids and positions. ordered: edge ids are positions there. wide: rows are put
    together from parts, so 16-bit floats must not be rounded before. length: edges of a row, roughly; 0: not
    known. atomic: parts may add to their row in memory. nodes: dtype of node ids, if it is another than that
    of ids. many, strewn, even: see Places."""

    rows: str
    ids: str
    ordered: bool
    wide: bool = False
    length: int = 0
    atomic: bool = False
    nodes: str = ""
    many: bool = False
    strewn: bool = True
    even: bool = False

    def places(self, outputs: Sequence[Output]) -> Places:
        """What programs for these outputs depend on."""
        stored = tuple([self.stored(output) for output in outputs])
        return Places(self.ids, self.ordered, stored, self.many, self.strewn, self.even)

    def stored(self, output: Output) -> tuple[str, ...]:
        """The dtype in memory of each array of an output: winners are edge ids."""
        wide = self.wide and output.reduce != "edge"
        names = [
            compute_name(dtype) if wide and dtype.name in HALVES else dtype.name
            for _, dtype in output.results()
        ]
        return tuple([self.ids if output.is_winner(place) else name for place, name in enumerate(names)])


@dataclass(frozen=True)
class Made:
    """An output of a walk, by its number, as a kernel makes it. stored: the dtype in memory of each of its
    arrays. atomic: the parts of a row add to it, so that it must be zeros before."""

    number: int
    output: Output
    stored: tuple[str, ...]
    atomic: bool = False


def length_of(adjacency: Any, lengths: Sequence[int]) -> int:
    """How many edges a row has, as roughly as plans depend on it. lengths: from which on they may be others,
    ascending.
    """
    mean = adjacency.num_edges // max(adjacency.num_rows, 1)
    return max([length for length in lengths if length <= mean])


class Target(ABC):
    """A machine that walks run on."""

    nodes = Request("v", "int64", ordered=True)
    """For what is computed per node: nodes are edges in the order of their ids, and nothing else is read."""

    @abstractmethod
    def describe(self) -> Machine:
        """What a schedule needs to know of it."""

    @abstractmethod
    def requests(self, graph: Any, outputs: tuple[Output, ...]) -> tuple[Request, ...]:
        """What the kernels of a walk depend on of a graph, for each of ``walked_ends``."""

    def walked(self, outputs: Sequence[Output], request: Request) -> Request:
        """The same for outputs of one kernel, which may be walked in another order."""
        return request

    def choose(self, notation: Notation, places: Places, length: int) -> Choice:
        """The cheapest schedule of a walk, and its price, by which it is decided what goes into one
        kernel.
        """
        return choose(notation, self.describe(), places, length or DEGREE)

    @abstractmethod
    def print(self, program: Program, outputs: Sequence[Made], request: Request) -> Any:
        """A verified program as text, with what stands in its argument block."""

    @abstractmethod
    def build(self, printed: Any, outputs: Sequence[Made], request: Request) -> Any:
        """The kernel of what was printed; at least with its ``outputs``."""

    @abstractmethod
    def prepare(self, kernel: Any, graph: Any) -> Any:
        """A kernel with what its launches on one graph have in common. It is kept with the graph's arrays,
        where these are, and may hold them, but not the graph.
        """

    @abstractmethod
    def rows(self, made: Made, graph: Any) -> int:
        """Rows of an output's memory: those of its node or edges, and of what is put together later."""

    @abstractmethod
    def allocate(self, buffer: Buffer) -> Any:
        """Memory for a result."""

    @abstractmethod
    def launch(self, prepared: Any, graph: Any, fields: Arrays, buffers: Buffers) -> Any:
        """Run a kernel over all rows, long ones in parts. Returns what ``combine`` is to put together, if
        there is anything.
        """

    @abstractmethod
    def combine(self, prepared: Any, parts: Any, graph: Any, buffers: Buffers) -> None:
        """Make rows of their parts."""
