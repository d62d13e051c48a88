"""The compiled kernels against plain NumPy: every path of the code generator, every dtype, every memory
layout.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import walks
from walks import compare, compare_step, normal

import numgraph as ng
from numgraph.compiler import driver, sources
from numgraph.compiler.cpu import balance
from numgraph.graph import sorting

WIDTHS = (*range(1, 21), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130, 200, 257, 1024)
FEW = (1, 3, 16, 33, 130)
G = walks.graph()


# --- one feature axis of every length ---

MESSAGES = {
    "sum": lambda u, v: np.maximum(u.x - v.y, 0) * u.x,
    "mean": lambda u, e: u.x * e.w,
    "max": lambda u, v: u.x * v.y,
    "min": lambda u, v: u.x - v.y,
    "prod": lambda u, v: u.x + v.y * 0.25,
    "edge": lambda u, v, e: (u.x + v.y) * e.w,
    "logsumexp": lambda u, v: u.x * v.y,
    "softmax": (lambda u, v: u.x * v.y, lambda u, e: u.x - e.w),
}


def one_axis(width, dtype=np.float32):
    return {
        "u": {"x": normal(G, "u", width, dtype=dtype)},
        "v": {"y": normal(G, "v", width, dtype=dtype)},
        "e": {"w": normal(G, "e", 1, dtype=dtype)},
    }


@pytest.mark.parametrize("reduce", MESSAGES)
def test_every_length_of_one_axis(reduce):
    for width in WIDTHS if reduce == "sum" else FEW:
        compare(G, MESSAGES[reduce], reduce, to="e" if reduce == "edge" else "v", **one_axis(width))


@pytest.mark.parametrize("reduce", MESSAGES)
def test_float64_and_walks_over_out_edges(reduce):
    for width in (3, 50):
        compare(
            G, MESSAGES[reduce], reduce, to="e" if reduce == "edge" else "u", **one_axis(width, np.float64)
        )


@pytest.mark.parametrize("reduce", MESSAGES)
def test_no_feature_axis(reduce):
    fields = {target: {name: x[:, 0] for name, x in given.items()} for target, given in one_axis(1).items()}
    compare(G, MESSAGES[reduce], reduce, to="e" if reduce == "edge" else "v", **fields)


@pytest.mark.parametrize("width", [1, 3, 16, 130])
def test_against_literal_loops(width):
    """The oracle of the other tests, so that the plain implementation is checked too."""
    fields = one_axis(width)
    near = {"rtol": 1e-5, "atol": 1e-5}
    for reduce in ("sum", "mean", "max", "min", "prod"):
        got = ng.update_all(G, MESSAGES[reduce], reduce, **fields)
        np.testing.assert_allclose(got, oracle.update_all(G, MESSAGES[reduce], reduce, **fields), **near)
    score, value = MESSAGES["softmax"]
    np.testing.assert_allclose(
        ng.attend(G, score, value, **fields), oracle.attend(G, score, value, **fields), **near
    )
    np.testing.assert_allclose(
        ng.apply_edges(G, MESSAGES["edge"], **fields),
        oracle.apply_edges(G, MESSAGES["edge"], **fields),
        **near,
    )


def test_lengths_share_kernels():
    """The length of an axis is a run-time number: only the tile's shape is compiled in."""
    message = lambda u, v: np.sqrt(np.abs(u.x - v.y)) + 3.25 * u.x

    def run(width):
        ng.update_all(G, message, "sum", **{t: f for t, f in one_axis(width).items() if t != "e"})

    run(129)
    run(512)
    before = len(sources._modules)
    for width in (131, 200, 257, 999, 640, 1024):
        run(width)
    assert len(sources._modules) == before


def test_constants_share_kernels():
    """A temperature that is tuned is an argument of the kernel."""

    def run(temperature):
        message = lambda u: np.exp(u.x * temperature) / (temperature + 7)
        fields = {"u": {"x": normal(G, "u", 12)}}
        compare(G, message, "sum", **fields)
        compare_step(lambda u, v, e: ng.update_all(G, message, "mean", u=u), fields)

    run(0.7)
    before = len(sources._modules)
    for temperature in (0.31, 1.9, -0.2, np.pi):
        run(temperature)
    assert len(sources._modules) == before


