"""The tape: recording, replay, nesting, memory, threads, errors; and the checker itself."""

from __future__ import annotations

import copy
import gc
import threading
import weakref

import numpy as np
import pytest
from checks import check_gradient

import numgraph.dense  # noqa: F401  (fills the table of rules)
from numgraph.autodiff.tape import Parameter, Tape, Tensor, record, unwrap


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def cube(x, factor=3.0):
    """x³ through the door, with a derivative of ``factor`` · x²."""
    data = unwrap(x)
    return record("cube", (x,), data * data * data, lambda g, xs, y, needs: (g * (factor * xs[0] * xs[0]),))


def halves(x):
    """Two outputs: sin of the first half, the square of the second."""
    data, n = unwrap(x), x.shape[0] // 2

    def vjp(grads, xs, ys, needs):
        first = np.zeros(n) if grads[0] is None else grads[0] * np.cos(xs[0][:n])
        second = np.zeros(x.shape[0] - n) if grads[1] is None else grads[1] * 2 * xs[0][n:]
        return (np.concatenate([first, second]),)

    return record("halves", (x,), (np.sin(data[:n]), data[n:] ** 2), vjp)


# The checker.


def test_the_checker_accepts_a_right_derivative():
    check_gradient(cube, [rng().normal(size=(3, 2))], order=2)


@pytest.mark.parametrize("factor", [-3.0, 3.0001, 0.0])
def test_the_checker_catches_a_planted_wrong_derivative(factor):
    with pytest.raises(AssertionError, match="central difference"):
        check_gradient(lambda x: cube(x, factor), [rng().normal(size=(3, 2))])


def test_the_checker_catches_one_wrong_element():
    def planted(x):
        data = unwrap(x)
        wrong = np.ones(data.shape)
        wrong[1, 1] = 1 + 1e-4
        return record("planted", (x,), np.sin(data), lambda g, xs, y, needs: (g * np.cos(xs[0]) * wrong,))

    with pytest.raises(AssertionError, match=r"\(np.int64\(1\), np.int64\(1\)\)|\(1, 1\)"):
        check_gradient(planted, [rng().normal(size=(3, 2))])


def test_the_checker_catches_a_derivative_right_in_first_order_only():
    def forgets(x):
        data = unwrap(x)
        return record(
            "forgets", (x,), data**3, lambda g, xs, y, needs: (g * 3 * data**2,)
        )  # data is a constant to the outer tape

    x = rng().normal(size=4)
    check_gradient(forgets, [x])
    with pytest.raises(AssertionError, match="central difference"):
        check_gradient(forgets, [x], order=2)


# The engine.


def test_plain_arrays_in_plain_arrays_out():
    x = np.ones(3)
    assert type(cube(x)) is np.ndarray
    with Tape() as tape:
        assert type(cube(x)) is np.ndarray
    assert tape.explain() == ""


def test_tuple_outputs_and_outputs_without_gradient():
    x = rng().normal(size=5)
    check_gradient(halves, [x], order=2)
    check_gradient(lambda x: halves(x)[1], [x], order=2)


def test_an_input_used_many_times_adds_up():
    check_gradient(lambda x: x * x + x * np.sin(x) + x, [rng().normal(size=(2, 3))], order=2)


def test_gradients_have_the_inputs_dtype_and_shape():
    with Tape() as tape:
        xs = [
            tape.watch(np.ones(shape, dtype))
            for dtype in (np.float16, np.float32, np.float64)
            for shape in ((), (2, 1), (0,))
        ]
        loss = sum([(x * 2).sum().astype(np.float64) for x in xs], np.float64(0))
    for x, g in zip(xs, tape.gradient(loss, xs), strict=True):
        assert type(g) is np.ndarray
        assert (g.dtype, g.shape) == (x.dtype, x.shape)
        np.testing.assert_array_equal(g, np.full(x.shape, 2))


