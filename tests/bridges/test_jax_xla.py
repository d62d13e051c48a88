"""How XLA runs a walk: on its own buffers, in its own threads, as long as the executable lives; and what it
says where a run fails.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from threading import Thread

import numpy as np
import pytest

import numgraph as ng

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'numgraph[jax]'")

import jax.numpy as jnp  # noqa: E402

from numgraph.bridges import jax_ffi, jax_native  # noqa: E402
from numgraph.runtime import threads  # noqa: E402

SRC, DST = [0, 1, 2, 2, 3, 3, 0], [1, 2, 0, 1, 1, 1, 2]
GRAPH = ng.Graph(SRC, DST, 5)


def summed(g, x):
    return ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": x})


def doubled(x):
    """What ``summed`` gives on GRAPH."""
    return 2 * jax.ops.segment_sum(x[jnp.asarray(SRC)], jnp.asarray(DST), 5)


@pytest.fixture
def by_python(monkeypatch):
    """Walks are not programs, as those of hubs: Python's handler runs them."""
    monkeypatch.setattr(jax_ffi, "program", lambda *args: None)


def fresh():
    return ng.Graph(SRC, DST, 5)


def test_memory_is_that_of_jax(monkeypatch, by_python):
    """Neither inputs nor large results are copied, in jit and outside of it."""
    seen = []
    run = jax_ffi.run

    def watched(walk, arrays, out):
        seen.append(([x.ctypes.data for x in arrays], [y.ctypes.data for y in out]))
        run(walk, arrays, out)

    monkeypatch.setattr(jax_ffi, "run", watched)
    x, g = jnp.arange(30000.0).reshape(5, 6000), fresh()  # outside of jit small results are copied
    for f in (summed, jax.jit(summed)):
        y = f(g, x)
        np.testing.assert_array_equal(y, doubled(x))
        assert seen.pop() == ([x.unsafe_buffer_pointer()], [y.unsafe_buffer_pointer()])
    assert not seen


def broken(walk, arrays, out):
    raise MemoryError("no room for ∇ of walks")


def test_an_error_in_a_run_reaches_the_caller(monkeypatch, by_python):
    g, x = fresh(), jnp.ones((5, 2), jnp.float32)
    f = jax.jit(lambda x: summed(g, x) + 1)
    with monkeypatch.context() as patch:
        patch.setattr(jax_ffi, "run", broken)
        with pytest.raises(jax.errors.JaxRuntimeError, match="MemoryError: no room for ∇ of walks"):
            f(x).block_until_ready()
    np.testing.assert_array_equal(f(x), doubled(x) + 1)


WALKS = {
    "sum": lambda g, x: ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": x}),
    "mean of edges": lambda g, x: ng.update_all(
        g, lambda e: e.x, "mean", e={"x": jnp.concatenate([x, x[:2]])}
    ),
    "max": lambda g, x: ng.update_all(g, lambda u, v: u.x - v.x, "max", u={"x": x}, v={"x": x}),
    "attention": lambda g, x: ng.attend(g, lambda u, v: u.x * v.x, lambda u: u.x, u={"x": x}, v={"x": x}),
    "captured": lambda g, x: ng.apply_edges(g, lambda u: u.x * x[0], u={"x": x}),
    "values of nodes": lambda g, x: ng.attend(
        dense(g), lambda u, v: np.tanh(u.x) + v.x, lambda u: np.exp(u.x), u={"x": x}, v={"x": x}
    ),
    "half": lambda g, x: ng.update_all(g, lambda u: u.x, "sum", u={"x": x.astype(jnp.bfloat16)}),
    "gradients": lambda g, x: jax.grad(
        lambda w, b: ng.update_all(g, lambda u: u.w * b, "prod", u={"w": w}).sum(), (0, 1)
    )(x, x[0]),
}


def dense(g):
    """So many edges a node that it pays to compute values of nodes once for all of them."""
    return ng.Graph(np.tile(g.src, 3), np.tile(g.dst, 3), g.num_src)


@pytest.mark.parametrize("walk", WALKS)
def test_all_handlers_give_the_same(monkeypatch, walk):
    """Compiled code alone runs small walks; its bits are those of programs on the pool of threads, and of
    Python's handler.
    """
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (5, 3)), jnp.float32)
    made = []
    for patches in (
        [(jax_ffi, "run", broken), (jax_native, "run", broken)],
        [(jax_ffi, "run", broken), (threads, "SMALL", 0)],
        [(jax_ffi, "program", lambda *args: None), (jax_native, "run", broken)],
    ):
        g = fresh()
        with monkeypatch.context() as patch:
            for where, name, value in patches:
                patch.setattr(where, name, value)
            made.append(jax.tree.map(np.asarray, jax.jit(lambda x, g=g: WALKS[walk](g, x))(x)))
    for other in made[1:]:
        jax.tree.map(np.testing.assert_array_equal, made[0], other)


