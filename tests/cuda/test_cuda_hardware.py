"""The CUDA target on a GPU, against the CPU target: `make test-gpu`. Skipped where there is no GPU, with what
is missing as reason.
"""

from __future__ import annotations

import numpy as np
import pytest
import test_kernels
import walks
from scripts import run_on_the_device
from walks import normal

import numgraph as ng
from numgraph.arrays import devices
from numgraph.compiler import cuda
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.cuda import tasks

PROBLEM = devices.problem()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(PROBLEM is not None, reason=f"no GPU: {PROBLEM}")]

FILES = (
    *(
        "compiler/test_kernels.py",
        "compiler/test_half.py",
        "compiler/test_kernel_inputs.py",
        "message/test_messages.py",
        "ops/test_ops.py",
        "message/test_policies.py",
    ),
    "support/atomic_walks.py",
)
CPU_ALONE = {"compiler/test_kernels.py": "not lengths_share_kernels"}
"""Tests of how the CPU target works inside."""


@pytest.mark.parametrize("name", FILES)
def test_the_tests_of_the_host_on_the_device(name):
    """Every walk of these files runs on the device; see cuda_route.py."""
    run_on_the_device(name, CPU_ALONE.get(name, ""), 1)


# --- graphs with long rows, whose walks take several levels ---


def skewed(num_nodes=3000, num_edges=200_000, seed=0):
    """A graph with one row of a third of all edges, many of hundreds, many of none."""
    rng = np.random.default_rng(seed)
    dst = (num_nodes * rng.random(num_edges) ** 4).astype(np.int64)
    dst[: num_edges // 3] = 7
    return ng.Graph(rng.integers(0, num_nodes, num_edges), dst, num_nodes)


G = skewed()


def run_both(run, fields):
    """The arrays of run(g, u, v, e) and its gradients, from the CPU and from the device."""

    def moved(array):
        return devices.moved(array, "cuda")

    here = walks.step(lambda u, v, e: run(G, u, v, e), fields)
    there = {
        target: {name: moved(array) for name, array in given.items()} for target, given in fields.items()
    }
    with ng.Tape() as tape:
        watched = {
            target: {name: tape.watch(array) for name, array in given.items()}
            for target, given in there.items()
        }
        z = run(G.to("cuda"), *[watched.get(target, {}) for target in "uve"])
        weights = moved(np.cos(np.arange(z.size, dtype=np.float64)).reshape(z.shape).astype(z.dtype))
        loss = (z * weights).sum()
    inputs = [array for given in watched.values() for array in given.values()]
    return here, [devices.moved(array, "cpu") for array in (z.data, *tape.gradient(loss, inputs))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 16, 33, 128, 1000])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
def test_long_rows(reduce, width, dtype):
    fields = {"u": {"x": normal(G, "u", width, dtype=dtype)}, "e": {"w": normal(G, "e", 1, dtype=dtype)}}
    here, there = run_both(
        lambda g, u, v, e: ng.update_all(g, lambda u, e: u.x * e.w, reduce, u=u, e=e), fields
    )
    walks.assert_same(there, here, 1e-4 if dtype is np.float32 else 1e-11)


@pytest.mark.parametrize("shape", [(1, 16), (8, 16), (4, 100)])
def test_attention_over_long_rows(shape):
    heads = (shape[0], 1)
    fields = {
        "u": {"a": normal(G, "u", *heads), "h": normal(G, "u", *shape)},
        "v": {"b": normal(G, "v", *heads)},
    }

    def run(g, u, v, e):
        return ng.attend(g, lambda u, v: ng.leaky_relu(u.a + v.b, 0.2), lambda u: u.h, u=u, v=v)

    here, there = run_both(run, fields)
    walks.assert_same(there, here, 1e-3)


