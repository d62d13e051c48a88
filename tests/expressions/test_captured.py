"""Arrays that a message captures: features are read whole by every edge; rows of edges or nodes are refused,
with the field to pass.
"""

from __future__ import annotations

import numpy as np
import pytest

import numgraph as ng

SRC, DST = np.array([0, 1, 2, 0, 2, 3, 3]), np.array([1, 2, 0, 2, 1, 0, 0])
G = ng.Graph(SRC, DST, 4)  # 7 edges, 4 nodes
B = ng.Graph(SRC, DST, num_src=5, num_dst=3)
RNG = np.random.default_rng(0)


def rows(*shape):
    return RNG.uniform(0.5, 1.5, shape)


E, E1, EF, EHF = rows(7), rows(7, 1), rows(7, 2), rows(7, 3, 2)
N, N1, NF = rows(4), rows(4, 1), rows(4, 2)
FIELDS = {
    "scalar": rows(4),
    "one": rows(4, 1),
    "wide": rows(4, 2),
    "heads": rows(4, 3, 2),
    "score": rows(4, 3, 1),
}


def fields(g):
    """Every shape of FIELDS as fields of u and v."""
    return {"u": {name: np.resize(x, (g.num_src, *x.shape[1:])) for name, x in FIELDS.items()}} | {
        "v": {name: np.resize(x, (g.num_dst, *x.shape[1:])) for name, x in FIELDS.items()}
    }


