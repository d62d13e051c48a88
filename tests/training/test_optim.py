"""Optimisers against literal transcriptions of the papers' formulas, and their errors."""

from __future__ import annotations

import io

import numba
import numpy as np
import pytest

from numgraph import dense  # noqa: F401  (fills the table of rules)
from numgraph.autodiff.tape import Parameter, Tape, Tensor
from numgraph.optim import SGD, Adam, AdamW, StepLR

LR, DECAY, STEPS = 0.1, 0.05, 7


def sgd(theta, gradient, lr=LR, momentum=0.0, nesterov=False, weight_decay=0.0):
    v = np.zeros_like(theta)
    for _ in range(STEPS):
        g = gradient(theta) + weight_decay * theta
        v = momentum * v + g
        theta = theta - lr * (g + momentum * v if nesterov else v)
    return theta


def sutskever(theta, gradient, momentum):
    """v ← μ v − ε ∇f(θ + μ v), θ ← θ + v (equations 3 and 4): in θ' = θ + μ v it is the nesterov step."""
    v = np.zeros_like(theta)
    for _ in range(STEPS):
        v = momentum * v - LR * gradient(theta + momentum * v)
        theta = theta + v
    return theta + momentum * v


def adam(theta, gradient, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, STEPS + 1):
        g = gradient(theta) + (0 if decoupled else weight_decay * theta)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps) - (lr * weight_decay * theta if decoupled else 0)
    return theta


def start(dtype=np.float64):
    return np.random.default_rng(0).normal(size=(3, 2)).astype(dtype)


def gradient(theta):
    """Of Σ (θ⁴/4 + sin θ)."""
    return theta**3 + np.cos(theta)


def run(make, dtype=np.float64, steps=STEPS):
    w = Parameter(start(dtype))
    opt = make([w])
    for _ in range(steps):
        with Tape() as tape:
            loss = (w**4 / 4 + np.sin(w)).sum()
        opt.step(tape.gradient(loss, opt.parameters))
    return w.data, opt


CASES = [
    (lambda ps: SGD(ps, LR), lambda x: sgd(x, gradient)),
    (lambda ps: SGD(ps, LR, weight_decay=DECAY), lambda x: sgd(x, gradient, weight_decay=DECAY)),
    (
        lambda ps: SGD(ps, LR, momentum=0.9, weight_decay=DECAY),
        lambda x: sgd(x, gradient, momentum=0.9, weight_decay=DECAY),
    ),
    (
        lambda ps: SGD(ps, LR, momentum=0.9, nesterov=True),
        lambda x: sgd(x, gradient, momentum=0.9, nesterov=True),
    ),
    (lambda ps: SGD(ps, LR, momentum=0.9, nesterov=True), lambda x: sutskever(x, gradient, 0.9)),
    (lambda ps: Adam(ps, LR), lambda x: adam(x, gradient)),
    (
        lambda ps: Adam(ps, LR, (0.8, 0.95), 1e-3, DECAY),
        lambda x: adam(x, gradient, LR, (0.8, 0.95), 1e-3, DECAY),
    ),
    (
        lambda ps: AdamW(ps, LR, weight_decay=DECAY),
        lambda x: adam(x, gradient, weight_decay=DECAY, decoupled=True),
    ),
    (lambda ps: AdamW(ps, LR, weight_decay=0.0), lambda x: adam(x, gradient)),
]


@pytest.mark.parametrize(("make", "formula"), CASES)
def test_steps_follow_the_papers_formulas(make, formula):
    want = formula(start())
    assert not np.allclose(want, start())
    np.testing.assert_allclose(run(make)[0], want, rtol=1e-12)
    single = run(make, np.float32)[0]
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, want, rtol=1e-4)


LAYOUTS = {
    "large": lambda x: x,
    "Fortran order": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("make", "formula"), CASES)
