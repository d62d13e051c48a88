"""JAX calls numgraph: values, derivatives of every order and batches beside JAX's own gather and segment
reductions.
"""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'numgraph[jax]'")

import jax.numpy as jnp  # noqa: E402
from jax import export  # noqa: E402
from jax.experimental import jet, serialize_executable  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

SRC, DST = [0, 1, 2, 2, 3, 3, 0], [1, 2, 0, 1, 1, 1, 2]
GRAPH = ng.Graph(SRC, DST, 5)  # node 4 has no edges, two edges run from 3 to 1
REDUCES = ("sum", "mean", "max", "min", "prod")


@pytest.fixture
def bits64():
    with jax.enable_x64(True):
        yield


def field(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape)


def reduced(m, reduce: str):
    """⊕ over the in-edges, by JAX alone."""
    rows, ids = GRAPH.num_dst, jnp.asarray(DST)
    counts = jnp.zeros(rows).at[ids].add(1).reshape(-1, *[1] * (m.ndim - 1))
    if reduce in ("sum", "mean"):
        total = jax.ops.segment_sum(m, ids, rows)
        return total / jnp.maximum(counts, 1) if reduce == "mean" else total
    if reduce == "prod":  # segment_prod has no gradient
        return jnp.stack([jnp.prod(m[np.equal(DST, v)], axis=0) for v in range(rows)])
    made = {"max": jax.ops.segment_max, "min": jax.ops.segment_min}[reduce](m, ids, rows)
    return jnp.where(counts > 0, made, 0)


def softmax(s):
    ids = jnp.asarray(DST)
    shifted = jnp.exp(s - jax.ops.segment_max(s, ids, GRAPH.num_dst)[ids])
    return shifted / jax.ops.segment_sum(shifted, ids, GRAPH.num_dst)[ids]


FIELDS = field(5, 3), field(5, 1, seed=1), field(7, 1, seed=2), field(3, seed=3)


def ours(reduce):
    """A message of every kind of field."""
    return lambda x, y, w, b: ng.update_all(
        GRAPH, lambda u, v, e: np.exp(u.x * v.y) * e.w + b, reduce, u={"x": x}, v={"y": y}, e={"w": w}
    )


def theirs(reduce):
    src, dst = jnp.asarray(SRC), jnp.asarray(DST)
    return lambda x, y, w, b: reduced(jnp.exp(x[src] * y[dst]) * w + b, reduce)


CASES = {reduce: (ours(reduce), theirs(reduce)) for reduce in REDUCES}
CASES["attend"] = (
    lambda x, y, w, b: ng.attend(
        GRAPH, lambda v, e: e.w * v.y, lambda u: u.x * b, u={"x": x}, v={"y": y}, e={"w": w}
    ),
    lambda x, y, w, b: reduced(softmax(w * y[jnp.asarray(DST)]) * x[jnp.asarray(SRC)] * b, "sum"),
)
CASES["edge_softmax"] = (
    lambda x, y, w, b: ng.ops.edge_softmax(GRAPH, w * b) * x[0],
    lambda x, y, w, b: softmax(w * b) * x[0],
)
CASES["apply_edges"] = (
    lambda x, y, w, b: ng.apply_edges(
        GRAPH, lambda u, v, e: np.tanh(u.x * v.y - e.w) * b, u={"x": x}, v={"y": y}, e={"w": w}
    ),
    lambda x, y, w, b: jnp.tanh(x[jnp.asarray(SRC)] * y[jnp.asarray(DST)] - w) * b,
)


def scalar(f):
    """Every element of the result counts, each differently."""

    def total(*args):
        y = f(*args)
        return (y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)).sum()

    return total


def everywhere(f):
    return jax.grad(scalar(f), argnums=(0, 1, 2, 3))


def scanned(f):
    def steps(x, y, w, b):
        return jax.lax.scan(
            lambda z, _: (jnp.tanh(z + jnp.resize(f(z, y, w, b), z.shape)), z.sum()), x, None, length=3
        )

    return lambda *args: steps(*args)[0]