def test_slots_are_used_again(monkeypatch):
    gc.collect()  # what other tests have left gives its slots back now
    slot = jax_native._free[-1]
    monkeypatch.setattr(jax_native, "_free", [slot])
    call = lambda: jax_ffi.Call(*walk_of(fresh()))
    one, two = call(), call()
    assert (one.slot, two.slot) == (slot, -1)  # the walks of the others are run by Python
    handle = one.handle
    assert jax_native._TABLE[slot, 0] == handle
    del one
    gc.collect()
    assert list(jax_native._TABLE[slot, [0, 2]]) == [0, 0]
    assert slot in jax_native._free


def walk_of(g):
    """A walk as an executable has it."""
    like = jax.ShapeDtypeStruct((5, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda x: summed(g, x))(like)
    found = [eqn.params["walk"] for eqn in jaxpr.eqns if "walk" in eqn.params]
    return found[0], [like], [like]


def test_what_is_gone_is_an_error():
    """An executable of another process, from JAX's cache on disk, has a handle that nobody has here."""
    g, x = fresh(), jnp.ones((5, 3), jnp.float32)
    f = jax.jit(lambda x: summed(g, x)).lower(x).compile()
    np.testing.assert_array_equal(f(x), doubled(x))
    (call,) = [call for call in jax_ffi._calls.values() if call.walk.graph is g]
    del jax_ffi._calls[call.handle]
    jax_native._add_at(jax_native._address(call.slot, 0), 1)  # no longer its own
    try:
        with pytest.raises(
            (jax.errors.JaxRuntimeError, ValueError), match="the graph of this executable is gone"
        ):
            f(x).block_until_ready()
    finally:
        jax_native._add_at(jax_native._address(call.slot, 0), -1)
    np.testing.assert_array_equal(f(x), doubled(x))


def test_where_xla_is_unknown_a_callback_runs_and_says_so(monkeypatch):
    def refused(*args, **options):
        raise RuntimeError("this version is not known")

    monkeypatch.setattr(jax_ffi, "_outcome", [])
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refused)
    x, graph = jnp.arange(15.0).reshape(5, 3), fresh()
    f = jax.jit(jax.value_and_grad(lambda x: (summed(graph, x) ** 2).sum()))
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
    f = jax.jit(
        lambda x: (summed(g, x) + summed(g, x + 1), summed(g.reverse(), x))
    )  # XLA may run them side by side
    wanted = [np.asarray(y) for y in f(x)]
    made: list = [None] * 8

    def work(k):
        made[k] = [np.asarray(y) for y in f(x)]

    started = [Thread(target=work, args=(k,)) for k in range(len(made))]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    for ys in made:
        for y, z in zip(ys, wanted):
            np.testing.assert_array_equal(y, z)


def test_donated_buffers():
    f = jax.jit(lambda x: summed(GRAPH, x), donate_argnums=0)
    x = jnp.ones((5, 2), jnp.float32)
    wanted = doubled(x)
    np.testing.assert_allclose(f(x), wanted)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np, numgraph as ng
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

src, dst = [0, 1, 2, 2], [1, 2, 0, 1]
g = ng.Graph(src, dst, 4)
x = jnp.arange(16.0).reshape(4, 4)
wanted = np.zeros((4, 4))
np.add.at(wanted, dst, np.asarray(x)[src] ** 2)

def f(g, x):
    return ng.update_all(g, lambda u: u.x * u.x, "sum", u={"x": x})

compiled = jax.jit(f)
np.testing.assert_array_equal(compiled(g, x), wanted)  # the first call of numgraph: a graph is a static argument already
there = jax.device_put(x, jax.devices()[1])
for y in (f(g, there), compiled(g, there)):
    np.testing.assert_array_equal(y, wanted)
    assert y.devices() == {jax.devices()[1]}
moved = lambda x, y: ng.update_all(g, lambda u, v: (u.x * v.y).sum(-1), "sum", u={"x": x}, v={"y": y})
assert moved(x, there).devices() == {jax.devices()[1]}  # x may go where the other is
try:
    moved(jax.device_put(x, jax.devices()[0]), there)
except ValueError as error:
    assert "the fields are on different devices: u.x on cpu:0, v.y on cpu:1" in str(error), error
