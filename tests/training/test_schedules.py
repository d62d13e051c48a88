"""Learning rates per group, schedules and clipping: PyTorch is the oracle; state that is saved goes on with
the same bits.
"""

from __future__ import annotations

import copy
import math
import pickle
import re

import numpy as np
import pytest
from device import DeviceArray, asarray, device

import numgraph as ng
from numgraph.optim import (
    SGD,
    Adam,
    AdamW,
    CosineAnnealing,
    ReduceOnPlateau,
    Schedule,
    StepLR,
    Warmup,
    clip_gradients,
)

__all__ = ["device"]

STEPS = 14
RATES = (0.1, 0.02)
MEASURES = [5.0, 4.0, 4.0, 3.99999, 4.5, math.nan, 3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0]


def two_groups(make=SGD, **options):
    a, b = ng.Parameter(np.arange(3.0)), ng.Parameter(np.ones((2, 2)))
    return make([{"params": [a], "lr": RATES[0]}, {"params": [b]}], lr=RATES[1], **options)


def torchs(name="SGD", **options):
    import torch

    a, b = (
        torch.arange(3.0, dtype=torch.float64, requires_grad=True),
        torch.ones(2, 2, dtype=torch.float64, requires_grad=True),
    )
    return getattr(torch.optim, name)(
        [{"params": [a], "lr": RATES[0]}, {"params": [b]}], lr=RATES[1], **options
    )


def sequence(torch, opt, start, length, then):
    schedules = torch.optim.lr_scheduler
    warm = schedules.LinearLR(opt, start_factor=start, total_iters=length)
    return schedules.SequentialLR(opt, [warm, then(opt)], milestones=[length])


SCHEDULES = {
    "a function": (
        lambda o: Schedule(o, lambda t: 0.9**t),
        lambda o, torch: torch.optim.lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    ),
    "steps": (
        lambda o: StepLR(o, 4, gamma=0.3),
        lambda o, torch: torch.optim.lr_scheduler.StepLR(o, 4, gamma=0.3),
    ),
    "cosine": (
        lambda o: CosineAnnealing(o, STEPS, 0.01),
        lambda o, torch: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS, 0.01),
    ),
    "warm-up": (
        lambda o: Warmup(o, 5, start=0.2),
        lambda o, torch: torch.optim.lr_scheduler.LinearLR(o, 0.2, total_iters=5),
    ),
    "warm-up, then cosine": (
        lambda o: Warmup(o, 4, start=0.25, then=CosineAnnealing(o, 10)),
        lambda o, torch: sequence(
            torch, o, 0.25, 4, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10)
        ),
    ),
    "warm-up, then steps": (
        lambda o: Warmup(o, 3, start=0.5, then=StepLR(o, 2)),
        lambda o, torch: sequence(torch, o, 0.5, 3, lambda o: torch.optim.lr_scheduler.StepLR(o, 2)),
    ),
}


@pytest.mark.filterwarnings(
    "ignore:.*lr_scheduler.step:UserWarning", "ignore:The epoch parameter in:UserWarning"
)
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_torchs(name):
    torch = pytest.importorskip(
        "torch", reason="torch is not installed; test_rates_by_their_formulas needs none"
    )
    opt, other = two_groups(), torchs()
    make, theirs = SCHEDULES[name]
    schedule, oracle = make(opt), theirs(other, torch)
    for t in range(STEPS + 1):
        want = [group["lr"] for group in other.param_groups]
        np.testing.assert_allclose(
            [group["lr"] for group in opt.groups], want, rtol=1e-12, atol=1e-15, err_msg=f"step {t}"
        )
        assert schedule.steps == t
        other.step()
        schedule.step()
        oracle.step()


def test_rates_by_their_formulas():
    for make, formula in [
        (lambda o: Schedule(o, lambda k: 1 / (1 + k)), lambda base, t: base / (1 + t)),
        (lambda o: StepLR(o, 3), lambda base, t: base * 0.1 ** (t // 3)),
        (lambda o: CosineAnnealing(o, 5), lambda base, t: base * (1 + math.cos(math.pi * min(t, 5) / 5)) / 2),
        (lambda o: Warmup(o, 4), lambda base, t: base * (0.1 + 0.9 * min(t, 4) / 4)),
    ]:
        opt = two_groups()
        schedule = make(opt)
        for t in range(STEPS):
            np.testing.assert_allclose(
                [group["lr"] for group in opt.groups],
                [formula(base, t) for base in RATES],
                rtol=1e-14,
                atol=1e-16,
            )
            schedule.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "min_lr"), [(0, 0.0), (1, 0.004), (3, 0.0)])
