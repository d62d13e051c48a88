"""Messages are traced once where all that they read is known to be what it was; what may have changed is read
again at every call.
"""

import functools
import random
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import numgraph as ng
from numgraph.expressions.closed import key_of

SRC, DST = np.array([0, 1, 2, 2]), np.array([1, 2, 0, 1])
G = ng.Graph(SRC, DST, 3)
X = np.array([[1.0, -2.0], [3.0, 0.5], [-4.0, 8.0]])

NUMBER, SCALE = 2, np.array([1.0, 2.0])
settings = ModuleType("settings")  # gets its functions below
config, boxed, numbers = SimpleNamespace(scale=1.0), [1.0], {"scale": 1.0}
lazy = ModuleType("lazy")
lazy.__getattr__ = lambda name: 1.0


def doubled(x):
    return x * 2


def tripled(x):
    return x * 3


def tagged(x):
    return x


tagged.scale = 1.0
settings.tagged = tagged


@functools.wraps(ng.relu)
def wrapped(x):
    return np.maximum(x, 0) * NUMBER


chosen = doubled


def outer(y):
    return chosen(y) + 1


def summed(message):
    """The sums, by NumPy from what the message gives for the edges' rows."""
    z = np.zeros_like(X)
    np.add.at(z, DST, message(SimpleNamespace(x=X[SRC])))
    return z


def closure(value):
    return lambda u: u.x * value


KEPT = {
    "fields alone": lambda u: u.x * 2 + u.x,
    "NumPy": lambda u: np.maximum(np.exp(u.x), 0.5),
    "where": lambda u: np.where(u.x > 0, u.x, 0.5),
    "numgraph": lambda u: ng.leaky_relu(u.x, 0.2),
    "a number from outside": lambda u: u.x * NUMBER,
    "a number of a closure": closure(1.5),
    "a function": lambda u: doubled(u.x),
    "functions of functions": lambda u: outer(u.x),
    "a function of a closure": (lambda f: lambda u: f(u.x))(np.tanh),
    "a number of NumPy's": lambda u: u.x * np.pi,
}

READ_AGAIN = {
    "an array": lambda u: u.x * SCALE,
    "an object": lambda u: u.x * config.scale,
    "a list": lambda u: u.x * boxed[0],
    "a dict": lambda u: u.x * numbers["scale"],
    "random numbers": lambda u: u.x * np.random.default_rng(0).random(),
    "another library's random numbers": lambda u: u.x * random.random(),
    "a module that makes its attributes": lambda u: u.x * lazy.scale,
    "an attribute of a function": lambda u: u.x * tagged.scale,
    "an attribute of a module's function": lambda u: u.x * settings.tagged.scale,
    "a part of a module": lambda u: u.x * np.linalg.norm([3.0, 4.0]),
    "a function of its own": lambda u: (lambda: u.x)(),
    "a default": lambda u, k=2: u.x * k,
    "a function that is called like one of numgraph's": lambda u: wrapped(u.x),
    "a function's globals": lambda u: u.x * doubled.__globals__["NUMBER"],
    "a function's name": lambda u: u.x * tagged.__name__.count("g"),
    "a module's names": lambda u: u.x * settings.__dict__["scale"],
    "a module's method": lambda u: u.x * settings.__getattribute__("scale"),
}


@pytest.mark.parametrize("name", KEPT)
def test_equal_messages_have_one_key(name):
    assert key_of(KEPT[name]) is not None
    assert key_of(KEPT[name]) == key_of(KEPT[name])
    for _ in range(2):
        np.testing.assert_allclose(
            ng.update_all(G, KEPT[name], "sum", u={"x": X}), summed(KEPT[name]), rtol=1e-14
        )


@pytest.mark.parametrize("name", READ_AGAIN)
def test_what_may_change_has_none(name):
    assert key_of(READ_AGAIN[name]) is None


def test_keys_tell_numbers_apart():
    values = [0, 0.0, -0.0, False, 1, 1.0, True, "1", None]
    keys = [key_of(closure(value)) for value in values]
    assert all(key is not None for key in keys)
    assert len(set(keys)) == len(values)


def _set_number(value):
    global NUMBER
    NUMBER = value


def _set_function(value):
    global chosen
    chosen = value


CHANGES = {
    "a number": (lambda u: u.x * NUMBER, _set_number, (2, 5, -1.5)),
    "a function that a function calls": (lambda u: outer(u.x), _set_function, (doubled, tripled, doubled)),
    "a module's number": (
        lambda u: u.x * settings.scale,
        lambda value: setattr(settings, "scale", value),
        (2.0, 3, 0.25),
    ),
    "a module's function": (
        lambda u: settings.f(u.x),
        lambda value: setattr(settings, "f", value),
        (doubled, tripled, np.tanh),
    ),
    "an object's number": (
        lambda u: u.x * config.scale,
        lambda value: setattr(config, "scale", value),
        (2.0, 3.0, 4.0),
    ),
    "an attribute of a function": (
        lambda u: u.x * tagged.scale,
        lambda value: setattr(tagged, "scale", value),
        (2.0, 3.0, 4.0),
    ),
    "a lazy module's number": (
        lambda u: u.x * lazy.scale,
        lambda value: setattr(lazy, "__getattr__", lambda _: value),
        (2.0, 3.0, 4.0),
    ),
    "a number that a wrapper reads": (lambda u: wrapped(u.x), _set_number, (2, 5, -1.5)),
    "a function's name": (
        lambda u: u.x * len(tagged.__name__),
        lambda value: setattr(tagged, "__name__", value),
        ("a", "bb", "ccc"),
    ),
    "an entry": (lambda u: u.x * boxed[0], lambda value: boxed.__setitem__(0, value), (2.0, 3.0, 4.0)),
    "an array in place": (
        lambda u: u.x * SCALE,
        lambda value: SCALE.__setitem__(slice(None), value),
        (2.0, 3.0, 4.0),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reaches_the_next_call(name):
    message, change, values = CHANGES[name]
    for value in values:
        change(value)
        np.testing.assert_allclose(ng.update_all(G, message, "sum", u={"x": X}), summed(message), rtol=1e-14)


def test_a_variable_around_that_changes():
    scale = 2.0

    def message(u):
        return u.x * scale

    for scale in (2.0, 3.0, -0.0):  # noqa: B007  # which the message reads
        np.testing.assert_array_equal(ng.update_all(G, message, "sum", u={"x": X}), summed(message))


def test_a_message_that_counts_its_calls_is_called_again():
    calls = 0

    def message(u):
        nonlocal calls
        calls += 1
        return u.x

    for _ in range(3):
        ng.update_all(G, message, "sum", u={"x": X})
    assert calls == 3


def test_functions_that_call_each_other_end():
    def message(u):
        return u.x if NUMBER else message(u)

    assert key_of(message) is None