# --- several axes ---

STRUCTURES = {
    "head and width": (lambda u, e: u.x * e.w, {"u": {"x": (3, 5)}, "e": {"w": (3, 1)}}),
    "head and width, wide": (lambda u, v: u.x * v.y, {"u": {"x": (2, 150)}, "v": {"y": (2, 150)}}),
    "width against every head": (lambda u, v: u.x - v.y, {"u": {"x": (4, 6)}, "v": {"y": (6,)}}),
    "three axes": (
        lambda u, v, e: u.x * v.y + e.w,
        {"u": {"x": (2, 3, 5)}, "v": {"y": (3, 1)}, "e": {"w": (2, 1, 1)}},
    ),
    "three axes, middle alone": (lambda u, v: u.x * v.y, {"u": {"x": (2, 1, 5)}, "v": {"y": (1, 4, 1)}}),
    "outer product": (lambda u, v: u.x[:, None] * v.y, {"u": {"x": (3,)}, "v": {"y": (20,)}}),
    "numbers against width": (lambda u, e: u.x * e.w[..., None], {"u": {"x": (33,)}, "e": {"w": ()}}),
    "sum over the last axis": (lambda u, v: (u.x * v.y).sum(-1), {"u": {"x": (3, 5)}, "v": {"y": (3, 5)}}),
    "sum over the last axis, kept": (
        lambda u, v: (u.x * v.y).sum(-1, keepdims=True) * u.x,
        {"u": {"x": (3, 5)}, "v": {"y": (5,)}},
    ),
    "sum over the first axis": (lambda u, v: (u.x * v.y).sum(0), {"u": {"x": (4, 37)}, "v": {"y": (4, 37)}}),
    "sum over the middle axis": (
        lambda u, v: (u.x * v.y).sum(1, keepdims=True) - u.x,
        {"u": {"x": (2, 3, 5)}, "v": {"y": (3, 5)}},
    ),
    "sum over two axes": (lambda u, v: (u.x * v.y).sum((0, 2)), {"u": {"x": (2, 3, 5)}, "v": {"y": (3, 5)}}),
    "sum over all": (lambda u, v: np.tanh((u.x * v.y).sum()), {"u": {"x": (2, 3, 5)}, "v": {"y": (3, 5)}}),
    "max over the last axis": (lambda u, v: (u.x * v.y).max(-1), {"u": {"x": (3, 19)}, "v": {"y": (3, 19)}}),
    "max over the first axis, kept": (
        lambda u, v: u.x - (u.x * v.y).max(0, keepdims=True),
        {"u": {"x": (3, 18)}, "v": {"y": (3, 18)}},
    ),
    "min and mean": (
        lambda u, v: u.x.min(-1, keepdims=True) * (u.x - v.y).mean(-1, keepdims=True),
        {"u": {"x": (3, 1, 6)}, "v": {"y": (6,)}},
    ),
    "softmax over features": (
        lambda u, v: (
            np.exp(u.x * v.y - (u.x * v.y).max(-1, keepdims=True))
            / np.exp(u.x * v.y - (u.x * v.y).max(-1, keepdims=True)).sum(-1, keepdims=True)
        ),
        {"u": {"x": (2, 21)}, "v": {"y": (2, 21)}},
    ),
    "a reduction wider than a tile": (
        lambda u, v: u.x * (u.x * v.y).sum(-1, keepdims=True),
        {"u": {"x": (2, 300)}, "v": {"y": (2, 300)}},
    ),
    "a reduction of a reduction": (
        lambda u, v: np.maximum((u.x * (u.x * v.y).sum(-1, keepdims=True)).max(-2), 0.5).sum(-1),
        {"u": {"x": (2, 3, 11)}, "v": {"y": (3, 11)}},
    ),
    "two reductions of different axes": (
        lambda u, v: (u.x * v.y).sum(0, keepdims=True) * (u.x - v.y).max(-1, keepdims=True),
        {"u": {"x": (3, 17)}, "v": {"y": (3, 17)}},
    ),
    "two lane axes": (
        lambda u, v: u.a.sum(-1) * v.b.sum(-1) * u.a.max(-1),
        {"u": {"a": (40,)}, "v": {"b": (9,)}},
    ),
    "lanes that one operand lacks": (
        lambda u, e: np.where(e.w > 0, u.x, e.w),
        {"u": {"x": (3, 20)}, "e": {"w": (3, 1)}},
    ),
    "broadcast to more axes": (lambda u: np.broadcast_to(u.x, (3, 4)), {"u": {"x": (4,)}}),
    "broadcast inside of a sum": (
        lambda u, v: (v.y + 0 * u.x).sum(-1),
        {"u": {"x": (3, 1)}, "v": {"y": (70,)}},
    ),
    "axes that move left": (
        lambda u, v: u.x.sum(0)[:, None, None] * v.z - u.x.max(0)[:, None, None],
        {"u": {"x": (3, 5)}, "v": {"z": (1, 2, 4)}},
    ),
    "one reduction against another": (
        lambda u, v: (u.x * v.y).sum(-1)[:, None] * np.exp(-(u.x * v.y).sum(0)),
        {"u": {"x": (3, 5)}, "v": {"y": (3, 5)}},
    ),
    "axes of length one": (lambda u, e: u.x * e.w, {"u": {"x": (1, 6, 1)}, "e": {"w": (1, 1, 1)}}),
}