def test_plateaus_are_torchs(mode, patience, min_lr):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    opt, other = two_groups(), torchs()
    schedule = ReduceOnPlateau(opt, mode, factor=0.5, patience=patience, min_lr=min_lr)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
        other, mode, factor=0.5, patience=patience, min_lr=min_lr
    )
    seen = set()
    for measure in MEASURES if mode == "min" else [-m + 10 for m in MEASURES]:
        schedule.step(np.float64(measure))
        oracle.step(measure)
        rates = [group["lr"] for group in opt.groups]
        np.testing.assert_allclose(rates, [group["lr"] for group in other.param_groups], rtol=1e-14)
        seen.add(tuple(rates))
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [(SGD, "SGD", {"momentum": 0.9}), (Adam, "Adam", {}), (AdamW, "AdamW", {"weight_decay": 0.1})],
)
def test_groups_step_by_their_own_rates(make, name, options):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    opt, other = two_groups(make, **options), torchs(name, **options)
    schedule, oracle = StepLR(opt, 2), torch.optim.lr_scheduler.StepLR(other, 2)
    for k in range(5):
        grads = [np.full(p.shape, k - 1.5) for p in opt.parameters]
        for p, g in zip([p for group in other.param_groups for p in group["params"]], grads):
            p.grad = torch.tensor(g)
        opt.step(grads)
        other.step()
        schedule.step()
        oracle.step()
    for p, q in zip(opt.parameters, [p for group in other.param_groups for p in group["params"]]):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12)


def test_one_rate_and_those_of_groups():
    opt = two_groups()
    assert (opt.lr, [group["lr"] for group in opt.groups]) == (RATES[0], list(RATES))
    with pytest.raises(
        ValueError,
        match=re.escape("SGD: the groups have the learning rates [0.1, 0.02]; set groups[i]['lr']"),
    ):
        opt.lr = 0.5
    for bad in (-1.0, math.nan, "fast"):
        opt.groups[1]["lr"] = bad
        before = [p.data.copy() for p in opt.parameters]
        with pytest.raises(ValueError, match="SGD: lr is"):
            opt.step([np.ones(p.shape) for p in opt.parameters])
        assert all(np.array_equal(p.data, old) for p, old in zip(opt.parameters, before))
    with pytest.raises(ValueError, match="Adam: lr of group 0 is -1"):
        Adam([{"params": [ng.Parameter(np.ones(1))], "lr": -1}])


# --- saving -------------------------------------------------------------------------------------------------


def made(kind, rng):
    model = Drops(rng)
    parameters = model.parameters()
    opt = Adam([{"params": parameters[:1], "lr": 0.05}, {"params": parameters[1:]}], lr=0.01)
    return (
        model,
        opt,
        KINDS[kind](opt),
        {"noise": np.random.default_rng(rng), "batches": np.random.Generator(np.random.Philox(rng))},
    )


class Drops(ng.nn.Module):
    def __init__(self, rng):
        self.first, self.drop = (
            ng.nn.Linear(3, 4, rng=rng),
            ng.nn.Dropout(0.5, rng=np.random.default_rng(rng)),
        )
        self.second = ng.nn.Linear(4, 2, rng=rng + 1)

    def forward(self, x):
        return self.second(self.drop(ng.relu(self.first(x))))


KINDS = {
    "warm-up, then cosine": lambda o: Warmup(o, 3, then=CosineAnnealing(o, 8)),
    "plateau": lambda o: ReduceOnPlateau(o, patience=1, factor=0.5),
    "steps": lambda o: StepLR(o, 2),
}


def train(model, opt, schedule, generators, steps):
    for _ in range(steps):
        x = generators["noise"].normal(size=(8, 3))
        rows = generators["batches"].permutation(8)[:5]
        with ng.Tape() as tape:
            loss = ng.cross_entropy(model(x[rows]), (x[rows].sum(1) > 0).astype(int))
        grads = tape.gradient(loss, opt.parameters)
        clip_gradients(grads, max_norm=0.5)
        opt.step(grads)
        schedule.step(*[loss.data] * isinstance(schedule, ReduceOnPlateau))


