"""Feature axes in messages: joined, indexed by constants, normed, multiplied, softmax over them. Against
dense NumPy in float64.
"""

from __future__ import annotations

import numpy as np
import pytest
from checks import check_gradient, gradients

import numgraph as ng
from numgraph.expressions import expr
from numgraph.expressions.pieces import pieces_of
from numgraph.expressions.traversal import topological

RNG = np.random.default_rng(3)
G = ng.Graph(RNG.integers(0, 6, 20), RNG.integers(0, 4, 20), num_src=6, num_dst=5)
FIELDS = {
    "u": {"x": RNG.standard_normal((6, 3)), "h": RNG.standard_normal((6, 2, 3))},
    "v": {
        "x": RNG.standard_normal((5, 3)),
        "h": RNG.standard_normal((5, 2, 3)),
        "y": RNG.standard_normal((5, 2)),
    },
    "e": {"w": RNG.standard_normal((20, 5))},
}
W = RNG.standard_normal((3, 4))


def softmax(x, axis=-1):
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def logsumexp(x, axis=-1):
    return np.log(np.exp(x).sum(axis))


class Rows:
    """One edge's fields, for ng.softmax and the like as they are on arrays without the edge."""

    def __init__(self, fields, row):
        for name, array in fields.items():
            setattr(self, name, array[row])


MESSAGES = {
    "concatenate": lambda u, v, e: np.concatenate([u.x, v.y]) * e.w,
    "concatenate, summed": lambda u, v, e: (np.concatenate([u.x, v.y], -1) * e.w).sum(-1),
    "concatenate, largest": lambda u, v: np.max(np.concatenate([u.x, v.x * 2]), keepdims=True),
    "concatenate of two axes": lambda u, v: np.concatenate(
        [np.concatenate([u.h, v.h]), np.concatenate([v.h, u.h])[:, :1]], 1
    ),
    "concatenate beside an array": lambda u: np.concatenate([u.x, W[0]]) * 2,
    "stack": lambda u, v: np.stack([u.x, v.x], -1) * v.x[:, None],
    "a perceptron of both ends": lambda u, v: np.tanh(
        np.concatenate([u.x, v.x[:1]]) @ np.concatenate([W, W[:1]])
    ),
    "entries": lambda u, v: u.x[..., 0] * v.h[1, 2],
    "slices": lambda u, e: np.exp(u.x)[::-1] * e.w[1:4],
    "steps": lambda e: e.w[::2] + e.w[1:4],
    "lists": lambda u: (u.x * 2)[[2, 0, 0]],
    "lists of what is joined": lambda u, v: np.concatenate([u.x, v.y])[[4, 0, 3, 1]],
    "a cross product": lambda u, v: np.stack(
        [
            u.x[1] * v.x[2] - u.x[2] * v.x[1],
            u.x[2] * v.x[0] - u.x[0] * v.x[2],
            u.x[0] * v.x[1] - u.x[1] * v.x[0],
        ],
        -1,
    ),
    "norm": lambda u, v: np.linalg.norm(u.x - v.x, axis=-1, keepdims=True),
    "norm of order 1": lambda u, v: np.linalg.norm(u.x - v.x, 1),
    "norm of matrices": lambda u, v: np.linalg.norm(u.h - v.h, axis=(0, 1)),
    "the largest norm": lambda u, v: np.linalg.norm(u.h - v.h, np.inf, axis=1),
    "an angle": lambda u, v: np.arctan2(u.x[1] - v.x[1], u.x[0] - v.x[0]),
    "einsum": lambda u, v: np.einsum("hd,hd->h", u.h, v.h),
    "einsum of three": lambda u, v: np.einsum("hi,gi,i->hg", u.h, v.h, u.x),
    "einsum with dots": lambda u, v: np.einsum("...d,d->...", u.h, v.x),
    "einsum without an arrow": lambda u, v: np.einsum("hd,d", u.h, v.x),
    "matmul": lambda u: u.x @ W,
    "matmul of fields": lambda u, v: np.matmul(u.h, np.transpose(v.h)),
    "matmul on the left": lambda u: W.T @ u.x,
    "dot": lambda u, v: np.dot(u.x, v.x),
    "inner": lambda u, v: np.inner(u.h, v.h),
    "vecdot": lambda u, v: np.vecdot(u.h, v.h),
    "an outer product": lambda u: u.x[:, None] * u.x[None, :],
    "np.outer": lambda u, v: np.outer(u.x, v.y),
    "swapaxes, squeeze": lambda u, v: np.swapaxes(u.h, 0, 1) + np.squeeze(v.x[:, None], 1)[:, None],
    "std": lambda u, v: np.std(u.h - v.h, -1),
    "var": lambda u, v: np.var(u.h * v.h, 0, keepdims=True),
}
OF_OURS = {
    "softmax": (lambda u, v: ng.softmax(u.h * v.h, 0), lambda u, v: softmax(u.h * v.h, 0)),
    "log_softmax": (lambda u, v: ng.log_softmax(u.h * v.h), lambda u, v: np.log(softmax(u.h * v.h))),
    "logsumexp": (lambda u, v: ng.logsumexp(u.h * v.h, -1), lambda u, v: logsumexp(u.h * v.h)),
    "ng.einsum": (lambda u, v: ng.einsum("hd,d->h", u.h, v.x), lambda u, v: np.einsum("hd,d->h", u.h, v.x)),
    "ng.matmul": (lambda u: ng.matmul(u.x, W), lambda u: u.x @ W),
    "softmax of what is joined": (
        lambda u, v: ng.softmax(np.concatenate([u.x, v.y])),
        lambda u, v: softmax(np.concatenate([u.x, v.y])),
    ),
}
"""What has other functions on arrays."""
CASES = {**{name: (message, message) for name, message in MESSAGES.items()}, **OF_OURS}


