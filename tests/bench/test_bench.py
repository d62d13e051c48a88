"""``numgraph bench`` on tiny graphs: what is measured and written, who is left out, what is refused. No test
looks at a time.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import numgraph as ng
from numgraph.bench import Disagreement, Request, bench, graphs, measure
from numgraph.bench import peers as peers_module
from numgraph.bench.comparison import _features
from numgraph.bench.epochs import ROWS as EPOCHS
from numgraph.bench.frameworks import ROWS as FRAMEWORKS
from numgraph.bench.kernels import ROWS, Traffic, make_operands, numgraph_runs, output_gradient
from numgraph.bench.report import summary, write_json
from numgraph.bench.session import difference
from numgraph.cli import main

TINY = {"nodes_log2": 5, "edges": 120, "repeats": 1, "seconds": 0.0, "bandwidth_bytes": 1 << 16}


def quiet(line: str) -> None:
    """Lines for people are tested through the command line."""


@pytest.fixture(scope="module")
def kernels():
    """Every row of the kernel table beside SciPy, at its smallest width."""
    return bench(Request(suites=("kernels",), peers=("scipy",), features=(8,), **TINY), quiet)


def test_every_row_has_both_passes_and_its_keys(kernels):
    assert [(one["row"], one["pass"]) for one in kernels["kernels"]] == [
        (name, kind) for name in ROWS for kind in ("forward", "both")
    ]
    for one in kernels["kernels"]:
        assert one["numgraph_ms"] > 0
        assert one["edges_per_second"] > 0
        assert one["bytes"] > 0
        assert {"formula", "features", "bandwidth_share", "gathered_share", "flops", "peers"} <= set(one)


def test_a_peer_has_the_rows_that_it_can_compute(kernels):
    compared = {(one["row"], one["pass"]) for one in kernels["kernels"] if "scipy" in one["peers"]}
    assert compared == {("copy_u_sum", "forward"), ("copy_u_sum", "both"), ("u_mul_e_sum", "forward")}
    for one in kernels["kernels"]:
        for facts in one["peers"].values():
            assert set(facts) == {"ms", "numgraph_ms", "ratio", "ratio_quartiles", "samples", "difference"}
            assert facts["samples"] == 1
            assert facts["difference"] <= 1e-5


def test_the_results_say_where_they_come_from(kernels):
    assert set(kernels) == {
        "request", "machine", "threads", "bandwidth", "product_rate", "peers", "left_out", "notes", "errors", "complete", "kernels"
    }  # fmt: skip
    assert kernels["request"]["edges"] == TINY["edges"]
    assert kernels["machine"]["versions"]["numgraph"] == ng.__version__
    assert {"cpu", "cores", "vectors", "caches", "memory_bytes", "threads", "load_average"} <= set(
        kernels["machine"]
    )
    assert kernels["bandwidth"] > 0
    assert json.loads(json.dumps(kernels)) == json.loads(json.dumps(kernels, ensure_ascii=False))


def test_peers_that_are_not_installed_are_named_and_left_out(monkeypatch):
    for name in ("dgl", "torch", "torch_geometric", "sparse_dot_mkl"):
        monkeypatch.setitem(sys.modules, name, None)
    lines: list[str] = []
    results = bench(Request(suites=("kernels",), rows=("copy_u_sum",), features=(3,), **TINY), lines.append)
    assert set(results["left_out"]) == {"mkl", "torch", "dgl", "pyg"}
    assert list(results["peers"]) == ["scipy"]
    for name, command in (
        ("dgl", "pip install --no-deps dgl==1.1.3"),
        ("pyg", "pip install torch-geometric"),
    ):
        (line,) = [line for line in lines if line.startswith(f"left out: {name}:")]
        assert command in line


@pytest.mark.parametrize("chosen", [None, "active"])
def test_threads_of_peers_are_passive_unless_the_user_chose(monkeypatch, chosen):
    for name in peers_module.PASSIVE:
        monkeypatch.setenv(name, chosen or "")  # undone after the test
        if chosen is None:
            monkeypatch.delenv(name)
    peers_module.load((), {})
    found = {name: os.environ[name] for name in peers_module.PASSIVE}
    assert found == (peers_module.PASSIVE if chosen is None else dict.fromkeys(peers_module.PASSIVE, chosen))


def test_epochs_train_and_describe_themselves():
    results = bench(Request(suites=("epochs",), rows=("rmat_gcn", "rmat_gat"), peers=(), **TINY), quiet)
    assert [one["row"] for one in results["epochs"]] == ["rmat_gcn", "rmat_gat"]
    for one in results["epochs"]:
        assert one["losses"][0] > one["losses"][-1] > 0
        assert one["nodes"] == 32
        assert one["graph_bytes"] > 0
        assert one["features_bytes"] == 32 * 128 * 4


def test_epochs_without_their_dataset_are_noted(tmp_path):
    results = bench(
        Request(suites=("epochs",), rows=("cora_gcn",), peers=(), data_dir=str(tmp_path), **TINY), quiet
    )
    assert results["epochs"] == []
    assert any(note.startswith("cora_gcn is left out:") for note in results["notes"])


def test_a_row_that_is_no_default_runs_only_by_name():
    assert [name for name, row in EPOCHS.items() if not row.default] == ["reddit_size_gcn"]


def test_scaling_and_locality():
    request = Request(
        suites=("scaling", "locality"), rows=("copy_u_sum",), peers=("scipy",), max_edges=500, **TINY
    )
    results = bench(request, quiet)
    edges = [one for one in results["scaling"] if one["series"] == "edges"]
    assert [one["step"] for one in edges] == ["graph", "in_edges (CSC)", "out_edges (CSR)", "copy_u_sum"]
    assert all(one["edges"] == 500 for one in edges)
    assert [one["scipy_seconds"] is not None for one in edges] == [False, True, True, False]
    threads = [one["threads"] for one in results["scaling"] if one["series"] == "threads"]
    assert threads[0] == 1
    assert threads[-1] == measure.cores()
    assert {(one["graph"], one["method"]) for one in results["locality"]} == {
        (graph, method) for graph in ("rmat", "grid") for method in ("rcm", "degree")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suites": ("kernel",)}, "unknown suite 'kernel'; choose from 'kernels'"),
        ({"rows": ("copy_u",)}, "unknown row 'copy_u'; choose from 'copy_u_sum'"),
        ({"peers": ("jax",)}, "unknown peer 'jax'; choose from 'scipy'"),
    ],
)
def test_unknown_names_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        bench(Request(**{**TINY, **change}), quiet)


class Wrong(peers_module.SciPy):
    """A peer whose last sum is off by a thousandth of the largest."""

    def product(self, matrix, x):
        z = super().product(matrix, x)
        z[-1] += 1e-3 * np.abs(z).max()
        return z


def test_a_peer_that_disagrees_is_an_error_and_not_timed(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(peers_module.PEERS, "scipy", Wrong)
    target = tmp_path / "results.json"
    command = (
        "bench --suite kernels --rows copy_u_sum --features 4 --nodes-log2 4 --edges 50 --repeats 1 "
        "--seconds 0 --peers scipy --json"
    )
    assert main([*command.split(), str(target)]) == 1
    results = json.loads(target.read_text("utf-8"))
    assert len(results["errors"]) == 1
    assert results["errors"][0].startswith("copy_u_sum, forward: the result differs from scipy's by 1.0e-03")
    assert [one["peers"] for one in results["kernels"]] == [{}, {}]
    assert f"ERROR: {results['errors'][0]}" in capsys.readouterr().out


def test_difference_is_relative_to_the_largest_number_and_forgives_only_infinite_empty_rows():
    ours, theirs = np.array([[0.0], [200.0]]), np.array([[-np.inf], [200.01]])
    assert difference("max", "peer", [ours], [theirs]) == pytest.approx(5e-5)
    with pytest.raises(Disagreement, match="gradient 1"):
        difference("max", "peer", [ours, ours], [theirs, np.array([[0.0], [np.inf]])])
    with pytest.raises(Disagreement):
        difference("max", "peer", [ours], [np.array([[0.0], [np.nan]])])


def test_summary_counts_goals():
    def one(row, ratio):
        return {
            "row": row,
            "features": 64,
            "pass": "both",
            "peers": {"dgl": {"ratio": ratio, "goal": 2, "met": ratio >= 2}},
        }

    assert summary({"kernels": [one("gat", 2.5)]}) == "goals reached: 1 of 1"
    assert summary({"kernels": [one("gat", 2.5), one("u_dot_v", 1.25)]}).splitlines() == [
        "goals reached: 1 of 2, missed:",
        "  u_dot_v F=64 fwd+bwd: 1.25 × dgl, goal 2",
    ]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_computes_what_its_tables_say(name):
    """Shapes of the operands, and one gradient for each; the numbers are checked against the peers, here and
    in the tests of ops.
    """
    g = graphs.built(graphs.rmat(4, 60))
    operands = make_operands(ROWS[name], g, 16)
    z = ROWS[name].numgraph(g, *operands.values())
    runs = numgraph_runs(ROWS[name], g, operands, output_gradient(g, z))
    made, *gradients = runs.both()
    assert np.array_equal(made, z)
    assert [gradient.shape for gradient in gradients] == [operand.shape for operand in operands.values()]


def test_the_backward_starts_from_the_given_gradient():
    g = ng.Graph([0, 1, 1], [1, 1, 2], 3)
    x, seed = np.ones((3, 2), np.float32), np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    _, gradient = numgraph_runs(ROWS["copy_u_sum"], g, {"x": x}, seed).both()
    assert np.array_equal(gradient, [[3, 4], [8, 10], [0, 0]])  # 0 feeds 1; 1 feeds 1 and 2


def test_goals_hold_for_the_widths_they_are_set_for():
    row = ROWS["copy_u_sum"]
    assert [row.goal("mkl", "forward", f) for f in (64, 128, 32)] == [1.0, 1.0, None]
    assert [row.goal("dgl", "both", f) for f in (64, 128)] == [1.5, None]


def test_traffic_counts_what_it_says():
    g = ng.Graph([0, 0, 1, 2], [1, 2, 2, 0], 3)
    assert Traffic(gathered=5, rows=2).bytes(g, in_order=False) == 4 * (4 * 5 + 3 * 2 + 4 + 3)
    assert Traffic(gathered=5, edges=1).bytes(g, in_order=False) == 4 * (4 * 6 + 2 * 4 + 3)
    assert Traffic(gathered=5, edges=1).bytes(g, in_order=True) == 4 * (4 * 6 + 4 + 3)
    assert Traffic(gathered=1, flops=2) + Traffic(edges=3, walks=2) == Traffic(
        gathered=1, edges=3, walks=3, flops=2
    )


def test_widths_of_rows_by_head():
    assert _features(ROWS["copy_u_sum"], None) == (16, 64, 128, 256)
    assert _features(ROWS["gat"], (12, 16)) == (16,)
    assert _features(ROWS["copy_u_max"], (12, 16)) == (12, 16)
    assert _features(ROWS["edge_softmax"], (12, 16)) == (8,)


def test_rmat_is_what_its_probabilities_say_and_the_same_for_any_threads():
    src, dst = graphs.rmat_edges(10, 200_000, seed=3)
    for bit in (9, 5, 0):
        right, low = (src >> bit) & 1, (dst >> bit) & 1
        shares = [np.mean((right == a) & (low == b)) for a in (0, 1) for b in (0, 1)]
        assert shares == pytest.approx(graphs.RMAT, abs=0.005)  # 4 standard deviations
    with measure.threads(1):
        again = graphs.rmat_edges(10, 200_000, seed=3)
    assert np.array_equal(again, (src, dst))
    assert not np.array_equal(graphs.rmat_edges(10, 200_000, seed=4)[0], src)


def test_rmat_in_destination_order_is_the_same_graph():
    given, sorted_ = graphs.rmat(6, 500), graphs.rmat(6, 500, order="destination")
    assert np.array_equal(np.sort(sorted_.dst), sorted_.dst)
    pairs = [np.sort(g.src.astype(np.int64) * 64 + g.dst) for g in (given, sorted_)]
    assert np.array_equal(*pairs)


def test_grid_joins_the_eight_neighbours():
    g = graphs.grid(4)
    assert sorted(g.in_degrees()) == [3] * 4 + [5] * 8 + [8] * 4
    assert np.array_equal(g.in_degrees(), g.out_degrees())


def test_pairs_alternate():
    order: list[str] = []
    pair = measure.alternate(lambda: order.append("a"), lambda: order.append("b"), 1, 10)
    assert len(pair.ours) == len(pair.theirs) == 1
    runs = "".join(order[2:])
    assert runs.strip("a").strip("b") == ""
    assert measure.Pair(np.array([1.0, 2, 1, 1]), np.array([2.0, 2, 3, 8])).facts() == {
        "ms": 2500.0,
        "numgraph_ms": 1000.0,
        "ratio": 2.5,
        "ratio_quartiles": [1.75, 4.25],
        "samples": 4,
    }


def test_the_table_for_the_readme(kernels):
    table = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "readme_table.py"))["table"]
    lines = [line for line in table(kernels).splitlines() if line.startswith("|")]
    assert lines[0].startswith("| | pass | numgraph, ms | scipy ")
    assert len(lines) == 2 + len(kernels["kernels"])
    assert {line.count("|") for line in lines} == {5}


def test_command_line_writes_json_and_pictures(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws the pictures")
    command = (
        "bench --suite kernels,scaling --rows copy_u_sum,gat --features 8 --nodes-log2 4 --edges 40 "
        "--max-edges 50 --repeats 1"
    )
    target = tmp_path / "results.json"
    assert (
        main(
            [
                *command.split(),
                "--seconds",
                "0",
                "--peers",
                "scipy",
                "--json",
                str(target),
                "--plot",
                str(tmp_path),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("gat ")]
    assert json.loads(target.read_text("utf-8"))["request"]["rows"] == ["copy_u_sum", "gat"]
    for name in ("ratios", "roofline", "scaling"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_is_ended_has_written_the_rows_before(tmp_path, monkeypatch):
    """One row and width at a time, whole files only; what is no file gets nothing incomplete."""
    target = tmp_path / "results.json"
    rows = ROWS["copy_u_sum"], replace(ROWS["u_dot_v"], numgraph=interrupted)
    monkeypatch.setattr("numgraph.bench.comparison.ROWS", {row.name: row for row in rows})
    command = (
        "bench --suite kernels --rows copy_u_sum,u_dot_v --features 4,8 --nodes-log2 4 --edges 40 --repeats "
        "1 --seconds 0 --peers none"
    )
    assert main([*command.split(), "--json", str(target)]) == 130
    found = json.loads(target.read_text("utf-8"))
    assert [(one["row"], one["features"], one["pass"]) for one in found["kernels"]] == [
        ("copy_u_sum", features, kind) for features in (4, 8) for kind in ("forward", "both")
    ]
    assert not found["complete"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    before = found | {"complete": True}
    write_json(before, os.devnull)
    assert not Path(os.devnull).is_file(), "it was written to, not replaced"


def interrupted(g, x, y):
    raise KeyboardInterrupt


def test_command_line_refuses_before_it_measures(tmp_path, capsys):
    assert main(["bench", "--json", str(tmp_path / "no" / "results.json")]) == 1
    assert main(["bench", "--plot", str(tmp_path / "no")]) == 1
    assert main(["bench", "--rows", "copy"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("make it first") == 2
    assert "unknown row 'copy'" in err


@pytest.mark.parametrize("row", FRAMEWORKS)
def test_rows_of_the_frameworks(row, monkeypatch):
    """On a tiny graph, and without the minute that a compiler of torch takes: what it would compile is called
    as it is.
    """
    for module in FRAMEWORKS[row].needs:
        pytest.importorskip(module, reason=f"{module} is not installed")
    if FRAMEWORKS[row].peer == "torch.compile":
        monkeypatch.setattr("torch.compile", lambda function: function)
    karate = ng.data.load("karate")
    monkeypatch.setattr("numgraph.data.load", lambda name, data_dir: karate)
    results = bench(Request(suites=("frameworks",), rows=(row,), peers=(), **TINY), quiet)
    assert not results["errors"]
    (one,) = results["frameworks"]
    assert (one["row"], next(iter(one["peers"]))) == (row, FRAMEWORKS[row].peer)
    assert all(facts["difference"] <= 1e-4 for facts in one["peers"].values())