def state(model, opt, schedule, generators):
    arrays = {
        **model.state_dict(),
        **opt.state_dict(),
        **{f"schedule {name}": array for name, array in schedule.state_dict().items()},
    }
    return pickle.dumps(
        (arrays, model.random_state(), {name: one.bit_generator.state for name, one in generators.items()})
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_with_schedule_and_generators_has_the_same_bits(kind, suffix, tmp_path):
    whole = made(kind, 0)
    train(*whole, 9)
    first = made(kind, 0)
    train(*first, 4)
    path = tmp_path / f"state{suffix}"
    ng.save(path, first[0], first[1], first[3], schedule=first[2])
    rest = made(kind, 5)
    train(*rest, 2)  # whatever it was before
    ng.load(path, rest[0], rest[1], rest[3], schedule=rest[2])
    assert state(*rest) == state(*first)
    train(*rest, 5)
    assert state(*rest) == state(*whole)


def test_copies_and_pickles_of_a_training_go_on_too():
    for kind in KINDS:
        whole, first = made(kind, 0), made(kind, 0)
        train(*whole, 9)
        train(*first, 4)
        for rest in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
            train(*rest, 5)
            assert state(*rest) == state(*whole)


def test_what_does_not_fit_changes_nothing(tmp_path):
    first, other = made("steps", 0), made("plateau", 1)
    train(*first, 2)
    ng.save(tmp_path / "a.npz", first[0], first[1], first[3], schedule=first[2])
    ng.save(tmp_path / "plain.npz", first[0])
    before = state(*other)
    for call, text in [
        (
            lambda: ng.load(tmp_path / "a.npz", *other[:2], other[3], schedule=other[2]),
            "the state has ['base_rates', 'steps'], this sched",
        ),
        (lambda: ng.load(tmp_path / "plain.npz", other[0], schedule=other[2]), "was saved without schedule="),
        (
            lambda: ng.load(tmp_path / "a.npz", other[0], rng={"noise": other[3]["noise"]}),
            "has the generators ['batches', 'noise'], rng [",
        ),
        (
            lambda: ng.load(tmp_path / "a.npz", other[0], Adam(other[0].parameters())),
            "Adam.load_state_dict: 'lr' is array([0.005, 0.00",
        ),
    ]:
        with pytest.raises(ValueError, match=re.escape(text)):
            call()
        assert state(*other) == before
    for call, text in [
        (
            lambda: ng.save(tmp_path / "b.npz", first[0], schedule=0.1),
            "save: schedule is a float; pass one of numgraph.optim",
        ),
        (
            lambda: ng.save(tmp_path / "b.npz", first[0], rng={"noise": 3}),
            "save: rng['noise'] is an int; pass generators by name",
        ),
        (lambda: ng.save(tmp_path / "b.npz", first[0], rng=3), "save: rng is an int; pass a generator"),
    ]:
        with pytest.raises(TypeError, match=re.escape(text)):
            call()


def test_load_state_dict_of_what_fits():
    model, other = Drops(0), Drops(7)
    part = {name: array for name, array in other.state_dict().items() if name.startswith("first")}
    kept = model.second.state_dict()
    found = model.load_state_dict({**part, "third.weight": np.ones(2)}, strict=False)
    assert found == ([f"second.{name}" for name in kept], ["third.weight"])
    assert (found.missing_keys, found.unexpected_keys) == tuple(found)
    for name, array in {**part, **{f"second.{name}": array for name, array in kept.items()}}.items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    assert model.load_state_dict(other.state_dict()) == ([], [])
    before = pickle.dumps(model.state_dict())
    wrong = {name: array[..., :1] for name, array in part.items()}
    for strict in (True, False):
        with pytest.raises(ValueError, match=r"first.weight has shape .* in the state, .* in the model"):
            model.load_state_dict({**other.state_dict(), **wrong}, strict=strict)
    with pytest.raises(ValueError, match=r"second\.weight is not in the state"):
        model.load_state_dict(part)
    with pytest.raises(TypeError, match="the state is a list"):
        model.load_state_dict([1], strict=False)
    assert pickle.dumps(model.state_dict()) == before


# --- clipping -----------------------------------------------------------------------------------------------

GRADS = [
    np.random.default_rng(k).normal(size=shape) * 3 for k, shape in enumerate([(3, 2), (4,), (), (0, 5)])
]


@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 100.0])
def test_clipping_by_norm_is_torchs(max_norm, order):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    parameters = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in GRADS]
    for p, g in zip(parameters, GRADS):
        p.grad = torch.tensor(g)
    want = torch.nn.utils.clip_grad_norm_([p for p in parameters if p.numel()], max_norm, order)
    grads = list(GRADS)
    kept = [g.copy() for g in GRADS]
    np.testing.assert_allclose(clip_gradients(grads, max_norm, order=order), want.item(), rtol=1e-14)
    for got, p, g, old in zip(grads, parameters, GRADS, kept):
        np.testing.assert_allclose(got, p.grad.numpy(), rtol=1e-12)
        np.testing.assert_array_equal(g, old)