else:
    raise AssertionError("fields of two devices were taken")
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(kind,))
    for spec in (P("i"), P(None, "i"), P()):
        part = jax.device_put(x, NamedSharding(mesh, spec))
        np.testing.assert_array_equal(f(g, part), wanted)
        np.testing.assert_array_equal(compiled(g, part), wanted)
        np.testing.assert_array_equal(moved(part, jnp.ones((4, 4))), np.bincount(dst, np.asarray(x).sum(1)[src], 4))  # of another shape
        slopes = jax.jit(jax.grad(lambda x: f(g, x).sum()))(part)
        np.testing.assert_array_equal(slopes, 2 * x * jnp.bincount(jnp.asarray(src), length=4)[:, None])
    features = jax.device_put(x, NamedSharding(mesh, P(None, "i")))
    inside = jax.jit(jax.shard_map(lambda x: f(g, x), mesh=mesh, in_specs=P(None, "i"), out_specs=P(None, "i")))
    np.testing.assert_array_equal(inside(features), wanted)
    rows = jax.device_put(x, NamedSharding(mesh, P("i")))
    try:
        jax.shard_map(lambda x: f(g, x), mesh=mesh, in_specs=P("i"), out_specs=P("i"))(rows)
    except ValueError as error:
        assert "field u.x has shape (2, 4), the graph's num_src is 4" in str(error), error
    else:
        raise AssertionError("two rows of four were taken")
np.testing.assert_array_equal(jax.pmap(lambda x: f(g, x))(jnp.stack([x, x]))[1], wanted)
print("right")
"""


def test_several_devices_and_a_cache_on_disk(tmp_path):
    """Two processes that share JAX's cache of executables: what the first one compiled does not run another's
    walks.
    """
    options = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", DEVICES],
            env={**os.environ, **options},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.stdout == "right\n", run.stderr
    assert list(tmp_path.iterdir())


SHARDED = """
import sys
import jax, jax.numpy as jnp, numpy as np, numgraph as ng
from jax.sharding import PartitionSpec as P

jax.config.update("jax_enable_x64", True)
src, dst = np.array([0, 1, 2, 2]), np.array([1, 2, 0, 1])
g = ng.Graph(src, dst, 3)
mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
rng = np.random.default_rng(0)
z, w, m = (jnp.asarray(rng.uniform(0.5, 1.5, shape)) for shape in ((4, 3, 4), (4, 1), (4, 4)))
key = jax.random.key(0)
drop = np.asarray(ng.dropout(jnp.ones((4, 4)), 0.5, rng=key))
weighted = lambda x, w: ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w})
by_segments = lambda x, w: jax.ops.segment_sum(x[src] * w, dst, 3)
scores = lambda q, v: jnp.zeros((3, 3)).at[dst, src].set(jnp.exp(jnp.tanh((q[src] * v[dst]).sum(1))))

LAYERS = {  # of numgraph, of jax.numpy
    "sum": (lambda x, w, m: weighted(x @ m, w), lambda x, w, m: by_segments(x @ m, w)),
    "max, whose result is read again": (
        lambda x, w, m: ng.update_all(g, lambda u, e: np.exp(u.x * e.w), "max", u={"x": x}, e={"w": w @ m[:1]}),
        lambda x, w, m: jax.ops.segment_max(jnp.exp(x[src] * (w @ m[:1])), dst, 3),
    ),
    "captured": (
        lambda x, w, m: ng.update_all(g, lambda u: np.tanh(u.x * m[0]) * w[1], "sum", u={"x": x}),
        lambda x, w, m: jax.ops.segment_sum(jnp.tanh(x[src] * m[0]) * w[1], dst, 3),
    ),
    "attention": (
        lambda x, w, m: ng.attend(g, lambda u, v: np.tanh((u.q * v.x).sum(-1)), lambda u: u.q, u={"q": x @ m}, v={"x": m[:3]}),
        lambda x, w, m: (lambda a, q: (a / a.sum(1, keepdims=True)) @ q)(scores(x @ m, m[:3]), x @ m),
    ),
    "scan": (
        lambda x, w, m: jax.lax.scan(lambda c, _: (weighted(c, w), None), x, None, 3)[0],
        lambda x, w, m: jax.lax.scan(lambda c, _: (by_segments(c, w), None), x, None, 3)[0],
    ),
    "cond": (
        lambda x, w, m: jax.lax.cond(w[0, 0] > 0, lambda x: weighted(x, w), jnp.sin, x),
        lambda x, w, m: jax.lax.cond(w[0, 0] > 0, lambda x: by_segments(x, w), jnp.sin, x),
    ),
    "dropout of a parameter": (lambda x, w, m: x @ ng.dropout(m, 0.5, rng=key), lambda x, w, m: x @ (m * drop)),
    "a gradient inside": (
        lambda x, w, m: jax.grad(lambda w: (weighted(x, w) ** 3).sum())(w),
        lambda x, w, m: jax.grad(lambda w: (by_segments(x, w) ** 3).sum())(w),
    ),
    "batches inside": (
        lambda x, w, m: jax.vmap(lambda m: weighted(x * m, w))(m),
        lambda x, w, m: jax.vmap(lambda m: by_segments(x * m, w))(m),
    ),
}


