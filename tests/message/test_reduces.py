"""Reduces of update_all beside sums, extrema and products: var, std, logsumexp, softmax; several at once;
what a reduce starts with.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from checks import check_gradient, gradients
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import bellman_ford

import numgraph as ng
from numgraph.compiler import driver
from numgraph.compiler.cpu import balance
from numgraph.compiler.cpu import running as cpu
from numgraph.expressions import expr
from numgraph.expressions.reduces import NAMES
from numgraph.expressions.walk import Output

RNG = np.random.default_rng(5)
SRC, DST = RNG.integers(0, 7, 40), RNG.integers(0, 5, 40)
G = ng.Graph(SRC, DST, num_src=7, num_dst=6)  # node 5 has no in-edge
X = RNG.standard_normal((7, 3))


def weighted(m):
    weights = np.exp(m - m.max(axis=0))
    return (weights * m).sum(axis=0) / weights.sum(axis=0)


TRUTH = {
    "sum": (lambda m: m.sum(axis=0), 0),
    "mean": (lambda m: m.mean(axis=0), 0),
    "max": (lambda m: m.max(axis=0), 0),
    "min": (lambda m: m.min(axis=0), 0),
    "prod": (lambda m: m.prod(axis=0), 1),
    "var": (lambda m: m.var(axis=0), 0),
    "std": (lambda m: m.std(axis=0), 0),
    "logsumexp": (lambda m: np.log(np.exp(m).sum(axis=0)), -np.inf),
    "softmax": (weighted, 0),
}
"""What a reduce is of a node's messages, and what a node without any has."""
NEW = ["var", "std", "logsumexp", "softmax"]


def copied(g, x, reduce, **options):
    return ng.update_all(g, lambda u: u.x, reduce, u={"x": x}, **options)


def dense(g, x, reduce):
    """In float64."""
    truth, empty = TRUTH[reduce]
    messages = np.asarray(x, np.float64)[g.src]
    rows = [messages[g.dst == v] for v in range(g.num_dst)]
    return np.stack([truth(m) if len(m) else np.full(m.shape[1:], float(empty)) for m in rows])


def test_the_table_here_has_every_reduce():
    assert set(TRUTH) == set(NAMES)


