"""Walks within devices.atomics() on the CUDA target, against plain NumPy: in the simulator and on hardware,
with cuda_route.py.

Rows of more than 12 edges are cut into chunks of 6 there. On the host these tests would say nothing:
test_cuda_simulator.py and test_cuda_hardware.py run them, by the name of this file.
"""

from __future__ import annotations

import numpy as np
import pytest
import test_half
import test_kernels
import walks
from walks import compare, compare_step, normal

import numgraph as ng
from numgraph.arrays import devices
from numgraph.compiler import reference
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.cuda import launching
from numgraph.expressions.walk import Output
from numgraph.message.fields import traced

G = walks.graph()  # rows of 20 edges and more, and of none
ALONE = ng.Graph(np.arange(9), np.arange(9) % 7, num_src=9, num_dst=7)
"""A graph without long rows."""


@pytest.fixture
def launched(monkeypatch):
    """The kernels over rows that were launched, in order."""
    found = []
    run = launching.run

    def noted(kernel, words, count):
        if not kernel.per_edge:
            found.append(kernel)
        run(kernel, words, count)

    monkeypatch.setattr(launching, "run", noted)
    return found


@pytest.mark.parametrize("width", [1, 3, 16, 33, 130])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_chunks_add_to_their_row(launched, reduce, dtype, width):
    g = walks.graph(num_edges=160)  # long rows of both ends
    sizes = {"u": ("x", width), "v": ("y", width), "e": ("w", 1)}
    fields = {target: {name: normal(g, target, size, dtype=dtype)} for target, (name, size) in sizes.items()}
    for to in "vu":
        with devices.atomics():
            compare(g, test_kernels.MESSAGES[reduce], reduce, to=to, **fields)
        (kernel,) = launched
        assert "atomic_add" in kernel.text
        launched.clear()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_row_of_many_chunks(launched, reduce):
    """34 chunks, which would be put together in two further steps."""
    g = ng.Graph(np.arange(230) % 9, np.minimum(np.arange(230) // 200, 1) * 2, num_src=9, num_dst=4)
    fields = {"u": {"x": normal(g, "u", 5)}, "v": {"y": normal(g, "v", 5)}, "e": {"w": normal(g, "e", 1)}}
    with devices.atomics():
        compare(g, test_kernels.MESSAGES[reduce], reduce, **fields)
    assert len(launched) == 1
    compare(g, test_kernels.MESSAGES[reduce], reduce, **fields)
    assert len(launched) == 4


@pytest.mark.parametrize("name", test_kernels.STRUCTURES)
def test_structures_and_their_gradients(name):
    """Sums over feature axes too, for which a row's result is added to several times."""
    function, fields = test_kernels.structure(name, np.float64)
    with devices.atomics():
        compare_step(lambda u, v, e: ng.update_all(G, function, "sum", u=u, v=v, e=e), fields)


@pytest.mark.parametrize("reduce", ["max", "min", "prod", "mean", "edge", "softmax"])
def test_gradients_of_every_reduce(launched, reduce):
    fields, message = test_kernels.one_axis(6, np.float64), test_kernels.MESSAGES[reduce]

    def run(u, v, e):
        if reduce == "softmax":
            return ng.attend(G, *message, u=u, v=v, e=e)
        return (
            ng.apply_edges(G, message, u=u, v=v, e=e)
            if reduce == "edge"
            else ng.update_all(G, message, reduce, u=u, v=v, e=e)
        )

    with devices.atomics():
        compare_step(run, fields)
    assert any("atomic_add" in kernel.text for kernel in launched)


@pytest.mark.parametrize("beside", ["max", "prod", "mean", "edge", "logsumexp"])
def test_outputs_of_one_walk_go_their_own_ways(launched, beside):
    """A sum beside another output: each is right, and only what needs it is put together."""
    functions = (lambda u, v: u.x * v.y, lambda u, v: u.x - v.y)
    roots, fields = traced("test", G, functions, *[test_kernels.one_axis(33)[target] for target in "uve"])
    outputs = (Output((roots[0],), "v", "sum"), Output((roots[1],), "e" if beside == "edge" else "v", beside))
    with np.errstate(all="ignore"):
        want = reference.execute(G, outputs, fields)
    with devices.atomics():
        got = cpu.execute(G, outputs, fields)
    walks.assert_same(walks.in_one_number(got, beside), walks.in_one_number(want, beside))
    assert [made.atomic for made in launched[0].outputs] == [True, beside == "mean"]
    assert len(launched) == {"mean": 1, "edge": 1, "max": 3}.get(beside, 2)
    assert not any("atomic_add" in kernel.text for kernel in launched[1:])


@pytest.mark.parametrize("dtype", test_half.DTYPES, ids=["float16", "bfloat16"])
def test_16_bit_results_are_rounded_once(launched, dtype):
    """Eighths added to a large number in 16 bits would be lost, or rounded up chunk by chunk."""
    x = np.ones((40, 3), dtype)
    x[:, 1] = 0.125
    x[:3, 1] = 512
    g = ng.Graph(np.arange(40), np.zeros(40, int), num_src=40, num_dst=2)
    with devices.atomics():
        z = ng.update_all(g, lambda u: u.x, "sum", u={"x": x})
    assert "atomic_add" in launched[0].text
    assert z.dtype == dtype
    want = np.stack([x.astype(np.float64).sum(0), np.zeros(3)]).astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(z.astype(np.float32), want.astype(np.float32))


def test_what_is_not_finite_reaches_the_row():
    x = normal(G, "e", 5)
    hub = np.flatnonzero(G.dst == 2)
    x[hub[3], 0], x[hub[12], 1], x[hub[2], 2], x[hub[15], 2] = np.nan, np.inf, np.inf, -np.inf
    with devices.atomics(), np.errstate(all="ignore"):
        (z,) = compare(G, lambda e: e.x, "sum", e={"x": x})
    assert np.isnan(z[2, [0, 2]]).all()
    assert np.isposinf(z[2, 1])


# --- what stays as it is ---


@pytest.mark.parametrize(
    ("reduce", "dtype"),
    [*[(reduce, "float32") for reduce in ("max", "min", "prod", "softmax", "logsumexp")], ("sum", "int64")],
)
def test_the_fixed_order_is_kept(launched, reduce, dtype):
    """The same kernels, in the same order, so the same bits."""
    function = (lambda u, v: u.x * v.y, lambda u: u.x) if reduce == "softmax" else lambda u, v: u.x * v.y
    fields = {
        "u": {"x": (normal(G, "u", 6) * 9).astype(dtype)},
        "v": {"y": (normal(G, "v", 6) * 9).astype(dtype)},
    }
    want = compare(G, function, reduce, **fields)
    usual = [kernel.text for kernel in launched]
    launched.clear()
    with devices.atomics():
        got = compare(G, function, reduce, **fields)
    assert [kernel.text for kernel in launched] == usual
    assert len(usual) > 1
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_the_request_or_without_long_rows_nothing_is_atomic(launched):
    fields = test_kernels.one_axis(6)
    compare(G, test_kernels.MESSAGES["sum"], "sum", **fields)
    assert len(launched) == 2
    with devices.atomics():
        compare(ALONE, lambda u, v: u.x * v.y, "sum", **{target: fields[target] for target in "uv"})
    assert len(launched) == 3
    assert not any("atomic_add" in kernel.text for kernel in launched)