def loss(layer, z, w, m, **options):  # z varies over both axes, m over one, w over none
    def of_one(z, w, m):
        return jax.lax.psum((layer(z[0], w, m) ** 2).sum(), ("a", "b"))

    specs = P(("a", "b")), P(), P(None, "b")
    wide = jnp.concatenate([m, m * 2], 1)
    return jax.shard_map(of_one, mesh=mesh, in_specs=specs, out_specs=P(), **options)(z, w, wide)


def found(layer, **options):
    def f(*args):
        return loss(layer, *args, **options)

    def all_of_them(*args):
        twice = jax.grad(lambda w: (jax.grad(f, 1)(z, w, m) ** 2).sum())(w) if layer in LAYERS["captured"] else 0
        return jax.grad(f, (0, 1, 2))(*args), jax.jvp(f, args, args), twice

    return jax.jit(all_of_them)(z, w, m)


assert len(LAYERS) == 9
for name in sys.argv[1:]:
    mine, theirs = LAYERS[name]
    wanted = found(theirs)
    for options in ({}, {"check_vma": False})[: 1 + (name == "sum")]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9, err_msg=name), found(mine, **options), wanted)

if "sum" not in sys.argv:
    sys.exit()
mine, theirs = LAYERS["sum"]
for a, b in zip(*[jax.grad(lambda *args: loss(f, *args), (0, 1, 2))(z, w, m) for f in (mine, theirs)]):  # without jit
    np.testing.assert_allclose(a, b, rtol=1e-9)
for f in (mine, theirs):  # what differs from device to device is not one result
    try:
        jax.shard_map(lambda z: f(z[0], w, m), mesh=mesh, in_specs=P(("a", "b")), out_specs=P())(z)
    except ValueError as error:
        assert "out_specs which require replication" in str(error), error
    else:
        raise AssertionError("a result that varies was taken for one")
same = jax.shard_map(lambda x: mine(x, w, m), mesh=mesh, in_specs=P(), out_specs=P())(z[0])
np.testing.assert_allclose(same, theirs(z[0], w, m), rtol=1e-9)
part = jax.jit(jax.shard_map(lambda z, w: mine(z[0], w, m)[None], mesh=mesh, in_specs=(P("a"), P()), out_specs=P("a"), axis_names={"a"}))
np.testing.assert_allclose(part(z[:2], w), jnp.stack([theirs(x, w, m) for x in z[:2]]), rtol=1e-9)
"""


def sharded(*layers):
    """Inside shard_map gradients of what every device has are summed over the devices, as those of
    jax.numpy's functions are.
    """
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    options = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARDED, *layers]
    run = subprocess.run(command, env={**os.environ, **options}, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def test_shard_map():
    sharded("sum", "captured")


@pytest.mark.parametrize(
    "layers",
    [
        ("attention", "scan"),
        ("cond", "a gradient inside"),
        ("max, whose result is read again", "dropout of a parameter", "batches inside"),
    ],
    ids=lambda layers: layers[0],
)
def test_layers_in_shard_map(layers):
    sharded(*layers)


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_where_kernels_are_not_compiled_or_are_checked(setting):
    lines = [
        "import jax, jax.numpy as jnp, numgraph as ng",
        "g = ng.Graph([0, 1, 2, 2], [1, 2, 0, 1], 4)",
        "f = lambda x: ng.update_all(g, lambda u: u.x * u.x, 'sum', u={'x': x}).sum()",
        "print(jax.jit(jax.grad(f))(jnp.ones((4, 2))).tolist())",
    ]
    command = [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(lines)]
    run = subprocess.run(
        command, env={**os.environ, setting: "1"}, capture_output=True, text=True, timeout=300
    )
    assert run.stdout == "[[2.0, 2.0], [2.0, 2.0], [4.0, 4.0], [0.0, 0.0]]\n", run.stderr
