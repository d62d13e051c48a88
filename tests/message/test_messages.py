"""Messages of every shape: the literal oracle, central differences; expressions, functions, attention,
layouts, dtypes, graphs.
"""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from checks import check_float32, check_gradient
from strategies import given, graphs, seeds, settings

import numgraph as ng
from numgraph.expressions import elementary
from numgraph.message import algebra

# Bipartite; edge ids are not in row order; 1 → 2 is there twice; v = 3 and u = 4 have no edge.
G = ng.Graph([1, 0, 3, 1, 2, 1, 0, 3], [2, 0, 1, 2, 0, 4, 4, 1], num_src=5, num_dst=6)
REDUCES = ("sum", "mean", "max", "min", "prod")
ROWS = {"u": (G.num_src,), "v": (G.num_dst,), "e": (G.num_edges,), "s": ()}


def data(*shape, seed=0):
    """Between 0.5 and 2 in size: away from kinks at 0, and all different."""
    rng = np.random.default_rng([seed, *shape])
    return rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape)


@dataclasses.dataclass
class Case:
    """A message and its fields' feature shapes. ``make`` gets the captured arrays (``s``) and returns the
    message function.
    """

    name: str
    make: object
    shapes: dict
    order: int = 1

    @property
    def arrays(self):
        return [data(*ROWS[key[0]], *shape, seed=i) for i, (key, shape) in enumerate(self.shapes.items())]

    def fields(self, arrays):
        given = {"u": {}, "v": {}, "e": {}, "s": {}}
        for key, array in zip(self.shapes, arrays):
            given[key[0]][key[2:]] = array
        captured = SimpleNamespace(**given.pop("s"))
        return self.make(captured), given


