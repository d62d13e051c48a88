"""Parameters and modules in containers of every kind: found, named, trained, saved, loaded, moved and switched; or an error."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import numgraph as ng


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Record:
    weight: Any
    layer: Any


@dataclass(slots=True)
class Slotted:
    weight: Any
    layer: Any


class Holder(ng.nn.Module):
    def __init__(self, value):
        self.value = value


class WithSlots(ng.nn.Module):
    __slots__ = ("weight",)

    def __init__(self):
        self.weight = parameter()


@dataclass(eq=False)
class Declared(ng.nn.Module):
    weight: Any
    layer: Any = field(default_factory=lambda: Layer())


class Layer(ng.nn.Module):
    """A parameter, a buffer, and dropout's generator."""

    buffers = ("mean",)

    def __init__(self):
        self.w = parameter()
        self.mean = np.zeros(2)
        self.drop = ng.nn.Dropout(0.5, rng=0)


def parameter():
    return ng.Parameter(np.ones(2))


FOUND = {
    "parameters in a list": (lambda: [parameter(), parameter()], ["value.0", "value.1"]),
    "modules in a list": (lambda: [Layer()], ["value.0.w"]),
    "a tuple": (lambda: (parameter(), Layer()), ["value.0", "value.1.w"]),
    "a dict": (lambda: {"a": parameter(), "b": Layer()}, ["value.a", "value.b.w"]),
    "an ordered dict": (lambda: OrderedDict(a=Layer()), ["value.a.w"]),
    "a mapping": (lambda: MappingProxyType({"a": Layer()}), ["value.a.w"]),
    "keys that are no texts": (lambda: {0: Layer(), ("u", "v"): parameter()}, ["value.('u', 'v')", "value.0.w"]),
    "lists of lists": (lambda: [[Layer()], [[parameter()]]], ["value.1.0.0", "value.0.0.w"]),
    "a dict of lists of dicts": (lambda: {"a": [{"b": (Layer(),)}]}, ["value.a.0.b.0.w"]),
    "a deque": (lambda: deque([parameter()]), ["value.0"]),
    "a named tuple": (lambda: Pair(parameter(), Layer()), ["value.left", "value.right.w"]),
    "a data class": (lambda: Record(parameter(), Layer()), ["value.weight", "value.layer.w"]),
    "a data class with slots": (lambda: Slotted(parameter(), Layer()), ["value.weight", "value.layer.w"]),
    "a namespace": (lambda: SimpleNamespace(weight=parameter(), layer=Layer()), ["value.weight", "value.layer.w"]),
    "a module that is a data class": (lambda: Declared(parameter()), ["value.weight", "value.layer.w"]),
    "a module with slots": (lambda: WithSlots(), ["value.weight"]),
    "beside what is no parameter": (lambda: [None, 1, "text", np.ones(2), parameter(), len, {3}], ["value.4"]),
}


@pytest.mark.parametrize("kind", FOUND)
def test_found_named_trained_saved_loaded_and_switched(kind, tmp_path):
    make, names = FOUND[kind]
    model = Holder(make())
    assert [name for name, _ in model.named_parameters()] == names
    assert len(model.parameters()) == len(names)
    optimizer = ng.optim.SGD(model.parameters(), lr=0.5)
    with ng.Tape() as tape:
        loss = sum([(p * p).sum() for p in model.parameters()])
    optimizer.step(tape.gradient(loss, optimizer.parameters))
    assert all(np.array_equal(p.data, [0.0, 0.0]) for p in model.parameters())

    for module in model.modules():
        if isinstance(module, Layer):
            module.mean += 3
    state = model.state_dict()
    assert set(names) <= set(state)
    assert len(state) == len(names) + sum(isinstance(module, Layer) for module in model.modules())
    ng.save(tmp_path / "model.npz", model)
    other = Holder(make())
    ng.load(tmp_path / "model.npz", other)
    assert list(other.state_dict()) == list(state)
    assert all(np.array_equal(value, other.state_dict()[name]) for name, value in state.items())
    assert other.to("cpu") is other

    drops = [module for module in model.eval().modules() if isinstance(module, ng.nn.Dropout)]
    assert not any(module.training for module in model.modules())
    assert all(drop.training for drop in drops) == (not drops)
    assert all(module.training for module in model.train().modules())
    assert len(model.random_state()) == len(drops)


def test_what_is_there_twice_counts_once():
    layer, weight = Layer(), parameter()
    model = Holder([layer, {"again": layer}, weight, (weight,)])
    assert [name for name, _ in model.named_parameters()] == ["value.2", "value.0.w"]
    assert list(model.state_dict()) == ["value.2", "value.0.w", "value.0.mean"]
    assert len([module for module in model.modules() if module is layer]) == 1


def test_cycles_end():
    parent, child = Holder(None), Holder(None)
    parent.value, child.value = [child], parent
    parent.value.append(parent.value)
    parent.weight = parameter()
    assert [name for name, _ in parent.named_parameters()] == ["weight"]
    assert len(list(parent.eval().modules())) == 2


def test_what_is_added_later_is_found():
    model = Holder([])
    model.value.append(Layer())
    model.late = {"w": parameter()}
    model.late["v"] = parameter()
    assert [name for name, _ in model.named_parameters()] == ["late.w", "late.v", "value.0.w"]


class Helper:
    def __init__(self):
        self.weight = parameter()


class OnTheClass(ng.nn.Module):
    weight = parameter()


HIDDEN = {
    "a set": lambda: {parameter()},
    "a frozen set of modules": lambda: frozenset([Layer()]),
    "a generator": lambda: (parameter() for _ in range(2)),
    "a map": lambda: map(ng.Parameter, [np.ones(2)]),
    "a filter": lambda: filter(None, [Layer()]),
    "the values of a dict": lambda: {"a": parameter()}.values(),
    "an array of objects": lambda: np.array([Layer()], object),
    "an object that is no module": Helper,
    "an object in a list": lambda: [Helper()],
    "an attribute of the class": OnTheClass,
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_where_parameters_would_not_be_found_is_an_error(kind):
    model = Holder(HIDDEN[kind]())
    for call in (model.parameters, model.state_dict, model.eval, lambda: model.to("cpu"), lambda: list(model.modules())):
        with pytest.raises(TypeError, match=r"list or a dict|make it a list|derive Helper from|in __init__"):
            call()


def test_names_that_clash_are_an_error():
    for clash in ({0: parameter(), "0": parameter()}, {"a.b": parameter(), "a": {"b": parameter()}}):
        with pytest.raises(ValueError, match=r"two parameters have the name 'value\.(0|a\.b)'"):
            Holder(clash).state_dict()
