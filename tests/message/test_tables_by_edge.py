"""Tables that edges read by row: their rows and gradients are never spread over edges."""

from __future__ import annotations

import tracemalloc
from unittest import mock

import numpy as np
import pytest
from checks import check_gradient

import numgraph as ng
from numgraph.compiler import driver
from numgraph.expressions.traversal import leaves_of

ROUTE = driver.route
RNG = np.random.default_rng(3)
NODES, EDGES, ROWS = 200, 20_000, 5
G = ng.Graph(RNG.integers(0, NODES, EDGES), RNG.integers(0, NODES, EDGES), NODES)
REL = RNG.integers(0, ROWS, EDGES)


def in_order(g):
    """The same edges, sorted by destination."""
    order = np.argsort(g.dst, kind="stable")
    return ng.Graph(g.src[order], g.dst[order], g.num_nodes)


@pytest.mark.parametrize("g", [G, in_order(G)], ids=["by ids", "in order"])
@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_no_array_of_edges_and_features(g, library):
    width = 64
    x, table = RNG.standard_normal((NODES, width)), RNG.standard_normal((ROWS, width))
    run = RUNS[library](g, REL)
    walked = []
    with mock.patch.object(driver, "route", side_effect=lambda *args: walked.append(args[2]) or ROUTE(*args)):
        z, dx, dt = (np.asarray(y) for y in run(x, table))
    of_edges = [
        leaf
        for outputs in walked
        for output in outputs
        for leaf in leaves_of(output.expressions)
        if leaf.attrs[0] == "e"
    ]
    assert walked
    assert not of_edges
    assert all(output.to != "e" for outputs in walked for output in outputs)
    if library == "numpy":  # whose memory can be traced; and all is compiled now
        tracemalloc.start()
        run(x, table)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < EDGES * width * 8 / 2
    want, want_x, want_t = np.zeros((NODES, width)), np.zeros((NODES, width)), np.zeros((ROWS, width))
    np.add.at(want, g.dst, x[g.src] * table[REL])
    np.add.at(want_x, g.src, 2 * want[g.dst] * table[REL])
    np.add.at(want_t, REL, 2 * want[g.dst] * x[g.src])
    for got, one in ((z, want), (dx, want_x), (dt, want_t)):
        np.testing.assert_allclose(got, one, rtol=1e-10, atol=1e-9)


def message(table):
    return lambda u, e: u.x * ng.take(table, e.rel)


def in_numpy(g, rel):
    def run(x, table):
        with ng.Tape() as tape:
            tx, tt = tape.watch(x), tape.watch(table)
            z = ng.update_all(g, message(tt), "sum", u={"x": tx}, e={"rel": rel})
            loss = (z * z).sum()
        return z.data, *tape.gradient(loss, [tx, tt])

    return run


def in_torch(g, rel):
    torch = pytest.importorskip("torch")

    def run(x, table):
        tx, tt = (torch.tensor(one, requires_grad=True) for one in (x, table))
        z = ng.update_all(g, message(tt), "sum", u={"x": tx}, e={"rel": torch.tensor(rel)})
        (z * z).sum().backward()
        return z.detach(), tx.grad, tt.grad

    return run


def in_jax(g, rel):
    jax = pytest.importorskip("jax")

    def run(x, table):
        def loss(x, table):
            z = ng.update_all(g, message(table), "sum", u={"x": x}, e={"rel": rel})
            return (z * z).sum(), z

        with jax.enable_x64(True):
            (dx, dt), z = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, table)
            return z, dx, dt

    return run


RUNS = {"numpy": in_numpy, "torch": in_torch, "jax": in_jax}


SMALL = ng.Graph([0, 2, 1, 0, 3, 2, 0, 0], [1, 0, 1, 3, 1, 1, 1, 0], num_src=5, num_dst=4)
KIND = np.array([2, 0, 0, 1, 2, 2, 0, 2], np.uint8)


def test_two_tables_by_the_same_ids_in_a_softmax():
    x, scores, values = RNG.standard_normal((5, 3)), RNG.standard_normal((3, 1)), RNG.standard_normal((4, 3))

    def attention(x, scores, values):
        e = {"kind": KIND}
        return ng.attend(
            SMALL,
            lambda e: ng.take(scores, e.kind),
            lambda u, e: np.tanh(u.x * ng.take(values, e.kind)),
            u={"x": x},
            e=e,
        )

    s, m, want = np.exp(scores[KIND]), np.tanh(x[SMALL.src] * values[KIND]), np.zeros((4, 3))
    for v in set(SMALL.dst.tolist()):
        own = SMALL.dst == v
        want[v] = (s[own] / s[own].sum(0) * m[own]).sum(0)
    np.testing.assert_allclose(attention(x, scores, values), want, 1e-12, 1e-13)
    check_gradient(attention, [x, scores, values], order=2, rtol=1e-6)


def test_other_ids_in_the_same_array_are_seen():
    kind, table = np.zeros(8, int), np.arange(3.0)

    def degrees():
        return ng.update_all(SMALL, lambda e: ng.take(table, e.kind), "sum", e={"kind": kind})

    np.testing.assert_array_equal(degrees(), 0)
    kind[:] = 2
    np.testing.assert_array_equal(degrees(), 2 * SMALL.in_degrees())
    kind[3] = 3
    with pytest.raises(IndexError, match=r"e\.kind is 3 at edge 3, the table has 3 rows"):
        degrees()


def test_what_is_told(tmp_path):
    def message(table):
        return ng.update_all(
            SMALL, lambda u, e: u.x * ng.take(table, e.kind), "sum", u={"x": np.ones(5)}, e={"kind": KIND}
        )

    with ng.Tape(check=True) as tape:
        table = tape.watch(np.array([1.0, np.nan, 2.0]))
        with pytest.raises(
            FloatingPointError,
            match=r"edge 3, u = 0 to v = 3, gives \[nan\].*captured0\[e\.kind\]\[1\] is nan",
        ):
            message(table)
    with ng.Tape() as tape:
        message(tape.watch(np.ones(3)))
    assert "∂captured0[e.kind] = Σ g_v · u.x   SpMM over the edges by e.kind of 3" in tape.explain(
        kernel=True
    )
    tape.explain(html=tmp_path / "page.html")
    assert "e.kind of 3" in (tmp_path / "page.html").read_text()