def test_mixed_dtypes_promote_as_numpy_does_and_scalars_do_not():
    a, b = np.float32([1, 2]), np.float64([3, 4])
    with Tape() as tape:
        x, y = tape.watch(a), tape.watch(b)
        assert (x * 2.5 + 1).dtype == np.float32
        assert (x * np.float64(2)).dtype == (a * np.float64(2)).dtype
        z = x * y
        assert z.dtype == np.float64
        loss = z.sum()
    dx, dy = tape.gradient(loss, [x, y])
    assert (dx.dtype, dy.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(dx, b)
    np.testing.assert_array_equal(dy, a)


def test_unconnected_inputs_get_zeros():
    with Tape() as tape:
        x, y = tape.watch(np.ones(3, np.float32)), tape.watch(np.ones((2, 2)))
        loss = (x * x).sum()
        tape.watch(np.ones(2)).sum()
    _, dy = tape.gradient(loss, [x, y])
    np.testing.assert_array_equal(dy, np.zeros((2, 2)))


def test_one_tensor_a_list_or_a_dict():
    with Tape(persistent=True) as tape:
        x = tape.watch(np.arange(3.0))
        loss = (x * x).sum()
    want = 2 * np.arange(3.0)
    np.testing.assert_array_equal(tape.gradient(loss, x), want)
    np.testing.assert_array_equal(tape.gradient(loss, [x])[0], want)
    got = tape.gradient(loss, {"a": x})
    assert list(got) == ["a"]
    np.testing.assert_array_equal(got["a"], want)


def test_intermediates_and_the_loss_itself():
    with Tape() as tape:
        x = tape.watch(np.arange(1.0, 4.0))
        y = x * x
        z = y * y + y
        loss = z.sum()
    dy, dloss, dx = tape.gradient(loss, [y, loss, x])
    np.testing.assert_allclose(dy, 2 * y.data + 1)
    np.testing.assert_allclose(dloss, 1.0)
    np.testing.assert_allclose(dx, (2 * y.data + 1) * 2 * x.data)


def test_returned_gradients_share_no_memory():
    """So that a caller may scale them in place, one by one."""
    with Tape() as tape:
        x, y = tape.watch(np.ones(3)), tape.watch(np.ones(3))
        z = x + y
        loss = z.sum()
    grads = tape.gradient(loss, [x, y, z, x])
    for i, g in enumerate(grads):
        assert g.flags.writeable
        g *= i + 2
    for i, g in enumerate(grads):
        np.testing.assert_array_equal(g, np.full(3, i + 2.0))


def test_accumulation_never_writes_into_an_array_a_vjp_returned():
    kept = []

    def remember(x):
        def vjp(g, xs, y, needs):
            kept.append((g, g.copy()))
            return (g,)

        return record("remember", (x,), unwrap(x).copy(), vjp)

    with Tape() as tape:
        x = tape.watch(np.arange(3.0))
        y = remember(x)
        loss = (remember(x) * 2 + remember(x) * 3 + remember(y) * 5 + remember(y) * 7 + y).sum()
    np.testing.assert_array_equal(tape.gradient(loss, x), np.full(3, 18.0))
    assert len(kept) == 5
    for g, before in kept:
        np.testing.assert_array_equal(g, before)


def test_only_what_leads_to_the_inputs_is_replayed():
    replayed = []

    def traced(x, name):
        def vjp(g, xs, y, needs):
            replayed.append((name, needs))
            return tuple(g if need else None for need in needs)

        return record(name, (x, x), unwrap(x) * 1, vjp)

    w = Parameter(np.ones(2))
    with Tape() as tape:
        x = tape.watch(np.ones(2))
        loss = (traced(w, "weight") * traced(x, "input")).sum()
    np.testing.assert_array_equal(tape.gradient(loss, x), np.full(2, 2.0))
    assert replayed == [("input", (True, True))]


def test_parameters_are_tracked_without_watch_and_take_updates():
    w = Parameter(np.ones(3, np.float32), name="w")
    for factor in (2.0, 3.0):
        with Tape() as tape:
            loss = (w * factor).sum()
        np.testing.assert_array_equal(tape.gradient(loss, w), np.full(3, factor))
        w.data -= 0.5
    np.testing.assert_array_equal(w.data, np.zeros(3))
    assert w.name == "w"
    twin = copy.deepcopy(w)
    assert type(twin) is Parameter
    assert twin.data is not w.data


# Nesting.


def test_the_contract_of_nested_tapes():
    a = rng().normal(size=(2, 3))
    with Tape() as outer:
        x = outer.watch(a)
        with Tape() as inner:
            assert inner.watch(x) is x
            y = (x**3).sum()
        (dx,) = inner.gradient(y, [x])
        assert type(dx) is Tensor
        loss = (dx * dx).sum()
    np.testing.assert_allclose(outer.gradient(loss, [x])[0], 36 * a**3)


def test_gradient_inside_the_inner_with_and_mixed_derivatives():
    a, b = rng().normal(size=3), rng().normal(size=3)
    with Tape() as outer:
        x, y = outer.watch(a), outer.watch(b)
        with Tape() as inner:
            inner.watch(x)
            z = (x * x * y).sum()
            (dx,) = inner.gradient(z, [x])
        loss = (dx * dx).sum()
    dxx, dxy = outer.gradient(loss, [x, y])
    np.testing.assert_allclose(dxx, 8 * a * b * b)
    np.testing.assert_allclose(dxy, 8 * a * a * b)


def test_the_outer_tape_may_replay_first():
    """The inner tape is the one that goes on recording, so it sees what the outer one's replay computes."""
    a = rng().normal(size=3)
    with Tape() as outer:
        x = outer.watch(a)
        with Tape() as inner:
            inner.watch(x)
            (dx,) = outer.gradient((x**3).sum(), [x])
            loss = (dx * x).sum()
    np.testing.assert_allclose(inner.gradient(loss, [x])[0], 9 * a**2)


@pytest.mark.parametrize("order", [3, 4])
def test_higher_orders(order):
    def derivative(x, depth):
        """The depth-th derivative of Σ sin(2x) at x, elementwise."""
        if depth == 0:
            return np.sin(x * 2.0)
        with Tape() as tape:
            x = tape.watch(x)
            total = derivative(x, depth - 1).sum()
        return tape.gradient(total, x)

    a = rng().normal(size=4)
    got = derivative(a, order)
    want = {3: -8 * np.cos(2 * a), 4: 16 * np.sin(2 * a)}[order]
    assert type(got) is np.ndarray
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_gradient_is_not_recorded_on_its_own_tape():
    with Tape(persistent=True) as tape:
        x = tape.watch(np.ones(2))
        y = (x * x).sum()
        before = tape.explain()
        assert type(tape.gradient(y, x)) is np.ndarray
        assert tape.explain() == before
        z = (x * 3.0).sum()
    np.testing.assert_array_equal(tape.gradient(z, x), np.full(2, 3.0))


def test_persistent_tapes_replay_again_others_say_so():
    with Tape(persistent=True) as tape:
        x = tape.watch(np.arange(3.0))
        y = x * x
        first, second = y.sum(), (y * y).sum()
    np.testing.assert_array_equal(tape.gradient(first, x), 2 * x.data)
    np.testing.assert_array_equal(tape.gradient(second, x), 4 * x.data**3)
    np.testing.assert_array_equal(tape.gradient(first, x), 2 * x.data)
    with Tape() as tape:
        x = tape.watch(np.arange(3.0))
        loss = x.sum()
    tape.gradient(loss, x)
    for again in (lambda: tape.gradient(loss, x), lambda: tape.watch(x), tape.__enter__):
        with pytest.raises(ValueError, match="persistent=True"):
            again()


# Memory, threads.


def test_the_replay_frees_what_it_has_passed():
    alive = []

    class Big(np.ndarray):
        pass

    def step(x, k):
        big = np.zeros(10).view(Big)
        alive.append(weakref.ref(big))

        def vjp(g, xs, y, needs, big=big):
            assert [r() is not None for r in alive] == [i <= k for i in range(5)]
            return (g + big,)

        return record(f"step{k}", (x,), unwrap(x) + 1, vjp)

    gc.disable()
    try:
        with Tape() as tape:
            x = y = tape.watch(np.ones(10))
            for k in range(5):
                y = step(y, k)
            loss = y.sum()
        held = weakref.ref(y)
        del y
        np.testing.assert_array_equal(tape.gradient(loss, x), np.ones(10))
        assert all(r() is None for r in alive)
        assert held() is None
        assert tape.explain().count("step") == 5
    finally:
        gc.enable()


def test_a_tape_without_replay_is_freed_by_reference_counting():
    gc.disable()
    try:
        with Tape() as tape:
            y = tape.watch(np.ones(3)) * 2
        held = weakref.ref(y)
        del tape, y
        assert held() is None
    finally:
        gc.enable()


def test_tapes_of_eight_threads_do_not_see_each_other():
    shared = Parameter(np.arange(4.0))
    start, found = threading.Barrier(8), {}

    def work(k):
        start.wait()
        for _ in range(50):
            with Tape() as tape:
                x = tape.watch(shared.data * 1.0)
                loss = (shared * x * k).sum()
            found[k] = tape.gradient(loss, [shared, x]), tape.explain().count("#")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    with Tape() as own:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert own.explain() == ""
    for k in range(8):
        (dw, dx), records = found[k]
        assert records == 3
        np.testing.assert_array_equal(dw, np.arange(4.0) * k)
        np.testing.assert_array_equal(dx, np.arange(4.0) * k)


def test_an_error_inside_with_leaves_no_tape_active():
    with pytest.raises(ZeroDivisionError), Tape() as tape:
        raise ZeroDivisionError
    Parameter(np.ones(2)) * 2
    assert tape.explain() == ""


# Explain.


def test_explain_before_and_after():
    def op(x, w):
        return record(
            "op",
            (x, w),
            unwrap(x) * unwrap(w),
            lambda g, xs, y, needs: (g * xs[1], g * xs[0]),
            lambda needs: [f"needs {needs}"],
        )

    with Tape() as tape:
        x = tape.watch(np.ones((2, 3)))
        loss = op(x, np.ones(3)).sum()
    want = "#0 op  (2, 3), (3,) → (2, 3)\n     needs (True, False)\n#1 sum  (2, 3) → ()"
    assert tape.explain() == want
    tape.gradient(loss, x)
    assert tape.explain() == want


# --- seeds: products of a vector and a Jacobian -------------------------------------------------------------


def squares_and_sums(x, w):
    return np.tanh(x) @ w


@pytest.mark.parametrize("kind", ["array", "float32", "strided", "list", "tensor", "number", "integers"])
def test_a_seed_gives_the_product_with_the_jacobian(kind):
    rng = np.random.default_rng(0)
    x, w, full = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=(4, 4))
    seed = {
        "array": full[:, :2].copy(),
        "float32": full[:, :2].astype(np.float32),
        "strided": full[:, ::2],
        "list": full[:, :2].tolist(),
        "tensor": Tensor(full[:, :2].copy()),
        "number": 2.5,
        "integers": np.arange(8).reshape(4, 2),
    }[kind]
    with Tape() as tape:
        tx, tw = tape.watch(x), tape.watch(w)
        y = squares_and_sums(tx, tw)
    dx, dw = tape.gradient(y, [tx, tw], seed=seed)
    g = np.broadcast_to(np.asarray(seed.data if isinstance(seed, Tensor) else seed, np.float64), (4, 2))
    np.testing.assert_allclose(dx, (g @ w.T) * (1 - np.tanh(x) ** 2), rtol=1e-12)
    np.testing.assert_allclose(dw, np.tanh(x).T @ g, rtol=1e-12)


