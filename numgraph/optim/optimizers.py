"""Optimisers: SGD, Adam, AdamW. Each updates its parameters' arrays in place.

    opt = Adam(model.parameters(), lr=1e-2, weight_decay=5e-4)
    opt.step(tape.gradient(loss, opt.parameters))

``parameters`` is a list of Parameters, or a list of groups
``{"params": [...], "lr": 1e-3, "weight_decay": 0.0}``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange

from numgraph.arrays.devices import device_of, host_copy, moved, same_device, writeable
from numgraph.arrays.inputs import as_array, kind_of, listed, number
from numgraph.autodiff.tape import Parameter, unwrap
from numgraph.errors import bad_type, bad_value, no_attribute, shown, unknown
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit
from numgraph.serialize import fill

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """What the optimisers share: the parameters, their groups, checks, and saving of the state.

    A subclass names its buffers, one array per parameter each, and updates one parameter by what ``_updater``
    returns.

    Parameters
    ----------
    parameters : the Parameters, or dicts of groups, {"params": [...], "lr": …}
    lr, weight_decay : of the groups that do not have their own

    Attributes
    ----------
    parameters : list of all Parameters, in the order in which ``step`` takes their gradients
    groups : a dict for each group that was given, one if there were none: "params",
        and "lr" and "weight_decay", which may be set
    steps : how many steps were made

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> layers = [ng.Parameter(np.ones(2)), ng.Parameter(np.ones(3))]
    >>> optimizer = ng.optim.SGD([{"params": layers[:1], "lr": 0.5}, {"params": layers[1:]}], lr=0.1)
    >>> [group["lr"] for group in optimizer.groups], len(optimizer.parameters)
    ([0.5, 0.1], 2)
    """

    buffers: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Any], lr: float, weight_decay: float = 0.0) -> None:
        self._op = type(self).__name__
        self.steps = 0
        self.groups = self._groups(listed(self._op, "parameters", parameters), lr, weight_decay)
        self.parameters: list[Parameter] = [p for group in self.groups for p in group["params"]]
        self._check_parameters()
        self._state: dict[str, list[Any]] = {
            name: [np.zeros_like(p.data, dtype=np.result_type(p.dtype, np.float32)) for p in self.parameters]
            for name in self.buffers
        }

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            raise no_attribute(
                kind_of(self), name, [one for one in (*vars(self), *dir(type(self))) if one[0] != "_"]
            )

    def __repr__(self) -> str:
        rates = ", ".join(f"{group['lr']:g}" for group in self.groups)
        lr = rates if len(self.groups) == 1 else f"[{rates}]"
        return f"{type(self).__name__}(lr={lr}, parameters={len(self.parameters)}, steps={self.steps})"

    def _groups(self, parameters: list[Any], lr: Any, weight_decay: Any) -> list[dict[str, Any]]:
        options = {
            "lr": number(self._op, "lr", lr),
            "weight_decay": number(self._op, "weight_decay", weight_decay),
        }
        if not any(isinstance(group, Mapping) for group in parameters):
            return [{"params": parameters, **options}]
        groups = []
        for i, group in enumerate(parameters):
            if not isinstance(group, Mapping) or "params" not in group:
                raise bad_type(
                    self._op,
                    f"group {i} has no 'params'",
                    'each group is {"params": [...], "lr": ..., "weight_decay": ...}',
                )
            for key in group:
                if key not in ("params", *options):
                    raise unknown(self._op, f"key of group {i}:", key, ("params", *options))
            own = {
                key: number(self._op, f"{key} of group {i}", group[key]) for key in options if key in group
            }
            groups.append(
                {"params": listed(self._op, f"params of group {i}", group["params"]), **options, **own}
            )
        return groups

    def _check_parameters(self) -> None:
        if not self.parameters:
            raise bad_value(self._op, "there are no parameters", "pass model.parameters()")
        seen: dict[int, int] = {}
        for i, p in enumerate(self.parameters):
            if not isinstance(p, Parameter):
                raise bad_type(
                    self._op, f"parameter {i} is a {type(p).__name__}", "wrap arrays as Parameter(array)"
                )
            if id(p) in seen:
                raise bad_value(
                    self._op, f"parameters {seen[id(p)]} and {i} are the same", "list each one once"
                )
            seen[id(p)] = i

    @property
    def lr(self) -> float:
        """The learning rate, of the first group if they differ. Setting it sets all groups', which must be
        equal.
        """
        rate: float = self.groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        rates = [group["lr"] for group in self.groups]
        if len(set(rates)) > 1:
            raise bad_value(
                self._op,
                f"the groups have the learning rates {rates}",
                "set groups[i]['lr'], or use a schedule, which keeps ratios",
            )
        value = number(self._op, "lr", value)
        for group in self.groups:
            group["lr"] = value

    def step(self, grads: Sequence[Any]) -> None:
        """Move every parameter by its gradient.

        Parameters
        ----------
        grads : one array a parameter, in the order of ``parameters``, of the same shapes

        Raises
        ------
        ValueError : another number of gradients, or another shape
        TypeError : what is no list of arrays
        """
        grads = self._gradients(grads)
        if len(grads) != len(self.parameters):
            raise bad_value(
                f"{self._op}.step",
                f"{len(grads)} gradients for {len(self.parameters)} parameters",
                "one for each, in order",
            )
        for i, (p, g, *buffers) in enumerate(zip(self.parameters, grads, *self._state.values())):
            data = p.data
            shape = data.shape
            if g is None or tuple(g.shape) != shape:
                what = "None" if g is None else f"of shape {tuple(g.shape)}"
                raise bad_value(
                    f"{self._op}.step",
                    f"gradient {i} is {what}, parameter {p.name or i} has shape {p.shape}",
                    "pass tape.gradient(...)",
                )
            for name, buffer in zip(self._state, buffers):
                if buffer.shape != shape:
                    problem = (
                        f"parameter {p.name or i} has shape {p.shape}, its {name} here has "
                        f"{tuple(buffer.shape)}"
                    )
                    raise bad_value(
                        f"{self._op}.step", problem, "it was given other data: make a new optimiser for it"
                    )
                if type(buffer) is not type(data):  # a module has moved its parameters since
                    self._state[name][i] = moved(buffer, device_of(data))
            if type(g) is not type(data):
                same_device(f"{self._op}.step", **{f"gradient {i}": g, f"parameter {p.name or i}": data})
        options = [self._options(group) for group in self.groups]
        self.steps += 1
        left = iter(zip(self.parameters, grads, *self._state.values()))
        for group, (lr, weight_decay) in zip(self.groups, options):
            update = self._updater(lr, weight_decay)
            for p, g, *buffers in itertools.islice(left, len(group["params"])):
                if not writeable(p.data):
                    p.data = p.data.copy()
                update(p.data, g, *buffers)
                p.changed()

    def _gradients(self, grads: Any) -> list[Any]:
        op = f"{self._op}.step"
        if type(grads) is list and {*map(type, grads)} == {np.ndarray}:  # as a tape gives them
            return grads
        if type(grads) is not list and (
            isinstance(grads, Mapping | str)
            or not hasattr(grads, "__iter__")
            or getattr(grads, "ndim", 1) == 0
        ):
            raise bad_type(
                op, f"grads is {kind_of(grads)}", "pass the list tape.gradient(loss, optimizer.parameters)"
            )
        found = [unwrap(g) for g in grads]
        return [
            g if g is None or hasattr(g, "dtype") else as_array(op, f"gradient {i}", g)
            for i, g in enumerate(found)
        ]

    def _options(self, group: dict[str, Any]) -> tuple[float, float]:
        """A group's learning rate and weight decay, which anybody may have set."""
        lr, weight_decay = group["lr"], group["weight_decay"]
        if type(lr) is type(weight_decay) is float and 0 <= lr < math.inf and 0 <= weight_decay < math.inf:
            return lr, weight_decay
        return number(self._op, "lr", lr), number(self._op, "weight_decay", weight_decay)

    def _updater(self, lr: float, weight_decay: float) -> Callable[..., None]:
        """What moves one parameter in this step: a function of its array, its gradient and its buffers."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state on the host as flat names and arrays, for np.savez.

        Returns
        -------
        dict of ``steps``, ``lr`` (an array where there are several groups), and ``<buffer>.<parameter>``
        """
        rates = [group["lr"] for group in self.groups]
        state = {"steps": np.asarray(self.steps), "lr": np.asarray(rates if len(rates) > 1 else rates[0])}
        return state | {
            f"{name}.{i}": host_copy(array)
            for name in self.buffers
            for i, array in enumerate(self._state[name])
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Parameters
        ----------
        state : what ``state_dict`` of the same kind of optimiser gave

        Raises
        ------
        ValueError : names or shapes that are not this optimiser's
        TypeError : what is no mapping
        """
        op = f"{self._op}.load_state_dict"
        if not isinstance(state, Mapping):
            raise bad_type(
                op, f"state is {kind_of(state)}", "pass what state_dict() of the same optimiser gave"
            )
        there = {name for name, dot, number in (key.partition(".") for key in map(str, state)) if number}
        writer = "" if there == {*self.buffers} else f", {_WRITERS.get(frozenset(there), 'of other buffers')}"
        expected = {
            f"{name}.{i}": array for name in self.buffers for i, array in enumerate(self._state[name])
        }
        for key in ("steps", "lr", *expected):
            if key not in state:
                raise bad_value(
                    op,
                    f"{key!r} is not there{writer and f': the state is that of {writer[2:]}'}",
                    "make an optimiser of the kind, and for the parameters, that the state was saved with",
                )
        for key in state:
            if key not in ("steps", "lr", *expected):
                error = unknown(op, "entry", key, ("steps", "lr", *expected))
                raise ValueError(f"{error}; it is the state of another kind of optimiser{writer}")
        numbers = {key: np.asarray(state[key]) for key in ("lr", "steps")}
        shapes = {"lr": (len(self.groups),) if len(self.groups) > 1 else (), "steps": ()}
        for key, found in numbers.items():
            valid = (
                found.shape == shapes[key]
                and found.dtype.kind in "iuf"
                and ((found >= 0) & (found < math.inf)).all()
            )
            if not valid or (key == "steps" and found % 1):
                raise bad_value(
                    op, f"{key!r} is {shown(state[key])}", "pass what state_dict() of the same optimiser gave"
                )
        fill(op, expected, {key: state[key] for key in expected}, "the state", "the state")
        self.steps = int(numbers["steps"])
        for group, rate in zip(self.groups, np.atleast_1d(numbers["lr"]).tolist()):
            group["lr"] = float(rate)


_WRITERS = {
    frozenset[str](): "SGD without momentum",
    frozenset(("velocity",)): "SGD with momentum",
    frozenset(("m", "v")): "Adam or AdamW",
}
"""Who has which buffers."""


_COMPUTED = (np.dtype(np.float32), np.dtype(np.float64))


class _InPlace:
    """Two kernels over the elements of arrays, one for all threads, with numbers that are the same for all
    parameters of a step.
    """

    def __init__(self, serial: Callable[..., None], parallel: Callable[..., None], *numbers: float) -> None:
        self._kernels, self._numbers = (parallel, serial), numbers
        self._cast: dict[Any, list[Any]] = {}

    def run(self, *arrays: Any) -> bool:
        """Run one of them, or return False: only for arrays of the host in C order, of one floating type."""
        dtype = arrays[0].dtype
        if dtype not in _COMPUTED:
            return False
        for x in arrays:
            if type(x) is not np.ndarray or x.dtype != dtype or not x.flags.c_contiguous:
                return False
        numbers = self._cast.get(dtype)
        if numbers is None:
            numbers = self._cast[dtype] = list(map(dtype.type, self._numbers))
        threads.run(*self._kernels, *[x.reshape(-1) for x in arrays], *numbers, work=arrays[0].size // 8)
        return True


def _elementwise(kernel: Callable[..., None]) -> tuple[Any, Any]:
    """A loop with prange over elements, compiled for one thread and for all."""
    return njit(error_model="numpy")(kernel), njit(error_model="numpy", parallel=True)(kernel)


def _decayed(p: Any, g: Any, weight_decay: float) -> Any:
    """The gradient of loss + weight_decay/2 · ‖p‖²."""
    return g + weight_decay * p if weight_decay else g


def _momentum_steps(p, g, v, decay, momentum, lr, of_g, of_v):
    for i in prange(len(p)):
        d = g[i] + decay * p[i]
        v[i] = momentum * v[i] + d
        p[i] = p[i] - lr * (of_g * d + of_v * v[i])


_momentum, _momentum_in_parts = _elementwise(_momentum_steps)


class SGD(Optimizer):
    """p ← p − lr · v with v ← momentum · v + g, and g + momentum · v in v's place for nesterov (Sutskever et
    al., ICML 2013).

    Parameters
    ----------
    parameters : the Parameters, or dicts of groups, {"params": [...], "lr": …}
    lr : the learning rate
    momentum : how much of the last step is made again, from 0 to below 1
    nesterov : look ahead by the momentum
    weight_decay : weight_decay · p is added to the gradient g

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> p = ng.Parameter(np.array([1.0, 2.0]))
    >>> ng.optim.SGD([p], lr=0.5).step([np.array([1.0, 0.0])])
    >>> p.data
    array([0.5, 2. ])
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = number("SGD", "momentum", momentum, 1.0)
        self.nesterov = nesterov
        if nesterov and not momentum:
            raise bad_value("SGD", "nesterov without momentum", "pass momentum=0.9")
        self.buffers = ("velocity",) if momentum else ()
        super().__init__(parameters, lr, weight_decay)

    def _updater(self, lr: float, weight_decay: float) -> Callable[..., None]:
        of_g, of_v = (1.0, self.momentum) if self.nesterov else (0.0, 1.0)
        kernel = _InPlace(_momentum, _momentum_in_parts, weight_decay, self.momentum, lr, of_g, of_v)

        def update(p: Any, g: Any, v: Any = None) -> None:
            if v is None:
                np.subtract(p, lr * _decayed(p, g, weight_decay), out=p, casting="same_kind")
            elif not kernel.run(p, g, v):
                g = _decayed(p, g, weight_decay)
                v[...] = self.momentum * v + g
                np.subtract(p, lr * (of_g * g + of_v * v), out=p, casting="same_kind")

        return update