REFUSED = {
    "a weight an edge": (lambda u: u.scalar * E, "e"),
    "a weight an edge, on the left": (lambda u: E * u.scalar, "e"),
    "a column of weights": (lambda u: u.wide * E1, "e"),
    "a column made in the message": (lambda u: u.wide * E[:, None], "e"),
    "beside a feature axis of length one": (lambda u: u.one * E, "e"),
    "a vector an edge": (lambda u: u.wide * EF, "e"),
    "heads an edge": (lambda u: u.heads * EHF, "e"),
    "a weight beside heads": (lambda u: u.score * E[:, None, None], "e"),
    "a mask": (lambda u: np.where(E > 1, u.scalar, 0), "e"),
    "a mask of columns": (lambda u: np.where(E1 > 1, u.wide, 0), "e"),
    "a bound": (lambda u: np.maximum(u.scalar, E), "e"),
    "limits": (lambda u: np.clip(u.scalar, 0, E), "e"),
    "a comparison": (lambda u: u.scalar > E, "e"),
    "after a sum": (lambda u: u.wide.sum(-1) * E, "e"),
    "after a kept sum": (lambda u: u.wide.sum(-1, keepdims=True) * E, "e"),
    "summed afterwards": (lambda u: (u.wide * EF).sum(-1), "e"),
    "in a power": (lambda u: u.scalar**E, "e"),
    "beside two fields": (lambda u, v: (u.scalar - v.scalar) * E, "e"),
    "of integers": (lambda u: u.scalar * np.arange(7), "e"),
    "a list": (lambda u: u.scalar * list(range(7)), "e"),
    "leading axes of length one": (lambda u: u.scalar * E[None, :], "e"),
    "a value a node": (lambda u: u.scalar * N, "u"),
    "a column of nodes": (lambda u: u.wide * N1, "u"),
    "features of nodes": (lambda u: u.wide - NF, "u"),
    "the message itself": (lambda u: E, "e"),
    "the message itself, of nodes": (lambda: NF, "u"),
    "a Parameter": (lambda u: u.scalar * ng.Parameter(E), "e"),
    "a default": (lambda u, w=E: u.scalar * w, "e"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_are_refused(name):
    message, target = REFUSED[name]
    word = {"e": r"edge \(num_edges is 7\)", "u": r"source \(num_src is 4\) or destination \(num_dst is 4\)"}[
        target
    ]
    with pytest.raises(
        ValueError,
        match=rf"update_all: the captured array .* has a row for each {word}.*pass it as {target}=\{{'",
    ):
        ng.update_all(G, message, "sum", **fields(G))
    with pytest.raises(ValueError, match="apply_edges: the captured array"):
        ng.apply_edges(G, message, **fields(G))


@pytest.mark.parametrize(
    ("rows", "target", "name"), [(7, "e", "edge"), (5, "u", "source"), (3, "v", "destination")]
)
def test_the_side_is_named(rows, target, name):
    w = np.ones(rows)
    text = (
        rf"the captured array w of shape \[{rows}\] has a row for each {name} .*pass it as {target}=\{{'w': "
        rf"w\}} and write {target}\.w"
    )
    with pytest.raises(ValueError, match=text):
        ng.update_all(B, lambda u: u.scalar * w, "sum", **fields(B))
    for score, value in (
        (lambda u: u.scalar * w, lambda u: u.scalar),
        (lambda u: u.scalar, lambda u: u.scalar * w),
    ):
        with pytest.raises(ValueError, match=f"attend: the captured array w .*{target}="):
            ng.attend(B, score, value, **fields(B))


def test_on_the_tape():
    with ng.Tape() as tape:
        w = tape.watch(E)
        with pytest.raises(ValueError, match="has a row for each edge"):
            ng.update_all(G, lambda u: u.scalar * w, "sum", **fields(G))


def test_what_the_error_says_works():
    w = E
    got = ng.update_all(G, lambda u, e: u.scalar * e.w, "sum", **fields(G), e={"w": w})
    want = np.zeros(4)
    np.add.at(want, DST, FIELDS["scalar"][SRC] * E)
    np.testing.assert_allclose(got, want)


# As many features as there are edges, sources or destinations, by chance.
WIDE = {count: {"x": rows(4, count), "h": rows(4, 2, count)} for count in (4, 7)}

FEATURES = {
    "a weight a feature": lambda x, h, f: x * f,
    "a weight a feature, of heads": lambda x, h, f: h * f,
    "a mask of features": lambda x, h, f: np.where(f > 1, x, 0),
    "a shift": lambda x, h, f: np.tanh(x + f),
    "a vector for each head": lambda x, h, f: (h * np.stack([f, 2 * f])).sum(-1),
    "a product with a column": lambda x, h, f: (x[..., None] * np.stack([f, -f], 1)).sum(-2),
    "an outer product": lambda x, h, f: x[..., :, None] * f,
    "an outer product, then scaled": lambda x, h, f: (2 * x[..., :, None]) * f,
    "two of them": lambda x, h, f: x * f + f,
}


@pytest.mark.parametrize("count", WIDE)
@pytest.mark.parametrize("name", FEATURES)
def test_features_are_taken_whatever_their_number(name, count):
    formula, f = FEATURES[name], rows(count)
    got = ng.apply_edges(G, lambda u: formula(u.x, u.h, f), u=WIDE[count])
    want = formula(*(x[SRC] for x in WIDE[count].values()), f)
    np.testing.assert_allclose(got, want)


OTHERS = {
    "a number of one entry": lambda x: x * np.array([2.0]),
    "a 0-d array": lambda x: x * np.array(2.0),
    "features of a new axis": lambda x: x * np.array([[2.0], [3.0], [4.0], [5.0], [6.0]]).reshape(5, 1),
    "a list": lambda x: x * [2.0, 3.0],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arrays_are_taken(name):
    x = rows(4, 2)
    got = ng.apply_edges(G, lambda u: OTHERS[name](u.x), u={"x": x})
    np.testing.assert_allclose(got, np.stack([OTHERS[name](row) for row in x])[SRC].reshape(got.shape))


def test_one_edge_or_node_tells_nothing():
    """An axis of length one broadcasts as it should."""
    g = ng.Graph([0], [0])
    np.testing.assert_array_equal(
        ng.update_all(g, lambda u: u.x * np.array([2.0]), "sum", u={"x": np.array([3.0])}), [[6.0]]
    )


WIDTH = 1_000_000


def outer(u, v):
    return u.x[:, None] * v.x


LARGE = {
    "update_all": lambda **fields: ng.update_all(G, outer, "sum", **fields),
    "apply_edges": lambda **fields: ng.apply_edges(G, outer, **fields),
    "attend": lambda **fields: ng.attend(G, lambda u: u.x.sum(), outer, **fields),
}


@pytest.mark.parametrize("call", LARGE)
def test_a_result_without_memory_is_named(call):
    """A message of [10⁶, 10⁶] for each edge, made by fields alone."""
    x = np.zeros((4, WIDTH), np.float32)
    text = r"there is no memory for \[\d, 1000000, 1000000\] of float32, .* GiB, made of u\.x \[4, 1000000\]"
    with pytest.raises(MemoryError, match=text):
        LARGE[call](u={"x": x}, v={"x": x})
