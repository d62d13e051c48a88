"""ng.profile: what is listed, for which line, with how many bytes; and that nothing stays behind."""

from __future__ import annotations

import threading
from xml.etree import ElementTree

import numpy as np
import pytest

import numgraph as ng
from numgraph.autodiff import rules
from numgraph.runtime import spans

RNG = np.random.default_rng(0)
G = ng.Graph(RNG.integers(0, 6, 20), RNG.integers(0, 6, 20), 6)
X, W = RNG.normal(size=(6, 4)), RNG.normal(size=(20, 1))


def step():
    with ng.Tape() as tape:
        x, w = tape.watch(X), tape.watch(W)
        z = ng.update_all(G, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w})  # the walk
        loss = np.sum(np.tanh(z @ np.ones((4, 3))))  # the rest
    return tape.gradient(loss, [x, w])


@pytest.fixture
def profiled():
    step()
    with ng.profile() as p:
        found = step()
    return p, found


def test_results_are_the_same(profiled):
    for got, want in zip(profiled[1], step(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_operations_and_kernels(profiled):
    p, _ = profiled
    forward = {entry.name: entry for entry in p.entries if not entry.backward}
    backward = {entry.name: entry for entry in p.entries if entry.backward}
    assert {"kernel: sum of u.x · e.w into v", "matrix product", "matmul", "tanh", "sum"} <= set(forward)
    assert {"∇ update_all(sum)", "∇ matmul", "∇ tanh", "∇ sum", "matrix product"} <= set(backward)
    kernels = [name for name in backward if name.startswith("kernel: ")]
    assert len(kernels) >= 1
    assert all(entry.calls >= 1 for entry in p.entries)
    assert 0 < sum(entry.seconds for entry in p.entries) <= p.seconds
    assert [entry.seconds for entry in p.entries] == sorted(
        [entry.seconds for entry in p.entries], reverse=True
    )


def test_bytes_of_a_kernel(profiled):
    """Index arrays and rows once, what is gathered once an edge."""
    (kernel,) = [entry for entry in profiled[0].entries if entry.name == "kernel: sum of u.x · e.w into v"]
    a = G.in_edges
    ids = a.indptr.nbytes + a.indices.nbytes + a.edge_ids.nbytes
    assert kernel.bytes == ids + 20 * 4 * 8 + W.nbytes + X.nbytes
    (product,) = [
        entry for entry in profiled[0].entries if entry.name == "matrix product" and not entry.backward
    ]
    assert product.bytes == (6 * 4 + 4 * 3 + 6 * 3) * 8


def test_bytes_of_values_per_node():
    """They are computed before the kernel, by one that reads and writes rows of nodes and no index array."""
    with ng.profile() as p:
        ng.update_all(G, lambda u: np.exp(u.x), "sum", u={"x": X})
    assert {entry.bytes for entry in p.entries if entry.name.startswith("kernel: ")} == {
        2 * X.nbytes,
        G.in_edges.indptr.nbytes + G.in_edges.indices.nbytes + 20 * 4 * 8 + X.nbytes,
    }


def test_lines_are_the_callers_forward_and_backward(profiled):
    for comment, names in (
        ("# the walk", {"kernel: sum of u.x · e.w into v", "∇ update_all(sum)"}),
        ("# the rest", {"tanh", "∇ tanh", "∇ matmul"}),
    ):
        for name in names:
            lines = {entry.line for entry in profiled[0].entries if entry.name == name}
            assert len(lines) == 1
            line = lines.pop()
            assert line.startswith("test_profiling.py:")
            assert line.endswith(comment) or comment.startswith("# the w")
    assert len({entry.line for entry in profiled[0].entries}) == 2


def test_sums(profiled):
    p, _ = profiled
    for fields in (("name",), ("line",), ("backward",), ("name", "line")):
        assert sum(entry.bytes for entry in p.by(*fields)) == sum(entry.bytes for entry in p.entries)
        assert np.isclose(
            sum(entry.seconds for entry in p.by(*fields)), sum(entry.seconds for entry in p.entries)
        )
    assert len(p.by("backward")) == 2
    with pytest.raises(ValueError, match=r"Profile\.by: unknown kernel"):
        p.by("kernel")


def test_tables_and_the_picture(profiled, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib (the extra plot) is not installed")
    p, _ = profiled
    p._bandwidth = 1e10  # what the machine reads, which nothing here depends on
    text = str(p)
    assert "memory is read at 10.0 GB/s" in text
    assert "kernel: sum of u.x · e.w into v" in text
    assert "test_profiling.py:" in text
    assert "more" in p.table(rows=2)
    assert max(map(len, text.splitlines())) < 140
    p.plot(tmp_path / "profile.svg")
    drawn = ElementTree.parse(tmp_path / "profile.svg").getroot()
    bars = [
        one for one in drawn.iter("{http://www.w3.org/2000/svg}path") if "#c8501e" in one.get("style", "")
    ]  # of the backward
    assert len(bars) >= len([entry for entry in p.by("name", "backward") if entry.backward][:12])


def test_nothing_stays_behind():
    before = dict(rules.RULES)
    inside = []

    def fails():
        with ng.profile(), ng.profile():
            inside.append(rules.RULES[np.tanh])
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert inside != [before[np.tanh]]
    assert before == rules.RULES
    assert not spans.OPEN


def test_nested_profiles_and_other_threads():
    with ng.profile() as outer:
        with ng.profile() as inner:
            step()
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert sum(entry.calls for entry in outer.entries) == sum(entry.calls for entry in inner.entries)
    assert {entry.name for entry in outer.entries} == {entry.name for entry in inner.entries}


def test_operators_and_methods_that_ran_before_are_timed():
    with ng.Tape() as tape:
        x = tape.watch(X)
        (x * 2.0).max()
        with ng.profile() as p:
            (x * 2.0).max()
    assert {"multiply", "max"} <= {entry.name for entry in p.entries}