def test_clipping_by_value_and_by_both():
    grads = list(GRADS)
    norm = np.sqrt(sum((g**2).sum() for g in GRADS))
    np.testing.assert_allclose(clip_gradients(grads, max_value=0.3), norm, rtol=1e-14)
    for got, g in zip(grads, GRADS):
        np.testing.assert_array_equal(got, np.clip(g, -0.3, 0.3))
    within = np.sqrt(sum((g**2).sum() for g in grads))
    both = list(GRADS)
    np.testing.assert_allclose(clip_gradients(both, 0.1, max_value=0.3), norm, rtol=1e-14)
    for got, g in zip(both, grads):
        np.testing.assert_allclose(got, g * 0.1 / (within + 1e-6), rtol=1e-14)


def test_dtypes_and_places_stay(device):
    grads = [np.full(3, 2e3, np.float16), np.full(2, 1e30, np.float32)]  # whose squares are infinite
    np.testing.assert_allclose(clip_gradients(grads, 1.0), 1e30 * np.sqrt(2), rtol=1e-6)
    assert [g.dtype for g in grads] == [np.float16, np.float32]
    np.testing.assert_allclose(grads[1], np.sqrt(0.5), rtol=1e-6)
    there = [asarray(g) for g in GRADS[:2]]
    here = list(GRADS[:2])
    assert clip_gradients(there, 1.0, max_value=2.0) == pytest.approx(
        clip_gradients(here, 1.0, max_value=2.0)
    )
    for a, b in zip(there, here):
        assert type(a) is DeviceArray
        np.testing.assert_allclose(a.get(), b)


one = SGD([ng.Parameter(np.ones(1))])
BAD = [
    (
        lambda: clip_gradients(tuple(GRADS), 1.0),
        TypeError,
        "clip_gradients: grads is a tuple; pass the list that tape.gradient",
    ),
    (
        lambda: clip_gradients([np.ones(1)]),
        ValueError,
        "clip_gradients: neither max_norm nor max_value is given",
    ),
    (lambda: clip_gradients([np.ones(1), None], 1.0), TypeError, "clip_gradients: grads[1] is None"),
    (lambda: clip_gradients([np.ones(1)], -1.0), ValueError, "clip_gradients: max_norm is -1.0"),
    (lambda: clip_gradients([np.ones(1)], 1.0, order=0), ValueError, "clip_gradients: order is 0"),
    (
        lambda: clip_gradients([np.ones(1), np.array([1, np.nan])], 1.0),
        ValueError,
        "clip_gradients: the norm is nan: gradient 1 is not fi",
    ),
    (lambda: StepLR(one, 0), ValueError, "StepLR: step_size is 0; step_size is a whole number, at least 1"),
    (lambda: CosineAnnealing(one, 2.5), ValueError, "CosineAnnealing: steps is 2.5"),
    (lambda: Warmup([1], 3), TypeError, "Warmup: optimizer is a list; pass the optimiser first"),
    (
        lambda: Warmup(one, 3, then=StepLR(two_groups(), 1)),
        ValueError,
        "Warmup: then is a StepLR; give a schedule of the same",
    ),
    (lambda: Schedule(one, 0.5), TypeError, "Schedule: factor is a float; give a function"),
    (lambda: Schedule(one, lambda t: math.nan), ValueError, "Schedule: factor(0) is nan"),
    (
        lambda: ReduceOnPlateau(one, "low"),
        ValueError,
        "ReduceOnPlateau: unknown mode 'low'; choose from 'min', 'max'",
    ),
    (lambda: ReduceOnPlateau(one, factor=1.0), ValueError, "ReduceOnPlateau: factor is 1.0"),
    (
        lambda: ReduceOnPlateau(one).step(),
        TypeError,
        "ReduceOnPlateau.step: measure is None; pass one number",
    ),
    (
        lambda: StepLR(one, 1).load_state_dict({"steps": 1}),
        ValueError,
        "StepLR.load_state_dict: the state has ['steps'], this schedule",
    ),
    (lambda: ng.optim.StepLr, AttributeError, "numgraph.optim has no 'StepLr', did you mean 'StepLR'?"),
    (
        lambda: ng.clip_gradients,
        AttributeError,
        "numgraph has no 'clip_gradients'; it is numgraph.optim.clip_gradients",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[text[:60] for *_, text in BAD])
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
