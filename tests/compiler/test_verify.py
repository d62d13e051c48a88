"""What is proven before a kernel is compiled, and what is checked before it runs."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

import numgraph as ng
from numgraph.compiler import cost, driver
from numgraph.compiler.build import build
from numgraph.compiler.cpu import kernel
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.target import Request
from numgraph.expressions import expr
from numgraph.expressions.walk import Output, check_fields

G = ng.Graph([0, 1, 2, 0], [0, 0, 1, 1], 3)


def field(target, *shape, name="x", dtype=np.float32):
    return expr.field(target, name, shape, np.dtype(dtype))


def test_no_kernel_is_compiled_when_the_proof_fails():
    """What reaches the compiler has been proven: the error comes before."""
    outputs = (Output((field("u", 11, name="never") * 3,), "v", "sum"),)
    loaded: list = []

    def wrong(*args):
        program = build(*args)
        shorter = {
            name: replace(array, features=10) if array.features == 11 else array
            for name, array in program.arrays.items()
        }
        return replace(program, arrays=shorter)

    with (
        mock.patch.object(cost, "build", wrong),
        mock.patch.object(kernel, "build", wrong),  # of schedules that the CPU chooses by itself
        mock.patch.object(kernel.sources, "load", loaded.append),
        pytest.raises(RuntimeError, match=r"Load \w+: reaches column 10 of 10"),
    ):
        driver.make_plan.__wrapped__(cpu.TARGET, outputs, (Request("v", "int32", False),), False)
    assert not loaded


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.ones((3, 4), np.float32), r"\[3, 4\] float32"),
        (np.ones((2, 5), np.float32), r"\[2, 5\] float32"),
        (np.ones((3, 5, 1), np.float32), r"\[3, 5, 1\] float32"),
        (np.ones(5, np.float32), r"\[5\] float32"),
        (np.ones((3, 5), np.float16), r"\[3, 5\] float16"),
        (np.ones((3, 5), np.int32), r"\[3, 5\] int32"),
    ],
)
def test_arrays_are_what_a_walk_was_planned_for(array, problem):
    leaf = field("u", 5)
    check_fields(G, ((leaf.attrs, leaf.shape, leaf.dtype),), {("u", "x"): np.ones((3, 5), np.float32)})
    with pytest.raises(RuntimeError, match=f"field u.x is {problem}, the walk is planned for .3, 5. float32"):
        cpu.execute(G, (Output((leaf,), "v", "sum"),), {("u", "x"): array})
