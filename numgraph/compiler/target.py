"""What the compiler asks of a machine that walks run on. A target is one such class; targets know nothing of each other.

The driver (driver.py) is the loop above them: plan, values per node, allocate, launch, combine, finish.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numgraph.compiler import program as ir
from numgraph.compiler.build import Places
from numgraph.compiler.cost import DEGREE, choose
from numgraph.compiler.index import Notation
from numgraph.compiler.schedule import Machine
from numgraph.compiler.storage import HALVES, compute_name
from numgraph.expressions.walk import Arrays, Output

Buffers = dict[tuple[int, int], Any]
"""Result arrays by (number of the output, number of its array)."""


@dataclass(frozen=True)
class Request:
    """What a kernel depends on besides its outputs. rows: "v" walks in-edges, "u" out-edges. ids: dtype of the graph's index arrays.
    ordered: edge ids are positions there. wide: rows are put together from parts, so 16-bit floats must not be rounded before. length:
    edges of a row, roughly; 0: not known. atomic: parts may add to their row in memory.
    """

    rows: str
    ids: str
    ordered: bool
    wide: bool = False
    length: int = 0
    atomic: bool = False

    def places(self, outputs: Sequence[Output]) -> Places:
        """What programs for these outputs depend on."""
        return Places(self.ids, self.ordered, tuple([self.stored(output) for output in outputs]))

    def stored(self, output: Output) -> tuple[str, ...]:
        """The dtype in memory of each array of an output: winners are edge ids."""
        wide = self.wide and output.reduce != "edge"
        names = [compute_name(dtype) if wide and dtype.name in HALVES else dtype.name for _, dtype in output.results()]
        return tuple([self.ids if output.is_winner(place) else name for place, name in enumerate(names)])


@dataclass(frozen=True)
class Made:
    """An output of a walk, by its number, as a kernel makes it. stored: the dtype in memory of each of its arrays. atomic: the parts of a
    row add to it, so that it must be zeros before."""

    number: int
    output: Output
    stored: tuple[str, ...]
    atomic: bool = False


class Target(ABC):
    """A machine that walks run on."""

    @abstractmethod
    def describe(self) -> Machine:
        """What a schedule needs to know of it."""

    def choose(self, notation: Notation, places: Places, length: int) -> tuple[ir.Program, float]:
        """The program of the cheapest schedule of a walk, and its price, by which it is decided what goes into one kernel."""
        _, program, price = choose(notation, self.describe(), places, length or DEGREE)
        return program, price

    @abstractmethod
    def print(self, program: ir.Program, outputs: Sequence[Made], request: Request) -> Any:
        """A verified program as text, with what stands in its argument block."""

    @abstractmethod
    def build(self, printed: Any, outputs: Sequence[Made], request: Request) -> Any:
        """The kernel of what was printed; at least with its ``outputs``."""

    @abstractmethod
    def allocate(self, made: Made, place: int, graph: Any, shape: tuple[int, ...], like: Sequence[Any]) -> Any:
        """Memory for an array of an output whose rows have this shape, and for what is put together later. like: arrays of the walk."""

    @abstractmethod
    def launch(self, kernel: Any, graph: Any, fields: Arrays, buffers: Buffers) -> None:
        """Run a kernel over all rows, long ones in parts."""

    @abstractmethod
    def combine(self, kernel: Any, graph: Any, fields: Arrays, buffers: Buffers) -> None:
        """Make rows of their parts."""