def test_steps_of_large_parameters_in_any_layout(make, formula, layout):
    theta = np.random.default_rng(1).uniform(-1, 1, (600, 500)).astype(np.float32)
    w = Parameter(LAYOUTS[layout](theta.copy()))
    opt = make([w])
    for _ in range(STEPS):
        opt.step([LAYOUTS[layout](gradient(w.data))])
    np.testing.assert_allclose(w.data, formula(theta.astype(np.float64)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [case[0] for case in CASES])
def test_bits_do_not_depend_on_the_threads(make):
    found, threads = [], numba.get_num_threads()
    for count in (threads, 1):
        numba.set_num_threads(count)
        w = Parameter(np.linspace(-1, 1, 300_001, dtype=np.float32))
        opt = make([w])
        for _ in range(2):
            opt.step([gradient(w.data)])
        found.append(w.data)
    numba.set_num_threads(threads)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("make", "formula"), CASES)
def test_a_parameter_may_be_a_single_number(make, formula):
    w = Parameter(start()[0, 0].reshape(()))
    opt = make([w])
    for _ in range(STEPS):
        opt.step([gradient(w.data)])
    assert w.shape == ()
    np.testing.assert_allclose(w.data, formula(start())[0, 0], rtol=1e-12)


def test_float16_parameters_keep_their_means_in_float32():
    w = Parameter(np.ones(3, np.float16))
    opt = Adam([w], lr=1e-2)
    for _ in range(3):
        opt.step([np.full(3, 1e-4, np.float16)])  # its square is 0 in float16
    assert w.dtype == np.float16
    np.testing.assert_allclose(w.data, 0.97, atol=2e-3)


def test_updates_are_in_place_and_leave_gradients_alone():
    for make, _ in CASES:
        array, g = start(), start() + 1
        w = Parameter(array)
        opt = make([w])
        for _ in range(3):
            opt.step([g])
        assert w.data is array
        np.testing.assert_array_equal(g, start() + 1)


def test_read_only_parameters_are_copied_first():
    array = start()
    array.flags.writeable = False
    w = Parameter(array)
    SGD([w], 1.0).step([array])
    np.testing.assert_array_equal(array, start())
    np.testing.assert_array_equal(w.data, 0)


def test_groups_have_their_own_weight_decay():
    a, b, c = (Parameter(np.ones(2)) for _ in range(3))
    opt = SGD(
        [{"params": [a], "weight_decay": 0.5}, {"params": iter([b])}, {"params": [c], "weight_decay": 0}],
        lr=1.0,
        weight_decay=0.25,
    )
    assert all(p is q for p, q in zip(opt.parameters, [a, b, c], strict=True))
    opt.step([np.zeros(2)] * 3)
    np.testing.assert_array_equal([a.data, b.data, c.data], [[0.5] * 2, [0.75] * 2, [1.0] * 2])


def test_the_learning_rate_can_be_set():
    w = Parameter(np.zeros(1))
    opt = SGD(iter([w]), lr=1.0)
    opt.step([np.ones(1)])
    opt.lr = 0.5
    opt.step([Tensor(np.ones(1))])
    np.testing.assert_array_equal(w.data, -1.5)


@pytest.mark.parametrize("make", [case[0] for case in CASES])
def test_saved_state_continues_as_if_never_stopped(make):
    want, _ = run(make)
    data, opt = run(make, steps=3)
    file = io.BytesIO()
    np.savez(file, **opt.state_dict())
    file.seek(0)
    w = Parameter(data.copy())
    again = make([w])
    again.lr = 123.0
    again.load_state_dict(dict(np.load(file)))
    for _ in range(STEPS - 3):
        again.step([gradient(w.data)])
    np.testing.assert_allclose(w.data, want, rtol=1e-13)
    again.state_dict()["lr"][...] = 7
    assert again.lr == LR