CASES = [
    Case(
        "relu of a difference",
        lambda s: lambda u, v, e: ng.relu(u.x - v.y) * e.w,
        {"u.x": (3,), "v.y": (3,), "e.w": (1,)},
        2,
    ),
    Case(
        "GATv2 score",
        lambda s: lambda u, v: np.sum(s.a * ng.leaky_relu(u.x + v.y, 0.2), axis=-1),
        {"u.x": (2, 3), "v.y": (2, 3), "s.a": (2, 3)},
        2,
    ),
    Case("edge data expanded", lambda s: lambda u, e: u.x * e.w[..., None], {"u.x": (2, 3), "e.w": (2,)}),
    Case("expand_dims", lambda s: lambda u, e: u.x * np.expand_dims(e.w, -1), {"u.x": (2, 3), "e.w": (2,)}),
    Case(
        "three axes",
        lambda s: lambda u, v, e: u.x * e.w + v.y,
        {"u.x": (2, 3, 4), "e.w": (3, 1), "v.y": (2, 1, 4)},
    ),
    Case("outer product", lambda s: lambda u, v: u.x[:, None] * v.y[None, :], {"u.x": (3,), "v.y": (2,)}),
    Case(
        "outer of three",
        lambda s: lambda u, v, e: u.x[:, None, None] * v.y[:, None] * e.w,
        {"u.x": (2,), "v.y": (3,), "e.w": (4,)},
    ),
    Case(
        "sum over the middle", lambda s: lambda u, v: (u.x * v.y).sum(1), {"u.x": (2, 3, 4), "v.y": (2, 3, 4)}
    ),
    Case(
        "mean over two axes",
        lambda s: lambda u, e: np.mean(u.x * e.w, axis=(0, 2)),
        {"u.x": (2, 3, 4), "e.w": ()},
    ),
    Case("sum over everything", lambda s: lambda u, v: np.sum(u.x * v.y), {"u.x": (2, 3), "v.y": (2, 3)}),
    Case("max kept", lambda s: lambda u, v: u.x - v.y.max(-1, keepdims=True), {"u.x": (2, 3), "v.y": (2, 3)}),
    Case(
        "max of a mixture", lambda s: lambda u, v: np.max(u.x * v.y, axis=0), {"u.x": (2, 3), "v.y": (2, 3)}
    ),
    Case("min", lambda s: lambda u, v: np.min(u.x + v.y, axis=-1), {"u.x": (3,), "v.y": (3,)}),
    Case(
        "softmax over features",
        lambda s: lambda u, v: np.exp(u.x) / np.exp(u.x).sum(-1, keepdims=True) * v.y,
        {"u.x": (2, 3), "v.y": (2, 3)},
        2,
    ),
    Case(
        "softmax of a mixture",
        lambda s: lambda u, v: v.y * np.exp(u.x * v.y - np.max(u.x * v.y, -1, keepdims=True)),
        {"u.x": (2, 3), "v.y": (2, 3)},
    ),
    Case(
        "cosine",
        lambda s: lambda u, v: np.sum(u.x * v.y, -1) / np.sqrt(np.sum(u.x * u.x, -1) * np.sum(v.y * v.y, -1)),
        {"u.x": (3,), "v.y": (3,)},
        2,
    ),
    Case("where", lambda s: lambda u, v: np.where(u.x > v.y, u.x * 2, v.y**2), {"u.x": (3,), "v.y": (3,)}),
    Case(
        "mask",
        lambda s: lambda u, v, e: u.x * (e.w > 0) * (1 - (v.y <= 0.7)),
        {"u.x": (3,), "v.y": (3,), "e.w": ()},
    ),
    Case(
        "numbers",
        lambda s: lambda u, v: (3 * u.x - 1 / 3) / (u.x**2 + 1) + v.y**3 - 2.5,
        {"u.x": (3,), "v.y": (3,)},
    ),
    Case(
        "captured at the right",
        lambda s: lambda u, e: s.scale * u.x + e.w * s.shift,
        {"u.x": (2, 3), "e.w": (2, 1), "s.scale": (3,), "s.shift": ()},
    ),
    Case("only the edge", lambda s: lambda e: np.tanh(e.w) * e.w, {"e.w": (3,)}),
    Case("only the destination", lambda s: lambda v: v.y * v.y, {"v.y": (3,)}),
    Case("scalars", lambda s: lambda u, v, e: u.x * v.y + e.w, {"u.x": (), "v.y": (), "e.w": ()}, 2),
    Case("broadcast to", lambda s: lambda u, v: np.broadcast_to(u.x, (3,)) * v.y, {"u.x": (1,), "v.y": (1,)}),
    Case("a wide row", lambda s: lambda u, e: ng.sigmoid(u.x) * e.w, {"u.x": (131,), "e.w": ()}),
    Case("a wide dot", lambda s: lambda u, v: np.sum(u.x * v.y, -1), {"u.x": (67,), "v.y": (67,)}),
    Case(
        "wide heads",
        lambda s: lambda u, v, e: (u.x + v.y) * e.w,
        {"u.x": (3, 37), "v.y": (37,), "e.w": (3, 1)},
    ),
    Case("a wide last axis of one", lambda s: lambda u, v: u.x * v.y, {"u.x": (40, 1), "v.y": (1, 2)}),
]


def assert_same(got, want, rtol=1e-12):
    assert isinstance(got, np.ndarray)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_forward(case):
    message, fields = case.fields(case.arrays)
    for reduce in ("sum", "max"):
        assert_same(
            ng.update_all(G, message, reduce, **fields), oracle.update_all(G, message, reduce, **fields)
        )
    assert_same(ng.apply_edges(G, message, **fields), oracle.apply_edges(G, message, **fields))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_gradient(case):
    def of_arrays(*arrays):
        message, fields = case.fields(arrays)
        return ng.update_all(G, message, "sum", **fields)

    small = sum(a.size for a in case.arrays) < 200
    if small:
        check_gradient(of_arrays, case.arrays, case.order)
    else:  # central differences along a few random directions: an element each would take minutes
        rng = np.random.default_rng(0)
        directions = [[rng.normal(size=a.shape) for a in case.arrays] for _ in range(3)]
        check_gradient(
            lambda t: of_arrays(
                *[a + sum(t[i] * d[k] for i, d in enumerate(directions)) for k, a in enumerate(case.arrays)]
            ),
            [np.zeros(3)],
        )
    check_float32(of_arrays, case.arrays) if case.order == 2 else None