def structure(name, dtype):
    function, shapes = STRUCTURES[name]
    return function, {
        t: {k: normal(G, t, *shape, dtype=dtype) for k, shape in given.items()} for t, given in shapes.items()
    }


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name):
    function, fields = structure(name, np.float64)
    compare_step(lambda u, v, e: ng.update_all(G, function, "sum", u=u, v=v, e=e), fields)
    compare(G, function, "max" if len(name) % 2 else "edge", to="v" if len(name) % 2 else "e", **fields)


@pytest.mark.parametrize(
    "name", ["head and width", "sum over the first axis", "a reduction wider than a tile"]
)
def test_structures_with_every_reduce(name):
    function, fields = structure(name, np.float32)
    for reduce in ("mean", "min", "prod", "logsumexp"):
        compare(G, function, reduce, **fields)


SMALLER = {"[D]": (90,), "[H, 1]": (3, 1), "[1, D]": (1, 90), "[1]": (1,), "[]": ()}


@pytest.mark.parametrize("shape", SMALLER)
def test_gradients_summed_over_broadcast_axes(shape):
    """Of operands at every end, where heads × width is beyond one tile: the sum is made in parts."""
    for target in "uve":
        fields = {"u": {"x": normal(G, "u", 3, 90, dtype=np.float64)}}
        fields.setdefault(target, {})["w"] = normal(G, target, *SMALLER[shape], dtype=np.float64)[..., None]
        if shape != "[]":
            fields[target]["w"] = fields[target]["w"][..., 0]
        message = {
            "u": lambda u: u.x * u.w * u.w,
            "v": lambda u, v: u.x * v.w * v.w,
            "e": lambda u, e: u.x * e.w * e.w,
        }[target]
        compare_step(lambda u, v, e, message=message: ng.update_all(G, message, "sum", u=u, v=v, e=e), fields)


def test_outputs_of_different_lane_axes():
    """A backward that makes [D] and [K] gradients in one walk is split into several kernels."""
    fields = {
        "u": {"x": normal(G, "u", 40), "k": normal(G, "u", 9)},
        "v": {"q": normal(G, "v", 9)},
        "e": {"w": normal(G, "e", 1)},
    }
    compare_step(
        lambda u, v, e: ng.update_all(
            G, lambda u, v, e: u.x * (u.k * v.q).sum(-1) * e.w, "sum", u=u, v=v, e=e
        ),
        fields,
        1e-4,
    )


