"""No silent wrong gradient: losses that the tape did not see, inputs watched too late, and arrays that change
before the replay.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import scipy.sparse as sp

import numgraph as ng
from numgraph.arrays.fingerprint import EXACT, fingerprint

GRAPH = ng.Graph([0, 1, 2, 0], [1, 2, 0, 2], 3)


def square(x):
    return np.sum(x * x)


# Losses and inputs that the tape did not see.


def after_the_with(x):
    with ng.Tape() as tape:
        y = x * 2
    return tape, square(y)


def never_entered(x):
    tape = ng.Tape()
    return tape, square(tape.watch(x) if not isinstance(x, ng.Tensor) else x)


def on_another_tape(x):
    with ng.Tape() as tape:
        square(x)
    with ng.Tape():
        loss = square(x)
    return tape, loss


def on_a_freed_tape(x):
    with ng.Tape() as freed:
        loss = square(freed.watch(x))
    freed.gradient(loss, x)
    with ng.Tape() as tape:
        square(x)
    return tape, loss


def of_a_constant(x):
    with ng.Tape() as tape:
        square(x)
        return tape, square(ng.Tensor(np.ones(3)))


def of_the_plain_array(x):
    with ng.Tape() as tape:
        return tape, square(x.data)


def a_number(x):
    with ng.Tape() as tape:
        return tape, square(x).item()


def in_another_thread(x):
    found = []
    with ng.Tape() as tape:
        square(x)
        thread = threading.Thread(target=lambda: found.append(square(x)))
        thread.start()
        thread.join()
    return tape, found[0]


@pytest.mark.parametrize("kind", [ng.Parameter, ng.Tensor])
@pytest.mark.parametrize(
    "make",
    [
        after_the_with,
        never_entered,
        on_another_tape,
        on_a_freed_tape,
        of_a_constant,
        of_the_plain_array,
        a_number,
        in_another_thread,
    ],
)
def test_a_loss_that_the_tape_did_not_see_is_an_error(make, kind):
    x = kind(np.arange(3.0))
    p = ng.Parameter(np.ones(3))
    tape, loss = make(x)
    with pytest.raises(
        (TypeError, ValueError),
        match=r"gradient: (the loss was not computed under this tape|loss is a float).*with",
    ):
        tape.gradient(loss, [p])


def test_a_message_of_parameters_after_the_with_is_an_error():
    p = ng.Parameter(np.ones(3))
    with ng.Tape() as tape:
        pass
    loss = np.sum(ng.update_all(GRAPH, lambda u: u.x, "sum", u={"x": p}))
    with pytest.raises(TypeError, match="no Tensor"):
        tape.gradient(loss, p)


def test_inputs_that_the_tape_cannot_have_tracked_are_an_error():
    with ng.Tape() as tape, ng.Tape() as other:
        x, foreign = tape.watch(np.ones(3)), other.watch(np.ones(3))
        loss = square(x)
        late = tape.watch(np.ones(2))
        late_tensor = tape.watch(ng.Tensor(np.ones(2)))
    for wrong, words in (
        (foreign, "does not track"),
        (ng.Tensor(np.ones(3)), "does not track"),
        (np.ones(3), "is a ndarray"),
    ):
        with pytest.raises(ValueError, match=words):
            tape.gradient(loss, [x, wrong])
    for wrong in (late, late_tensor):
        with pytest.raises(
            ValueError, match=r"inputs\[1\], a Tensor of shape \(2,\), was watched after the loss"
        ):
            tape.gradient(loss, [x, wrong])


def test_a_tensor_that_was_used_before_it_is_watched_is_an_error():
    with ng.Tape() as tape:
        w, early, mixed = tape.watch(np.ones(3)), ng.Tensor(np.ones(3)), ng.Tensor(np.ones(3))
        early * 2
        w * mixed
        for x in (early, mixed):
            with pytest.raises(ValueError, match="used on this tape before"):
                tape.watch(x)


def test_zeros_are_for_what_the_loss_really_does_not_use():
    p = ng.Parameter(np.ones(2))
    with ng.Tape(persistent=True) as tape:
        x, unused = tape.watch(np.arange(3.0)), tape.watch(np.ones((2, 2)))
        loss = square(x)
        steps = np.sum(np.sign(x) * np.floor(x)).sum()
        later = x * 3
    for loss_of, inputs in ((loss, [unused, p, later]), (steps, [x, unused, p])):
        for input_, d in zip(inputs, tape.gradient(loss_of, inputs), strict=True):
            np.testing.assert_array_equal(d, np.zeros(input_.shape))


def test_a_loss_may_be_watched_or_a_parameter_itself():
    p = ng.Parameter(np.array(3.0))
    with ng.Tape(persistent=True) as tape:
        x = tape.watch(np.array(2.0))
        y = tape.watch(np.array(2.0))
    assert tape.gradient(p, p) == 1
    dx, dy = tape.gradient(x, [x, y])
    assert (dx, dy) == (1, 0)


def test_second_derivatives_of_linear_functions_are_zero():
    with ng.Tape() as outer:
        x = outer.watch(np.arange(3.0))
        with ng.Tape() as inner:
            inner.watch(x)
            loss = (x * 2).sum()
        d = inner.gradient(loss, x)
        total = (d * d).sum()
    np.testing.assert_array_equal(outer.gradient(total, x), np.zeros(3))


# Arrays that change between recording and replay.


def optimiser_step(p, x):
    ng.optim.SGD([p], lr=1.0).step([np.ones(p.shape)])


def adam_step(p, x):
    ng.optim.Adam([p], lr=1.0).step([np.ones(p.shape)])


def load_state_dict(p, x):
    model = ng.nn.Module()
    model.p = p
    model.load_state_dict({"p": np.zeros(p.shape)})


def assigned(p, x):
    p.data[...] = 0


def subtracted(p, x):
    p.data -= 1


def one_element(p, x):
    p.data[-1] += 1


def rebound(p, x):
    p.data = p.data * 2


def the_callers_array(p, x):
    x[...] = 7


def one_element_of_the_callers(p, x):
    x[0] = np.nan


def through_a_view(p, x):
    x[1:][...] *= 2


def through_a_reshape(p, x):
    x.reshape(-1)[-1] = 5


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    "change",
    [optimiser_step, adam_step, load_state_dict, assigned, subtracted, one_element, rebound]
    + [the_callers_array, one_element_of_the_callers, through_a_view, through_a_reshape],
)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("shape", [(3,), (3, 40), (3, 2000)])
def test_a_change_before_the_replay_is_an_error(change, constant, persistent, shape):
    p, array = (
        ng.Parameter(np.linspace(1, 2, int(np.prod(shape))).reshape(shape), "weight"),
        np.linspace(2, 3, int(np.prod(shape))).reshape(shape),
    )
    with ng.Tape(persistent) as tape:
        x = array if constant else tape.watch(array)
        loss = np.sum((p * x) ** 2)
    if persistent:
        np.testing.assert_allclose(tape.gradient(loss, p), 2 * p.data * array**2)
    before = p.data.copy(), array.copy()
    change(p, array)
    named = "parameter 'weight'" if not np.array_equal(before[0], p.data) else "the ndarray"
    with pytest.raises(
        ValueError,
        match=rf"gradient: {named} of shape .* of multiply, was changed after the tape recorded it; "
        rf".*record again",
    ):
        tape.gradient(loss, p)


READ = {
    "a field": (
        np.ones((4, 1)),
        lambda p, c: ng.update_all(GRAPH, lambda u, e: u.x * e.w, "sum", u={"x": p}, e={"w": c}),
    ),
    "a captured array": (np.ones(2), lambda p, c: ng.update_all(GRAPH, lambda u: u.x * c, "sum", u={"x": p})),
    "row ids": (np.array([0, 2, 2]), lambda p, c: p[c] ** 2),
    "ids of two axes": (np.array([0, 2, 2]), lambda p, c: p[c, 0] ** 2),
    "a mask": (np.array([True, False, True]), lambda p, c: p[c] ** 2),
    "gathered": (np.array([0, 2, 2]), lambda p, c: ng.gather(p, c) ** 2),
    "scattered": (np.array([0, 2, 2]), lambda p, c: ng.scatter_add(p, c, 4) ** 2),
    "taken": (np.array([0, 2, 2]), lambda p, c: np.take(p, c, axis=0) ** 2),
    "a matrix": (np.ones((1, 3)), lambda p, c: c @ p),
    "a condition": (np.ones((3, 1), bool), lambda p, c: np.where(c, p, 0) ** 2),
    "einsum": (np.ones(3), lambda p, c: np.einsum("nf,n->f", p, c)),
    "rows of a loss": (np.array([0, 2]), lambda p, c: ng.cross_entropy(p, np.array([0, 1, 0]), c)),
    "targets of a loss": (np.zeros((3, 2)), lambda p, c: ng.mse(p, c)),
    "broadcast": (np.ones(2), lambda p, c: p * np.broadcast_to(c, (3, 2))),
}


@pytest.mark.parametrize("kind", READ)
def test_a_constant_that_changes_is_an_error(kind):
    p = ng.Parameter(np.arange(1.0, 7.0).reshape(3, 2))
    constant, read = READ[kind]
    constant = constant.copy()
    with ng.Tape() as tape:
        loss = np.sum(read(p, constant))
    constant.reshape(-1)[0] = {"b": False, "i": 1, "f": 5}[constant.dtype.kind]
    with pytest.raises(ValueError, match="was changed after the tape recorded it"):
        tape.gradient(loss, p)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_a_sparse_constant_that_changes_is_an_error(format, kind):
    a = getattr(sp, f"{format}_{kind}")(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
    p = ng.Parameter(np.ones((3, 2)))
    with ng.Tape() as tape:
        loss = np.sum((a @ p) ** 2)
    if format in ("lil", "dok"):
        a[0, 0] = 5
    else:
        a.data[...] = 5
    with pytest.raises(ValueError, match="was changed after the tape recorded it"):
        tape.gradient(loss, p)


def test_what_the_gradient_does_not_need_may_change():
    a, b = ng.Parameter(np.ones(3), "a"), ng.Parameter(np.ones(3), "b")
    with ng.Tape(persistent=True) as tape:
        loss_a, loss_b = square(a), square(b)
    ng.optim.SGD([a], lr=1.0).step([tape.gradient(loss_a, a)])
    np.testing.assert_array_equal(tape.gradient(loss_b, b), np.full(3, 2.0))
    a.data[...] = 1  # the bits that were recorded
    np.testing.assert_array_equal(tape.gradient(loss_a, a), np.full(3, 2.0))
    b.data = b.data.copy()
    np.testing.assert_array_equal(tape.gradient(loss_b, b), np.full(3, 2.0))


def test_nan_is_equal_to_itself():
    with ng.Tape() as tape:
        x = tape.watch(np.array([np.nan, 1.0]))
        loss = np.sum(x * x)
    np.testing.assert_array_equal(tape.gradient(loss, x), [np.nan, 2.0])


def test_the_optimisers_step_is_seen_whatever_the_size():
    p = ng.Parameter(np.ones((1 << 14, 16)))
    with ng.Tape() as tape:
        loss = np.sum(p * p)
    g = np.zeros(p.shape)
    g[12345, 3] = 1.0
    ng.optim.SGD([p], lr=1.0).step([g])
    with pytest.raises(ValueError, match="was changed"):
        tape.gradient(loss, p)


def layouts(rng):
    a = rng.normal(size=(40, 30))
    yield from (
        a,
        a.T,
        a[::2],
        a[:, ::3],
        a[::-1],
        np.asfortranarray(a),
        a.astype(np.float16),
        a.astype(np.float32)[1:],
        a > 0,
    )
    yield from (rng.normal(size=n) for n in (1, 127, 128, 129, 1001, EXACT // 8))
    yield rng.normal(size=(4096, 100))[:, ::2]


def test_fingerprints_see_every_element():
    rng = np.random.default_rng(0)
    for a in layouts(rng):
        before = fingerprint(a)
        if a.nbytes <= EXACT:
            assert fingerprint(a.copy(order="K")) == before
        places = [
            (0,) * a.ndim,
            tuple(n - 1 for n in a.shape),
            *[tuple(rng.integers(n) for n in a.shape) for _ in range(20)],
        ]
        for place in places if a.nbytes <= EXACT else places[:1]:
            kept = a[place]
            a[place] = not kept if a.dtype == bool else np.nextafter(kept, a.dtype.type(9))
            assert fingerprint(a) != before, (a.shape, a.dtype, place)
            a[place] = kept
        assert fingerprint(a) == before


def test_fingerprints_see_values_that_move_or_change_together():
    ones = np.ones(4096)
    seen = [fingerprint(ones * k) for k in (1.0, 2.0, 4.0, 0.5, -1.0, 0.0)]
    ramp = np.arange(4096.0)
    seen += [fingerprint(x) for x in (ramp, ramp[::-1], np.roll(ramp, 1), np.roll(ramp, 8), ramp + 1, -ramp)]
    assert len(set(seen)) == len(seen)
    assert fingerprint(np.empty(0)) == fingerprint(np.empty(0))


def test_large_arrays_are_sampled_from_end_to_end():
    a = np.zeros(32 * EXACT)  # 8 MiB
    before = fingerprint(a)
    for change in (np.s_[:1], np.s_[-1:], np.s_[:], np.s_[5000:100000], np.s_[::2]):
        b = a.copy()
        b[change] = 1
        assert fingerprint(b) != before


def test_without_compiled_code_fingerprints_are_copies():
    code = (
        "import numpy as np\nfrom numgraph.arrays.fingerprint import fingerprint\na = np.ones(5000)\nassert "
        "fingerprint(a) == a.tobytes()"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr


# Asyncio tasks, threads, generators.


def test_each_task_has_its_own_tapes():
    shared = ng.Parameter(np.arange(3.0))

    async def one(k):
        with ng.Tape() as tape:
            x = tape.watch(np.array(float(k)))
            await asyncio.sleep(0)
            y = np.sum(shared * x)
            await asyncio.sleep(0)
            loss = y * y
        return tape.gradient(loss, [x, shared]), tape.explain().count("#")

    async def main():
        return await asyncio.gather(*[one(k) for k in range(1, 6)])

    for k, ((dx, dp), count) in enumerate(asyncio.run(main()), start=1):
        assert type(dx) is type(dp) is np.ndarray
        assert (float(dx), count) == (18.0 * k, 3)
        np.testing.assert_array_equal(dp, 6.0 * k * k * np.ones(3))


def test_tasks_and_threads_inside_a_with_are_recorded_and_not_after_it():
    p = ng.Parameter(np.arange(3.0))
    after = []

    async def part(k):
        await asyncio.sleep(0)
        return square(p * float(k))

    async def straggler(done):
        await done.wait()
        after.append(square(p))

    async def main():
        done = asyncio.Event()
        with ng.Tape() as tape:
            late = asyncio.create_task(straggler(done))
            losses = [*await asyncio.gather(part(1), part(2)), await asyncio.to_thread(square, p)]
            loss = losses[0] + losses[1] + losses[2]
        count = tape.explain().count("#")
        done.set()
        await late
        assert tape.explain().count("#") == count
        return tape.gradient(loss, p)

    np.testing.assert_allclose(asyncio.run(main()), 2 * (1 + 4 + 1) * np.arange(3.0))
    assert len(after) == 1


def test_a_generator_that_is_left_open_records_nothing_more():
    p = ng.Parameter(np.ones(3))

    def steps():
        with ng.Tape() as tape:
            yield tape
            loss = square(p)
            yield tape.gradient(loss, p)

    generator = steps()
    tape = next(generator)
    np.testing.assert_array_equal(next(generator), np.full(3, 2.0))
    square(p)
    assert tape.explain().count("#") == 2
    generator.close()
    assert type(p * 2) is np.ndarray