@pytest.mark.parametrize("reduce", ["mean", "max", "min", "prod"])
@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[13]], ids=lambda c: c.name)
def test_gradient_of_reduces(case, reduce):
    def of_arrays(*arrays):
        message, fields = case.fields(arrays)
        return ng.update_all(G, message, reduce, **fields)

    message, fields = case.fields(case.arrays)
    assert_same(of_arrays(*case.arrays), oracle.update_all(G, message, reduce, **fields))
    check_gradient(of_arrays, case.arrays, order=2 if case is CASES[13] else 1, step=2e-4)


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[9], CASES[11], CASES[18]], ids=lambda c: c.name)
def test_gradient_of_edge_values(case):
    def of_arrays(*arrays):
        message, fields = case.fields(arrays)
        return ng.apply_edges(G, message, **fields)

    check_gradient(of_arrays, case.arrays)


def test_one_array_at_both_ends():
    g = ng.Graph([0, 1, 2, 2, 0, 1], [1, 2, 2, 0, 1, 0])
    check_gradient(
        lambda x: ng.update_all(g, lambda u, v: ng.relu(u.x - v.x) * v.x, "sum", u={"x": x}, v={"x": x}),
        [data(3, 4)],
        order=2,
    )


def test_messages_without_fields():
    degrees = np.bincount(G.dst, minlength=6)
    assert_same(ng.update_all(G, lambda: 1.0, "sum"), degrees.astype(float))
    assert_same(ng.update_all(G, lambda u: 1, "sum"), degrees)
    assert_same(ng.update_all(G, lambda: np.float32(0.5), "sum"), (degrees * 0.5).astype(np.float32))
    assert_same(ng.update_all(G, lambda e: e.w * 0 + 1, "sum", e={"w": data(8)}), degrees.astype(float))


def test_a_function_from_elsewhere_is_a_message():
    class Scale:
        def __call__(self, u, *, factor=2.0):
            return u.x * factor

    x = data(5, 3)
    want = oracle.update_all(G, lambda u: u.x * 2.0, "sum", u={"x": x})
    assert_same(ng.update_all(G, Scale(), "sum", u={"x": x}), want)
    assert_same(ng.update_all(G, lambda u, k=2.0: u.x * k, "sum", u={"x": x}), want)
    assert_same(ng.update_all(G, lambda u: u["x"] * 2.0, "sum", u={"x": x}), want)


# --- every elementary function ------------------------------------------------------------------------------

FUNCTIONS = {
    **elementary.TABLE,
    **{f"np.{f.__name__}": f for f in elementary.COMPOSED},
    **{f"ng.{f.__name__}": f for f in (ng.relu, ng.leaky_relu, ng.elu, ng.gelu, ng.silu, ng.softplus)},
}
INSIDE, ABOVE_ONE = {"arcsin", "arccos", "arctanh"}, {"arccosh"}
POSITIVE = {"power", "np.float_power", "sqrt", "log", "log1p", "log2", "log10"}
BINARY = {"np.float_power", "np.divmod"}
WHOLE = {
    name: elementary.TABLE[name]
    for name in elementary.TABLE
    if name.startswith("bitwise") or name.endswith("shift")
}


def arity(name, f):
    if name in ("where",):
        return 3
    if isinstance(f, elementary.Row):
        return getattr(f.functions[0], "nin", 1) if f.functions else 1
    return 2 if name in BINARY else 1


FUNCTIONS = {name: f for name, f in FUNCTIONS.items() if name not in WHOLE}  # test_integers.py has those
FUNCTIONS["np.divmod"] = lambda a, b: sum(np.divmod(a, b))


def message_of(name):
    f = FUNCTIONS[name]
    if name == "where":
        return lambda u, v, e: f(e.w > 0, u.x, v.y)
    if name == "np.clip":
        return lambda u: f(u.x, -1.0, 1.2)
    if name.startswith("logical"):
        return (lambda u: f(u.x > 1)) if arity(name, f) == 1 else (lambda u, v: f(u.x > 1, v.y > 1))
    return (lambda u: f(u.x)) if arity(name, f) == 1 else (lambda u, v: f(u.x, v.y))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name):
    message, row = message_of(name), FUNCTIONS[name]
    x, y, w = data(5, 3), data(6, 3, seed=1), data(8, seed=2)
    x = (
        np.abs(x)
        if name in POSITIVE
        else x / 2.5
        if name in INSIDE
        else np.abs(x) + 1
        if name in ABOVE_ONE
        else x
    )
    fields = {"u": {"x": x}, "v": {"y": y}, "e": {"w": w}}
    assert_same(ng.update_all(G, message, "sum", **fields), oracle.update_all(G, message, "sum", **fields))
    if not (isinstance(row, elementary.Row) and row.vjp is None) and name not in (
        "np.isnan",
        "np.isinf",
        "np.isfinite",
    ):
        check_gradient(
            lambda x, y: ng.update_all(G, message, "sum", u={"x": x}, v={"y": y}, e={"w": w}), [x, y]
        )


SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    3.0,
    -3.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-300,
    -1e-300,
    1e300,
    -1e300,
    88.7,
    -103.9,
    709.7,
    -745.1,
]
UNARY = [
    name
    for name, f in FUNCTIONS.items()
    if arity(name, f) == 1 and name != "np.clip" and not name.startswith("logical")
]


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_over_the_whole_line(name):
    """Also NaN, infinities, signed zeros and the ends of exp: the values of NumPy, up to a few units in the
    last place.
    """
    f = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    for dtype, rtol in ((np.float64, 1e-13), (np.float32, 2e-6)):
        with np.errstate(all="ignore"):
            x = np.concatenate(
                [
                    SPECIAL,
                    np.linspace(-20, 20, 501),
                    np.exp(rng.uniform(-30, 30, 200)),
                    -np.exp(rng.uniform(-30, 4, 100)),
                ]
            )
            if name in ("sin", "cos", "tan"):
                x = x[(np.abs(x) < 1e4) | ~np.isfinite(x)]
            x = x.astype(dtype)
            want = f.evaluate(x) if isinstance(f, elementary.Row) else f(x)
        g = ng.Graph(np.arange(len(x)), np.arange(len(x)))
        got = ng.apply_edges(g, lambda u: f(u.x), u={"x": x})
        assert got.dtype == want.dtype
        # near a zero of the function that is no zero of x (sin at π, log at 1) a tiny error of x is a large
        # one of the value
        atol = (
            rtol * 2
            if name in ("sin", "cos", "tan", "log", "log2", "log10", "ng.gelu", "erf")
            else np.finfo(dtype).tiny
        )
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
        if name in ("negative", "absolute", "sqrt", "sin", "tanh", "expm1", "log1p", "arctan"):
            np.testing.assert_array_equal(np.signbit(got[:2]), np.signbit(want[:2]))


BINARY_ROWS = [
    *(
        "maximum",
        "minimum",
        "power",
        "logaddexp",
        "logaddexp2",
        "equal",
        "less",
        "floor_divide",
        "remainder",
        "fmod",
        "hypot",
        "arctan2",
    ),
    *("fmax", "fmin", "copysign", "heaviside"),
]


@pytest.mark.parametrize("name", BINARY_ROWS)
def test_binary_functions_of_special_values(name):
    f = FUNCTIONS[name]
    a, b = (side.ravel() for side in np.meshgrid(SPECIAL, SPECIAL))
    g = ng.Graph(np.arange(len(a)), np.arange(len(a)))
    with np.errstate(all="ignore"):
        want = f.evaluate(a, b) if isinstance(f, elementary.Row) else f(a, b)
    got = ng.apply_edges(g, lambda u, v: f(u.a, v.b), u={"a": a}, v={"b": b})
    # exp(−745.1) is half of the smallest number that there is: NumPy rounds it up, CUDA's exp down to 0
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=np.finfo(float).smallest_subnormal)


def test_a_planted_wrong_derivative_is_caught(monkeypatch):
    wrong = copy.copy(elementary.TABLE["tanh"])  # a new Row would want a name of its own
    object.__setattr__(wrong, "vjp", lambda g, y, x: (g * (1 - y),))
    monkeypatch.setitem(elementary.TABLE, "tanh", wrong)
    monkeypatch.setitem(elementary.BY_FUNCTION, np.tanh, wrong)
    algebra.algebra_of.cache_clear()  # a walk's derivative is derived once
    with pytest.raises(AssertionError, match="central difference"):
        check_gradient(lambda x: ng.update_all(G, lambda u: np.tanh(u.x), "sum", u={"x": x}), [data(5, 3)])
    monkeypatch.undo()
    algebra.algebra_of.cache_clear()
    check_gradient(lambda x: ng.update_all(G, lambda u: np.tanh(u.x), "sum", u={"x": x}), [data(5, 3)])