TRANSFORMS = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "gradient": everywhere,
    "jit of the gradient": lambda f: jax.jit(everywhere(f)),
    "value and gradient": lambda f: jax.value_and_grad(scalar(f)),
    "gradient of a checkpoint": lambda f: everywhere(jax.checkpoint(f)),
    "gradient through a scan": lambda f: jax.jit(everywhere(scanned(f))),
    "jvp": lambda f: lambda *args: jax.jvp(f, args, tuple(jnp.cos(a) for a in args)),
    "jacfwd": lambda f: jax.jacfwd(f, argnums=(1, 2, 3)),
    "jacrev": lambda f: jax.jacrev(f, argnums=(1, 2, 3)),
    "hessian": lambda f: jax.jit(jax.hessian(scalar(f), argnums=(0, 3))),
    "vmap": lambda f: lambda *args: jax.vmap(f)(*[jnp.stack([a, 1.5 * a, a]) for a in args]),
    "vmap of some": lambda f: (
        lambda x, y, w, b: jax.vmap(f, (2, None, None, 1))(
            jnp.stack([x, 1.5 * x], 2), y, w, jnp.stack([b, 2 * b], 1)
        )
    ),
    "vmap of the gradient": lambda f: (
        lambda x, y, w, b: jax.vmap(everywhere(f), (None, None, 0, None))(x, y, jnp.stack([w, 1.5 * w]), b)
    ),
    "gradient of vmaps": lambda f: (
        lambda x, *rest: jax.grad(
            lambda x: jax.vmap(jax.vmap(lambda x: scalar(f)(x, *rest)))(
                jnp.stack([jnp.stack([x, 2 * x])] * 3)
            ).sum()
        )(x)
    ),
}


SHORT = ("jit of the gradient", "hessian", "vmap of the gradient")


@pytest.mark.parametrize(
    ("case", "transform"),
    [(c, t) for c in CASES for t in TRANSFORMS if c in ("mean", "attend") or t in SHORT],
)
def test_every_transformation_is_as_of_jax(bits64, case, transform):
    got, wanted = (TRANSFORMS[transform](f)(*map(jnp.asarray, FIELDS)) for f in CASES[case])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), got, wanted)


@pytest.mark.parametrize("case", ["prod", "attend"])
def test_derivatives_to_the_second_order(bits64, case):
    x, y, w, b = map(jnp.asarray, FIELDS)
    check_grads(lambda x, w: CASES[case][0](x, y, w, b), (x[:, :1], w), order=2, modes=("fwd", "rev"))


# --- what a graph, a captured array and a dtype may be ------------------------------------------------------


def summed(g, x):
    return ng.update_all(g, lambda u: u.x * 2, "sum", u={"x": x})


def test_a_graph_is_a_closure_a_static_argument_or_an_argument(bits64):
    x = jnp.asarray(FIELDS[0])
    wanted = 2 * reduced(x[jnp.asarray(SRC)], "sum")
    for f in (jax.jit(lambda g, x: summed(GRAPH, x)), jax.jit(summed, static_argnums=0), jax.jit(summed)):
        np.testing.assert_allclose(f(GRAPH, x), wanted)
    assert jax.grad(lambda x, g: summed(g, x).sum())(x, GRAPH).shape == x.shape
    np.testing.assert_allclose(jax.vmap(summed, (None, 0))(GRAPH, jnp.stack([x, x]))[1], wanted)


