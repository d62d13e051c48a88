"""The policies of messages, one by one: empty rows, ties, NaN, infinities, zeros in products, threads, forks;
and every error's words.
"""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np
import oracle
import pytest
from checks import check_gradient, gradients

import numgraph as ng
from numgraph.runtime import threads

# v = 0: from 0, 1, 2 (edges 0, 2, 4); v = 1: from 1 (edges 1, 3, parallel); v = 2: no in-edges. u = 3 has no
# out-edges.
G = ng.Graph([0, 1, 1, 1, 2], [0, 1, 0, 1, 0], num_src=4, num_dst=3)


def copied(g, x, reduce):
    return ng.update_all(g, lambda u: u.x, reduce, u={"x": x})


def gradient_of(function, *arrays):
    """The tape's gradients of the plain sum of what function returns."""
    with ng.Tape() as tape:
        watched = [tape.watch(np.array(a, float)) for a in arrays]
        loss = function(*watched).sum()
    found = tape.gradient(loss, watched)
    return found if len(found) > 1 else found[0]


# --- rows without edges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reduce", "value"), [("sum", 0), ("mean", 0), ("max", 0), ("min", 0), ("prod", 1)])
def test_empty_rows(reduce, value):
    x = np.array([[1.0, -2.0], [3.0, -4.0], [5.0, -6.0], [7.0, -8.0]])
    z = copied(G, x, reduce)
    np.testing.assert_array_equal(z[2], value)
    for dtype in (np.float32, np.int32):
        np.testing.assert_array_equal(copied(G, x.astype(dtype), reduce)[2], value)
    with ng.Tape() as tape:
        watched = tape.watch(x)
        loss = copied(G, watched, reduce)[2].sum()
    np.testing.assert_array_equal(tape.gradient(loss, watched), 0)  # not into node 0, nor anywhere


def test_empty_rows_of_attention():
    z = ng.attend(G, lambda u: u.x, lambda u: u.x, u={"x": np.full(4, 1e300)})
    assert z[2] == 0
    with ng.Tape() as tape:
        x = tape.watch(np.arange(4.0))
        loss = ng.attend(G, lambda u: u.x, lambda u: u.x, u={"x": x})[2].sum()
    np.testing.assert_array_equal(tape.gradient(loss, x), 0)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
def test_graphs_without_edges_or_nodes(reduce):
    for g in (
        ng.Graph([], [], 3),
        ng.Graph([], [], 0),
        ng.Graph([], [], num_src=0, num_dst=2),
        ng.Graph([], [], num_src=2, num_dst=0),
    ):
        x = np.ones((g.num_src, 2))
        np.testing.assert_array_equal(
            copied(g, x, reduce), np.full((g.num_dst, 2), 1.0 if reduce == "prod" else 0.0)
        )
        np.testing.assert_array_equal(gradient_of(lambda x, g=g: copied(g, x, reduce), x), np.zeros_like(x))
        assert ng.apply_edges(g, lambda u: u.x, u={"x": x}).shape == (0, 2)


def test_parallel_edges_count_each_and_self_loops_are_edges():
    x = np.array([1.0, 2.0, 4.0])
    g = ng.Graph([0, 0, 0, 1], [1, 1, 1, 1], 3)
    np.testing.assert_array_equal(copied(g, x, "sum"), [0, 5, 0])
    np.testing.assert_array_equal(copied(g, x, "mean"), [0, 5 / 4, 0])
    np.testing.assert_array_equal(copied(g, x, "prod"), [1, 2, 1])
    np.testing.assert_array_equal(gradient_of(lambda x: copied(g, x, "sum"), x), [3, 1, 0])


# --- ties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", ["max", "min"])
def test_the_first_winning_edge_takes_the_whole_gradient(reduce):
    w = np.full((5, 2), 3.0)
    got = gradient_of(lambda w: ng.update_all(G, lambda e: e.w, reduce, e={"w": w}), w)
    np.testing.assert_array_equal(got[:, 0], [1, 1, 0, 0, 0])
    w[0] = -9 if reduce == "max" else 9
    got = gradient_of(lambda w: ng.update_all(G, lambda e: e.w, reduce, e={"w": w}), w)
    np.testing.assert_array_equal(got[:, 1], [0, 1, 1, 0, 0])


