"""Parameters and modules in containers of every kind: found, named, trained, saved, loaded, moved and
switched; or an error.
"""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import sys
from collections import OrderedDict, UserDict, UserList, deque
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
    "keys that are no texts": (
        lambda: {0: Layer(), ("u", "v"): parameter()},
        ["value.('u', 'v')", "value.0.w"],
    ),
    "lists of lists": (lambda: [[Layer()], [[parameter()]]], ["value.1.0.0", "value.0.0.w"]),
    "a dict of lists of dicts": (lambda: {"a": [{"b": (Layer(),)}]}, ["value.a.0.b.0.w"]),
    "a deque": (lambda: deque([parameter()]), ["value.0"]),
    "a list of another library": (lambda: UserList([parameter(), Layer()]), ["value.0", "value.1.w"]),
    "a dict of another library": (lambda: UserDict(a=parameter()), ["value.a"]),
    "a named tuple": (lambda: Pair(parameter(), Layer()), ["value.left", "value.right.w"]),
    "a data class": (lambda: Record(parameter(), Layer()), ["value.weight", "value.layer.w"]),
    "a data class with slots": (lambda: Slotted(parameter(), Layer()), ["value.weight", "value.layer.w"]),
    "a namespace": (
        lambda: SimpleNamespace(weight=parameter(), layer=Layer()),
        ["value.weight", "value.layer.w"],
    ),
    "a module that is a data class": (lambda: Declared(parameter()), ["value.weight", "value.layer.w"]),
    "a module with slots": (lambda: WithSlots(), ["value.weight"]),
    "beside what is no parameter": (
        lambda: [None, 1, "text", np.ones(2), parameter(), len, {3}],
        ["value.4"],
    ),
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


class Around:
    """No module: what it is given is an attribute, or in a slot."""

    __slots__ = ("__dict__", "slot")

    def __init__(self, attribute=None, slot=None):
        self.attribute, self.slot = attribute, slot

    def method(self):
        return None


def use(layer, x):
    return layer(x)


def around(held):
    return lambda x: (held, x)


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
    "an iterator": lambda: iter([Layer()]),
    "a reversed list": lambda: reversed([parameter()]),
    "a chain": lambda: itertools.chain([parameter()]),
    "an enumeration": lambda: enumerate([Layer()]),
    "the items of a dict": lambda: {"a": parameter()}.items(),
    "the keys of a dict": lambda: {Layer(): 1}.keys(),
    "an object with a slot": lambda: Around(slot=Layer()),
    "a list in an object": lambda: Around([Layer()]),
    "a dict in an object in an object": lambda: Around(Around({"a": parameter()})),
    "a function with a module bound to it": lambda: functools.partial(use, Layer()),
    "a function with parameters bound by name": lambda: functools.partial(use, layer={"w": parameter()}),
    "a function around a module": lambda: around(Layer()),
    "a function around parameters": lambda: around([parameter()]),
    "a method of a module": lambda: Layer().forward,
    "a method of an object": lambda: Around(parameter()).method,
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_where_parameters_would_not_be_found_is_an_error(kind):
    model = Holder(HIDDEN[kind]())
    for call in (
        model.parameters,
        model.state_dict,
        model.eval,
        lambda: model.to("cpu"),
        lambda: list(model.modules()),
    ):
        with pytest.raises(
            TypeError,
            match=r"list or a dict|make it a list|derive \w+ from|in __init__|attributes of their own",
        ):
            call()


def test_what_is_found_elsewhere_too_is_not_hidden():
    model = Holder([Layer(), Layer()])
    first, last = model.value
    model.others = [
        functools.partial(use, first),
        first.forward,
        model.forward,
        {first, last},
        Around([first], model),
        enumerate([last]),
        around(first),
        around(np.ones(2)),
        around(Around(Layer())),  # an object that it may have for anything
    ]
    first.outer = [model.forward, Around(model)]  # back to what it is a part of
    assert [name for name, _ in model.named_parameters()] == ["value.0.w", "value.1.w"]
    assert [name for name, _ in first.named_parameters()] == ["w"]
    assert len(list(model.eval().modules())) == 5


def test_what_is_no_parameter_is_left_alone():
    deep = Around()
    deep.attribute = deep
    for value in (
        sys.stdout,
        itertools.count(),
        iter([1]),
        np.arange(3),
        ng.Graph([0], [1]),
        Around,
        itertools,
        deep,
        {1, 2},
        use,
    ):
        model = Holder([value, parameter()])
        assert [name for name, _ in model.named_parameters()] == ["value.1"]
    counter = itertools.count()
    Holder(counter).parameters()
    assert next(counter) == 0


def test_cycles_are_shown_copied_and_pickled():
    parent, child = Holder(None), Holder(None)
    parent.value, child.value = [child, child], parent
    parent.weight = parameter()
    assert repr(parent).count("Holder(") == 3
    for made in (copy.deepcopy(parent), pickle.loads(pickle.dumps(parent))):
        assert made.value[0] is made.value[1]
        assert made.value[0].value is made
        assert made.parameters()[0] is not parent.weight


def test_names_that_clash_are_an_error():
    for clash in ({0: parameter(), "0": parameter()}, {"a.b": parameter(), "a": {"b": parameter()}}):
        with pytest.raises(ValueError, match=r"two parameters have the name 'value\.(0|a\.b)'"):
            Holder(clash).state_dict()
