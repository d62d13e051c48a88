"""Random messages of random shapes, run by the kernels in guarded memory and edge by edge in NumPy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

import numgraph as ng
from numgraph.arrays import recycling

GUARD = 4096
BYTE = 0xA5
LENGTHS = (1, 2, 3, 4, 5, 8)
LONG = (11, 13, 16, 33, 70)
REDUCES = ("sum", "mean", "max", "min", "prod", "edge", "attend")


@dataclass
class Case:
    """A message with its fields by target and name; for attend also a score. text says what it is."""

    text: str
    reduce: str
    message: Callable[..., Any]
    score: Callable[..., Any] | None
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)


class Guarded:
    """Results' memory with a known byte on both sides of each array."""

    def __init__(self) -> None:
        self.made: list[tuple[tuple[int, ...], Any, int]] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(size + 2 * GUARD, BYTE, np.uint8)
        self.made.append((tuple(shape), memory, size))
        return memory[GUARD : GUARD + size].view(dtype).reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        made = self.empty(shape, dtype)
        made.fill(0)
        return made

    def overwritten(self) -> list[tuple[tuple[int, ...], int, int]]:
        """Shape, and bytes changed before and behind, of each array that was written outside of."""
        found = []
        for shape, memory, size in self.made:
            before, behind = int((memory[:GUARD] != BYTE).sum()), int((memory[GUARD + size :] != BYTE).sum())
            if before or behind:
                found.append((shape, before, behind))
        return found


@contextlib.contextmanager
def guarded() -> Iterator[Guarded]:
    """Every result of a walk is made in guarded memory."""
    guards = Guarded()
    with (
        mock.patch.object(recycling, "empty", guards.empty),
        mock.patch.object(recycling, "zeros", guards.zeros),
    ):
        yield guards


def graph() -> ng.Graph:
    """Parallel edges, rows without edges, edge ids in no order."""
    return ng.Graph([0, 2, 1, 0, 3, 2, 0, 0], [1, 0, 1, 3, 1, 1, 1, 0], num_src=5, num_dst=4)


def inside_of_nan(rng: np.random.Generator, *shape: int) -> Any:
    """Numbers away from 0, in rows of an array whose other rows are NaN."""
    whole = np.full((shape[0] + 4, *shape[1:]), np.nan)
    whole[2:-2] = rng.uniform(0.3, 1.2, shape) * rng.choice([-1, 1], shape)
    return whole[2:-2]