@pytest.mark.parametrize("x64", [False, True], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize(("dtype", "b"), [("float16", 2.0), ("float32", 2.0), ("float32", 2), ("int8", 2)])
def test_numbers_of_python_are_weak_in_jit_too(dtype, b, x64):
    with jax.enable_x64(x64):
        x = jnp.arange(5).astype(dtype)
        f = lambda x, b: ng.apply_edges(GRAPH, lambda u: u.x * b, u={"x": x})
        y = jax.jit(f)(x, b)
        assert y.dtype == f(x, b).dtype == (x * b).dtype
        np.testing.assert_array_equal(np.asarray(y, float), 2.0 * np.array(SRC))


@pytest.mark.parametrize(
    "b", [2.0, np.float32(2), np.array([1.0, 2.0, 3.0])], ids=["python", "scalar", "vector"]
)
def test_captured_arrays_and_tracers(b):
    x = jnp.asarray(FIELDS[0], jnp.float32)
    f = lambda b: ng.update_all(GRAPH, lambda u: b * u.x, "sum", u={"x": x})
    wanted = np.asarray(reduced(x[jnp.asarray(SRC)], "sum"))
    for made in (f(jnp.asarray(b)), jax.jit(f)(b)):
        np.testing.assert_allclose(made, wanted * np.asarray(b), rtol=1e-6)
        assert made.dtype == jnp.float32
    (slope,) = jax.vjp(f, jnp.asarray(b, jnp.float32))[1](jnp.ones((5, 3), jnp.float32))
    np.testing.assert_allclose(slope, wanted.sum(axis=0) if np.ndim(b) else wanted.sum(), rtol=1e-6)


DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")


def canonical(dtype, x64):
    return dtype if x64 else {"float64": "float32", "int64": "int32"}.get(dtype, dtype)


@pytest.mark.parametrize("x64", [False, True], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype, reduce, x64):
    integer = dtype.startswith(("int", "uint", "bool"))
    made = {"mean": "float64", "sum": "int64", "prod": "int64"}.get(reduce, dtype) if integer else dtype
    with jax.enable_x64(x64):
        values = np.arange(5).reshape(5, 1) % 2 if dtype == "bool" else np.arange(1, 6).reshape(5, 1)
        x = jnp.asarray(values, canonical(dtype, x64))
        f = lambda x: ng.update_all(GRAPH, lambda u: u.x, reduce, u={"x": x})
        wanted = np.asarray(reduced(jnp.asarray(values, canonical("float64", x64))[jnp.asarray(SRC)], reduce))
        for y in (f(x), jax.jit(f)(x)):
            assert y.dtype == canonical(made, x64)
            np.testing.assert_allclose(np.asarray(y, float), wanted, rtol=2**-8)
        if not integer:
            assert jax.grad(lambda x: f(x).astype("float32").sum())(x).dtype == x.dtype


def test_numpy_beside_jax_is_a_constant_of_jax(bits64):
    x, w = jnp.asarray(FIELDS[0]), FIELDS[2]
    f = lambda x: ng.update_all(GRAPH, lambda u, e: u.x * e.w + np.ones(3), "sum", u={"x": x}, e={"w": w})
    np.testing.assert_allclose(jax.jit(f)(x), reduced(x[jnp.asarray(SRC)] * w + 1, "sum"))
    with jax.enable_x64(False):
        y = f(jnp.asarray(FIELDS[0], jnp.float32))
        assert y.dtype == jnp.float32


def test_a_walk_may_compute_in_64_bits_where_jax_has_them_off():
    x = jnp.asarray(FIELDS[0], jnp.float32)
    f = lambda x: (ng.update_all(GRAPH, lambda u: u.x * u.x * np.float64(0.1), "sum", u={"x": x}) ** 2).sum()
    g = lambda x: (reduced(x[jnp.asarray(SRC)] ** 2 * 0.1, "sum") ** 2).sum()
    np.testing.assert_allclose(jax.hessian(f)(x), jax.hessian(g)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("shape", [(5, 3), (5, 0), (0, 3)])
def test_no_edges_no_features_no_nodes(shape, reduce):
    g = ng.Graph([], [], shape[0])
    x = jnp.ones(shape, jnp.float32)
    f = lambda x: ng.update_all(g, lambda u: u.x * u.x, reduce, u={"x": x})
    value, grad = jax.jit(jax.value_and_grad(lambda x: f(x).sum()))(x)
    assert value == (x.size if reduce == "prod" else 0)
    np.testing.assert_array_equal(grad, np.zeros(shape))
    assert f(x).shape == shape


def test_a_message_of_numbers_alone_is_of_jax():
    f = lambda x: ng.update_all(GRAPH, lambda u: 1.5, "sum", u={"x": x})
    for y in (f(jnp.ones((5, 3))), jax.jit(f)(jnp.ones((5, 3)))):
        assert isinstance(y, jax.Array)
        np.testing.assert_array_equal(y, 1.5 * np.bincount(DST, minlength=5))


def test_integers_have_no_derivative(bits64):
    i = jnp.arange(5).reshape(5, 1)
    f = lambda x, i: ng.update_all(GRAPH, lambda u: u.x * u.i, "sum", u={"x": x, "i": i}).sum()
    into_x, into_i = jax.grad(f, argnums=(0, 1), allow_int=True)(jnp.asarray(FIELDS[0]), i)
    np.testing.assert_allclose(
        into_x, np.bincount(SRC, minlength=5)[:, None] * np.arange(5)[:, None] * np.ones(3)
    )
    assert into_i.dtype == jax.dtypes.float0


# --- the ops ------------------------------------------------------------------------------------------------

OFFSETS = [0, 2, 2, 5]
M = field(3, 3, 2, seed=4)
IDS = [2, 0, 2, 1, 0]
ONES = np.ones(7)


def dense(w):
    """The matrix of weights of GRAPH's edges."""
    return jnp.zeros((5, 5)).at[jnp.asarray(SRC), jnp.asarray(DST)].add(w)


def edges_of(g, matrix):
    return matrix[np.asarray(g.src), np.asarray(g.dst)]


OPS = {
    "gspmm": (
        lambda x, w, m: ng.ops.gspmm(GRAPH, "mul", "mean", x, w),
        lambda x, w, m: reduced(x[jnp.asarray(SRC)] * w, "mean"),
    ),
    "u_dot_v": (
        lambda x, w, m: ng.ops.u_dot_v(GRAPH, x, x),
        lambda x, w, m: (x[jnp.asarray(SRC)] * x[jnp.asarray(DST)]).sum(-1, keepdims=True),
    ),
    "edge_softmax of sources": (
        lambda x, w, m: ng.ops.edge_softmax(GRAPH.reverse(), w, "src"),
        lambda x, w, m: softmax(w),
    ),
    "segment_reduce": (
        lambda x, w, m: ng.ops.segment_reduce(OFFSETS, x, "mean"),
        lambda x, w, m: jnp.stack([x[:2].mean(0), jnp.zeros(3), x[2:].mean(0)]),
    ),
    "segment_softmax": (
        lambda x, w, m: ng.ops.segment_softmax(OFFSETS, x),
        lambda x, w, m: jnp.concatenate([jax.nn.softmax(x[:2], 0), jax.nn.softmax(x[2:], 0)]),
    ),
    "segment_mm": (
        lambda x, w, m: ng.ops.segment_mm(x, m, OFFSETS),
        lambda x, w, m: jnp.concatenate([x[:2] @ m[0], x[2:] @ m[2]]),
    ),
    "csrmm": (
        lambda x, w, m: ng.ops.csrmm(GRAPH, w[:, 0], GRAPH.reverse(), w[:, 0] ** 2)[1],
        lambda x, w, m: edges_of(
            ng.ops.csrmm(GRAPH, ONES, GRAPH.reverse(), ONES)[0], dense(w[:, 0]) @ dense(w[:, 0] ** 2).T
        ),
    ),
    "csrsum": (
        lambda x, w, m: ng.ops.csrsum([GRAPH, GRAPH.reverse()], [w[:, 0], ONES])[1],
        lambda x, w, m: edges_of(
            ng.ops.csrsum([GRAPH, GRAPH.reverse()], [ONES, ONES])[0], dense(w[:, 0]) + dense(ONES).T
        ),
    ),
    "csrmask": (
        lambda x, w, m: ng.ops.csrmask(GRAPH, w[:, 0], GRAPH.reverse()),
        lambda x, w, m: edges_of(GRAPH.reverse(), dense(w[:, 0])),
    ),
    "gather_mm": (
        lambda x, w, m: ng.ops.gather_mm(x, m, IDS),
        lambda x, w, m: jnp.einsum("ni,nio->no", x, m[jnp.asarray(IDS)]),
    ),
}


@pytest.mark.parametrize("transform", ["eager", "jit", "jit of the gradient"])
@pytest.mark.parametrize("op", OPS)
def test_ops_are_as_of_jax(bits64, op, transform):
    made = {
        "eager": lambda f: f,
        "jit": jax.jit,
        "jit of the gradient": lambda f: jax.jit(jax.grad(scalar(f), argnums=(0, 1, 2))),
    }[transform]
    got, wanted = (made(f)(jnp.asarray(FIELDS[0]), jnp.asarray(FIELDS[2]), jnp.asarray(M)) for f in OPS[op])
    assert all(isinstance(y, jax.Array) for y in jax.tree.leaves(got))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), got, wanted)


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey], ids=["key", "raw key"])
@pytest.mark.parametrize("shape", [(400, 50), (30000, 8)])
def test_dropout_takes_a_key(key, shape):
    x = jnp.ones(shape, jnp.float32)
    f = lambda x, seed: ng.dropout(x, 0.25, key(seed))
    y = np.asarray(jax.jit(f)(x, 0))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y > 0).mean() - 0.75) < 5 * (0.75 * 0.25 / y.size) ** 0.5
    np.testing.assert_array_equal(f(x, 0), y)
    assert not np.array_equal(f(x, 1), y)
    np.testing.assert_allclose(jax.grad(lambda x: f(2 * x, 0).sum())(x), 2 * y)
    np.testing.assert_array_equal(jax.vmap(f, (0, None))(x[None], 0)[0], y)
    np.testing.assert_array_equal(ng.dropout(x, 0.25, key(0), training=False), x)