def _adam_steps(p, g, m, v, beta1, rest1, beta2, rest2, decay, kept, step, correction, eps):
    for i in prange(len(p)):
        d = g[i] + decay * p[i]
        m[i] = beta1 * m[i] + rest1 * d
        v[i] = beta2 * v[i] + rest2 * (d * d)
        p[i] = kept * p[i] - step * m[i] / (np.sqrt(v[i]) * correction + eps)


_adam, _adam_in_parts = _elementwise(_adam_steps)


class Adam(Optimizer):
    """p ← p − lr · m̂ / (√v̂ + eps), with m̂ and v̂ the running means of g and g², corrected for their start
    at 0 (Kingma and Ba, ICLR 2015, algorithm 1).

    Parameters
    ----------
    parameters : the Parameters, or dicts of groups, {"params": [...], "lr": …}
    lr : the learning rate
    betas : the shares of the past in the two running means
    eps : what is added to √v̂
    weight_decay : weight_decay · p is added to the gradient g

    Notes
    -----
    float16 parameters keep their running means in float32.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> p = ng.Parameter(np.array([1.0, 2.0]))
    >>> ng.optim.Adam([p], lr=0.1).step([np.array([3.0, 0.0])])
    >>> p.data.round(6)
    array([0.9, 2. ])
    """

    buffers = ("m", "v")
    decoupled = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        op = type(self).__name__
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise bad_type(op, f"betas is {shown(betas)}", "give two numbers, (0.9, 0.999)")
        self.betas = number(op, "betas[0]", betas[0], 1.0), number(op, "betas[1]", betas[1], 1.0)
        self.eps = number(op, "eps", eps)
        super().__init__(parameters, lr, weight_decay)

    def _updater(self, lr: float, weight_decay: float) -> Callable[..., None]:
        beta1, beta2 = self.betas
        decay, kept = (0.0, 1 - lr * weight_decay) if self.decoupled else (weight_decay, 1.0)
        step, correction = lr / (1 - beta1**self.steps), 1 / math.sqrt(1 - beta2**self.steps)
        kernel = _InPlace(
            _adam, _adam_in_parts, beta1, 1 - beta1, beta2, 1 - beta2, decay, kept, step, correction, self.eps
        )

        def update(p: Any, g: Any, m: Any, v: Any) -> None:
            if not kernel.run(p, g, m, v):
                g = _decayed(p, g, decay).astype(m.dtype, copy=False)
                m[...] = beta1 * m + (1 - beta1) * g
                v[...] = beta2 * v + (1 - beta2) * (g * g)
                p[...] = kept * p - step * m / (np.sqrt(v) * correction + self.eps)

        return update


class AdamW(Adam):
    """Adam with decoupled weight decay: p ← p − lr · weight_decay · p beside Adam's step, not in the gradient
    (Loshchilov and Hutter, ICLR 2019, algorithm 2).

    Parameters
    ----------
    parameters, lr, betas, eps : as in ``Adam``
    weight_decay : the share of p, times lr, that each step takes away

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> p = ng.Parameter(np.array([1.0, 2.0]))
    >>> ng.optim.AdamW([p], lr=0.1, weight_decay=0.5).step([np.array([3.0, 0.0])])
    >>> p.data.round(6)
    array([0.85, 1.9 ])
    """

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)