@pytest.mark.parametrize("reduce", ["sum", "max", "softmax", "edge"])
def test_runs_are_equal_bit_for_bit(reduce):
    message = test_kernels.MESSAGES[reduce]
    fields = {"u": {"x": normal(G, "u", 40)}, "v": {"y": normal(G, "v", 40)}, "e": {"w": normal(G, "e", 1)}}
    there = {
        target: {name: devices.moved(array, "cuda") for name, array in given.items()}
        for target, given in fields.items()
    }
    g = G.to("cuda")

    def run():
        if reduce == "softmax":
            return ng.attend(g, *message, **there)
        found = (
            ng.apply_edges(g, message, **there)
            if reduce == "edge"
            else ng.update_all(g, message, reduce, **there)
        )
        return devices.moved(found, "cpu")

    first = devices.moved(run(), "cpu")
    for _ in range(3):
        np.testing.assert_array_equal(devices.moved(run(), "cpu"), first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 33, 128])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_atomic_additions_give_the_same_up_to_rounding(reduce, width, dtype):
    """Rows without chunks are the same bits; a long row's sum has another order."""
    there = {"u": {"x": normal(G, "u", width, dtype=dtype)}, "e": {"w": normal(G, "e", 1, dtype=dtype)}}
    there = {
        target: {name: devices.moved(array, "cuda") for name, array in given.items()}
        for target, given in there.items()
    }
    run = lambda: devices.moved(ng.update_all(G.to("cuda"), lambda u, e: u.x * e.w, reduce, **there), "cpu")
    want = run()
    with devices.atomics():
        got = run()
    walks.assert_same([got], [want], 1e-4 if dtype is np.float32 else 1e-11)
    short = G.in_degrees() <= 2 * tasks.CHUNK
    assert 0 < short.sum() < len(short)
    np.testing.assert_array_equal(got[short], want[short])


# --- arrays and streams of the caller ---


def test_arrays_in_any_layout():
    import cupy

    g = G.to("cuda")
    host = normal(G, "u", 70)
    layouts = {
        "Fortran order": cupy.asfortranarray(cupy.asarray(host)),
        "rows apart": cupy.asarray(np.concatenate([host, host], axis=1))[:, :70],
        "not aligned": cupy.asarray(np.concatenate([host[:, :1], host], axis=1))[:, 1:],
        "every other feature": cupy.asarray(np.repeat(host, 2, axis=1))[:, ::2],
        "backwards": cupy.asarray(host[::-1])[::-1],
    }
    want = devices.moved(ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": cupy.asarray(host)}), "cpu")
    np.testing.assert_allclose(
        want, ng.update_all(G, lambda u: u.x * 2, "sum", u={"x": host}), rtol=1e-3, atol=1e-3
    )
    for name, array in layouts.items():
        got = devices.moved(ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": array}), "cpu")
        np.testing.assert_array_equal(got, want, err_msg=name)
    for width in (64, 68):  # rows of whole vectors that do not start at one
        shifted = cupy.asarray(np.concatenate([host[:, :1], host], axis=1))[:, 1 : 1 + width]
        got = devices.moved(ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": shifted}), "cpu")
        np.testing.assert_allclose(got, want[:, :width], rtol=1e-5, atol=1e-4)


def test_kernels_run_in_the_callers_stream():
    """A walk waits for what was put into its stream before, and what comes after waits for it."""
    import cupy

    g, host = G.to("cuda"), normal(G, "u", 64)
    want = ng.update_all(G, lambda u: u.x, "sum", u={"x": host})
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = cupy.zeros_like(cupy.asarray(host))
        for _ in range(200):  # enough work for a kernel of another stream to come first
            x = x + cupy.asarray(host) / 200
        z = ng.update_all(g, lambda u: u.x, "sum", u={"x": x}) * 2
        found = z.get(stream=stream)
    stream.synchronize()
    np.testing.assert_allclose(found, want * 2, rtol=1e-3, atol=1e-2)


def test_nothing_is_copied_to_the_host(monkeypatch):
    import cupy

    g = G.to("cuda")
    x = cupy.asarray(normal(G, "u", 32))
    ng.update_all(g, lambda u: u.x, "max", u={"x": x})  # planned and compiled

    def refuse(*args, **options):
        raise AssertionError("a copy to the host")

    monkeypatch.setattr(devices, "moved", refuse)
    z = ng.update_all(g, lambda u: u.x, "max", u={"x": x})
    assert isinstance(z, cupy.ndarray)


def test_the_device_takes_the_cpus_place():
    """Both targets are asked: neither is tested against itself here."""
    called = []
    host = normal(G, "u", 8)
    real_cpu, real_cuda = cpu.execute, cuda.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "execute", lambda *args: called.append("cpu") or real_cpu(*args))
        patch.setattr(cuda, "execute", lambda *args: called.append("cuda") or real_cuda(*args))
        ng.update_all(G, lambda u: u.x, "sum", u={"x": host})
        ng.update_all(G.to("cuda"), lambda u: u.x, "sum", u={"x": devices.moved(host, "cuda")})
    assert called == ["cpu", "cuda"]
    assert len(tasks.levels_of(G.in_edges.indptr)[0]) > 2