def test_ties_of_wide_rows_feature_by_feature():
    rng = np.random.default_rng(0)
    g = ng.Graph(rng.integers(0, 20, 300), rng.integers(0, 10, 300), 20)
    w = rng.integers(0, 3, (300, 37)).astype(float)
    got = gradient_of(lambda w: ng.update_all(g, lambda e: e.w, "max", e={"w": w}), w)
    want = np.zeros_like(w)
    for v in range(20):
        edges = np.flatnonzero(g.dst == v)  # ascending ids are in-edge order
        if len(edges):
            want[edges[np.argmax(w[edges], axis=0)], np.arange(37)] = 1
    np.testing.assert_array_equal(got, want)


def test_signed_zeros_tie():
    got = gradient_of(
        lambda w: ng.update_all(G, lambda e: e.w, "max", e={"w": w}), [-0.0, 1.0, 0.0, 1.0, -1.0]
    )
    np.testing.assert_array_equal(got, [1, 1, 0, 0, 0])


# --- NaN and infinities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("width", [1, 3, 17])
def test_nan_reaches_the_result(reduce, place, width):
    for dtype in (np.float64, np.float32):
        w = np.arange(5.0 * width).reshape(5, width).astype(dtype)
        w[place, -1] = np.nan
        z = ng.update_all(G, lambda e: e.w, reduce, e={"w": w})
        assert np.isnan(z[0, -1])
        assert np.isfinite(z[0, :-1]).all()
        assert np.isfinite(z[1:]).all()


def test_the_first_nan_takes_the_gradient_of_max():
    w = np.array([1.0, 0.0, np.nan, 0.0, np.nan])
    np.testing.assert_array_equal(
        gradient_of(lambda w: ng.update_all(G, lambda e: e.w, "max", e={"w": w}), w), [0, 1, 1, 0, 0]
    )


@pytest.mark.parametrize("fill", [np.inf, -np.inf])
def test_rows_of_infinities(fill):
    w = np.full(5, fill)
    for reduce in ("sum", "mean", "max", "min"):
        np.testing.assert_array_equal(ng.update_all(G, lambda e: e.w, reduce, e={"w": w}), [fill, fill, 0])
    np.testing.assert_array_equal(
        gradient_of(lambda w: ng.update_all(G, lambda e: e.w, "max", e={"w": w}), w), [1, 1, 0, 0, 0]
    )


def test_integers_at_the_ends_of_their_range():
    for dtype in (np.int8, np.int32, np.int64, np.uint8):
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        for value in (low, high):
            w = np.full(5, value, dtype)
            for reduce in ("max", "min"):
                np.testing.assert_array_equal(
                    ng.update_all(G, lambda e: e.w, reduce, e={"w": w}), [value, value, 0]
                )


def test_softmax_of_only_minus_infinity_is_nan_as_in_numpy():
    s = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    z = ng.attend(G, lambda e: e.s, lambda e: e.s * 0 + 1, e={"s": np.where(np.isinf(s), -np.inf, s)})
    assert np.isnan(z[0])
    w = ng.attend(G, lambda e: e.s, lambda e: e.x, e={"s": s, "x": np.ones(5)})
    assert np.isnan(w[0])
    assert w[1] == 1
    assert w[2] == 0


# --- products -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [(), (0,), (0, 2), (0, 2, 4), (1,), (1, 3)], ids=str)
def test_products_with_zeros(zeros):
    w = np.array([2.0, 3.0, -1.5, 0.7, 1.2])
    w[list(zeros)] = 0
    product = lambda w: ng.update_all(G, lambda e: e.w, "prod", e={"w": w})
    np.testing.assert_allclose(product(w), oracle.update_all(G, lambda e: e.w, "prod", e={"w": w}))
    check_gradient(product, [w], order=2)


def test_products_of_messages_with_zeros():
    x, y = (
        np.array([1.0, 2.0, 0.0, 3.0]),
        np.array([1.0, 2.0, 1.0]),
    )  # u.x − v.y is 0 on edge 0, and on both edges into v = 1
    check_gradient(
        lambda x, y: ng.update_all(G, lambda u, v: (u.x - v.y) * (u.x + 3), "prod", u={"x": x}, v={"y": y}),
        [x, y],
        order=2,
        rtol=1e-5,
    )


# --- threads, processes, bits -------------------------------------------------------------------------------