def test_no_matrices():
    assert ng.ops.segment_mm(jnp.zeros((0, 3)), jnp.zeros((0, 3, 2)), [0]).shape == (0, 2)


# --- errors -------------------------------------------------------------------------------------------------


ERRORS = {
    "rows": (
        lambda x: summed(GRAPH, x[:3]),
        ValueError,
        r"field u.x has shape \(3, 2\), the graph's num_src is 5",
    ),
    "complex": (lambda x: summed(GRAPH, x.astype("complex64")), TypeError, "field u.x has dtype complex64"),
    "keys": (
        lambda x: summed(GRAPH, jax.random.split(jax.random.key(0), 5)),
        TypeError,
        r"field u.x has dtype key<",
    ),
    "small floats": (
        lambda x: summed(GRAPH, x.astype("float8_e4m3fn")),
        TypeError,
        "field u.x has dtype float8_e4m3fn",
    ),
    "uint64 of NumPy": (
        lambda x: ng.update_all(GRAPH, lambda u: u.x * u.y, "sum", u={"x": x, "y": np.ones(5, "uint64")}),
        TypeError,
        "field u.y has dtype uint64",
    ),
    "a Tensor": (
        lambda x: ng.update_all(
            GRAPH, lambda u: u.x * u.y, "sum", u={"x": x, "y": ng.Tape().watch(np.ones(5))}
        ),
        TypeError,
        "field u.y is a Tensor of a tape beside arrays of JAX",
    ),
    "offsets": (
        lambda x: jax.jit(lambda o: ng.ops.segment_reduce(o, x))(jnp.array([0, 2, 5])),
        TypeError,
        "offsets is a jax.DynamicJaxprTracer, which JAX traces.* it must be static",
    ),
    "ids": (
        lambda x: jax.jit(lambda i: ng.Graph(i, i, 5))(jnp.array([0, 2])),
        TypeError,
        "src is .* traces.*make it outside of jit",
    ),
    "a dense function": (
        lambda x: jax.grad(lambda x: ng.relu(x).sum())(x),
        TypeError,
        "relu: x is .* JAX traces.*use jax.nn's function",
    ),
    "a layer": (
        lambda x: jax.jit(lambda x: ng.nn.GCNConv(2, 3, rng=0)(GRAPH, x))(x),
        TypeError,
        "GCNConv: x is .* JAX traces.*there are no layers for JAX",
    ),
    "symbolic shapes": (
        lambda x: export.export(jax.jit(lambda x: summed(GRAPH, x)))(
            jax.ShapeDtypeStruct((5, export.symbolic_shape("f")[0]), "float32")
        ),
        NotImplementedError,
        "field u.x has the symbolic shape .* cannot be exported by jax.export",
    ),
    "export": (
        lambda x: export.export(jax.jit(lambda x: summed(GRAPH, x)))(x),
        NotImplementedError,
        r"update_all\(sum\): jax.export cannot export a function of JAX that calls numgraph",
    ),
    "another platform": (
        lambda x: jax.jit(lambda x: summed(GRAPH, x)).trace(x).lower(lowering_platforms=("cuda",)),
        NotImplementedError,
        "it is compiled for cuda, and numgraph's kernels in JAX run on the CPU; .*jax.device_put",
    ),
    "an executable": (
        lambda x: serialize_executable.serialize(jax.jit(lambda x: summed(GRAPH, x)).lower(x).compile()),
        NotImplementedError,
        "an executable of JAX that calls numgraph cannot be serialised",
    ),
    "Taylor series": (
        lambda x: jet.jet(lambda x: summed(GRAPH, x), (x,), ((x, x),)),
        NotImplementedError,
        "jax.experimental.jet has no rule for numgraph in JAX; nest jax.jvp",
    ),
    "a function of JAX": (
        lambda x: ng.update_all(GRAPH, lambda u: jnp.exp(u.x), "sum", u={"x": x}),
        TypeError,
        r"the message a function got a symbol .* use NumPy's functions of the fields, such as np.exp",
    ),
    "dropout with a key as p": (
        lambda x: ng.dropout(x, jax.random.key(0), 0.5),
        ValueError,
        r"p is .* array of JAX.*rng=key\)",
    ),
    "dropout with a traced p": (
        lambda x: jax.jit(lambda p: ng.dropout(x, p))(0.5),
        ValueError,
        "p is .* a static argument",
    ),
    "dropout without a key": (
        lambda x: ng.dropout(x, 0.5),
        TypeError,
        "rng is None; pass a key of jax.random",
    ),
    "dropout by NumPy's generator": (
        lambda x: ng.dropout(x, 0.5, np.random.default_rng()),
        TypeError,
        "rng is .*Generator; pass a key",
    ),
    "an exponent": (
        lambda x: ng.update_all(
            GRAPH, lambda u: u.i**u.j, "sum", u={"i": jnp.arange(5), "j": -jnp.arange(5)}
        ),
        ValueError,
        "the exponent u.j of an integer is negative",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_in_jax_s_terms(name):
    call, kind, words = ERRORS[name]
    with pytest.raises(kind, match=words):
        call(jnp.ones((5, 2), jnp.float32))


@pytest.mark.parametrize("setting", ["nans", "infs"])
def test_settings_of_jax_check_results(setting):
    """As they do outside of jit; jax.jit checks by itself."""
    x = {"nans": -jnp.ones((5, 2)), "infs": jnp.zeros((5, 2))}[setting]
    f = lambda x: ng.update_all(GRAPH, lambda u: np.log(u.x), "sum", u={"x": x})
    f(x)
    with getattr(jax, f"debug_{setting}")(True):
        summed(GRAPH, x)
        with pytest.raises(
            FloatingPointError, match=f"invalid value .{setting[:3]}. encountered in update_all"
        ):
            f(x)


def test_torch_beside_jax():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'numgraph[torch]'")
    with pytest.raises(TypeError, match=r"field e.w is an array of torch, others are of JAX"):
        ng.update_all(
            GRAPH, lambda u, e: u.x * e.w, "sum", u={"x": jnp.ones((5, 2))}, e={"w": torch.ones(7, 1)}
        )