def test_errors_say_what_and_how():
    w = Parameter(np.ones((3, 2)), name="weight")
    opt = Adam([w])
    with pytest.raises(ValueError, match=r"Adam.step: 2 gradients for 1 parameters"):
        opt.step([None, None])
    with pytest.raises(ValueError, match=r"gradient 0 is None, parameter weight has shape \(3, 2\)"):
        opt.step([None])
    with pytest.raises(ValueError, match=r"gradient 0 is of shape \(2,\), parameter weight"):
        opt.step([np.ones(2)])
    np.testing.assert_array_equal(w.data, 1)
    for lr in (np.nan, np.inf, -1.0, "fast", None):
        with pytest.raises(ValueError, match=r"Adam: lr is .*finite"):
            Adam([w], lr=lr)
        with pytest.raises(ValueError, match="Adam: lr is"):
            opt.lr = lr
    with pytest.raises(ValueError, match=r"betas\[1\] is 1.0"):
        Adam([w], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="weight_decay is nan"):
        SGD([w], weight_decay=np.nan)
    with pytest.raises(ValueError, match="momentum is 1"):
        SGD([w], momentum=1)
    with pytest.raises(ValueError, match="nesterov without momentum"):
        SGD([w], nesterov=True)
    with pytest.raises(ValueError, match="no parameters"):
        SGD([])
    with pytest.raises(TypeError, match="parameter 1 is a ndarray"):
        SGD([w, np.ones(2)])
    with pytest.raises(ValueError, match="parameters 0 and 1 are the same"):
        SGD([w, w])
    with pytest.raises(ValueError, match="unknown key of group 0: 'decay'"):
        SGD([{"params": [w], "decay": 1}])
    with pytest.raises(TypeError, match="group 1 has no 'params'"):
        SGD([{"params": [w]}, w])
    state = opt.state_dict()
    with pytest.raises(ValueError, match=r"'m\.0' is not there"):
        opt.load_state_dict({k: v for k, v in state.items() if k != "m.0"})
    with pytest.raises(ValueError, match=r"unknown entry 'm\.1'"):
        opt.load_state_dict({**state, "m.1": 1})
    with pytest.raises(ValueError, match=r"v.0 has shape \(2,\) in the state, \(3, 2\) in the model"):
        opt.load_state_dict({**state, "v.0": np.ones(2)})
    with pytest.raises(ValueError, match=r"unknown entry 'm\.0'.* another kind of optimiser, Adam or AdamW$"):
        SGD([w]).load_state_dict(state)
    for other, said in ((SGD([w]), "SGD without momentum"), (SGD([w], momentum=0.9), "SGD with momentum")):
        with pytest.raises(ValueError, match=rf"'m\.0' is not there: the state is that of {said};"):
            opt.load_state_dict(other.state_dict())


@pytest.mark.parametrize("shapes", [((3,), (5,)), ((3,), (500_000,)), ((300_000,), (3,)), ((2, 3), (3, 2))])
@pytest.mark.parametrize(
    "make", [Adam, AdamW, lambda p: SGD(p, momentum=0.9)], ids=["Adam", "AdamW", "momentum"]
)
def test_a_parameter_of_another_size_is_an_error(make, shapes):
    """The optimiser's own arrays have the size that the parameter had: nothing may be written beyond them."""
    before, after = shapes
    p = Parameter(np.ones(before), "w")
    optimizer = make([p])
    optimizer.step([np.ones(before)])
    p.data = np.ones(after)
    with pytest.raises(ValueError, match=r"parameter w has shape .*, its \w+ here has"):
        optimizer.step([np.ones(after)])
    assert np.all(p.data == 1)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_a_parameter_takes_floats_only(dtype):
    p = Parameter(np.ones(3))
    with pytest.raises(TypeError, match="has no gradient"):
        p.data = np.ones(3, dtype)
    assert p.dtype == np.float64


def test_what_an_optimiser_and_a_schedule_say_they_are():
    w, b = Parameter(np.zeros(2)), Parameter(np.zeros(3))
    opt = Adam([{"params": [w], "lr": 0.5}, {"params": [b]}], lr=0.01)
    assert repr(opt) == "Adam(lr=[0.5, 0.01], parameters=2, steps=0)"
    schedule = StepLR(SGD([w], lr=1.0), 1, 0.5)
    schedule.step()
    assert repr(schedule) == "StepLR(SGD(lr=0.5, parameters=1, steps=0), steps=1)"