# --- attention ----------------------------------------------------------------------------------------------

ATTEND = [  # feature shapes of score and value
    ((), ()),
    ((), (3,)),
    ((3,), (3,)),
    ((2, 1), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (3,)),
    ((1,), (3,)),
    ((3,), ()),
    ((4, 1), (4, 33)),
    ((), (2, 3)),
]


@pytest.mark.parametrize("shapes", ATTEND, ids=str)
def test_attend_of_every_shape(shapes):
    score, value = shapes
    fields = {"u": {"k": data(5, *score), "x": data(5, *value)}, "v": {"q": data(6, *score, seed=1)}}
    functions = (lambda u, v: ng.leaky_relu(u.k + v.q) * 3, lambda u: u.x)
    assert_same(ng.attend(G, *functions, **fields), oracle.attend(G, *functions, **fields))
    if fields["u"]["x"].size < 100:
        arrays = [fields["u"]["k"], fields["v"]["q"], fields["u"]["x"]]
        check_gradient(lambda k, q, x: ng.attend(G, *functions, u={"k": k, "x": x}, v={"q": q}), arrays)


def test_attend_second_order_and_float32():
    def attention(q, k, x, w):
        scale = 0.7
        score = lambda u, v, e: np.sum(u.k * v.q, axis=-1, keepdims=True) * scale + e.w
        return ng.attend(
            G, score, lambda u, v, e: u.x * e.w + v.q, u={"k": k, "x": x}, v={"q": q}, e={"w": w}
        )

    arrays = [data(6, 2, 3), data(5, 2, 3), data(5, 2, 3, seed=2), data(8, 2, 1)]
    check_gradient(attention, arrays, order=2)
    check_gradient(
        lambda *arrays: attention(*arrays) ** 2, arrays, order=2
    )  # what arrives at the attention is itself recorded
    check_float32(attention, arrays)


def test_attend_does_not_overflow_and_minus_infinity_masks():
    s, x = data(8) * 1e4, data(5, 3)
    functions = (lambda e: e.s, lambda u: u.x)
    assert_same(
        ng.attend(G, *functions, u={"x": x}, e={"s": s}), oracle.attend(G, *functions, u={"x": x}, e={"s": s})
    )
    s = data(8)
    s[[0, 4]] = -np.inf  # 1 → 2 (its twin stays) and 2 → 0
    masked = ng.attend(G, *functions, u={"x": x}, e={"s": s})
    np.testing.assert_array_equal(masked[2], x[1])
    np.testing.assert_array_equal(masked[0], x[0])
    with ng.Tape() as tape:
        watched = tape.watch(s)
        loss = ng.attend(G, *functions, u={"x": x}, e={"s": watched}).sum()
    gradient = tape.gradient(loss, watched)
    assert np.isfinite(gradient).all()
    assert (gradient[[0, 4]] == 0).all()


def test_attend_equals_edge_softmax_then_sum():
    s, x = data(8, 2, 1), data(5, 2, 3)
    alpha = ng.ops.edge_softmax(G, s)
    np.testing.assert_allclose(
        ng.attend(G, lambda e: e.s, lambda u: u.x, u={"x": x}, e={"s": s}),
        ng.ops.u_mul_e_sum(G, x, alpha),
        rtol=1e-12,
    )


# --- layouts and dtypes -------------------------------------------------------------------------------------


def layouts(x):
    """The same values in other places: strided, reversed, transposed, read-only, unaligned, of the other byte
    order.
    """
    rows = np.zeros((2 * x.shape[0], *x.shape[1:]), x.dtype)
    rows[::2] = x
    features = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    features[..., ::3] = x
    locked = x.copy()
    locked.flags.writeable = False
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(x.tobytes(), np.uint8)
    yield "rows", rows[::2]
    yield "features", features[..., ::3]
    yield "reversed rows", x[::-1].copy()[::-1]
    yield "reversed features", x[..., ::-1].copy()[..., ::-1]
    yield "Fortran", np.asfortranarray(x)
    yield "transposed", np.ascontiguousarray(x.T).T
    yield "read-only", locked
    yield "unaligned", raw[1:].view(x.dtype).reshape(x.shape)
    yield "other byte order", x.astype(x.dtype.newbyteorder())
    yield "broadcast", np.broadcast_to(x[:1], x.shape)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
