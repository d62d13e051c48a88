"""What tape.explain() says about walks: the right formula, the right kernel, the right graph, readable at any
size.
"""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest

import numgraph as ng
from numgraph.expressions import expr
from numgraph.expressions.formulas import text

RNG = np.random.default_rng(0)
G = ng.Graph(RNG.integers(0, 6, 20), RNG.integers(0, 6, 20), 6)
X, Y, W = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4)), RNG.normal(size=(20, 1))
H, L, K = RNG.normal(size=(6, 2, 3)), RNG.normal(size=(6, 2, 1)), RNG.normal(size=(20, 2, 3))

REVERSED, SAME, EDGES = "SpMM on the REVERSED graph", "SpMM on the same graph", "SDDMM"


def explained(compute, *arrays) -> str:
    with ng.Tape() as tape:
        watched = [tape.watch(array) for array in arrays]
        np.sum(compute(*watched))
    return tape.explain()


def sums(message, reduce="sum"):
    def compute(x, y, w):
        return ng.update_all(G, message, reduce, u={"x": x}, v={"y": y}, e={"w": w})

    return compute


def line_of(told: str, start: str) -> str:
    (line,) = [line.strip() for line in told.splitlines() if line.strip().startswith(f"{start} = ")]
    return re.sub(" +", " ", line)


# What a derivative is was worked out by hand here, not copied from the output.
FORMULAS = [
    (lambda u: u.x, "sum", {"∂u.x": ("Σ g_v", REVERSED)}),
    (lambda u, e: u.x * e.w, "sum", {"∂u.x": ("Σ g_v · e.w", REVERSED), "∂e.w": ("⟨g_v, u.x⟩", EDGES)}),
    (lambda u, v: u.x - v.y, "sum", {"∂u.x": ("Σ g_v", REVERSED), "∂v.y": ("Σ −g_v", SAME)}),
    (lambda v, e: v.y * e.w, "sum", {"∂v.y": ("Σ g_v · e.w", SAME), "∂e.w": ("⟨g_v, v.y⟩", EDGES)}),
    (lambda u: u.x, "mean", {"∂u.x": ("Σ g_v/deg_v", REVERSED)}),
    (lambda u: u.x, "max", {"∂u.x": ("Σ [e = win_v] · g_v", REVERSED)}),
    (lambda u, e: u.x * e.w, "min", {"∂e.w": ("⟨[e = win_v] · g_v, u.x⟩", EDGES)}),
    (lambda u: np.exp(u.x), "sum", {"∂u.x": ("Σ g_v · exp(u.x)", REVERSED)}),
    (lambda u: ng.relu(u.x), "sum", {"∂u.x": ("Σ [u.x > 0] · g_v", REVERSED)}),
]


@pytest.mark.parametrize(("message", "reduce", "expected"), FORMULAS)
def test_each_gradient_has_its_formula_and_its_graph(message, reduce, expected):
    told = explained(sums(message, reduce), X, Y, W)
    for name, (formula, kernel) in expected.items():
        line = line_of(told, name)
        assert line.startswith(f"{name} = {formula} {kernel}"), told
    assert "(CSR)" not in line_of(told, "z_v")


def test_the_newcomers_question_is_answered():
    """Why is the graph reversed in the backward of GSpMM, and why does SDDMM appear?"""
    told = explained(sums(lambda u, e: u.x * e.w), X, Y, W)
    assert "every out-edge of u read u.x" in told
    assert "∂x = Aᵀ g, the transpose" in told
    assert "edge e alone read e.w, so there is nothing to sum over edges" in told
    assert "sampled dense-dense product" in told


def test_gradients_of_one_side_come_out_of_one_walk():
    told = explained(sums(lambda u, v, e: (u.x - v.y) * e.w), X, Y, W)
    assert "∂v.y and ∂e.w come out of one walk over the in-edges of v (CSC)" in told


