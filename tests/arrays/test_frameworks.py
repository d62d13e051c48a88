"""Conformance: every function, reduce, dtype, gradient and error, for every library of arrays that is
installed.

Values are those of the literal oracle, derivatives central differences of the oracle; both are made once for
all libraries."""

from __future__ import annotations

import functools
import operator

import frameworks
import numpy as np
import oracle
import pytest

import numgraph as ng
from numgraph import ops

# Bipartite; edge ids are not in row order; 1 → 2 is there twice; v = 3 and u = 4 have no edge.
G = ng.Graph([1, 0, 3, 1, 2, 1, 0, 3], [2, 0, 1, 2, 0, 4, 4, 1], num_src=5, num_dst=6)
EMPTY = ng.Graph(np.zeros(0, int), np.zeros(0, int), num_src=5, num_dst=6)
ROWS = {"u": G.num_src, "v": G.num_dst, "e": G.num_edges}
REDUCES = ("sum", "mean", "max", "min", "prod", "var", "std", "softmax", "logsumexp")


@pytest.fixture(params=list(frameworks.KINDS))
def library(request):
    if request.param in frameworks.MISSING:
        pytest.skip(frameworks.MISSING[request.param])
    made = frameworks.KINDS[request.param]()
    with made.scope():
        yield made


def data(*shape, seed=0):
    """Away from 0, for div; all different, so that max and min have no ties."""
    rng = np.random.default_rng([seed, *shape])
    return rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape)


X, Y, W, S = data(5, 3), data(6, 3), data(8, 3), data(8, 1)


def message(u, v, e):
    return np.tanh(u.x * e.s - v.y) * e.w


def score(u, v):
    return np.tanh(u.x - v.y).sum(-1, keepdims=True)


RELATIONS = np.array([0, 2, 1, 1, 0, 2, 2, 0])


def joined(u, v, e):
    return np.concatenate([u.x, np.tanh(v.y) * e.w[..., :1]], -1) * np.linalg.norm(u.x - v.y)


def of_message(reduce):
    return (
        lambda x, y, w, s: ng.update_all(G, message, reduce, u={"x": x}, v={"y": y}, e={"w": w, "s": s}),
        lambda x, y, w, s: oracle.update_all(G, message, reduce, {"x": x}, {"y": y}, {"w": w, "s": s}),
        (X, Y, W, S),
    )


def captured(x, a):
    return ng.update_all(G, lambda u: u.x * a, "sum", u={"x": x})


def matrix_of(product):
    graph, weights = product
    return oracle.matrix(graph, weights) if isinstance(weights, np.ndarray) else weights


