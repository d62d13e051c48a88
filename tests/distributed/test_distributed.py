"""Graphs that processes share give one process's results and gradients: under a real mpiexec with 1, 2, 3 and
4 ranks.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import select
import signal
from pathlib import Path

import numpy as np
import pytest
from mpiexec import descendants, is_rank, run, started, starts
from scripts import whole_only

import numgraph as ng
from numgraph.cli import main
from numgraph.training import evaluate

HERE = Path(__file__).parent
TRAIN = ["-m", "numgraph", "train", "--dropout", "0", "--json"]
KARATE = ["--dataset", "karate", "--partition", "random"]
pytestmark = pytest.mark.usefixtures("starts")
assert starts


def scale_model():
    """benchmarks/scale_model.py."""
    return importlib.import_module("scale_model")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(HERE.parents[1] / "benchmarks")


@pytest.mark.parametrize("ranks", whole_only([1, 2, 3, 4], {2, 4}))
def test_ranks_give_one_process_results_and_gradients(ranks):
    """Of two orders, for models, layers and a message, whatever the partition; the bytes sent are the
    formula's.
    """
    status, out, error = run(ranks, HERE / "program.py", *(["layers"] if ranks in (1, 3) else []))
    assert status == 0, error[-3000:]
    report = json.loads(out)
    assert len(report) > 150
    assert {name: pair for name, pair in report.items() if not pair[0] <= pair[1]} == {}


def test_shards_are_the_graph_and_what_does_not_fit_is_an_error_everywhere(tmp_path):
    status, out, error = run(3, HERE / "shards.py", tmp_path)
    assert status == 0, error[-3000:]
    report = json.loads(out)
    assert len(report) == 29
    assert {name: told for name, told in report.items() if not all(fits for fits, _ in told)} == {}


def test_calls_that_do_not_fit_each_other_are_an_error_of_all():
    """Other shapes, dtypes, calls or graphs on one rank would be other numbers there, or a wait without
    end.
    """
    status, out, error = run(2, HERE / "mismatch.py", seconds=120)
    assert status == 0, error[-3000:]
    wrong, fine = json.loads(out)
    expected = re.compile("give (all|the same|arrays)|processes are numbered|there is no folder")
    assert {
        name: told for name, told in wrong.items() if not all(expected.search(text) for text in told)
    } == {}
    assert {name: told for name, told in fine.items() if any(told)} == {}


def test_a_rank_that_raises_ends_all_with_its_traceback(tmp_path):
    """While the others wait for its rows."""
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np, numgraph as ng\n"
        "from mpi4py import MPI\n"
        "d = ng.distributed.DistGraph.from_graph(ng.Graph([0, 1], [1, 0]), MPI.COMM_WORLD, method=[0, 1])\n"
        "if MPI.COMM_WORLD.rank == 1:\n"
        "    raise RuntimeError('this rank has had enough')\n"
        "d.exchange(np.ones((1, 3)))\n"
    )
    status, _, error = run(2, program, seconds=60)
    assert status != 0
    assert "RuntimeError: this rank has had enough" in error


def trained(ranks, *options):
    """What ``numgraph train --json`` prints, under mpiexec."""
    status, out, error = run(ranks, *TRAIN, "--quiet", *options)
    assert status == 0, error[-2000:]
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def alone(capsys):
    """The same of one process, this one."""

    def run_here(*options):
        assert main([*map(str, [*TRAIN[2:], "--quiet", *options])]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run_here


def check_same(several, one, saved, other):
    assert several["test_loss"] == pytest.approx(one["test_loss"], rel=1e-5)
    assert several["test_accuracy"] == one["test_accuracy"]
    left, right = np.load(saved), np.load(other)
    assert all(np.allclose(left[name], right[name], rtol=1e-4, atol=1e-6) for name in right.files)


def test_training_by_two_ranks_is_that_of_one_process(tmp_path, alone):
    """numgraph partition, then train on the shards: the losses, and the bytes of the formula in --json."""
    folder, saved, other = tmp_path / "shards", tmp_path / "2.npz", tmp_path / "1.npz"
    ng.data.save(tmp_path / "digits", ng.data.load("digits"))
    assert main(["partition", "--data", str(tmp_path / "digits"), "--parts", "2", "--out", str(folder)]) == 0
    two = trained(2, "--shards", folder, "--epochs", "8", "--save", saved)
    check_same(two, alone("--dataset", "digits", "--epochs", "8", "--save", other), saved, other)
    data = ng.data.load("digits")
    sizes = (
        data.num_nodes,
        data.graph.num_edges,
        2,
        two["ghosts"],
        data.num_features,
        16,
        data.num_classes,
        2,
    )
    assert two["bytes_exchanged"] == scale_model().training_bytes(scale_model().Setting(*sizes), 8) > 0
    assert two["processes"] == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--task", "link"], "--task is link"),
        (["--task", "regression"], "--task is regression"),
        (["--folds", "3"], "--folds was given without --task graph"),
        (["--num-neighbors", "3,3"], "--num-neighbors was given without --batch-size"),
        (["--inductive"], "--inductive was given beside --shards"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_that_shards_do_not_take_are_refused(options, problem, tmp_path):
    """As one process refuses them, in place of a training of something else."""
    assert main(["partition", "--dataset", "karate", "--parts", "1", "--out", str(tmp_path / "shards")]) == 0
    status, _, error = run(1, *TRAIN, "--shards", tmp_path / "shards", "--epochs", "1", *options, seconds=60)
    assert status != 0
    assert problem in error


def test_sparse_features_of_ghosts_go_once(alone):
    """karate's features are a sparse identity: the training is one process's."""
    options = [*KARATE, "--epochs", "5", "--model", "gin"]
    assert trained(2, *options)["test_loss"] == pytest.approx(alone(*options)["test_loss"], rel=1e-4)


def test_batches_divided_among_ranks_are_those_of_one_process(tmp_path, alone):
    """The same rows are drawn, so parameters and measures agree; the last batch leaves a rank without
    seeds.
    """
    saved, other = tmp_path / "3.npz", tmp_path / "1.npz"
    options = [
        "--dataset",
        "karate",
        "--batch-size",
        "2",
        "--num-neighbors",
        "2,3",
        "--epochs",
        "3",
        "--model",
        "sage",
        "--save",
    ]
    three = trained(3, *options, saved)
    check_same(three, alone(*options, other), saved, other)
    assert three["bytes_exchanged"] > 0


def test_ctrl_c_ends_all_ranks_with_the_best_parameters(tmp_path):
    saved, point = tmp_path / "best.npz", tmp_path / "point.npz"
    with started(
        2,
        *TRAIN,
        *KARATE,
        "--epochs",
        "1000000",
        "--save",
        saved,
        "--checkpoint",
        point,
        "--checkpoint-every",
        "3",
    ) as process:
        for line in process.stderr:
            if line.startswith("epoch "):
                break
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    result = json.loads(out.splitlines()[-1])
    assert result["stopped"] == "interrupted", error
    model = ng.nn.GCN(34, 16, 2)
    ng.load(saved, model)
    data = ng.data.load("karate")
    (found,) = evaluate(model.eval(), data, data.features, data.test_mask)
    assert found.loss == pytest.approx(result["test_loss"], rel=1e-5)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="ranks are found by Linux's /proc")
def test_a_rank_that_dies_ends_all_and_another_number_of_ranks_goes_on(tmp_path, alone):
    """The resumed training ends where one that was not disturbed does."""
    point = tmp_path / "point.npz"
    with started(
        2, *TRAIN, *KARATE, "--epochs", "1000000", "--checkpoint", point, "--checkpoint-every", "2"
    ) as process:
        while process.poll() is None and not point.exists():
            select.select([], [], [], 0.05)
        ranks = [pid for pid in descendants(process.pid) if is_rank(pid)]
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert not any(is_rank(pid) for pid in ranks)
    epochs = len(json.loads(np.load(point)["standing"].tobytes())["history"]["train_loss"]) + 5
    again, whole = (
        trained(3, *KARATE, "--epochs", epochs, "--checkpoint", point),
        alone(*KARATE, "--epochs", epochs),
    )
    assert (again["epochs_run"], again["test_accuracy"]) == (epochs, whole["test_accuracy"])
    assert again["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-4)


def test_the_page_runs(tmp_path):
    """docs/distributed.md's programs on two ranks."""
    page = (HERE.parents[1] / "docs" / "distributed.md").read_text("utf-8")
    blocks = re.findall(r"^```python mpi\n(.*?)^```$", page, re.M | re.S)
    program = tmp_path / "program.py"
    checks = [
        "assert (logits is None) == (comm.rank > 0)",
        "assert z.shape == x.shape",
        "total = comm.reduce(loss.item())",
    ]
    program.write_text("\n".join([*blocks, *checks, "if comm.rank == 0: print(total)"]))
    status, out, error = run(2, program)
    assert status == 0, error[-2000:]
    assert 0 < float(out) < 0.6
