"""Schedules of learning rates. Each follows one optimiser; call ``schedule.step()`` after each epoch, or
after each step.

schedule = Warmup(opt, 10, then=CosineAnnealing(opt, 190))
for epoch in range(200):
    ...
    schedule.step()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numgraph.arrays.inputs import kind_of, number
from numgraph.autodiff.tensor import unwrap
from numgraph.errors import bad_type, bad_value, check_name, shown
from numgraph.optim.optimizers import Optimizer


class Schedule:
    """Each group's learning rate after t steps is ``factor(t)`` times the one that it had when the schedule
    was made.

    Parameters
    ----------
    optimizer : whose ``groups`` get their rates, at once and in every ``step``
    factor : a function of the number of steps made

    Attributes
    ----------
    steps : t
    base_rates : the learning rate of each group when the schedule was made

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> opt = ng.optim.SGD([ng.Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = ng.optim.Schedule(opt, lambda t: 0.5**t)
    >>> schedule.step()
    >>> opt.lr
    0.5
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        if not callable(factor) or isinstance(factor, type):
            raise bad_type(
                type(self).__name__, f"factor is {kind_of(factor)}", "give a function, as lambda t: 0.95**t"
            )
        self.factor = factor
        self._follow(optimizer)

    def _follow(self, optimizer: Optimizer) -> None:
        op = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise bad_type(
                op, f"optimizer is {kind_of(optimizer)}", "pass the optimiser first, one of numgraph.optim"
            )
        self.optimizer, self.steps = optimizer, 0
        self.base_rates: list[float] = [group["lr"] for group in optimizer.groups]
        self._set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.optimizer!r}, steps={self.steps})"

    def rate(self, base: float, t: int) -> float:
        """The learning rate after t steps of a group that began with the rate `base`."""
        return base * number(type(self).__name__, f"factor({t})", self.factor(t))

    def _set(self) -> None:
        for group, rate in zip(
            self.optimizer.groups, [self.rate(base, self.steps) for base in self.base_rates]
        ):
            group["lr"] = rate

    def step(self) -> None:
        """One more step: the optimiser gets its next learning rates."""
        self.steps += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """The state as flat names and arrays: ``steps`` and ``base_rates``; ``numgraph.save(…, schedule=)``
        writes it.
        """
        return {"steps": np.asarray(self.steps), "base_rates": np.asarray(self.base_rates)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict()``'s state, of a schedule with the same options; the optimiser's rates
        become what they were then.
        """
        op, own = f"{type(self).__name__}.load_state_dict", self.state_dict()
        given = {key: np.asarray(value) for key, value in state.items()} if isinstance(state, Mapping) else {}
        fix = "pass what state_dict() of a schedule like this one gave"
        if given.keys() != own.keys():
            raise bad_value(op, f"the state has {sorted(given)}, this schedule {sorted(own)}", fix)
        for key, value in given.items():
            if value.shape != own[key].shape or value.dtype.kind not in "iuf":
                raise bad_value(op, f"{key!r} is {shown(state[key])}", fix)
        self._restore(given)
        self._set()

    def _restore(self, state: dict[str, Any]) -> None:
        self.steps, self.base_rates = int(state["steps"]), state["base_rates"].tolist()


class StepLR(Schedule):
    """Multiplies the learning rate by `gamma` after every `step_size` steps.

    Parameters
    ----------
    optimizer : whose learning rates are set
    step_size : after how many steps
    gamma : the factor

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> optimizer = ng.optim.SGD([ng.Parameter(np.ones(2))], lr=1.0)
    >>> schedule = ng.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> optimizer.groups[0]["lr"]
    0.5
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = (
            _count("StepLR", "step_size", step_size),
            number("StepLR", "gamma", gamma),
        )
        self._follow(optimizer)

    def rate(self, base: float, t: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class CosineAnnealing(Schedule):
    """From the learning rate to `min_lr` along half a cosine in `steps` steps, and stays there (Loshchilov
    and Hutter, ICLR 2017).

    Parameters
    ----------
    optimizer : whose learning rates are set
    steps : in how many
    min_lr : the rate at the end

    Notes
    -----
    The rate after t steps is min_lr + (base − min_lr) · (1 + cos(π t / steps)) / 2.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> optimizer = ng.optim.SGD([ng.Parameter(np.ones(2))], lr=1.0)
    >>> schedule = ng.optim.CosineAnnealing(optimizer, steps=2)
    >>> schedule.step()
    >>> round(optimizer.groups[0]["lr"], 6)
    0.5
    """

    def __init__(self, optimizer: Optimizer, steps: int, min_lr: float = 0.0) -> None:
        self.length, self.min_lr = (
            _count("CosineAnnealing", "steps", steps),
            number("CosineAnnealing", "min_lr", min_lr),
        )
        self._follow(optimizer)

    def rate(self, base: float, t: int) -> float:
        return (
            self.min_lr
            + (base - self.min_lr) * (1 + math.cos(math.pi * min(t, self.length) / self.length)) / 2
        )


class Warmup(Schedule):
    """From `start` times the learning rate to all of it, linearly in `steps` steps; then as another schedule,
    if one is given.

    Parameters
    ----------
    optimizer : whose learning rates are set
    steps : in how many
    start : the share of the rate at the beginning
    then : a schedule of the same optimiser, whose steps are counted from the end of the warm-up;
        it is stepped by this one alone

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> optimizer = ng.optim.SGD([ng.Parameter(np.ones(2))], lr=1.0)
    >>> schedule = ng.optim.Warmup(optimizer, steps=2, start=0.5)
    >>> schedule.step()
    >>> optimizer.groups[0]["lr"]
    0.75
    """

    def __init__(
        self, optimizer: Optimizer, steps: int, start: float = 0.1, then: Schedule | None = None
    ) -> None:
        self.length, self.start, self.then = (
            _count("Warmup", "steps", steps),
            number("Warmup", "start", start),
            then,
        )
        if then is not None:
            if (
                not isinstance(then, Schedule)
                or isinstance(then, ReduceOnPlateau)
                or then.optimizer is not optimizer
            ):
                fix = "give a schedule of the same optimiser that follows the number of steps"
                raise bad_value("Warmup", f"then is {kind_of(then)}", fix)
            if then.steps:
                raise bad_value("Warmup", f"then has made {then.steps} steps", "give one that was just made")
            for group, rate in zip(optimizer.groups, then.base_rates):
                group["lr"] = rate
        self._follow(optimizer)

    def rate(self, base: float, t: int) -> float:
        if t < self.length or self.then is None:
            return base * (self.start + (1 - self.start) * min(t, self.length) / self.length)
        return self.then.rate(base, t - self.length)


class ReduceOnPlateau(Schedule):
    """Multiplies the learning rate by `factor` when a measure, given to ``step``, has not got better for more
    than `patience` steps.

    Parameters
    ----------
    optimizer : whose learning rates are set
    mode : "min" where small measures are good, as losses; "max" where large ones are, as accuracies
    factor : between 0 and 1
    patience : how many steps without progress are waited for
    threshold : how much better, relative to the best so far, counts
    min_lr : no rate becomes smaller

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> optimizer = ng.optim.SGD([ng.Parameter(np.ones(2))], lr=1.0)
    >>> schedule = ng.optim.ReduceOnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     schedule.step(loss)
    >>> optimizer.groups[0]["lr"]
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        op = "ReduceOnPlateau"
        check_name(op, "mode", mode, ("min", "max"))
        self.mode, self.threshold, self.min_lr = (
            mode,
            number(op, "threshold", threshold),
            number(op, "min_lr", min_lr),
        )
        self.decrease, self.patience = number(op, "factor", factor, 1.0), _count(op, "patience", patience, 0)
        self.best, self.waited = (math.inf if mode == "min" else -math.inf), 0
        self._follow(optimizer)

    def rate(self, base: float, t: int) -> float:
        return base  # what is reduced is the base

    def step(self, measure: Any = None) -> None:
        """One more step, after which the measure was this; NaN is not better than anything."""
        value = unwrap(measure)
        if measure is None or isinstance(value, str | bytes | list | tuple) or np.ndim(value):
            raise bad_type(
                "ReduceOnPlateau.step",
                f"measure is {shown(measure)}",
                "pass one number, as the validation loss",
            )
        value, self.steps = float(value), self.steps + 1
        margin = 1 - self.threshold if self.mode == "min" else 1 + self.threshold
        better = value < self.best * margin if self.mode == "min" else value > self.best * margin
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)
        if self.waited > self.patience:
            self.waited = 0
            self.base_rates = [min(rate, max(rate * self.decrease, self.min_lr)) for rate in self.base_rates]
        self._set()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best": np.asarray(self.best), "waited": np.asarray(self.waited)}

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self.best, self.waited = float(state["best"]), int(state["waited"])


def _count(op: str, name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise bad_value(op, f"{name} is {shown(value)}", f"{name} is a whole number, at least {least}")
    return int(value)
