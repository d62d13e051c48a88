"""Integers, booleans and numbers in messages and on Tensors: NumPy's values and dtypes, for every pair of
dtypes, at the ends of each.

Every function of a pair of dtypes is an output of one walk, so that a pair costs one kernel: rows are all
pairs of the dtypes' values."""

from __future__ import annotations

import enum
import operator

import numpy as np
import pytest

import numgraph as ng
from numgraph.expressions import expr
from numgraph.expressions.walk import Output
from numgraph.message.propagate import propagate

WIDTH = 5  # features of a row: a tile in lanes with some out of use


def integers(bits, signed):
    if signed:
        return [
            0,
            1,
            -1,
            2,
            -2,
            3,
            7,
            -7,
            100,
            -100,
            2 ** (bits - 1) - 1,
            -(2 ** (bits - 1)),
            1 - 2 ** (bits - 1),
            2 ** (bits - 2),
        ]
    return [0, 1, 2, 3, 7, 100, 200, 2**bits - 1, 2**bits - 2, 2 ** (bits - 1), 2 ** (bits - 1) - 1]


VALUES = {
    "bool": [False, True],
    **{f"int{bits}": integers(bits, True) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": integers(bits, False) for bits in (8, 16, 32)},
    "float16": [0.0, -0.0, 1, -1, 0.5, 0.1, -2.5, 7, np.inf, -np.inf, np.nan, 60000, 6e-8],
    "float32": [0.0, -0.0, 1, -1, 0.5, 0.1, -2.5, 7, np.inf, -np.inf, np.nan, 3e38, 1e-38, -1e-45],
    "float64": [0.0, -0.0, 1, -1, 0.5, 0.1, -2.5, 7, np.inf, -np.inf, np.nan, 1.7e308, 2e-308, -5e-324],
}
WHOLE = [name for name in VALUES if not name.startswith("float")]
OPERATORS = "add sub mul truediv floordiv mod pow and_ or_ xor lshift rshift lt le eq ne gt ge".split()  # noqa: SIM905
FUNCTIONS = {
    **{name: getattr(operator, name) for name in OPERATORS},
    **{
        f.__name__: f
        for f in (np.maximum, np.minimum, np.fmod, np.logical_and, np.logical_or, np.logical_xor)
    },
    **{f.__name__: f for f in (np.hypot, np.arctan2, np.logaddexp, np.float_power)},
    "where": lambda a, b: np.where(a > b, a, b),
    "divmod": lambda a, b: divmod(a, b)[1],
}
PAIRS = [(a, a) for a in VALUES] + [
    ("bool", "int8"),
    ("int8", "uint8"),
    ("uint8", "int16"),
    ("int32", "uint32"),
    ("int64", "uint16"),
]
PAIRS += [("uint32", "float32"), ("int16", "float16"), ("int64", "float64")]
RTOL = {2: 2e-3, 4: 2e-6, 8: 1e-12}


def rows(values):
    """As rows of WIDTH features, the first values again where they do not fill one."""
    return np.resize(values, -(-len(values) // WIDTH) * WIDTH).reshape(-1, WIDTH)


def outcome(function, *operands):
    """The value, or the class of the error."""
    with np.errstate(all="ignore"):
        try:
            return function(*operands)
        except (TypeError, ValueError, OverflowError) as error:
            return next(kind for kind in (TypeError, OverflowError, ValueError) if isinstance(error, kind))


def assert_same(got, want, about):
    assert got.dtype == want.dtype, f"{about}: {got.dtype}, NumPy {want.dtype}"
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=about)
        return
    with np.errstate(all="ignore"):
        tiny = 2 * np.finfo(want.dtype).smallest_subnormal
        np.testing.assert_allclose(
            got.astype(float), want.astype(float), rtol=RTOL[want.itemsize], atol=float(tiny), err_msg=about
        )


def check(messages, fields):
    """messages: (about, function of the fields) that NumPy or the walk may refuse, alike. fields: arrays
    [rows, WIDTH].
    """
    symbols = [expr.field("e", f"x{i}", (WIDTH,), x.dtype) for i, x in enumerate(fields)]
    outputs, wanted = [], []
    for about, function in messages:
        want, got = outcome(function, *fields), outcome(function, *symbols)
        if isinstance(want, type) or isinstance(got, type):
            assert got is want, f"{about}: {got}, NumPy {want}"
        elif got.dtype != want.dtype:
            raise AssertionError(f"{about}: {got.dtype}, NumPy {want.dtype}")
        else:
            outputs.append(Output((got,), "e", "edge"))
            wanted.append((about, want))
    count = len(fields[0])
    g = ng.Graph(np.arange(count), np.arange(count), count)
    results = propagate("table", g, tuple(outputs), {("e", f"x{i}"): x for i, x in enumerate(fields)})
    for (about, want), got in zip(wanted, results, strict=True):
        assert_same(got, want, about)
    return len(wanted)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_functions_of_two_fields(a, b):
    x, y = (rows(side.ravel()) for side in np.meshgrid(np.array(VALUES[a], a), np.array(VALUES[b], b)))
    functions = dict(FUNCTIONS)
    if np.result_type(x, y).kind in "iu" and y.dtype.kind == "i":
        functions["pow"] = lambda a, b: a ** (b & 127)
    assert check([(f"{name} of {a} and {b}", f) for name, f in functions.items()], [x, y]) > 15


def test_dtypes_of_every_pair():
    """Without kernels: what a message says of itself."""
    for a in VALUES:
        for b in VALUES:
            symbols = [expr.field("e", name, (), dtype) for name, dtype in (("x", a), ("y", b))]
            for name, function in FUNCTIONS.items():
                want, got = outcome(function, np.ones(1, a), np.ones(1, b)), outcome(function, *symbols)
                assert getattr(got, "dtype", got) == getattr(want, "dtype", want), (name, a, b)


UNARY = {
    f.__name__: f
    for f in (
        np.negative,
        np.absolute,
        np.fabs,
        np.sign,
        np.floor,
        np.ceil,
        np.square,
        np.sqrt,
        np.exp,
        np.expm1,
        np.exp2,
        np.log,
        np.log1p,
    )
}
UNARY |= {
    f.__name__: f
    for f in (
        np.log2,
        np.log10,
        np.sin,
        np.tan,
        np.arctan,
        np.tanh,
        np.sinh,
        np.cosh,
        np.isnan,
        np.isinf,
        np.isfinite,
    )
}
UNARY |= {f.__name__: f for f in (np.logical_not, np.invert, np.positive)}
UNARY |= {name: getattr(ng, name) for name in ("sigmoid", "relu", "leaky_relu", "elu", "silu", "softplus")}
UNARY |= {
    "reciprocal": lambda x: np.reciprocal(np.where(x == 0, x | True, x) if x.dtype.kind in "iu" else x),
    "max": lambda x: x.max(-1, keepdims=True),
    "min": lambda x: x.min(-1, keepdims=True),
    "mean": lambda x: x.mean(-1, keepdims=True),
    "sum": lambda x: x.sum(-1, keepdims=True).astype(np.int64 if x.dtype.kind in "biu" else x.dtype),
}


@pytest.mark.parametrize("dtype", WHOLE)
def test_functions_of_one_field(dtype):
    """sigmoid and the like of integers are those of the same numbers as floats; sums of unsigned integers are
    int64.
    """
    x = rows(np.array(VALUES[dtype], dtype))
    assert check([(f"{name} of {dtype}", f) for name, f in UNARY.items()], [x]) > 30
    for name, function in UNARY.items():
        want, got = outcome(function, x), outcome(function, ng.Tensor(x))
        if not isinstance(want, type):
            got = got.data if isinstance(got, ng.Tensor) else got
            assert got.dtype == want.dtype, name
            np.testing.assert_array_equal(got, want, err_msg=name)
    for name in ("sigmoid", "silu", "softplus", "elu", "leaky_relu", "relu", "gelu"):
        function = getattr(ng, name)
        with np.errstate(over="ignore"):
            got, want = function(x), function(x.astype(np.float64))
        inside = (
            np.abs(want) < np.finfo(got.dtype).max if got.dtype.kind == "f" else np.full(want.shape, True)
        )
        np.testing.assert_allclose(
            got[inside].astype(float), want[inside], rtol=5e-3, atol=1e-7, err_msg=f"{name} of {dtype}"
        )


NUMBERS = [
    0,
    1,
    -1,
    3,
    7,
    127,
    128,
    -129,
    255,
    256,
    2**15,
    2**31 - 1,
    2**31,
    2**32 + 1,
    -(2**33),
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**70,
]
NUMBERS += [
    True,
    False,
    0.5,
    -2.5,
    1e30,
    np.inf,
    np.int8(3),
    np.uint8(200),
    np.int16(-300),
    np.int64(2**40),
    np.float32(0.1),
    np.float64(0.1),
]
WITH_NUMBERS = [
    name
    for name in FUNCTIONS
    if name not in ("where", "pow", "rshift", "lshift", "logaddexp", "arctan2", "divmod", "float_power")
]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint32", "int64"])
def test_python_numbers(dtype):
    """NumPy's dtype, or its OverflowError where the dtype cannot hold the number; comparisons are the
    mathematical ones.
    """
    x = rows(np.array(VALUES[dtype], dtype))
    messages = []
    for number in NUMBERS:
        for name in WITH_NUMBERS:
            if dtype == "bool" and FUNCTIONS[name] in (
                operator.lt,
                operator.le,
                operator.eq,
                operator.ne,
                operator.gt,
                operator.ge,
            ):
                continue  # NumPy's OverflowError: see below
            messages += [
                (f"{name} of {dtype} and {number!r}", lambda a, f=FUNCTIONS[name], n=number: f(a, n))
            ]
            if not isinstance(number, np.generic):
                messages += [
                    (f"{name} of {number!r} and {dtype}", lambda a, f=FUNCTIONS[name], n=number: f(n, a))
                ]
        messages += [(f"clip of {dtype} at {number!r}", lambda a, n=number: np.clip(a, n, None))]
        messages += [(f"clip of {dtype} to {number!r}", lambda a, n=number: np.clip(a, None, n))]
    check(messages[:: len(messages) // 60], [x])  # values of some, and the dtypes and errors of all
    symbol = expr.field("e", "x0", (WIDTH,), x.dtype)
    for about, function in messages:
        want, got = outcome(function, x), outcome(function, symbol)
        assert getattr(got, "dtype", got) == getattr(want, "dtype", want), about


def test_comparisons_with_numbers_out_of_range():
    """The answer is the same for every value, and keeps the field's shape and a strong bool's dtype."""
    g = ng.Graph([0, 1], [0, 1], 2)
    for dtype in ("bool", "uint8", "int32", "int64"):
        x = np.array([[0, 1, 1], [1, 0, 1]], dtype)
        for number in (2**70, -(2**70)):
            for compare in (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge):
                want = compare(x.astype(object), number).astype(bool)
                np.testing.assert_array_equal(
                    ng.apply_edges(g, lambda u, f=compare, n=number: f(u.x, n), u={"x": x}), want
                )
                np.testing.assert_array_equal(
                    ng.apply_edges(g, lambda u, f=compare, n=number: f(n, u.x), u={"x": x}),
                    compare(number, x.astype(object)),
                )
        got = ng.apply_edges(g, lambda u: (u.x < 2**70) + 1, u={"x": x})
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, 2)


def test_comparisons_of_halves_with_numbers():
    """0.1 is float16's 0.1 beside a float16."""
    g = ng.Graph([0, 1], [0, 1], 2)
    x = np.array([0.1, 0.3], np.float16)
    for message in (lambda u: u.x == 0.1, lambda u: np.less_equal(0.3, u.x), lambda u: u.x < 70000):
        with np.errstate(over="ignore"):
            want = message(type("Row", (), {"x": x}))
        np.testing.assert_array_equal(ng.apply_edges(g, message, u={"x": x}), want)


REFUSED = [
    (lambda x: x + 300, OverflowError),
    (lambda x: 300 - x, OverflowError),
    (lambda x: x * -1, OverflowError),
    (lambda x: np.where(x > 1, 300, x), OverflowError),
    (lambda x: np.where(x > 1, x, -1), OverflowError),
    (lambda x: np.maximum(x, 256), OverflowError),
    (lambda x: x & 256, OverflowError),
    (lambda x: x << 256, OverflowError),
    (lambda x: x.astype(np.int64) ** -1, ValueError),
    (lambda x: x.astype(np.int64) ** np.int64(-2), ValueError),
    (lambda x: (x * 1.0) & 1, TypeError),
    (lambda x: ~(x * 1.0), TypeError),
    (lambda x: (x * 1.0) << x, TypeError),
]


@pytest.mark.parametrize(("function", "error"), REFUSED)
def test_refused_as_in_numpy(function, error):
    """np.where alone cuts the number in NumPy; here it is an error like the others."""
    x = np.array([200, 1], np.uint8)
    with pytest.raises(error):
        ng.apply_edges(ng.Graph([0, 1], [0, 1], 2), lambda u: function(u.x), u={"x": x})
    with pytest.raises(error):
        function(ng.Tensor(x))


def test_negative_exponents_in_fields():
    """NumPy's error too, whether the exponent is a field or computed; those that stay positive are no
    error.
    """
    g = ng.Graph([0, 1, 1], [1, 0, 1], 2)
    fields = {"u": {"x": np.array([3, 5])}, "v": {"n": np.array([2, -1], np.int8)}}
    for message in (
        lambda u, v: u.x**v.n,
        lambda u, v: 2 ** (v.n - 1),
        lambda u, v: np.where(v.n > 0, u.x**v.n, 0),
    ):
        with pytest.raises(ValueError, match=r"exponent .*v\.n.* is negative"):
            ng.update_all(g, message, "sum", **fields)
    got = ng.apply_edges(g, lambda u, v: u.x ** (v.n + 1), **fields)
    np.testing.assert_array_equal(got, [1, 125, 1])
    np.testing.assert_array_equal(ng.apply_edges(g, lambda u, v: u.x * 1.0**v.n, **fields), [3, 5, 5])


def test_errors_name_the_number_and_the_dtype():
    g = ng.Graph([0], [0], 1)
    with pytest.raises(OverflowError, match=r"add of uint8 and 300.*wider dtype"):
        ng.apply_edges(g, lambda u: u.x + 300, u={"x": np.ones(1, np.uint8)})
    with pytest.raises(ValueError, match=r"negative integer powers.*float"):
        ng.apply_edges(g, lambda u: u.x**-1, u={"x": np.ones(1, np.int64)})


@pytest.mark.parametrize("dtype", WHOLE)
def test_reduces(dtype):
    """Over in-edges, with a row of many edges, one of a few and one of none."""
    rng = np.random.default_rng(4)
    src, dst = np.arange(60), np.repeat([0, 2, 3], [40, 15, 5])
    g = ng.Graph(src, dst, num_src=60, num_dst=4)
    x = rng.choice(np.array(VALUES[dtype], dtype), (60, 3))
    for reduce in ("sum", "prod", "max", "min", "mean"):
        got = ng.update_all(g, lambda u: u.x, reduce, u={"x": x})
        function = getattr(np, reduce)
        assert got.dtype == (
            np.int64 if reduce in ("sum", "prod") else np.float64 if reduce == "mean" else dtype
        )
        for v in range(4):
            mine = x[dst == v]
            if len(mine):
                options = {"dtype": np.int64} if reduce in ("sum", "prod") else {}
                np.testing.assert_allclose(
                    got[v], function(mine, axis=0, **options), rtol=0 if reduce != "mean" else 1e-12
                )
            else:
                np.testing.assert_array_equal(got[v], 1 if reduce == "prod" else 0)


def test_hubs_of_narrow_integers():
    """Rows that are put together from chunks."""
    rng = np.random.default_rng(1)
    num = 40_000
    g = ng.Graph(np.arange(num), np.zeros(num, np.int64), num_src=num, num_dst=1)
    for dtype in ("bool", "uint8", "int16", "uint32"):
        x = rng.integers(0, 200 if dtype != "bool" else 2, (num, 1)).astype(dtype)
        for reduce, want in (("max", x.max(0)), ("min", x.min(0)), ("sum", x.sum(0, dtype=np.int64))):
            got = ng.update_all(g, lambda u: u.x, reduce, u={"x": x})
            np.testing.assert_array_equal(got[0], want)


def random_expression(rng, leaves, depth):
    """A function of the leaves' values, by operators that rewriting and promotion meet, as a closure for
    NumPy and symbols alike.
    """
    if depth == 0 or rng.random() < 0.1:
        name = rng.integers(leaves)
        return lambda fields: fields[name]
    a, b, c = (random_expression(rng, leaves, depth - 1) for _ in range(3))
    number = [0, 1, 2, -1, 0.0, 1.0, 2.0, -0.5, -3][rng.integers(9)]
    kind = rng.integers(9)
    if kind == 0:  # two choices by one condition, whose halves may be rewritten
        return lambda fields: np.where(c(fields) > 1, a(fields), 0) + np.where(c(fields) > 1, 0, b(fields))
    if kind == 1:
        return lambda fields: np.where(c(fields), 0, a(fields)) * number
    if kind == 2:
        return lambda fields: np.power(a(fields), abs(number))
    f = [np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.divide][kind - 3]
    if rng.random() < 0.4:
        return lambda fields: f(a(fields), number)
    return lambda fields: f(a(fields), b(fields))


@pytest.mark.parametrize("seed", range(3))
def test_random_expressions(seed):
    """Rewriting keeps values and dtypes: 60 random expressions of small fields of every kind."""
    rng = np.random.default_rng(seed)
    dtypes = ["bool", "int8", "uint8", "int32", "float32", "float64"]
    fields = [
        rng.integers(
            0 if d[0] in "bu" else -4, 2 if d == "bool" else 120 if "8" in d else 5, (8, WIDTH)
        ).astype(d)
        for d in dtypes
    ]
    symbols = [expr.field("e", f"x{i}", (WIDTH,), x.dtype) for i, x in enumerate(fields)]
    messages, refused = [], 0
    while len(messages) < 60:
        function = random_expression(rng, len(fields), 3)
        want, got = outcome(function, fields), outcome(function, symbols)
        if isinstance(want, type) or isinstance(got, type):
            assert got is want
            refused += 1
        else:
            messages.append((f"{got}", lambda *given, f=function: f(given)))
    assert refused < 60
    check(messages, fields)


def test_in_place_operators_rebind():
    def message(u):
        y = u.x
        y += 1
        y *= 2
        y -= 3
        y //= 2
        y %= 5
        y **= 2
        y &= 12
        y |= 1
        y ^= 3
        y <<= 1
        y >>= 2
        return y

    x = np.arange(10, dtype=np.int32)
    g = ng.Graph(x, x, 10)
    want = message(type("Row", (), {"x": x.copy()}))
    np.testing.assert_array_equal(ng.apply_edges(g, message, u={"x": x}), want)
    np.testing.assert_array_equal(message(type("Row", (), {"x": ng.Tensor(x)})), want)


def test_gradients_of_quotients_and_rests():
    """d(a % b)/da is 1 and d(a % b)/db is −⌊a/b⌋, also where a / b is rounded up to an integer."""
    a, b = np.array([1.5, 7.0, -7.0, 0.3]), np.array([0.1, 0.1, 2.0, np.inf])
    g = ng.Graph(range(4), range(4), 4)
    for function, quotient in (
        (np.remainder, np.floor_divide(a, b)),
        (np.fmod, np.sign(a) * np.floor_divide(np.abs(a), b)),
    ):
        for of in (
            lambda x, y: ng.apply_edges(g, lambda u: function(u.x, u.y), u={"x": x, "y": y}),  # noqa: B023
            function,
        ):
            with ng.Tape() as tape:
                x, y = tape.watch(a), tape.watch(b)
                loss = of(x, y).sum()
            dx, dy = tape.gradient(loss, [x, y])
            np.testing.assert_array_equal(dx, 1)
            np.testing.assert_array_equal(dy, -quotient)


class Whole(int):
    pass


class Real(float):
    pass


class Level(enum.IntEnum):
    LOW = 2


@pytest.mark.parametrize("number", [Whole(3), Real(2.5), Level.LOW], ids=repr)
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_numbers_of_subclasses(number, dtype):
    """They bring their dtype, as NumPy's scalars do and Python's numbers do not."""
    x = rows(np.array([1, 2, -3, 5], dtype))
    functions = [(name, getattr(operator, name)) for name in ("add", "sub", "mul", "lt")]
    check([(name, lambda a, f=f: f(a, number)) for name, f in functions], [x])
