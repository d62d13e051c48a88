"""The proof that a kernel stays inside its arrays: it passes what the generator writes, and finds every fault that is planted there."""

from __future__ import annotations

import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

import numgraph as ng
from numgraph.expressions import expr
from numgraph.expressions.walk import Output, check_fields
from numgraph.kernels import cpu, planning, verify

G = ng.Graph([0, 1, 2, 0], [0, 0, 1, 1], 3)


def planned(outputs):
    """What the verifier is asked for each kernel of a walk over in-edges and out-edges, none of which is compiled."""
    asked = []

    def remember(*args):
        asked.append(args)
        verify.verify(*args)

    orders = (("u", False), ("v", False))
    with (
        mock.patch.object(planning, "verify", remember),
        mock.patch.object(planning, "by_compiler", return_value=None),
        mock.patch.object(planning.sources, "load", return_value=SimpleNamespace(body=None)),
        mock.patch.object(planning.shells, "address_of", return_value=0),
    ):
        planning.make_plan.__wrapped__(outputs, np.dtype(np.int32), orders, False, False)
    return asked


def field(target, *shape, name="x", dtype=np.float32):
    return expr.field(target, name, shape, np.dtype(dtype))


def walks():
    """Walks of every kind of access: whole and masked tiles, tiles of a longer axis, heads, features shared by heads, folds, scalars."""
    x, w = field("u", 70), field("e", 70, name="w")
    heads, score, row = field("u", 5, 8, name="h"), field("v", 5, 1, name="s"), field("v", 8, name="r")
    few, number = field("u", 3, name="f"), field("e", name="n")
    return {
        "tiled": (Output((x * w,), "v", "sum"),),
        "masked": (Output((few + 1,), "v", "max"),),
        "whole": (Output((row * 2,), "v", "prod"),),
        "heads": (Output((heads * score + row,), "v", "sum"),),
        "attention": (Output((score, heads), "v", "softmax"),),
        "dot": (Output(((x * w).sum(-1),), "e", "edge"),),
        "scalar": (Output((number * number,), "u", "sum"), Output((number + 1,), "e", "edge")),
        "private loop": (Output((x * np.maximum((x * w).sum(-1, keepdims=True), 0),), "v", "sum"),),
        "outer product": (Output((few[:, None] * few[None, :],), "v", "mean"),),
    }


@pytest.mark.parametrize("name", walks())
def test_kernels_pass_and_arrays_one_shorter_do_not(name):
    """Each array of a kernel, one element shorter than it is: the last access of it is outside then."""
    for args in planned(walks()[name]):
        reader = verify._Reader
        seen: list = []

        class Remembering(reader):
            def array(self, kind, what, seen=seen):
                found = super().array(kind, what)
                seen.append(found)
                return found

        with mock.patch.object(verify, "_Reader", Remembering):
            verify.verify(*args)
        assert len(seen) >= 2
        for short in seen:

            class Shorter(reader):
                def array(self, kind, what, short=short):
                    found = super().array(kind, what)
                    return verify._Array(found.what, found.columns - 1, found.rows) if found == short else found

            with mock.patch.object(verify, "_Reader", Shorter), pytest.raises(RuntimeError, match=r"columns|nothing bounds"):
                verify.verify(*args)


def mutations(text):
    """A kernel's text with one access made wrong: another row, another mask, a column too many, an unbounded column."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        access = re.search(r"\b(?:load\w*|store\w*)\(\w+, (\w+), ", line)
        if access is None or "memory." in line:
            continue
        start, end = access.span(1)
        other = "far" if access[1] == "row" else "row"
        yield f"{line}: row {other}", [*lines[:i], line[:start] + other + line[end:], *lines[i + 1 :]]
        start = access.end()
        end = next(j for j in range(start, len(line)) if line[j] == "," or line[start : j + 1].count(")") > line[start : j + 1].count("("))
        own = line[start:end]
        for column in (f"{own} + 1", f"{own} - 1", f"({own}) * 2 + 1", "k", "begin"):
            yield f"{line}: column {column}", [*lines[:i], line[:start] + column + line[end:], *lines[i + 1 :]]
    for i, line in enumerate(lines):
        changed = [
            re.sub(r"first_lanes\((\d+)\)$", lambda m: f"first_lanes({int(m[1]) * 2})", line),
            re.sub(r"(memory\.(?:load|store)\w*)\((\d+)\)", lambda m: f"{m[1]}({int(m[2]) * 2 or 2})", line),
            re.sub(r"(n\d+) - c", r"\1 + 1 - c", line),
            re.sub(r"= at\(indices, k\)", "= at(indptr, k)", line),
            re.sub(r"= at\(edge_ids, k\)", "= at(edge_ids, row)", line),
            re.sub(r"range\((n\d+)\)", r"range(\1 + 1)", line),
            re.sub(r"range\(0, (n\d+),", r"range(0, \1 + 70,", line),
            re.sub(r"memory\.load\(", "memory.look(", line),
        ]
        for new in changed:
            if new != line:
                yield new, [*lines[:i], new, *lines[i + 1 :]]


@pytest.mark.parametrize("name", walks())
def test_every_planted_fault_is_found(name):
    planted = 0
    for text, *rest in planned(walks()[name]):
        verify.verify(text, *rest)
        for what, lines in mutations(text):
            planted += 1
            assert refused("\n".join(lines), *rest), f"not found: {what}"
    assert planted >= 6


def refused(*args):
    try:
        verify.verify(*args)
    except RuntimeError as error:
        return str(error).startswith("kernel: ")
    return False


def test_no_kernel_is_compiled_when_the_proof_fails():
    """What reaches the compiler has been proven: the error comes before."""
    outputs = (Output((field("u", 11, name="never") * 3,), "v", "sum"),)
    loaded = []

    def wrong(self, scope, axes):
        return "c + 1"

    with (
        mock.patch.object(planning.Generator, "flat", wrong),
        mock.patch.object(planning.sources, "load", loaded.append),
        pytest.raises(RuntimeError, match=r"reaches columns 1 … 11 of u.never, whose rows have 11"),
    ):
        planning.make_plan.__wrapped__(outputs, np.dtype(np.int32), (("v", False),), False, False)
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