ATTENTION = {
    "GAT": (
        lambda u, v: ng.leaky_relu(u.a + v.b, 0.2),
        lambda u: u.h,
        {"u": {"a": (4, 1), "h": (4, 8)}, "v": {"b": (4, 1)}},
    ),
    "one head": (lambda u, v: u.a + v.b, lambda u: u.h, {"u": {"a": (), "h": ()}, "v": {"b": ()}}),
    "one head, wide": (
        lambda u, v: u.a + v.b,
        lambda u: u.h,
        {"u": {"a": (1,), "h": (300,)}, "v": {"b": (1,)}},
    ),
    "dot product, keys narrower than values": (
        lambda u, v: (u.k * v.q).sum(-1, keepdims=True),
        lambda u: u.x,
        {"u": {"k": (3, 7), "x": (3, 20)}, "v": {"q": (3, 7)}},
    ),
    "dot product, keys as values": (
        lambda u, v: (u.x * v.q).sum(-1, keepdims=True),
        lambda u: u.x,
        {"u": {"x": (2, 16)}, "v": {"q": (2, 16)}},
    ),
    "GATv2, wider than a tile": (
        lambda u, v: (ng.leaky_relu(u.l + v.r, 0.2) * v.a).sum(-1, keepdims=True),
        lambda u: u.l,
        {"u": {"l": (2, 300)}, "v": {"r": (2, 300), "a": (2, 300)}},
    ),
    "a score per feature": (
        lambda u, v: u.x * v.y,
        lambda u, e: u.x * e.w,
        {"u": {"x": (19,)}, "v": {"y": (19,)}, "e": {"w": (1,)}},
    ),
    "a score per head, one value": (
        lambda u, v: u.a * v.b,
        lambda e: e.w,
        {"u": {"a": (5, 1)}, "v": {"b": (5, 1)}, "e": {"w": (1, 6)}},
    ),
    "more score axes than value axes": (lambda u: u.a, lambda e: e.w, {"u": {"a": (5,)}, "e": {"w": ()}}),
    "edges weigh in": (
        lambda u, e: u.a + e.s,
        lambda u, e: u.h * e.w,
        {"u": {"a": (4, 1), "h": (4, 8)}, "e": {"s": (1, 1), "w": (4, 1)}},
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name):
    score, value, shapes = ATTENTION[name]
    fields = {
        t: {k: normal(G, t, *shape, dtype=np.float32) for k, shape in given.items()}
        for t, given in shapes.items()
    }
    compare_step(lambda u, v, e: ng.attend(G, score, value, u=u, v=v, e=e), fields, 1e-4)


def test_attention_with_scores_of_minus_infinity_and_large_ones():
    """Masked edges weigh nothing, a thousand overflows nothing; a row of minus infinities alone is 0 / 0."""
    scores = normal(G, "e", dtype=np.float64) * 1000
    scores[G.dst == 2] = np.where(np.arange((G.dst == 2).sum()) % 3, -np.inf, 5)
    scores[G.dst == 4] = -np.inf
    fields = {"u": {"x": normal(G, "u", 5, dtype=np.float64)}, "e": {"s": scores[:, None]}}
    got = ng.attend(G, lambda e: e.s, lambda u: u.x, **fields)
    assert_nan = np.isnan(got).all(1)
    np.testing.assert_array_equal(assert_nan, np.arange(G.num_dst) == 4)
    np.testing.assert_allclose(got, oracle.attend(G, lambda e: e.s, lambda u: u.x, **fields), rtol=1e-12)


def test_captured_arrays():
    """Arrays from outside of the message: shared by all edges, with a gradient of their own."""
    fields = {"u": {"x": normal(G, "u", 3, 20)}, "v": {"y": normal(G, "v", 3, 20)}}
    for shape in ((3, 20), (3, 1)):
        vector = np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)

        def run(u, v, e, vector=vector):
            return ng.attend(
                G,
                lambda u, v: (np.tanh(u.x + v.y) * vector).sum(-1, keepdims=True),
                lambda u: u.x * vector,
                u=u,
                v=v,
            )

        compare_step(run, fields, 1e-4)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "prod", "softmax", "logsumexp", "edge"])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_axes_of_length_zero(reduce, shape):
    fields = {
        "u": {"x": normal(G, "u", *shape)},
        "v": {"y": normal(G, "v", *[min(n, 1) or 1 for n in shape])},
    }
    functions = (lambda v: v.y, lambda u: u.x) if reduce == "softmax" else (lambda u, v: u.x * v.y)
    compare(G, functions, reduce, to="e" if reduce == "edge" else "v", **fields)
    if reduce in ("sum", "max"):
        axis = shape.index(0)
        compare(G, lambda u, v: u.x.sum(axis, keepdims=True) + v.y, reduce, **fields)