def training_step(seed=0):
    """Attention, a max and a mean, forward and backward, on a graph with a hub and rows without edges: large
    enough for the thread pool.
    """
    rng = np.random.default_rng(seed)
    n, edges = 500, 20_000
    src, dst = rng.integers(0, n, edges), rng.integers(0, n // 2, edges)
    dst[: edges // 4] = 7
    g = ng.Graph(src, dst, n)

    def step(x, w):
        z = ng.attend(
            g,
            lambda u, v, e: np.sum(u.x * v.x, -1, keepdims=True) * e.w,
            lambda u: u.x,
            u={"x": x},
            v={"x": x},
            e={"w": w},
        )
        y = ng.update_all(g, lambda u, e: ng.relu(u.x * e.w), "max", u={"x": x}, e={"w": w})
        return z + y + ng.update_all(g, lambda u, v: u.x * v.x, "mean", u={"x": x}, v={"x": x})

    x, w = rng.normal(size=(n, 2, 8)), rng.normal(size=(edges, 1, 1))
    return [step(x, w), *gradients(step, [x, w])]


def bits(arrays):
    return [a.tobytes() for a in arrays]


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    import numba

    monkeypatch.setattr(threads, "SMALL", 0)
    want = bits(training_step())
    most = numba.get_num_threads()
    try:
        for count in {1, 2, 4} & set(range(1, numba.config.NUMBA_NUM_THREADS + 1)):
            numba.set_num_threads(count)
            assert bits(training_step()) == want
    finally:
        numba.set_num_threads(most)
    monkeypatch.setattr(threads, "SMALL", 1 << 60)
    assert bits(training_step()) == want


def test_eight_python_threads_at_once():
    want = [bits(training_step(seed)) for seed in range(2)]
    found = [None] * 8

    def work(i):
        found[i] = bits(training_step(i % 2))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(found[i] == want[i % 2] for i in range(8))


def _step_in_child(queue):
    queue.put(bits(training_step()))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_step_in_a_child_after_fork():
    want = bits(training_step())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_step_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=100) == want
    finally:
        child.join(10)
        child.kill()
    assert child.exitcode == 0


def test_inputs_are_not_changed_and_results_are_fresh():
    x = np.arange(8.0).reshape(4, 2)
    before = x.copy()
    for function in (lambda u: u.x, lambda u: u.x * 1, lambda u: u.x + 0):
        z = ng.apply_edges(ng.Graph(np.arange(4), np.arange(4)), function, u={"x": x})
        z += 1
    ng.update_all(G, lambda u: u.x, "max", u={"x": x})[:] = -1
    np.testing.assert_array_equal(x, before)


# --- errors -------------------------------------------------------------------------------------------------

X, Y, W = np.ones((4, 3)), np.ones((3, 3)), np.ones((5, 3))


def branching(u):
    return u.x if u.x > 0 else -u.x


def summed(message, **fields):
    return lambda: ng.update_all(G, message, "sum", **(fields or {"u": {"x": X}}))


ERRORS = [
    (
        lambda: ng.update_all(G, lambda u: u.x, "median", u={"x": X}),
        ValueError,
        "update_all: unknown reduce 'median'; choose from 'sum', 'mean'",
    ),
    (
        lambda: ng.update_all("g", lambda u: u.x, "sum", u={"x": X}),
        TypeError,
        "update_all: the first argument is a str; pass a numgraph.Graph",
    ),
    (
        summed(lambda u: u.x, u={"x": Y}),
        ValueError,
        r"update_all: field u.x has shape \(3, 3\), the graph's num_src is 4; the first axis must be 4",
    ),
    (
        summed(lambda v: v.x, v={"x": X}),
        ValueError,
        r"update_all: field v.x has shape \(4, 3\), the graph's num_dst is 3",
    ),
    (
        lambda: ng.apply_edges(G, lambda e: e.w, e={"w": X}),
        ValueError,
        r"apply_edges: field e.w has shape \(4, 3\), the graph's num_edges is 5",
    ),
    (summed(lambda u: u.x, u={"x": 3.0}), ValueError, r"field u.x has shape \(\), the graph's num_src is 4"),
    (
        summed(lambda u: u.x, u=X),
        TypeError,
        r'update_all: u is a ndarray; pass the fields by name: u=\{"x": array\}',
    ),
    (
        summed(lambda u: u.x, u={"x": X.astype(object)}),
        TypeError,
        "update_all: field u.x has dtype object; use bool, an integer .*, float16, bfloat16, float32",
    ),
    (summed(lambda u: u.x, u={"x": X * 1j}), TypeError, "update_all: field u.x has dtype complex128"),
    (summed(lambda u: u.x, u={"x": X.astype(str)}), TypeError, "update_all: field u.x has dtype <U"),
    (
        summed(lambda u: u.y),
        AttributeError,
        r"update_all: field u.y is unknown; pass u=\{'y': array\} \(known: x\)",
    ),
    (
        summed(lambda v: v.y),
        AttributeError,
        r"update_all: field v.y is unknown; pass v=\{'y': array\} \(known: none was passed\)",
    ),
    (
        summed(branching),
        TypeError,
        r"message: a Python branch .* on u.x > 0, whose value differs from edge to edge; use np.where",
    ),
    (summed(lambda u: max(u.x, 0)), TypeError, "message: a Python branch"),
    (summed(lambda u: u.x and 1), TypeError, "message: a Python branch"),
    (
        summed(lambda u: float(u.x)),
        TypeError,
        "u.x is a symbol, not an array; use NumPy functions that numgraph knows",
    ),
    (summed(lambda u: sum(u.x)), TypeError, "u.x is a symbol and cannot be iterated"),
    (
        summed(lambda u: u.x[3]),
        IndexError,
        "3 is out of range for axis 0 of u.x, which has 3 entries; count from 0",
    ),
    (
        summed(lambda u: u.x[..., "a"]),
        TypeError,
        "u.x .* indexed by .*; indices are numbers, slices, lists of numbers",
    ),
    (
        summed(lambda u: np.cumsum(u.x)),
        TypeError,
        "message: np.cumsum cannot be part of a message; known are arithmetic",
    ),
    (
        summed(lambda u: np.add.reduce(u.x)),
        TypeError,
        r"message: np.add.reduce with .* is not known; call the plain function",
    ),
    (
        summed(lambda u: u.x @ np.ones((2, 3))),
        ValueError,
        r"message: matmul of u.x \[3\] and captured0 \[2, 3\]",
    ),
    (summed(lambda u: u.x + 1j), TypeError, "message: 1j is complex; use real numbers|message: .*complex"),
    (summed(lambda u: u.x + "a"), TypeError, "message: "),
    (
        summed(lambda u, v: u.x * v.y, u={"x": X}, v={"y": Y[:, :2]}),
        ValueError,
        (
            r"message: feature shapes of multiply do not broadcast: u.x \[3\], v.y \[2\]; align them from the "
            r"last axis; length-1 axes"
        ),
    ),
    (
        summed(lambda u: u.x + np.ones(4)),
        ValueError,
        r"feature shapes of add do not broadcast: u.x \[3\], captured0 \[4\]",
    ),
    (
        lambda: ng.attend(G, lambda u: u.x, lambda e: e.w[..., :], u={"x": X}, e={"w": W[:, :2]}),
        ValueError,
        r"message: feature shapes of attend \(score · value\) do not broadcast: u.x \[3\], e.w \[2\]",
    ),
    (
        summed(lambda u: u.x.sum(1)),
        ValueError,
        "message: sum over axis 1 of u.x, which has 1 feature axes; count from -1",
    ),
    (summed(lambda u: u.x.max(-2)), ValueError, "message: max over axis -2 of u.x"),
    (
        summed(lambda u: u.x.max(), u={"x": X[:, :0]}),
        ValueError,
        "max over an axis of length 0 of u.x; a maximum needs at least one entry",
    ),
    (
        summed(lambda x: x),
        TypeError,
        "update_all: the message takes a parameter 'x'; its parameters are any of u, v, e, by name",
    ),
    (
        summed("copy_u"),
        TypeError,
        "update_all: the message is a str; pass a function of any of u, v, e, or use numgraph.ops",
    ),
    (summed(lambda u: None), TypeError, "message|update_all"),
    (
        summed(lambda u: np.sin(u.x, out=np.ones(3))),
        TypeError,
        r"message: np.sin.__call__ with \['out'\] is not known; call the plain function",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_an_error_leaves_no_trace_behind():
    """A message that fails while it is traced, inside another one, leaves the tracing of the next as it
    was.
    """
    with pytest.raises(TypeError):
        summed(branching)()
    symbols = []
    summed(lambda u: symbols.append(u.x) or u.x)()
    with pytest.raises(TypeError, match="outside of a message"):
        symbols[0] + np.ones(3)
    np.testing.assert_array_equal(copied(G, X, "sum")[:, 0], [3, 2, 0])