@pytest.mark.parametrize("reduce", NEW)
@pytest.mark.parametrize(
    ("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_values(reduce, dtype, rtol):
    ml_dtypes = (
        pytest.importorskip("ml_dtypes", reason="bfloat16 of NumPy is ml_dtypes'")
        if dtype == "bfloat16"
        else None
    )
    x = X.astype(ml_dtypes.bfloat16 if ml_dtypes else dtype)
    z = copied(G, x, reduce)
    assert z.dtype == x.dtype
    np.testing.assert_allclose(z.astype(np.float64), dense(G, x, reduce), rtol, rtol)


@pytest.mark.parametrize("reduce", NEW)
@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_integers_become_float64(reduce, dtype):
    x = (X * 3).astype(dtype)
    z = copied(G, x, reduce)
    assert z.dtype == np.float64
    np.testing.assert_allclose(z, dense(G, x, reduce), 1e-13)


@pytest.mark.parametrize("reduce", NEW)
@pytest.mark.parametrize("shape", [(), (4, 5)])
def test_shapes_and_long_rows(reduce, shape):
    """One number an edge goes with edges side by side in lanes where rows are long."""
    rng = np.random.default_rng(8)
    g = ng.Graph(rng.integers(0, 50, 3000), rng.integers(0, 9, 3000), num_src=50, num_dst=10)
    x = rng.standard_normal((50, *shape))
    np.testing.assert_allclose(copied(g, x, reduce), dense(g, x, reduce), 1e-12)


@pytest.mark.parametrize("reduce", NEW)
def test_gradients_of_two_orders(reduce):
    weights = RNG.standard_normal((40, 1))

    def message(x, w):
        return ng.update_all(G, lambda u, e: np.sin(u.x * e.w), reduce, u={"x": x}, e={"w": w})[:5]

    check_gradient(message, [X, weights], order=2, rtol=1e-6)


@pytest.mark.parametrize("reduce", NEW)
def test_hubs_and_threads(reduce, monkeypatch):
    """A row in chunks is the whole row, and the bits are the same on any number of threads."""
    monkeypatch.setattr(balance, "HUB_EDGES", 7)
    rng = np.random.default_rng(3)
    dst = np.where(rng.random(300) < 0.5, 3, rng.integers(0, 11, 300))
    g = ng.Graph(rng.integers(0, 12, 300), dst, 12)
    assert len(g.in_edges.derived("parts", balance.parts_of).hubs) > 5
    x = rng.standard_normal((12, 3)) + 100
    expected = dense(g, x, reduce)
    np.testing.assert_allclose(copied(g, x, reduce), expected, 1e-11)
    half = x.astype(np.float16)
    np.testing.assert_allclose(copied(g, half, reduce), dense(g, half, reduce), 2e-3)
    many, found = numba.get_num_threads(), []
    for threads in (1, many):
        numba.set_num_threads(threads)
        found.append(copied(g, x, reduce).tobytes())
    assert len(set(found)) == 1
    check_gradient(lambda x: copied(g, x, reduce)[:11], [rng.standard_normal((12, 2))], rtol=1e-6)


@pytest.mark.parametrize("reduce", ["var", "std"])
def test_variance_far_from_zero(reduce):
    """E[x²] − E[x]² would have no digit here."""
    rng = np.random.default_rng(0)
    g = ng.Graph(np.arange(1000), np.zeros(1000, int), num_src=1000, num_dst=1)
    for dtype, offset, rtol in ((np.float64, 1e8, 1e-7), (np.float32, 1e4, 1e-3)):
        x = (offset + rng.standard_normal(1000)).astype(dtype)
        np.testing.assert_allclose(copied(g, x, reduce), [TRUTH[reduce][0](x.astype(np.float64))], rtol)


def test_std_of_equal_messages_has_no_gradient():
    g = ng.Graph([0, 1, 2, 2], [0, 0, 1, 1], num_src=3, num_dst=3)
    x = np.array([3.0, 3.0, 1.5])
    with ng.Tape() as outer:
        watched = outer.watch(x)
        with ng.Tape() as inner:
            inner.watch(watched)
            total = copied(g, watched, "std").sum()
        first = inner.gradient(total, watched)
        again = (first * first).sum()
    np.testing.assert_array_equal(first.data, 0)
    np.testing.assert_array_equal(outer.gradient(again, watched), 0)


def test_nan_and_infinities():
    g = ng.Graph([0, 1, 2, 3, 4, 1], [0, 0, 1, 1, 2, 3], num_src=5, num_dst=4)
    x = np.array([np.nan, 1.0, -np.inf, -np.inf, np.inf])
    for reduce in NEW:
        z = copied(g, x, reduce)
        assert np.isnan(z[0]), reduce
        assert np.isfinite(z[3]), reduce
    assert copied(g, x, "logsumexp")[1:3].tolist() == [-np.inf, np.inf]
    with ng.Tape() as tape:
        watched = tape.watch(np.array([0.0, 0.0, -np.inf, -np.inf, 0.0]))
        total = copied(g, watched, "logsumexp")[1]
    np.testing.assert_array_equal(tape.gradient(total, watched), 0)


def test_logsumexp_of_large_numbers():
    x = X * 10 + 1e5
    z = copied(G, x, "logsumexp")[:5]
    want = np.stack([np.logaddexp.reduce(x[SRC[v == DST]]) for v in range(5)])
    np.testing.assert_allclose(z, want, 1e-15)


# --- several reduces ----------------------------------------------------------------------------------------


def test_several_reduces_are_one_kernel():
    names = ("mean", "max", "std")
    together = copied(G, X, names)
    assert isinstance(together, tuple)
    for name, z in zip(names, together, strict=True):
        np.testing.assert_allclose(z, dense(G, X, name), 1e-13)
    node = expr.field("u", "x", (3,), X.dtype)
    outputs = tuple(Output((node,), "v", name) for name in names)
    assert len(driver.route(cpu.TARGET, G, outputs).plan.kernels) == 1


def test_every_reduce_at_once_with_gradients():
    names = tuple(TRUTH)
    for name, z in zip(names, copied(G, X, names), strict=True):
        np.testing.assert_allclose(z, dense(G, X, name), 1e-12, 1e-12)

    def apart(x):
        return tuple([copied(G, x, name)[:5] for name in names])

    def together(x):
        return tuple([z[:5] for z in copied(G, x, list(names))])

    np.testing.assert_allclose(gradients(together, [X])[0], gradients(apart, [X])[0], 1e-10)
    check_gradient(together, [X], rtol=1e-6, step=1e-4)


def test_names_that_are_no_reduce():
    with pytest.raises(ValueError, match=r"'median'.*std"):
        copied(G, X, ("mean", "median"))
    with pytest.raises(ValueError, match="empty tuple"):
        copied(G, X, ())


# --- initial ------------------------------------------------------------------------------------------------

STARTS = {
    "max": lambda z, initial: np.maximum(z, initial),
    "min": lambda z, initial: np.minimum(z, initial),
    "sum": lambda z, initial: z + initial,
    "prod": lambda z, initial: z * initial,
    "logsumexp": lambda z, initial: np.log(np.exp(z) + np.exp(initial)),
}


@pytest.mark.parametrize("reduce", TRUTH)
@pytest.mark.parametrize("shape", [(), (6, 1), (6, 3)])
def test_initial(reduce, shape):
    """As NumPy's np.max(…, initial=…): a start for those that start with something, for the others what nodes
    without messages have.
    """
    initial = 0.3 * np.random.default_rng([len(shape), sum(shape)]).standard_normal(shape)
    full, z = np.broadcast_to(initial, (6, 3)), dense(G, X, reduce)
    want = np.array(z)
    if reduce in STARTS:
        want[:5] = STARTS[reduce](z[:5], full[:5])
    want[5] = full[5]
    got = copied(G, X, reduce, initial=initial if shape else float(initial))
    np.testing.assert_allclose(got, want, 1e-12)
    if shape == (6, 1):
        check_gradient(lambda x, i: copied(G, x, reduce, initial=i), [X, initial], rtol=1e-6, step=1e-4)


@pytest.mark.parametrize("reduce", ["max", "min"])
def test_no_message_has_a_gradient_where_initial_wins(reduce):
    for initial in ({"max": 9.0, "min": -9.0}[reduce], dense(G, X, reduce)):  # equal: the start came first
        got = gradients(lambda x, initial=initial: copied(G, x, reduce, initial=initial)[:5], [X])[0]
        np.testing.assert_array_equal(got, 0)
    x = np.where(X.max() == X, np.nan, X)
    read = np.isnan(dense(G, x, reduce))
    np.testing.assert_array_equal(
        np.isnan(copied(G, x, reduce, initial=100.0 if reduce == "max" else -100.0)), read
    )


def test_initial_keeps_the_dtype():
    assert copied(G, X.astype(np.float32), "max", initial=np.zeros((6, 3))).dtype == np.float32
    z = copied(G, (X * 5).astype(np.int32), "max", initial=-100)
    assert z.dtype == np.int32
    assert z[5].tolist() == [-100] * 3
    assert copied(G, X.astype(np.float16), "logsumexp", initial=0).dtype == np.float16


def test_initial_of_several_reduces():
    low, high = copied(G, X, ("min", "max"), initial=(np.inf, -np.inf))
    assert np.all(low[5] == np.inf)
    assert np.all(high[5] == -np.inf)
    np.testing.assert_array_equal(low[:5], dense(G, X, "min")[:5])
    mean, total = copied(G, X, ("mean", "sum"), initial=(None, 2.0))
    assert np.all(mean[5] == 0)
    assert np.all(total[5] == 2)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"initial": np.zeros(6)}, ValueError, r"\[6\].*\[6, 3\].*\[num_dst, 1\]"),
        ({"initial": "zero"}, TypeError, "initial"),
        ({"reduce": ("max", "min"), "initial": (1, 2, 3)}, ValueError, "3 values for 2 reduces"),
    ],
)
def test_what_initial_cannot_be(options, error, text):
    with pytest.raises(error, match=text):
        copied(G, X, **{"reduce": "max", **options})
    with pytest.raises(TypeError, match="initial is float64, the result is int64"):
        copied(G, np.arange(7), "max", initial=np.inf)