def test_gradients_with_an_axis_of_length_zero():
    """The gradients of what is not empty are zeros, not what the memory held."""
    fields = {"u": {"x": normal(G, "u", 3, 0)}, "v": {"y": normal(G, "v", 3, 1)}}
    compare_step(lambda u, v, e: ng.update_all(G, lambda u, v: u.x * v.y, "sum", u=u, v=v), fields)
    compare_step(lambda u, v, e: ng.attend(G, lambda v: v.y, lambda u: u.x, u=u, v=v), fields)


@pytest.mark.parametrize("reduce", ["sum", "max", "prod", "softmax", "edge"])
def test_graphs_without_nodes_or_edges(reduce):
    for num_src, num_dst in ((0, 0), (4, 0), (0, 4), (3, 5)):
        g = ng.Graph([], [], num_src=num_src, num_dst=num_dst)
        functions = (
            (lambda u, v: u.x * v.y, lambda u: u.x) if reduce == "softmax" else (lambda u, v: u.x * v.y)
        )
        fields = {"u": {"x": normal(g, "u", 6)}, "v": {"y": normal(g, "v", 6)}}
        compare(g, functions, reduce, to="e" if reduce == "edge" else "v", **fields)
        compare(g, functions, reduce, to="e" if reduce == "edge" else "u", **fields)


# --- what is computed once a node ---


@pytest.mark.parametrize("num_edges", [16, 400])
def test_costly_parts_of_the_far_node(num_edges):
    """Graphs with fewer and with more edges than nodes plan differently and give the same."""
    g = walks.graph(9, 7, num_edges)
    fields = {
        "u": {"x": normal(g, "u", 2, 6, dtype=np.float64), "per_node0": normal(g, "u", 6, dtype=np.float64)},
        "v": {"y": normal(g, "v", 6, dtype=np.float64)},
        "e": {"w": normal(g, "e", 1, dtype=np.float64)},
    }

    def message(u, v, e):
        shared = np.exp(u.x) / (1 + np.square(u.x).sum(-1, keepdims=True))
        return (
            np.tanh(shared * u.per_node0) * v.y
            + np.exp(u.x) * e.w
            - np.sin(v.y) * np.log1p(np.abs(u.per_node0))
        )

    compare_step(lambda u, v, e: ng.update_all(g, message, "sum", u=u, v=v, e=e), fields)
    compare(g, (message, lambda u: np.cos(u.x)), "softmax", **fields)
    np.testing.assert_allclose(
        ng.apply_edges(g, message, **fields), oracle.apply_edges(g, message, **fields), rtol=1e-12
    )


def test_a_costly_message_of_the_far_node_alone():
    g = walks.graph(9, 7, 200)
    fields = {"u": {"x": normal(g, "u", 6, dtype=np.float64)}}
    for function in (lambda u: np.exp(u.x), lambda u: np.exp(u.x).sum(-1), lambda u: np.exp(u.x)[None] * 3.0):
        compare(g, function, "edge", to="e", **fields)
        compare_step(lambda u, v, e, f=function: ng.update_all(g, f, "sum", u=u), fields)


def test_plans_are_found_again():
    fields = {"u": {"x": normal(G, "u", 3)}}
    message = lambda u: u.x * 2.125
    ng.update_all(G, message, "sum", **fields)
    before = driver.make_plan.cache_info().currsize
    ng.update_all(walks.graph(seed=5), lambda u: u.x * 2.125, "sum", **fields)
    assert driver.make_plan.cache_info().currsize == before