def test_the_backward_of_sddmm_is_spmm():
    told = explained(
        lambda x, y: ng.apply_edges(G, lambda u, v: (u.x * v.y).sum(-1), u={"x": x}, v={"y": y}), X, Y
    )
    assert line_of(told, "z_e") == "z_e = ⟨u.x, v.y⟩ SDDMM: one value per edge"
    assert line_of(told, "∂u.x").startswith(f"∂u.x = Σ g_e · v.y {REVERSED}")
    assert line_of(told, "∂v.y").startswith(f"∂v.y = Σ g_e · u.x {SAME}")


def test_attention_keeps_two_numbers_a_head_and_recomputes_the_weights():
    def compute(h, left, right):
        return ng.attend(
            G,
            lambda u, v: ng.leaky_relu(u.l + v.r, 0.2),
            lambda u: u.h,
            u={"h": h, "l": left},
            v={"r": right},
        )

    told = explained(compute, H, L, L + 1)
    assert line_of(told, "z_v").startswith("z_v = Σ α · u.h one online pass")
    assert "with s = leaky_relu(u.l + v.r, 0.2)" in told
    assert line_of(told, "∂u.h").startswith(f"∂u.h = Σ α · g_v {REVERSED}")
    assert "α is recomputed per edge" in told


def test_the_formula_of_a_gradient_is_what_the_backward_runs():
    """An outer tape records the replay of an inner one: what that record computes must be the formulas that
    the inner one tells.
    """

    def compute(x, y, w):
        return ng.update_all(G, lambda u, v, e: u.x * v.y * e.w, "sum", u={"x": x}, v={"y": y}, e={"w": w})

    with ng.Tape() as outer:
        watched = [outer.watch(array) for array in (X, Y, W)]
        with ng.Tape() as inner:
            for tensor in watched:
                inner.watch(tensor)
            loss = np.sum(compute(*watched))
        inner.gradient(loss, watched)
    told = inner.explain()
    replay = outer.explain().split("∇ update_all(sum)")[1]
    for gradient, result in (("∂u.x", "z₁_u"), ("∂v.y", "z₂_v"), ("∂e.w", "z₃_e")):
        formula = re.split(" S[pD]", line_of(told, gradient))[0].split(" = ")[1]
        assert line_of(replay, result).split(" = ")[1].startswith(formula), outer.explain()


def test_a_gradient_that_is_zero_everywhere_is_said_to_be():
    told = explained(
        lambda x, y: ng.update_all(
            G, lambda u, v: np.where(u.x > 0, 1.0, v.y), "sum", u={"x": x}, v={"y": y}
        ),
        X,
        Y,
    )
    assert line_of(told, "∂u.x").startswith("∂u.x = 0")