def test_memory_layouts(shape):
    message = lambda u, v, e: (u.x - v.y) * e.w
    x, y, w = data(5, *shape), data(6, *shape), data(8, *shape)
    for (name, a), (_, b), (_, c) in zip(layouts(x), layouts(y), layouts(w)):
        want = oracle.update_all(G, message, "sum", u={"x": a}, v={"y": b}, e={"w": c})
        got = ng.update_all(G, message, "sum", u={"x": a}, v={"y": b}, e={"w": c})
        np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=name)
        assert got.dtype.isnative
        with ng.Tape() as tape:
            watched = [tape.watch(value) for value in (a, b, c)]
            loss = ng.update_all(
                G, message, "sum", u={"x": watched[0]}, v={"y": watched[1]}, e={"w": watched[2]}
            ).sum()
        for gradient, like in zip(tape.gradient(loss, watched), (a, b, c)):
            assert gradient.shape == like.shape


def test_lists_and_non_contiguous_captured_arrays():
    a = data(6, 4)[::2, ::-2]
    message = lambda u: u.x[..., None] * a
    x = data(5, 3)
    assert_same(
        ng.update_all(G, message, "sum", u={"x": x}), oracle.update_all(G, message, "sum", u={"x": x})
    )
    assert_same(
        ng.update_all(G, lambda u: u.x * 2, "sum", u={"x": x.tolist()}),
        oracle.update_all(G, lambda u: u.x * 2, "sum", u={"x": x}),
    )


FACTOR = 2.0


def test_what_a_message_reads_may_change_between_calls(monkeypatch):
    """Its closure, a global, its defaults and arrays changed in place."""
    x, factor, array = data(5, 3), 2.0, np.full(3, 2.0)

    def defaulted(u, factor=2.0):
        return u.x * factor

    messages = (lambda u: u.x * factor, lambda u: u.x * FACTOR, lambda u: u.x * array, defaulted)
    for value in (2.0, 3.0, 5.0):
        monkeypatch.setitem(globals(), "FACTOR", value)
        factor, defaulted.__defaults__ = value, (value,)
        array[:] = value
        want = oracle.update_all(G, lambda u: u.x, "sum", u={"x": value * x})
        for each in messages:
            assert_same(ng.update_all(G, each, "sum", u={"x": x}), want)


def test_messages_that_read_their_arguments_alone_are_told_apart_by_shapes_dtypes_and_constants():
    def twice(u):
        return u.x * [1, 2, 4] + u.x

    for shape in ((5, 3), (5, 2, 3)):
        for dtype in (np.float64, np.int64, np.float64):
            x = (data(*shape) * 9).astype(dtype)
            assert_same(
                ng.update_all(G, twice, "sum", u={"x": x}),
                oracle.update_all(G, lambda u: u.x * [2, 3, 5], "sum", u={"x": x}),
            )
    other = lambda u: u.x * 1.0  # 1 and 1.0 are equal, and different constants
    assert ng.apply_edges(G, lambda u: u.x * 1, u={"x": np.arange(5)}).dtype == np.int64
    assert ng.apply_edges(G, other, u={"x": np.arange(5)}).dtype == np.float64


DTYPES = ("bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64")


