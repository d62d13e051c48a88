"""The seam between the driver and its targets: a third target is one class, here one that interprets programs
(programs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import programs
import pytest
import walks
from walks import normal

import numgraph as ng
from numgraph.compiler import driver, reference
from numgraph.compiler import program as ir
from numgraph.compiler.schedule import Machine
from numgraph.compiler.target import Buffer, Buffers, Made, Request, Target
from numgraph.expressions import expr
from numgraph.expressions.walk import Output, rows_of, walked_ends

G = walks.graph(9, 7, 60)


class Kernel:
    def __init__(self, program: ir.Program, outputs: Sequence[Made]) -> None:
        self.program, self.outputs = program, outputs


class Interpreter(Target):
    """Everything that a target is asked, in the order in which it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe(self) -> Machine:
        return Machine(register_bytes=32)

    def requests(self, graph: Any, outputs: tuple[Output, ...]) -> tuple[Request, ...]:
        walked = {rows: graph.in_edges if rows == "v" else graph.out_edges for rows in walked_ends(outputs)}
        return tuple([Request(rows, one.indptr.dtype.name, one.ordered) for rows, one in walked.items()])

    def print(self, program: ir.Program, outputs: Sequence[Made], request: Request) -> ir.Program:
        self.asked.append("print")
        return program

    def build(self, printed: ir.Program, outputs: Sequence[Made], request: Request) -> Kernel:
        self.asked.append("build")
        return Kernel(printed, outputs)

    def prepare(self, kernel: Kernel, graph: Any) -> Kernel:
        self.asked.append("prepare")
        return kernel

    def rows(self, made: Made, graph: Any) -> int:
        return rows_of(graph, made.output.to) + 2  # two that only this target knows

    def allocate(self, buffer: Buffer) -> Any:
        self.asked.append("allocate")
        return np.full(buffer.shape, 77, buffer.dtype)

    def launch(self, prepared: Kernel, graph: Any, fields: Any, buffers: Buffers) -> dict[str, Any]:
        self.asked.append("launch")
        arrays = {
            f"{t}.{n}": np.asarray(x).reshape(1 if t == "shared" else len(x), -1)
            for (t, n), x in fields.items()
        }
        if isinstance(graph, driver.Nodes):
            graph = ng.Graph(np.arange(graph.num_edges), np.arange(graph.num_edges))
        return programs.run(prepared.program, arrays, graph)

    def combine(self, prepared: Kernel, parts: dict[str, Any], graph: Any, buffers: Buffers) -> None:
        self.asked.append("combine")
        for local, made in enumerate(prepared.outputs):
            for place in range(len(made.stored)):
                whole = buffers[made.number, place]
                whole[:-2] = parts[f"out{local}.{place}"].reshape(whole[:-2].shape)


X, Y, W = (
    expr.field("u", "x", (2, 3), np.dtype(float)),
    expr.field("v", "y", (3,), np.dtype(float)),
    expr.field("e", "w", (2, 1), np.dtype(float)),
)
WALKS = {
    "sum": ([Output((X * W + Y,), "v", "sum")], 1),
    "both ends and edges": (
        [Output((X * W,), "v", "mean"), Output((Y * W,), "u", "max"), Output((X - Y,), "e", "edge")],
        2,
    ),
    "softmax, with a sum for each node": ([Output((X.sum(-1), W[..., 0]), "v", "softmax")], 2),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_third_target_is_one_class(name):
    outputs, kernels = WALKS[name]
    fields = {
        ("u", "x"): normal(G, "u", 2, 3),
        ("v", "y"): normal(G, "v", 3),
        ("e", "w"): normal(G, "e", 2, 1),
    }
    fields = {key: array.astype(float) for key, array in fields.items()}
    target = Interpreter()
    found = driver.execute(target, G, tuple(outputs), fields)
    want = reference.execute(G, outputs, fields)
    for output in outputs:
        own, right = ([made.pop(0) for _ in output.results()] for made in (found, want))
        for a, b in zip(programs.comparable(output, own), programs.comparable(output, right), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12, err_msg=output.reduce)
    assert target.asked.count("launch") == kernels
    target.asked.clear()
    driver.execute(target, G, tuple(outputs), fields)
    assert set(target.asked) == {
        "allocate",
        "launch",
        "combine",
    }  # the plan and what depends on the graph are kept


def test_values_per_node_are_computed_by_the_target_too():
    """exp(x) of the far nodes, as edges outnumber them: before the kernel, by a kernel of its own."""
    value = np.exp(X) * W
    fields = {("u", "x"): normal(G, "u", 2, 3).astype(float), ("e", "w"): normal(G, "e", 2, 1).astype(float)}
    (found,) = driver.execute(Interpreter(), G, (Output((value,), "v", "sum"),), fields)
    np.testing.assert_allclose(
        found, reference.execute(G, [Output((value,), "v", "sum")], fields)[0], rtol=1e-12
    )