def names_of(message):
    return message.__code__.co_varnames[: message.__code__.co_argcount]


def given(message, fields=FIELDS):
    return {target: fields[target] for target in names_of(message)}


def per_edge(truth, fields=FIELDS):
    ends = {"u": G.src, "v": G.dst, "e": np.arange(G.num_edges)}
    return np.stack(
        [
            truth(**{target: Rows(fields[target], ends[target][k]) for target in names_of(truth)})
            for k in range(G.num_edges)
        ]
    )


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    message, truth = CASES[name]
    want = per_edge(truth)
    np.testing.assert_allclose(ng.apply_edges(G, message, **given(message)), want, 1e-12, 1e-14)
    total = np.zeros((5, *want.shape[1:]))
    np.add.at(total, G.dst, want)
    np.testing.assert_allclose(ng.update_all(G, message, "sum", **given(message)), total, 1e-12, 1e-13)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    message, _ = CASES[name]
    keys = [
        (target, field)
        for target in names_of(message)
        for field in FIELDS[target]
        if field in message.__code__.co_names
    ]

    def run(*arrays):
        fields = {target: {} for target in names_of(message)}
        for (target, field), array in zip(keys, arrays, strict=True):
            fields[target][field] = array
        return ng.update_all(G, message, "sum", **fields)

    check_gradient(run, [FIELDS[target][field] for target, field in keys], rtol=1e-6, step=1e-4)


@pytest.mark.parametrize("name", ["concatenate", "slices", "norm", "softmax", "a perceptron of both ends"])
def test_second_derivatives(name):
    message, _ = CASES[name]
    fields = given(message)
    field = "h" if name == "softmax" else "x"

    def run(x):
        return ng.update_all(G, message, "mean", **{**fields, "u": {field: x}})

    check_gradient(run, [FIELDS["u"][field]], order=2, rtol=1e-5)


def test_a_captured_matrix_has_a_gradient():
    def run(x, w):
        return ng.update_all(
            G,
            lambda u, v: np.tanh(np.concatenate([u.x, v.x]) @ w[:, :2] + w[0, 2]),
            "sum",
            u={"x": x},
            v={"x": FIELDS["v"]["x"]},
        )

    check_gradient(run, [FIELDS["u"]["x"], RNG.standard_normal((6, 3))], rtol=1e-6)


@pytest.mark.parametrize("reduce", ["max", "std", "logsumexp", "softmax", ("min", "var")])
def test_reduces_of_what_is_joined(reduce):
    message = MESSAGES["concatenate"]
    m = per_edge(message)
    rows = [m[G.dst == v] for v in range(4)]
    truth = {
        "max": lambda m: m.max(0),
        "min": lambda m: m.min(0),
        "var": lambda m: m.var(0),
        "std": lambda m: m.std(0),
        "logsumexp": lambda m: logsumexp(m, 0),
        "softmax": lambda m: (softmax(m, 0) * m).sum(0),
    }
    got = ng.update_all(G, message, reduce, **given(message))
    for name, z in zip(reduce, got, strict=True) if isinstance(reduce, tuple) else [(reduce, got)]:
        np.testing.assert_allclose(z[:4], [truth[name](row) for row in rows], 1e-11)