@pytest.mark.parametrize("second", DTYPES)
@pytest.mark.parametrize("first", DTYPES)
def test_mixed_dtypes_promote_like_numpy(first, second):
    x, w = np.abs(data(5, 3) * 3).astype(first), np.abs(data(8, 3) * 3).astype(second)
    message = lambda u, e: u.x + e.w
    rtol = 2e-3 if "float16" in (first, second) else 1e-6
    wide = {"u": {"x": x}, "e": {"w": w}}
    assert_same(ng.apply_edges(G, message, **wide), oracle.apply_edges(G, message, **wide), rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_every_reduce(dtype):
    x = np.abs(data(5, 3) * 3).astype(dtype)
    rtol = 2e-3 if dtype == "float16" else 1e-6
    for reduce in REDUCES:
        got, want = (
            ng.update_all(G, lambda u: u.x, reduce, u={"x": x}),
            oracle.update_all(G, lambda u: u.x, reduce, u={"x": x}),
        )
        if np.dtype(dtype).kind == "u" and reduce in ("sum", "prod"):
            want = want.astype(
                np.int64
            )  # NumPy's sum of unsigned is unsigned; messages of every integer add up in int64
        assert_same(got, want, rtol)


def test_python_numbers_keep_float32():
    x = data(5, 3).astype(np.float32)
    message = lambda u: np.where(u.x > 0, u.x * 2.5 + 1, 0) / 3
    got = ng.update_all(G, message, "mean", u={"x": x})
    assert_same(got, oracle.update_all(G, message, "mean", u={"x": x}), 1e-6)
    assert got.dtype == np.float32
    assert ng.update_all(G, lambda u: u.x * np.float64(2), "sum", u={"x": x}).dtype == np.float64


def test_float16_sums_in_float32():
    n = 4000
    g = ng.Graph(np.arange(n), np.zeros(n, int))
    x = np.full((n, 2), 1.0, np.float16)
    np.testing.assert_array_equal(
        ng.update_all(g, lambda u: u.x, "sum", u={"x": x})[0], np.float16(4000)
    )  # float16 sums stop at 2048


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)], ids=str)
def test_feature_axes_of_length_zero(shape):
    x, y = np.zeros((5, *shape)), np.zeros((6, *shape))
    for reduce in REDUCES:
        assert_same(
            ng.update_all(G, lambda u, v: u.x * v.y, reduce, u={"x": x}, v={"y": y}), np.zeros((6, *shape))
        )
    assert_same(ng.apply_edges(G, lambda u, v: u.x * v.y, u={"x": x}, v={"y": y}), np.zeros((8, *shape)))
    assert_same(ng.attend(G, lambda u: u.x, lambda v: v.y, u={"x": x}, v={"y": y}), np.zeros((6, *shape)))
    axis = shape.index(0)
    want = np.zeros((6, *shape[:axis], *shape[axis + 1 :]))
    assert_same(ng.update_all(G, lambda u: u.x.sum(axis), "sum", u={"x": x}), want)
    with ng.Tape() as tape:
        a, b = tape.watch(x), tape.watch(y)
        loss = ng.update_all(G, lambda u, v: u.x * v.y, "max", u={"x": a}, v={"y": b}).sum()
    assert [d.shape for d in tape.gradient(loss, [a, b])] == [x.shape, y.shape]


# --- graphs of every kind -----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(graphs(), seeds)
def test_any_graph(g, seed):
    rng = np.random.default_rng(seed)
    fields = {
        "u": {"x": rng.normal(size=(g.num_src, 2, 3))},
        "v": {"y": rng.normal(size=(g.num_dst, 2, 3))},
        "e": {"w": rng.normal(size=(g.num_edges, 2, 1))},
    }
    message = lambda u, v, e: ng.relu(u.x - v.y) * e.w
    for reduce in REDUCES:
        assert_same(
            ng.update_all(g, message, reduce, **fields), oracle.update_all(g, message, reduce, **fields)
        )
    assert_same(ng.apply_edges(g, message, **fields), oracle.apply_edges(g, message, **fields))
    attention = (lambda v, e: np.sum(v.y, -1, keepdims=True) * e.w, lambda u: u.x)
    assert_same(ng.attend(g, *attention, **fields), oracle.attend(g, *attention, **fields))


@settings(max_examples=12, deadline=None)
@given(graphs(max_nodes=3, max_edges=6), seeds)
def test_gradients_on_any_graph(g, seed):
    rng = np.random.default_rng(seed)
    x, y, w = (
        rng.normal(size=(g.num_src, 2, 1)),
        rng.normal(size=(g.num_dst, 2, 1)),
        rng.normal(size=(g.num_edges, 2, 1)),
    )

    def smooth(x, y, w):
        fields = {"u": {"x": x}, "v": {"y": y}, "e": {"w": w}}
        message = lambda u, v, e: np.tanh(u.x - v.y) * e.w
        attended = ng.attend(g, message, lambda u, e: u.x * e.w, **fields)
        return (
            attended,
            ng.update_all(g, message, "mean", **fields),
            ng.update_all(g, message, "prod", **fields),
        )

    check_gradient(smooth, [x, y, w], rtol=1e-5)