CASES = {
    **{f"update_all({reduce})": of_message(reduce) for reduce in REDUCES if reduce != "logsumexp"},
    "update_all(max) from initial": (
        lambda x, i: ng.update_all(G, lambda u: u.x, "max", u={"x": x}, initial=i)[:5],
        lambda x, i: np.maximum(oracle.update_all(G, lambda u: u.x, "max", {"x": x}), i)[:5],
        (X, data(6, 1, seed=4) / 4),
    ),
    "what is joined": (
        lambda x, y, w: ng.update_all(G, joined, "sum", u={"x": x}, v={"y": y}, e={"w": w}),
        lambda x, y, w: oracle.update_all(G, joined, "sum", {"x": x}, {"y": y}, {"w": w}),
        (X, Y, W),
    ),
    "entries and a softmax of features": (
        lambda x, y: ng.apply_edges(
            G, lambda u, v: ng.softmax(u.x * v.y)[[2, 0]] * u.x[::-1][:2], u={"x": x}, v={"y": y}
        ),
        lambda x, y: oracle.apply_edges(
            G, lambda u, v: oracle.softmax(u.x * v.y)[[2, 0]] * u.x[::-1][:2], {"x": x}, {"y": y}
        ),
        (X, Y),
    ),
    "rows of a table": (
        lambda x, t: ng.update_all(
            G, lambda u, e: u.x * ng.take(t, e.rel), "sum", u={"x": x}, e={"rel": RELATIONS}
        ),
        lambda x, t: oracle.update_all(
            G, lambda u, e: u.x * t[e.rel], "sum", {"x": x}, (), {"rel": RELATIONS}
        ),
        (X, data(3, 3, seed=12)),
    ),
    "update_all(logsumexp) from initial": (
        lambda x: ng.update_all(G, lambda u: u.x, "logsumexp", u={"x": x}, initial=0.2),
        lambda x: np.logaddexp(oracle.update_all(G, lambda u: u.x, "logsumexp", {"x": x}), 0.2),
        (X,),
    ),
    "update_all(std, min)": (
        lambda x, w: operator.add(
            *ng.update_all(G, lambda u, e: u.x * e.w, ("std", "min"), u={"x": x}, e={"w": w})
        ),
        lambda x, w: sum(
            oracle.update_all(G, lambda u, e: u.x * e.w, name, {"x": x}, (), {"w": w})
            for name in ("std", "min")
        ),
        (X, W),
    ),
    "apply_edges": (
        lambda x, y, w, s: ng.apply_edges(G, message, u={"x": x}, v={"y": y}, e={"w": w, "s": s}),
        lambda x, y, w, s: oracle.apply_edges(G, message, {"x": x}, {"y": y}, {"w": w, "s": s}),
        (X, Y, W, S),
    ),
    "attend": (
        lambda x, y: ng.attend(G, score, lambda u: u.x, u={"x": x}, v={"y": y}),
        lambda x, y: oracle.attend(G, score, lambda u: u.x, {"x": x}, {"y": y}),
        (X, Y),
    ),
    "a captured array": (
        captured,
        lambda x, a: oracle.update_all(G, lambda u: u.x * a, "sum", {"x": x}),
        (X, data(3, seed=9)),
    ),
    "a captured number": (
        captured,
        lambda x, a: oracle.update_all(G, lambda u: u.x * a, "sum", {"x": x}),
        (X, np.array(0.7)),
    ),
    "u_mul_e_sum": (
        lambda x, w: ops.u_mul_e_sum(G, x, w),
        lambda x, w: oracle.gspmm(G, "mul", "sum", x, w),
        (X, S),
    ),
    "copy_u_mean": (
        lambda x: ops.copy_u_mean(G, x),
        lambda x: oracle.gspmm(G, "copy_lhs", "mean", x, None),
        (X,),
    ),
    "u_dot_v": (lambda x, y: ops.u_dot_v(G, x, y), lambda x, y: oracle.gsddmm(G, "dot", x, y), (X, Y)),
    "edge_softmax": (lambda w: ops.edge_softmax(G, w), lambda w: oracle.edge_softmax(G, w), (W,)),
    "edge_softmax(src)": (
        lambda w: ops.edge_softmax(G, w, "src"),
        lambda w: oracle.edge_softmax(G, w, "src"),
        (W,),
    ),
    "segment_reduce": (
        lambda w: ops.segment_reduce([0, 3, 3, 8], w, "max"),
        lambda w: oracle.segment_reduce([0, 3, 3, 8], w, "max"),
        (W,),
    ),
    "segment_softmax": (
        lambda w: ops.segment_softmax([0, 3, 3, 8], w),
        lambda w: oracle.segment_softmax([0, 3, 3, 8], w),
        (W,),
    ),
    "segment_mm": (
        lambda a, b: ops.segment_mm(a, b, [0, 3, 3, 8]),
        lambda a, b: oracle.gather_mm(a, b, [0, 0, 0, 2, 2, 2, 2, 2]),
        (W, data(3, 3, 2)),
    ),
    "gather_mm": (
        lambda a, b: ops.gather_mm(a, b, [2, 0, 0, 1, 2, 0, 1, 2]),
        lambda a, b: oracle.gather_mm(a, b, [2, 0, 0, 1, 2, 0, 1, 2]),
        (W, data(3, 3, 2)),
    ),
}


@functools.cache
def seed_of(name):
    _, truth, arrays = CASES[name]
    return data(*np.shape(truth(*arrays)), seed=5)