def test_only_watched_fields_are_explained():
    told = explained(lambda x: ng.update_all(G, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": W}), X)
    assert "∂u.x" in told
    assert "∂e.w" not in told


def test_dense_records_are_one_line_each():
    told = explained(lambda x: np.tanh(x @ x.T) * 2.0, X)
    assert [line.split()[0] for line in told.splitlines()] == ["#0", "#1", "#2", "#3", "#4"]


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize(
    "message",
    [
        lambda u, v, e: ng.gelu(u.x - v.y) / e.w,
        lambda u, v, e: ng.sigmoid(u.x * np.exp(v.y)) * ng.softplus(e.w),
    ],
)
def test_lines_fit_a_screen(message, reduce):
    told = explained(sums(message, reduce), X, Y, W + 3)
    assert max(map(len, told.splitlines())) <= 120, told


def test_explain_is_the_same_after_the_replay_and_holds_no_array():
    with ng.Tape() as tape:
        x, w = tape.watch(X), tape.watch(W)
        loss = np.sum(ng.update_all(G, lambda u, e: np.tanh(u.x) * e.w, "sum", u={"x": x}, e={"w": w}))
    before = tape.explain()
    tape.gradient(loss, [x, w])
    assert tape.explain() == before


def test_shared_parts_do_not_blow_up():
    """Thirty squarings unfold to 2³⁰ factors; the text stays short (and is made at all)."""
    x = expr.field("u", "x", (3,), np.float64)
    y = x
    for _ in range(30):
        y = (y + 1) * (y - 1)
    written = text(y)
    assert len(written) <= 160
    assert "…" in written


U, V = expr.field("u", "x", (4,), np.float64), expr.field("v", "y", (4,), np.float64)
TEXTS = [
    ((U + V) * U, "(u.x + v.y) · u.x"),
    (U - (V - U), "u.x − (v.y − u.x)"),
    (U - V - U, "u.x − v.y − u.x"),
    (U / (V * U), "u.x / (v.y · u.x)"),
    (-(U + V), "−(u.x + v.y)"),
    (U + -V, "u.x − v.y"),
    ((U * V).sum(-1), "⟨u.x, v.y⟩"),
    (np.square(U + V), "(u.x + v.y)²"),
    (np.exp(U) ** 2.5, "exp(u.x) ** 2.5"),
    (np.maximum(U, 0.1), "maximum(u.x, 0.1)"),
    (np.abs(U - V), "|u.x − v.y|"),
    ((U > V) & (V > 0), "u.x > v.y & v.y > 0"),
    (ng.relu(U - V), "relu(u.x − v.y)"),
    (ng.leaky_relu(U, 0.2), "leaky_relu(u.x, 0.2)"),
    (np.where(U > 0, V, U), "where(u.x > 0, v.y, u.x)"),
    (U * -2.0, "u.x · −2"),
]


@pytest.mark.parametrize(("node", "expected"), TEXTS, ids=[expected for _, expected in TEXTS])
def test_text(node, expected):
    assert text(node) == expected


# --- kernels ---

SCHEDULES = {
    "sum": (sums(lambda u: u.x), ["z_v: v +", "∂u.x: u +"]),
    "several": (
        lambda *xyw: sum(sums(lambda u, e: u.x * e.w, ("sum", "max"))(*xyw)),
        ["z₁_v, z₂_v: v +", "∂u.x: u +", "∂e.w: e"],
    ),
    "edges": (
        lambda x, y, w: ng.apply_edges(G, lambda u, v: (u.x * v.y).sum(-1), u={"x": x}, v={"y": y}),
        ["z_e: e", "∂u.x: u +", "∂v.y: v +"],
    ),
    "attend": (
        lambda x, y, w: ng.attend(G, lambda u, v: (u.x * v.y).sum(-1), lambda u: u.x, u={"x": x}, v={"y": y}),
        ["z_v: v", "∂u.x: u", "∂v.y: v"],
    ),
}
"""Walks, and the ends that their kernels walk; +: two edges in turn. The one feature axis, of four, is in
lanes.
"""


@pytest.mark.parametrize("name", SCHEDULES)
def test_kernels_are_told_where_they_are_asked_for(name):
    """A few lines more, before and after the replay; nothing else changes."""
    compute, walked = SCHEDULES[name]
    with ng.Tape() as tape:
        watched = [tape.watch(array) for array in (X, Y, W)]
        loss = np.sum(compute(*watched))
    plain, told = tape.explain().splitlines(), tape.explain(kernel=True).splitlines()
    assert [line for line in told if "kernel of " not in line] == plain
    wanted = [
        f"kernel of {one.removesuffix(' +')}: lanes a:4, 4 a tile of "
        f"4{' | 2 edges in turn' * one.endswith('+')}"
        for one in walked
    ]
    assert [line.strip() for line in told if line not in plain] == wanted
    tape.gradient(loss, watched)
    assert tape.explain(kernel=True).splitlines() == told


def test_a_tape_does_not_keep_graphs_to_tell_of_their_kernels():
    g = ng.Graph([0, 1], [1, 0])
    with ng.Tape() as tape:
        loss = np.sum(ng.update_all(g, lambda u: u.x, "sum", u={"x": tape.watch(X[:2])}))
    tape.gradient(loss, [loss])
    del g
    gc.collect()
    assert "the graph, which is gone" in tape.explain(kernel=True)