def shape_below(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to another: axes left out in front, others of length one."""
    start = int(rng.integers(0, len(shape) + 1)) if rng.random() < 0.4 else 0
    return tuple([1 if rng.random() < 0.25 else n for n in shape[start:]])


def random_case(seed: int) -> Case:
    """A message that broadcasts fields against each other, adds axes, reduces over axes, reads one field
    along different axes.
    """
    rng = np.random.default_rng(seed)

    def length() -> int:
        return int(rng.choice(LENGTHS))

    shape = tuple([length() for _ in range(int(rng.choice(4, p=(0.05, 0.15, 0.4, 0.4))))])
    square = len(shape) > 1 and rng.random() < 0.3
    if square:
        side = int(rng.choice(LENGTHS[:-1]))
        shape = (*shape[:-2], side, side)
    elif (
        shape and rng.random() < 0.3
    ):  # one axis longer than a tile, or of half a tile and a bit; the interpreter's time bounds the others
        place = int(rng.integers(0, len(shape)))
        shape = tuple([int(rng.choice(LONG)) if i == place else min(n, 3) for i, n in enumerate(shape)])
    reduce = REDUCES[seed % len(REDUCES)]
    case = Case("", reduce, lambda: None, None, {"u": {}, "v": {}, "e": {}})
    rows = {"u": 5, "v": 4, "e": 8}

    def given(target: str, own: tuple[int, ...]) -> str:
        name = f"x{sum(map(len, case.fields.values()))}"
        case.fields[target][name] = inside_of_nan(rng, rows[target], *own)
        return f"{target}.{name}"

    def term(result: tuple[int, ...]) -> str:
        """An expression whose shape broadcasts to ``result``."""
        own = shape_below(rng, result)
        target = str(rng.choice(list("uve")))
        kind = int(rng.integers(0, 7))
        if kind == 0:  # summed or maximised over an axis of its own
            axis = int(rng.integers(0, len(own) + 1))
            extra = length()
            method = str(rng.choice(["sum", "max", "mean"]))
            return f"{given(target, (*own[:axis], extra, *own[axis:]))}.{method}({axis - len(own) - 1})"
        if kind == 1 and own:  # reduced over one of the axes, and kept
            return (
                f"{given(target, own)}.{rng.choice(['sum', 'max'])}({int(rng.integers(-len(own), 0))}, "
                "keepdims=True)"
            )
        if kind == 2 and square and len(result) > 1 and result[-1] == result[-2]:  # one field along two axes
            name = given(target, result[-1:])
            return f"({name}[:, None] + {name}[None, :])"
        if kind == 3 and len(own) >= 1:  # an axis added behind
            return f"{given(target, own[:-1])}[..., None]"
        if kind == 4:
            return f"np.sin({given(target, own)})"
        if kind == 5 and own:  # a product summed over an axis, as a dot product
            other = str(rng.choice(list("uve")))
            return f"({given(target, own)} * {given(other, own)}).sum(-1, keepdims=True)"
        return given(target, own)

    def whole(result: tuple[int, ...], terms: int) -> str:
        text = term(result)
        for _ in range(terms - 1):
            text = f"({text} {rng.choice(['+', '*', '-'])} {term(result)})"
        return text

    body = whole(shape, int(rng.integers(1, 4)))
    texts = [body]
    if reduce == "attend":
        texts.append(whole(shape_below(rng, shape), int(rng.integers(1, 3))))
    functions = [eval(f"lambda u, v, e: {text}", {"np": np}) for text in texts]
    case.message = functions[0]
    case.score = functions[1] if len(functions) > 1 else None
    shapes = {f"{t}.{name}": x.shape[1:] for t, named in case.fields.items() for name, x in named.items()}
    case.text = f"seed {seed}: {reduce} of {' | score '.join(texts)} with {shapes}"
    return case


class Row:
    """A node or an edge for a message in NumPy: its fields as attributes."""

    def __init__(self, fields: dict[str, Any], row: int) -> None:
        vars(self).update({name: x[row] for name, x in fields.items()})


def by_edges(g: ng.Graph, case: Case, fields: dict[str, dict[str, Any]]) -> Any:
    """The result in NumPy, one edge after the other."""
    rows = [
        (Row(fields["u"], u), Row(fields["v"], v), Row(fields["e"], e))
        for e, (u, v) in enumerate(zip(g.src, g.dst, strict=True))
    ]
    messages = np.array([case.message(*row) for row in rows])
    if case.reduce == "edge":
        return messages
    if case.score is not None:
        scores = np.array([case.score(*row) for row in rows])
        rank = max(messages.ndim, scores.ndim)
        messages, scores = (
            x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in (messages, scores)
        )
    shape = (
        messages.shape[1:]
        if case.score is None
        else np.broadcast_shapes(messages.shape[1:], scores.shape[1:])
    )
    made = np.full((g.num_dst, *shape), 1.0 if case.reduce == "prod" else 0.0)
    for v in range(g.num_dst):
        own = g.dst == v
        if not own.any():
            continue
        if case.score is None:
            made[v] = getattr(np, case.reduce)(messages[own], axis=0)
        else:
            weight = np.exp(scores[own] - scores[own].max(0))
            made[v] = np.sum(weight / weight.sum(0) * messages[own], axis=0)
    return made


def by_kernels(g: ng.Graph, case: Case, fields: dict[str, dict[str, Any]]) -> Any:
    given = {target: dict(named) for target, named in fields.items()}
    if case.reduce == "edge":
        return ng.apply_edges(g, case.message, **given)
    if case.score is not None:
        return ng.attend(g, case.score, case.message, **given)
    return ng.update_all(g, case.message, case.reduce, **given)


def weights_of(shape: tuple[int, ...]) -> Any:
    """What a loss weights a result's elements with: all different, so that elements that change places are
    seen.
    """
    return np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape) + 1.5


def check(g: ng.Graph, case: Case, backward: bool = True) -> None:
    """Value and gradient against NumPy, nothing written outside of a result."""
    with guarded() as guards:
        got = np.asarray(by_kernels(g, case, case.fields))
        want = by_edges(g, case, case.fields)
        assert got.shape == want.shape, case.text
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10, err_msg=case.text)
        if backward and any(case.fields.values()):
            _check_gradient(g, case, weights_of(want.shape))
    assert not guards.overwritten(), (
        f"{case.text}: written outside of results (shape, bytes before, behind): {guards.overwritten()}"
    )


def _check_gradient(g: ng.Graph, case: Case, weights: Any) -> None:
    """The derivative of Σ weights · z along a random direction of all fields at once, against a central
    difference in NumPy.
    """
    with ng.Tape() as tape:
        tensors = {
            target: {name: tape.watch(x) for name, x in named.items()}
            for target, named in case.fields.items()
        }
        loss = np.sum(weights * by_kernels(g, case, tensors))
    flat = [(target, name) for target, named in case.fields.items() for name in named]
    grads = tape.gradient(loss, [tensors[target][name] for target, name in flat])
    rng = np.random.default_rng(1)
    step = 1e-6
    along = {key: rng.normal(size=case.fields[key[0]][key[1]].shape) for key in flat}
    ends = []
    for sign in (step, -step):
        moved: dict[str, dict[str, Any]] = {"u": {}, "v": {}, "e": {}}
        for target, name in flat:
            moved[target][name] = case.fields[target][name] + sign * along[target, name]
        ends.append(float(np.sum(weights * by_edges(g, case, moved))))
    want = (ends[0] - ends[1]) / (2 * step)
    got = sum(float(np.sum(grad * along[key])) for grad, key in zip(grads, flat, strict=True))
    scale = max(
        1.0, sum(float(np.sum(np.abs(grad * along[key]))) for grad, key in zip(grads, flat, strict=True))
    )
    assert abs(got - want) <= 1e-6 * scale, f"{case.text}: derivative {got}, central difference {want}"