@functools.cache
def differences(name):
    """Σ seed · ∂truth/∂arrays by central differences."""
    _, truth, arrays = CASES[name]
    seed, step, found = seed_of(name), 1e-6, []
    for i, array in enumerate(arrays):
        gradient = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            values = []
            for sign in (1, -1):
                moved = array.copy()
                moved[place] += sign * step
                values.append(np.sum(seed * truth(*arrays[:i], moved, *arrays[i + 1 :])))
            gradient[place] = (values[0] - values[1]) / (2 * step)
        found.append(gradient)
    return found


@pytest.mark.parametrize("name", CASES)
def test_values(library, name):
    call, truth, arrays = CASES[name]
    got = call(*map(library.make, arrays))
    assert library.is_own(got)
    np.testing.assert_allclose(library.numpy(got), truth(*arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradients(library, name):
    call, _, arrays = CASES[name]
    for got, want in zip(library.gradients(call, arrays, seed_of(name)), differences(name), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(library, name):
    """∂/∂x ⟨d, ∇f(x)⟩ against differences of the first derivatives, which are checked above."""
    call, _, arrays = CASES[name]
    directions = [data(*x.shape, seed=6) for x in arrays]
    step, seed = 1e-6, seed_of(name)
    ahead, behind = (
        library.gradients(call, [x + t * d for x, d in zip(arrays, directions)], seed) for t in (step, -step)
    )
    for got, a, b in zip(library.second(call, arrays, seed, directions), ahead, behind, strict=True):
        np.testing.assert_allclose(got, (a - b) / (2 * step), rtol=1e-5, atol=1e-6)


NAMED = [
    name for name in ops.__all__ if name.split("_")[0] in ("copy", "u", "v", "e") and name != "edge_softmax"
]


@pytest.mark.parametrize("name", NAMED)
def test_named_functions(library, name):
    parts = name.split("_")
    if parts[0] == "copy":
        arrays = ({"u": X, "v": Y, "e": W}[parts[1]],)
    else:
        arrays = ({"u": X, "v": Y, "e": W}[parts[0]], {"u": X + 3, "v": Y + 3, "e": W + 3}[parts[2]])
    want = _named(parts, *arrays)
    got = getattr(ops, name)(G, *map(library.make, arrays))
    assert library.is_own(got)
    np.testing.assert_allclose(library.numpy(got), want, rtol=1e-12, atol=1e-12)


def _named(parts, x, y=None):
    if parts[0] == "copy" and len(parts) == 2:
        return oracle.gsddmm(G, "copy_lhs", x, None, parts[1])
    if parts[0] == "copy":
        return oracle.gspmm(
            G,
            "copy_lhs" if parts[1] == "u" else "copy_rhs",
            parts[2],
            *((x, None) if parts[1] == "u" else (None, x)),
        )
    if len(parts) == 4:
        return oracle.gspmm(G, parts[1], parts[3], x, y)
    return oracle.gsddmm(G, parts[1], x, y, parts[0], parts[2])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("reduce", ["sum", "max", "mean"])
def test_dtypes(library, dtype, reduce):
    """NumPy's result dtypes; sums of integers are int64, their means float64."""
    x = np.array([[0, 1], [1, 3], [2, 0], [0, 2], [5, 6]]).astype(dtype)
    got = ops.gspmm(G, "copy_lhs", reduce, library.make(x), None)
    want = oracle.gspmm(G, "copy_lhs", reduce, x.astype(np.float64), None)
    kind = np.dtype(dtype).kind
    assert library.dtype(got) == (
        dtype if kind == "f" or reduce == "max" else "int64" if reduce == "sum" else "float64"
    )
    np.testing.assert_allclose(
        library.numpy(got).astype(float), want, rtol=1e-3 if dtype == "float16" else 1e-6
    )


def test_bfloat16(library):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: NumPy has no bfloat16")
    got = ops.copy_u_sum(G, library.make(X.astype(ml_dtypes.bfloat16)))
    assert library.dtype(got) == "bfloat16"
    np.testing.assert_allclose(
        library.numpy(got).astype(float), oracle.gspmm(G, "copy_lhs", "sum", X, None), rtol=2e-2, atol=2e-2
    )


@pytest.mark.parametrize("reduce", REDUCES)
def test_graphs_without_edges(library, reduce):
    x, e = X, np.zeros((0, 3))

    def call(x, w):
        return ng.update_all(EMPTY, lambda u, e: u.x * e.w, reduce, u={"x": x}, e={"w": w})

    got = call(library.make(x), library.make(e))
    np.testing.assert_array_equal(
        library.numpy(got), np.full((6, 3), {"prod": 1.0, "logsumexp": -np.inf}.get(reduce, 0.0))
    )
    dx, dw = library.gradients(call, [x, e], np.ones((6, 3)))
    np.testing.assert_array_equal(dx, np.zeros_like(x))
    assert dw.shape == (0, 3)


@pytest.mark.parametrize("shape", [(5, 0), (5,), (5, 2, 0, 3)], ids=str)
def test_odd_features(library, shape):
    got = ops.copy_u_sum(G, library.make(np.ones(shape)))
    np.testing.assert_array_equal(
        library.numpy(got), oracle.gspmm(G, "copy_lhs", "sum", np.ones(shape), None)
    )


def test_arrays_of_numpy_beside_it_are_constants(library):
    def call(x):
        return ng.update_all(G, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": W})

    got = call(library.make(X))
    assert library.is_own(got)
    np.testing.assert_allclose(library.numpy(got), oracle.gspmm(G, "mul", "sum", X, W))
    np.testing.assert_allclose(
        library.gradients(call, [X], np.ones((6, 3)))[0],
        oracle.gspmm(G.reverse(), "copy_rhs", "sum", None, W),
    )


def _rows(a):
    return ng.update_all(G, lambda u: u.x, "sum", u={"x": a(X[:4])})


ERRORS = {
    "first axis": (_rows, ValueError, r"field u\.x has shape \(4, 3\), the graph's num_src is 5"),
    "no axis": (lambda a: ops.copy_u_sum(G, a(np.array(1.0))), ValueError, r"has shape \[\]"),
    "complex": (lambda a: ops.copy_u_sum(G, a(X.astype(complex))), TypeError, "complex"),
    "features": (
        lambda a: ng.update_all(G, lambda u, e: u.x * e.w, "sum", u={"x": a(X)}, e={"w": a(data(8, 2))}),
        ValueError,
        r"do not broadcast: u\.x \[3\], e\.w \[2\]",
    ),
    "unknown field": (
        lambda a: ng.update_all(G, lambda u: u.z, "sum", u={"x": a(X)}),
        AttributeError,
        r"field u\.z is unknown",
    ),
    "reduce": (
        lambda a: ng.update_all(G, lambda u: u.x, "avg", u={"x": a(X)}),
        ValueError,
        "did you mean 'mean'",
    ),
    "a tape's Tensor": (
        lambda a: ng.update_all(G, lambda u, e: u.x * e.w, "sum", u={"x": a(X)}, e={"w": ng.Tensor(W)}),
        TypeError,
        "a Tensor of a tape beside arrays of",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(library, name):
    call, kind, text = ERRORS[name]
    if name == "a tape's Tensor" and library.name == "NumPy":
        assert isinstance(call(library.make), ng.Tensor)
        return
    with pytest.raises(kind, match=text):
        call(library.make)


@pytest.mark.skipif(
    bool(frameworks.MISSING), reason=f"{', '.join(frameworks.MISSING.values())}: two frameworks cannot meet"
)
def test_two_frameworks_do_not_mix():
    torch, jax = frameworks.TorchArrays(), frameworks.JaxArrays()
    with pytest.raises(TypeError, match=r"field e\.w is an array of JAX, others are of torch"):
        ng.update_all(G, lambda u, e: u.x * e.w, "sum", u={"x": torch.make(X)}, e={"w": jax.make(W)})
    with pytest.raises(
        TypeError, match=r"the captured array of shape .* is an array of JAX, others are of torch"
    ):
        ng.update_all(G, lambda u: u.x * jax.make(X[0]), "sum", u={"x": torch.make(X)})