def test_what_is_computed_per_node_is_planned_once_for_any_number_of_nodes():
    def run(num_nodes):
        ids = np.arange(40 * num_nodes)
        g = ng.Graph(ids % num_nodes, ids // 40, num_nodes=num_nodes)
        x = normal(g, "u", 3)
        z = ng.update_all(g, lambda u: np.exp(u.x) * 1.625, "sum", u={"x": x})
        np.testing.assert_allclose(
            z, np.exp(x[g.src].astype(np.float64)).reshape(num_nodes, 40, 3).sum(1) * 1.625, rtol=1e-5
        )

    run(5)
    before = driver.make_plan.cache_info().currsize
    for num_nodes in (6, 11, 5):
        run(num_nodes)
    assert driver.make_plan.cache_info().currsize == before


# --- graphs ---


@pytest.mark.parametrize("reduce", MESSAGES)
def test_hubs_in_chunks(reduce, monkeypatch):
    """Long rows are cut into chunks; here rows of more than 8 edges are."""
    monkeypatch.setattr(balance, "HUB_EDGES", 8)
    for ordered in ("", "v"):
        g = walks.graph(ordered=ordered)
        fields = {
            "u": {"x": normal(g, "u", 2, 5)},
            "v": {"y": normal(g, "v", 2, 5)},
            "e": {"w": normal(g, "e", 2, 1)},
        }
        fields["u"]["x"][1, 0, :2] = np.nan
        fields["u"]["x"][2, 1] = fields["u"]["x"][3, 1]
        assert g.in_edges.derived("parts", balance.parts_of).hubs
        for to in ("e",) if reduce == "edge" else ("v", "u"):
            compare(g, MESSAGES[reduce], reduce, to=to, **fields)


def test_ties_and_masks_in_hubs(monkeypatch):
    """The first of equal edges wins over all chunks; chunks of minus infinities weigh nothing, rows of them
    are 0 / 0.
    """
    monkeypatch.setattr(balance, "HUB_EDGES", 4)
    g = walks.graph(ordered="v")
    ones = np.ones((g.num_edges, 3), np.float32)
    for reduce in ("max", "min"):
        _, winners = compare(g, lambda e: e.x, reduce, e={"x": ones})
        first = g.in_edges.indptr[:-1]
        np.testing.assert_array_equal(winners[:, 0], np.where(g.in_degrees() > 0, first, -1))
    scores = normal(g, "e", 1)
    start = g.in_edges.indptr[2]
    scores[start : start + 9] = -np.inf
    scores[g.dst == 4] = -np.inf
    for values in (
        normal(g, "e", 3),
        np.where(np.arange(g.num_edges) == start + 12, np.nan, 1)[:, None].astype(np.float32),
    ):
        for extra in (0, -500):
            shifted = scores.copy()
            shifted[start + 12 : start + 16] += extra
            compare(g, (lambda e: e.s, lambda e: e.x), "softmax", e={"s": shifted, "x": values})


@pytest.mark.parametrize("ordered", ["", "v", "u"])
@pytest.mark.parametrize("ids", ["int32", "int64"])
def test_edge_ids_of_every_order_and_dtype(ordered, ids, monkeypatch):
    if ids == "int64":
        monkeypatch.setattr(sorting, "INT32_LIMIT", 0)
    g = walks.graph(ordered=ordered)
    assert g.src.dtype == ids
    for graph in (g, g.reverse()):
        fields = {
            "u": {"x": normal(graph, "u", 11)},
            "v": {"y": normal(graph, "v", 11)},
            "e": {"w": normal(graph, "e", 11)},
        }
        compare_step(
            lambda u, v, e, graph=graph: ng.update_all(
                graph, lambda u, v, e: u.x * v.y + e.w, "sum", u=u, v=v, e=e
            ),
            fields,
            1e-4,
        )
        compare(graph, lambda u, v, e: u.x * v.y + e.w, "edge", to="e", **fields)
        compare(graph, lambda u, v, e: u.x * v.y + e.w, "max", to="u", **fields)