def test_attention_with_joined_values():
    fields = {"u": FIELDS["u"], "v": FIELDS["v"]}
    score = lambda u, v: np.vecdot(u.h, v.h)[:, None]
    z = ng.attend(G, score, lambda u, v: np.concatenate([u.h, v.h], 1), **fields)
    parts = [ng.attend(G, score, value, **fields) for value in (lambda u: u.h, lambda v: v.h)]
    np.testing.assert_allclose(z, np.concatenate(parts, 2), 1e-13)
    scores, values = per_edge(score), per_edge(lambda u, v: np.concatenate([u.h, v.h], 1))
    for v in range(4):
        own = G.dst == v
        np.testing.assert_allclose(z[v], (softmax(scores[own], 0) * values[own]).sum(0), 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_dtypes(dtype):
    x, y = (
        (FIELDS["u"]["x"] * 4).astype(dtype),
        (FIELDS["v"]["y"] * 4).astype(np.float32 if dtype == np.float16 else dtype),
    )
    z = ng.apply_edges(G, lambda u, v: np.concatenate([u.x, v.y])[1:], u={"x": x}, v={"y": y})
    want = np.concatenate([x[G.src], y[G.dst]], 1)[:, 1:]
    assert z.dtype == want.dtype
    np.testing.assert_array_equal(z, want)


def test_norm_of_zero_has_no_gradient():
    def run(x):
        return ng.apply_edges(G, lambda u: np.linalg.norm(u.x, axis=-1), u={"x": x})

    np.testing.assert_array_equal(gradients(run, [np.zeros((6, 3))])[0], 0)


def test_large_softmax_does_not_overflow():
    h = np.array([[1000.0, 1001.0, -1e4]])
    loop = ng.Graph([0], [0], 1)
    np.testing.assert_allclose(
        ng.apply_edges(loop, lambda u: ng.softmax(u.h), u={"h": h}), softmax(h - 1001), 1e-14
    )
    np.testing.assert_allclose(
        ng.apply_edges(loop, lambda u: ng.logsumexp(u.h, -1), u={"h": h}), logsumexp(h - 1001) + 1001, 1e-14
    )


def test_kernels_know_of_no_joins_and_no_indices():
    """Entries of fields are fields, which read views; each piece of a result is an output."""
    u, v = expr.field("u", "x", (3,), float), expr.field("v", "y", (2,), float)
    pieces = pieces_of((np.exp(np.concatenate([u, v]))[1:],))
    assert len(pieces.parts) == 2
    assert pieces.counts == (2,)
    for (root,) in pieces.parts:
        assert {node.op for node in topological((root,))} == {"field", "exp"}
    assert [(view.base, view.index) for view in pieces.views] == [(("u", "x"), (slice(1, 3, 1),))]


# --- tables -------------------------------------------------------------------------------------------------

TABLE, RELATION, KIND = RNG.standard_normal((4, 3)), RNG.integers(0, 4, 20), RNG.integers(0, 4, 6)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_rows_of_tables(dtype):
    fields = {"u": {"x": FIELDS["u"]["x"], "kind": KIND.astype(dtype)}, "e": {"rel": RELATION.astype(dtype)}}

    def message(x, table):
        return ng.update_all(
            G,
            lambda u, e: (
                np.tanh(u.x * ng.take(table, e.rel)) + ng.take(table, u.kind)[::-1] * ng.take(table, e.rel)[0]
            ),
            "sum",
            **{**fields, "u": {**fields["u"], "x": x}},
        )

    x = FIELDS["u"]["x"]
    rows, kinds = TABLE[RELATION], TABLE[KIND[G.src]]
    m = np.tanh(x[G.src] * rows) + kinds[:, ::-1] * rows[:, :1]
    want = np.zeros((5, 3))
    np.add.at(want, G.dst, m)
    np.testing.assert_allclose(message(x, TABLE), want, 1e-12, 1e-13)
    if dtype is np.int64:
        check_gradient(message, [x, TABLE], order=2, rtol=1e-6)


def test_ids_out_of_range_name_the_edge():
    for bad in (4, -1):
        rel = np.where(np.arange(20) == 7, bad, RELATION)
        with pytest.raises(IndexError, match=rf"e\.rel is {bad} at edge 7, the table has 4 rows"):
            ng.update_all(G, lambda e: ng.take(TABLE, e.rel), "sum", e={"rel": rel})
    with pytest.raises(TypeError, match=r"the ids are e\.w, float64"):
        ng.update_all(G, lambda e: ng.take(TABLE, e.w), "sum", e={"w": np.ones(20)})


def test_take_of_arrays():
    np.testing.assert_array_equal(ng.take(TABLE, RELATION), TABLE[RELATION])
    got = gradients(lambda table: ng.take(table, RELATION), [TABLE])[0]
    assert got.shape == TABLE.shape


ERRORS = {
    "range": (lambda u: u.x[3], IndexError, r"3 is out of range for axis 0 of u\.x, which has 3 entries"),
    "axes": (lambda u: u.x[0, 1], TypeError, r"u\.x \[3\] indexed by .* it has 1 feature axes"),
    "symbols": (lambda u: u.x[u.x], TypeError, r"ng\.take"),
    "masks": (lambda u: u.x[[True, False, True]], TypeError, "indexed by"),
    "two lists": (lambda u: u.h[[0], [1]], TypeError, "one axis after the other"),
    "concatenate": (
        lambda u: np.concatenate([u.x, u.h]),
        ValueError,
        r"differ in other axes than 0: u\.x \[3\], u\.h \[2, 3\]",
    ),
    "stack": (lambda u, v: np.stack([u.x, v.y]), ValueError, "shapes of stack differ"),
    "axis": (lambda u: np.stack([u.x, u.x], 3), ValueError, "stack along axis 3"),
    "letters": (lambda u: np.einsum("ii->i", u.h), ValueError, "each once in an operand"),
    "lengths": (lambda u, v: np.einsum("i,i->i", u.x, v.y), ValueError, "i is 3 and 2"),
    "matmul": (lambda u: u.h @ u.h, ValueError, r"matmul of u\.h \[2, 3\]"),
    "norm": (lambda u: np.linalg.norm(u.x, 3), TypeError, "order 3"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    message, kind, words = ERRORS[name]
    with pytest.raises(kind, match=words):
        ng.apply_edges(G, message, **given(message))
