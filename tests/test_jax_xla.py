"""How XLA runs a walk: on its own buffers, in its own threads, as long as the executable lives; and what it says where a run fails."""

from __future__ import annotations

import gc
import threading
import warnings

import numpy as np
import pytest

import numgraph as ng

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'numgraph[jax]'")

import jax.numpy as jnp  # noqa: E402

from numgraph.bridges import jax_ffi  # noqa: E402

SRC, DST = [0, 1, 2, 2, 3, 3, 0], [1, 2, 0, 1, 1, 1, 2]
GRAPH = ng.Graph(SRC, DST, 5)


def summed(g, x):
    return ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": x})


def doubled(x):
    """What ``summed`` gives on GRAPH."""
    return 2 * jax.ops.segment_sum(x[jnp.asarray(SRC)], jnp.asarray(DST), 5)


def test_memory_is_that_of_jax(monkeypatch):
    """Neither inputs nor results are copied, in jit and outside of it."""
    seen = []
    run = jax_ffi.run

    def watched(walk, arrays, out):
        seen.append(([x.ctypes.data for x in arrays], [y.ctypes.data for y in out]))
        run(walk, arrays, out)

    monkeypatch.setattr(jax_ffi, "run", watched)
    x = jnp.arange(15.0).reshape(5, 3)
    for f in (summed, jax.jit(summed)):
        y = f(GRAPH, x)
        y.block_until_ready()
        assert seen.pop() == ([x.unsafe_buffer_pointer()], [y.unsafe_buffer_pointer()])
    assert not seen


def test_an_error_in_a_run_reaches_the_caller(monkeypatch):
    def broken(walk, arrays, out):
        raise MemoryError("no room for ∇ of walks")

    f = jax.jit(lambda x: summed(GRAPH, x) + 1)
    x = jnp.ones((5, 2), jnp.float32)
    monkeypatch.setattr(jax_ffi, "run", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="MemoryError: no room for ∇ of walks"):
        f(x).block_until_ready()
    monkeypatch.undo()
    np.testing.assert_array_equal(f(x), doubled(x) + 1)


def test_where_xla_is_unknown_a_callback_runs_and_says_so(monkeypatch):
    def refused(*args, **options):
        raise RuntimeError("this version is not known")

    monkeypatch.setattr(jax_ffi, "_outcome", [])
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refused)
    x = jnp.arange(15.0).reshape(5, 3)
    f = jax.jit(jax.value_and_grad(lambda x: (summed(GRAPH, x) ** 2).sum()))
    with pytest.warns(UserWarning, match=r"jax.pure_callback.*this version is not known"):
        value, grad = f(x)
    g = jax.value_and_grad(lambda x: (doubled(x) ** 2).sum())
    np.testing.assert_allclose(value, g(x)[0])
    np.testing.assert_allclose(grad, g(x)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        jax.jit(lambda x: summed(GRAPH, x) * 3)(x)


def test_frames_of_another_layout_are_unknown():
    frame = [168, 0, 0, 0, 0, 40, 0, 0, 0, 0, 40, 0, 0, 0, 0, 56, 0, 0, 0, 0, 0]
    assert not jax_ffi._known(frame)


def test_an_executable_keeps_its_graph():
    def compiled():
        g = ng.Graph(SRC, DST, 5)
        return jax.jit(lambda x: summed(g, x)).lower(jnp.ones((5, 2), jnp.float32)).compile()

    f = compiled()
    jax.clear_caches()
    gc.collect()
    x = jnp.arange(10.0).reshape(5, 2)
    np.testing.assert_allclose(f(x), doubled(x), rtol=1e-6)


def test_a_result_may_come_after_its_function():
    """XLA runs in the background what Python has let go of."""
    x = jnp.ones((5, 2), jnp.float32)
    made = []
    for k in range(8):
        made.append(jax.jit(lambda x, k=k: summed(ng.Graph(SRC, DST, 5), x) * k)(x))
        gc.collect()
    wanted = doubled(x)
    for k, y in enumerate(made):
        np.testing.assert_allclose(y, wanted * k)


def test_threads_share_a_function():
    n = 1000  # enough work for Numba's pool, at which threads must not meet
    rng = np.random.default_rng(0)
    g = ng.Graph(rng.integers(0, n, 20 * n), rng.integers(0, n, 20 * n), n)
    x = jnp.asarray(rng.uniform(size=(n, 64)), jnp.float32)
    f = jax.jit(lambda x: (summed(g, x) + summed(g, x + 1), summed(g.reverse(), x)))  # XLA may run them side by side
    wanted = [np.asarray(y) for y in f(x)]
    made: list = [None] * 8

    def work(k):
        made[k] = [np.asarray(y) for y in f(x)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ys in made:
        for y, z in zip(ys, wanted):
            np.testing.assert_array_equal(y, z)


def test_donated_buffers():
    f = jax.jit(lambda x: summed(GRAPH, x), donate_argnums=0)
    x = jnp.ones((5, 2), jnp.float32)
    wanted = doubled(x)
    np.testing.assert_allclose(f(x), wanted)
