"""Every kind of callable as a message, and everything that one can return: the right numbers, or an error
that says what to write.
"""

from __future__ import annotations

import functools
import operator

import numba
import numpy as np
import pytest

import numgraph as ng

G = ng.Graph([0, 1, 2, 0, 2], [1, 2, 0, 2, 1], 3)
X = np.arange(6.0).reshape(3, 2) + 1
W = np.arange(5.0)[:, None] + 1


def send(message):
    return ng.update_all(G, message, "sum", u={"x": X}, v={"y": X}, e={"w": W})


def summed(rows):
    """Σ of an array over edges, by destination."""
    z = np.zeros((3, *rows.shape[1:]))
    np.add.at(z, G.dst, rows)
    return z


class Layer:
    scale = 2.0

    def message(self, u):
        return u.x * self.scale

    def of_edges(self, u, e):
        return u.x * e.w * self.scale

    @classmethod
    def of_class(cls, u):
        return u.x * cls.scale

    @staticmethod
    def static(u):
        return u.x * 2.0

    def __call__(self, u, e):
        return u.x * e.w * self.scale


def kept_names(wrapper):
    @functools.wraps(wrapper)
    def inner(*args, **options):
        return wrapper(*args, **options)

    return inner


def by_place_alone(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


def by_name_alone(function):
    @functools.wraps(function)
    def inner(**options):
        return function(**options)

    return inner


def without_names(function):
    def inner(*args, **options):
        return function(*args, **options)

    return inner


def positional(u, /):
    return u.x * 2.0


def positional_and_keyword(u, /, *, e):
    return u.x * e.w * 2.0


def keyword(*, u):
    return u.x * 2.0


def double(u):
    return u.x * 2.0


def scaled(k, u):
    return u.x * k


ONE = {
    "a method": Layer().message,
    "a method of a class": Layer.of_class,
    "a method of the class of an object": Layer().of_class,
    "a static method": Layer.static,
    "a static method itself": Layer.__dict__["static"],
    "a partial": functools.partial(scaled, 2.0),
    "a partial by name": functools.partial(scaled, k=2.0),
    "a partial of a method": functools.partial(Layer.message, Layer()),
    "defaults": lambda u, k=2.0: u.x * k,
    "keyword defaults": lambda u, *, k=2.0: u.x * k,
    "options beside": lambda u, **options: u.x * 2.0,
    "places beside": lambda u, *rest: u.x * 2.0,
    "positional only": positional,
    "keyword only": keyword,
    "decorated": kept_names(double),
    "decorated, by place": by_place_alone(double),
    "decorated, by name": by_name_alone(double),
    "decorated twice": by_name_alone(by_place_alone(double)) and kept_names(kept_names(double)),
    "a decorated method": by_place_alone(Layer().message),
    "cached": functools.lru_cache(double),
    "compiled": numba.njit(double),
}
TWO = {
    "an object": Layer(),
    "a method": Layer().of_edges,
    "a mixture": positional_and_keyword,
    "decorated": by_place_alone(Layer().of_edges),
}


@pytest.mark.parametrize("name", ONE)
def test_callables_of_u(name):
    np.testing.assert_array_equal(send(ONE[name]), summed(2 * X[G.src]))


@pytest.mark.parametrize("name", TWO)
def test_callables_of_u_and_e(name):
    np.testing.assert_array_equal(send(TWO[name]), summed(2 * X[G.src] * W))


def test_a_method_sees_its_object_as_it_is():
    layer = Layer()
    first = send(layer.message)
    layer.scale = 3.0
    np.testing.assert_array_equal(send(layer.message), first * 1.5)


def test_a_layer_and_its_gradient():
    class Scaled(ng.nn.Module):
        def __init__(self):
            self.weight = ng.Parameter(np.array([2.0, 3.0]))

        def message(self, u):
            return u.x * self.weight

        def forward(self, g, x):
            return ng.update_all(g, self.message, "sum", u={"x": x})

    layer = Scaled()
    with ng.Tape() as tape:
        loss = np.sum(layer(G, X))
    (d,) = tape.gradient(loss, layer.parameters())
    np.testing.assert_allclose(d, X[G.src].sum(0))


def test_methods_as_score_and_value():
    layer = Layer()
    got = ng.attend(G, layer.message, layer.message, u={"x": X})
    np.testing.assert_array_equal(got, ng.attend(G, lambda u: u.x * 2.0, lambda u: u.x * 2.0, u={"x": X}))


async def asynchronous(u):
    return u.x


def generator(u):
    yield u.x


async def asynchronous_generator(u):
    yield u.x


def forgets(u):
    u.x * 2


def of_layer(self, u):
    return u.x


REFUSED = {
    "nothing returned": (forgets, "the message returned None; end it with return"),
    "a tuple": (lambda u: (u.x, u.x), "the message returned a tuple of 2; return one expression"),
    "a list": (lambda u: [u.x], "the message returned a list of 1; return one expression"),
    "a list of numbers": (lambda u: [1.0, 2.0], "the message returned a list of 2; return one expression"),
    "a dict": (lambda u: {"m": u.x}, "the message returned a dict of 1; return one expression"),
    "a string": (lambda u: "x", "the message returned a str, 'x'; return one expression"),
    "a set": (lambda u: {1}, "the message returned a set"),
    "a complex number": (lambda u: 1j, "the message returned a complex"),
    "an object": (lambda u: object(), "the message returned an object"),
    "all fields": (
        lambda u: u,
        r"the message returned all fields, <fields of u: x float64\[2\]>; name one of them, as u.x",
    ),
    "a function": (lambda u: lambda: u.x, "the message returned a function; return what it gives: call it"),
    "a method of a symbol": (
        lambda u: u.x.sum,
        "the message returned a method; return what it gives: call it",
    ),
    "a class": (lambda u: int, "the message returned the class int"),
    "an object array": (lambda u: np.array([None, 1]), "dtype object"),
    "a coroutine": (
        asynchronous,
        "the message returned a coroutine; a message is a plain function, without async",
    ),
    "a generator": (generator, "the message returned a generator; a message is a plain function"),
    "an asynchronous generator": (
        asynchronous_generator,
        "the message returned an async_generator; a message is a plain",
    ),
    "an unbound method": (of_layer, "takes a parameter 'self'; .*pass the method of an object"),
    "a class for its object": (Layer, "the message is the class Layer; pass an object of it"),
    "a string for a function": ("copy_u", "the message is a str; pass a function of any of u, v, e"),
    "None for a function": (None, "the message is None; pass a function of any of u, v, e"),
    "an array for a function": (X, "the message is a ndarray; pass a function of any of u, v, e"),
    "a built-in": (operator.add, r"takes a parameter 'a'; .*as in lambda u, e: operator\.add\(u\.x, e\.w\)"),
    "a built-in without names": (
        max,
        r"the message is max, whose parameters have no names; write lambda u: max\(u\.x\)",
    ),
    "a ufunc": (np.add, r"np\.add"),
    "a reduction": (np.sum, r"np\.sum"),
    "a getter": (operator.attrgetter("x"), "the message is an operator.attrgetter"),
    "a module": (ng.nn.MLP([2, 2], rng=0), "the message is a MLP, which takes 'x'; write lambda u: layer"),
    "star": (lambda *args: args, r"which takes \*args; name the ones of u, v, e"),
    "double star": (lambda **fields: fields, r"which takes \*\*fields; name the ones of u, v, e"),
    "a decorator that hides names": (
        without_names(double),
        r"which takes \*args and \*\*options; .*functools\.wraps",
    ),
    "DGL's edges": (
        lambda edges: {"m": edges.src["x"]},
        "takes a parameter 'edges'; .*sources are u, destinations v",
    ),
    "PyG's x_j": (lambda x_j: x_j, "takes a parameter 'x_j'; .*sources are u"),
    "fields as numbers": (lambda u: u * 2, "u is no array, but has the fields x; name one of them, as u.x"),
    "fields of both": (lambda u, v: u + v, "u is no array, but has the fields x"),
    "fields in a function": (lambda u: np.exp(u), "u is no array, but has the fields x"),
    "fields beside a symbol": (lambda u: u.x + u, "u is no array, but has the fields x"),
    "fields by number": (lambda u: u[0], r"u\[0\]; fields have names, as u\['x'\]"),
    "None in arithmetic": (lambda u: u.x * None, "a captured value is None, not an array"),
    "text in arithmetic": (lambda u: u.x + "a", "a captured value is a str"),
    "an object in arithmetic": (lambda u: u.x * object(), "a captured value is an object"),
    "a branch": (lambda u: max(u.x, 0), "a Python branch .*np.where"),
    "a loop": (lambda u: list(u.x), "u.x is a symbol and cannot be iterated"),
    "a length": (lambda u: len(u.x), r"u.x is a symbol and has no length; its feature axes are in \.shape"),
    "float": (lambda u: float(u.x), "u.x is a symbol, not an array; use NumPy functions"),
    "asarray": (lambda u: np.asarray(u.x), "u.x is a symbol, not an array; use NumPy functions"),
    "where without values": (lambda u: np.where(u.x > 0), r"give all three: np\.where\(c, a, b\)"),
    "dropout": (
        lambda u: ng.dropout(u.x, 0.5, np.random.default_rng(0)),
        "dropout: x is a symbol, .*drop the field before the call",
    ),
    "a misspelt function": (
        lambda u: np.trapezoid(u.x),
        "np.trapezoid cannot be part of a message; known are arithmetic",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    message, text = REFUSED[name]
    with pytest.raises(TypeError, match=text) as caught:
        send(message)
    assert len(str(caught.value)) < 300


MISSING = {
    "a misspelt field": (
        lambda u: u.xx,
        r"update_all: field u\.xx is unknown, did you mean 'x'\?; pass u=\{'xx': array\} \(known: x\)",
    ),
    "a field of another side": (
        lambda u: u.y,
        r"update_all: field u\.y is unknown; pass u=\{'y': array\} \(known: x\)",
    ),
    "a field by item": (lambda u: u["z"], r"update_all: field u\.z is unknown"),
    "setting a field": (
        lambda u: setattr(u, "y", u.x),
        r"update_all: a message cannot set u\.y; return the value",
    ),
    "T": (lambda u: u.x.T, r"u\.x is a symbol and has no \.T; write np\.transpose\(x\)"),
    "reshape": (
        lambda u: u.x.reshape(-1),
        r"u\.x is a symbol and has no \.reshape; reshape the field before the call",
    ),
    "std": (lambda u: u.x.std(), r"has no \.std; write np\.std\(x, -1\)"),
    "a misspelt method": (lambda u: u.x.summ(), r"has no \.summ; .*did you mean 'sum'\?"),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing(name):
    message, text = MISSING[name]
    with pytest.raises(AttributeError, match=text):
        send(message)


def test_the_message_s_own_error_stays():
    def fails(u):
        return {}["mine"]

    with pytest.raises(KeyError, match="mine") as caught:
        send(fails)
    assert caught.traceback[-1].name == "fails"


CONSTANT = {
    "a number": (lambda: 2.0, np.array(2.0)),
    "an integer": (lambda u: 3, np.array(3)),
    "True": (lambda u: True, np.array(1)),
    "a NumPy number": (lambda u: np.float32(2), np.array(2.0)),
    "a captured array": (lambda u: np.array([1.0, 2.0]), np.array([1.0, 2.0])),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constants_broadcast(name):
    message, value = CONSTANT[name]
    np.testing.assert_array_equal(send(message), summed(np.broadcast_to(value, (5, *value.shape))))


def test_softmax_over_feature_axes():
    y = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    np.testing.assert_allclose(send(lambda u: ng.softmax(u.x)), summed(y[G.src]))
    np.testing.assert_allclose(send(lambda u: ng.log_softmax(u.x)), summed(np.log(y)[G.src]))


NAMES = (
    "op",
    "_op",
    "leaves",
    "target",
    "shape",
    "dtype",
    "T",
    "a b",
    "class",
    "__class",
    "captured0",
    "x′",
    "ü",
)


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_any_name(name):
    z = ng.update_all(G, lambda u, e: u[name] * e[name], "sum", u={name: X}, e={name: W})
    np.testing.assert_array_equal(z, summed(X[G.src] * W))
    assert ng.apply_edges(G, lambda u: 1.0 if name in u and "other" not in u else 0.0, u={name: X})[0] == 1