def test_a_seed_and_results_share_no_memory():
    seed = np.ones((3, 2))
    with Tape(persistent=True) as tape:
        x = tape.watch(np.zeros((3, 2)))
        y = x + 1
    for z in (x, y):
        d = tape.gradient(z, x, seed=seed)
        d *= 7
        assert (seed == 1).all()


def test_an_outer_tape_differentiates_by_the_seed():
    """The product with the Jacobian is linear in the seed: its derivative is the product with the transposed
    Jacobian.
    """
    x, g, h = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), np.array([1.0, -1.0, 2.0])
    with Tape() as outer:
        seed = outer.watch(g)
        with Tape() as inner:
            tx = inner.watch(x)
            y = tx**3
        dx = inner.gradient(y, tx, seed=seed)
        loss = (dx * h).sum()
    np.testing.assert_allclose(outer.gradient(loss, seed), 3 * x**2 * h)


@pytest.mark.parametrize(
    ("seed", "error", "says"),
    [
        (np.ones((2, 3)), ValueError, r"seed has shape \(2, 3\), the loss \(3,\)"),
        (np.ones(3, complex), TypeError, "seed has dtype complex128"),
        ("ones", TypeError, "seed is a str"),
    ],
)
def test_wrong_seeds(seed, error, says):
    with Tape() as tape:
        x = tape.watch(np.ones(3))
        y = x * 2
    with pytest.raises(error, match=says):
        tape.gradient(y, x, seed=seed)