def test_shortest_paths():
    """Bellman and Ford: min-plus products with the distances so far as the start."""
    rng = np.random.default_rng(2)
    src, dst = rng.integers(0, 30, 90), rng.integers(0, 30, 90)
    pairs = np.unique(np.stack([src, dst]), axis=1)
    length = rng.uniform(0.1, 2, pairs.shape[1])
    g = ng.Graph(*pairs, num_nodes=30)
    distance = np.full(30, np.inf)
    distance[0] = 0
    for _ in range(29):
        distance = ng.update_all(
            g, lambda u, e: u.d + e.length, "min", u={"d": distance}, e={"length": length}, initial=distance
        )
    want = bellman_ford(coo_matrix((length, tuple(pairs)), shape=(30, 30)), indices=0)
    assert np.isinf(want).any()
    np.testing.assert_allclose(distance, want, 1e-14)


def test_the_largest_over_relations():
    """One graph a relation; each starts with what the others gave."""
    relations = [ng.Graph(SRC[k::3], DST[k::3], num_src=7, num_dst=6) for k in range(3)]
    z = None
    for g in relations:
        z = copied(g, X, "max", initial=-np.inf if z is None else z)
    np.testing.assert_array_equal(z[:5], dense(G, X, "max")[:5])
    assert np.all(np.isneginf(z[5]))


# --- where there is no kernel -------------------------------------------------------------------------------


def test_explained():
    with ng.Tape() as tape:
        x = tape.watch(X)
        copied(G, x, ("std", "logsumexp"))
    told = tape.explain()
    assert "std u.x" in told
    assert "log Σ exp(u.x)" in told
