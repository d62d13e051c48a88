"""The command line, as a person and as a pipe see it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import interruptible

from numgraph import __version__, data
from numgraph.cli import main
from numgraph.serialize import read_arrays
from numgraph.training import evaluate
from numgraph.training.recipes import RECIPES, build, recipe

__all__ = ["interruptible"]

KARATE = ("train", "--dataset", "karate")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "numgraph", *arguments]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, **options)


def last_json(text: str) -> dict[str, Any]:
    return json.loads(text.splitlines()[-1])


# train


@pytest.mark.parametrize("model", sorted(RECIPES))
def test_train_json_is_one_line_on_stdout(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KARATE, "--model", model, "--epochs", "30", "--seed", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    result = json.loads(out)
    assert (result["dataset"], result["model"], result["seed"], result["epochs_run"]) == (
        "karate",
        model,
        3,
        30,
    )
    assert 0.2 < result["test_accuracy"] <= 1
    assert f"test accuracy {100 * result['test_accuracy']:.1f} %" in err


def test_train_prints_plain_lines_in_a_pipe() -> None:
    done = run(*KARATE, "--epochs", "40")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "karate: 34 nodes, 156 edges, 34 features, 2 classes; 2 nodes train, 8 validate, 24 test"
    )
    assert re.match(
        r"gcn: 2 layers, hidden 16, \d+ parameters; lr 0.01, weight decay 0.0005, dropout 0.5$", lines[1]
    )
    assert [int(line.split()[1].split("/")[0]) for line in lines if line.startswith("epoch")] == [
        1,
        *range(4, 41, 4),
    ]
    assert re.match(
        r"test accuracy \d+\.\d %   \(validation \d+\.\d % in epoch \d+ of 40; \d+\.\d s\)$", lines[-1]
    )


@pytest.mark.parametrize("columns", [100, 0])
def test_train_shows_a_bar_on_a_terminal(columns: int) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, columns))
    process = subprocess.Popen(
        command(*KARATE, "--epochs", "40", "--json"), stdout=subprocess.PIPE, stderr=follower
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        shown += part
    assert process.stdout is not None
    with process.stdout as stdout:
        result = last_json(stdout.read().decode())
    os.close(leader)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "40/40" in text
    assert "\r" in text.replace("\r\n", "\n")
    assert "epoch 4/40" not in text
    assert result["epochs_run"] == 40


def test_quiet_prints_the_result_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KARATE, "--epochs", "5", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(r"test accuracy .*\n", out)


def test_options_reach_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--model",
        "gat",
        "--hidden",
        "4",
        "--layers",
        "3",
        "--heads",
        "2",
        "--lr",
        "0.02",
        "--weight-decay",
        "0",
        "--dropout",
        "0.1",
    ]
    assert main([*KARATE, *options, "--epochs", "200", "--patience", "3", "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    expected = {
        "hidden": 4,
        "layers": 3,
        "heads": 2,
        "epochs": 200,
        "lr": 0.02,
        "weight_decay": 0.0,
        "dropout": 0.1,
        "patience": 3,
    }
    assert result["settings"] == expected
    assert result["stopped"] == "patience"


def test_same_seed_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    losses = []
    for seed in ("1", "1", "2"):
        assert main([*KARATE, "--epochs", "10", "--seed", seed, "--json"]) == 0
        losses.append(last_json(capsys.readouterr().out)["test_loss"])
    assert losses[0] == losses[1] != losses[2]


def check_saved(path: Path, result: dict[str, Any]) -> None:
    """The file has the parameters that gave the accuracy which was printed."""
    dataset = data.load("karate")
    model, _ = build(recipe(result["model"]), dataset, seed=99)
    model.load_state_dict(read_arrays(path))
    (test,) = evaluate(model, dataset, dataset.features, dataset.test_mask)
    assert (test.accuracy, test.loss) == (
        result["test_accuracy"],
        pytest.approx(result["test_loss"], rel=1e-6),
    )


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_save_and_plot(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    save, plot = tmp_path / f"best.{kind}", tmp_path / "curves.png"
    loaded = "matplotlib.pyplot" in sys.modules  # by the test of another library
    assert main([*KARATE, "--epochs", "30", "--json", "--save", str(save), "--plot", str(plot)]) == 0
    check_saved(save, last_json(capsys.readouterr().out))
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(os.listdir(tmp_path)) == [save.name, plot.name]
    assert ("matplotlib.pyplot" in sys.modules) == loaded


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_prints_and_saves_what_there_is(tmp_path: Path, interruptible: None, as_json: bool) -> None:
    save = tmp_path / "best.npz"
    arguments = [*KARATE, "--epochs", "1000000", "--save", str(save), *(["--json"] if as_json else [])]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    progress = process.stderr if as_json else process.stdout
    assert progress is not None
    for line in progress:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert re.search(r"test accuracy .*, interrupted; ", err if as_json else out)
    if as_json:
        result = last_json(out)
        assert result["stopped"] == "interrupted"
        check_saved(save, result)


def test_a_reader_that_leaves_is_no_traceback() -> None:
    process = subprocess.Popen(
        command(*KARATE, "--epochs", "3000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(60) == 1


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"numgraph {__version__}\n"


def test_compiling_is_told(tmp_path: Path) -> None:
    """In a cache of its own the first run says that it compiles, and the second finds what the first has
    made.
    """
    env = {**os.environ, "NUMGRAPH_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run(command(*KARATE, "--epochs", "1"), capture_output=True, text=True, env=env, check=True)
        for _ in range(2)
    ]
    assert [run.stdout.count("compiling kernels") for run in runs] == [1, 0]


# Errors are one line


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "the following arguments are required"),
        (
            ("trian",),
            2,
            "invalid choice: 'trian', choose from train, .*did you mean 'train'.*see numgraph --help",
        ),
        (
            ("train", "--dataset", "corra"),
            2,
            "invalid choice: 'corra', choose from .*did you mean 'cora'.*see numgraph train --help",
        ),
        (("train", "--model", "mlp"), 2, "invalid choice: 'mlp'"),
        (("train", "--epochs", "0"), 2, "--epochs: '0' must be at least 1"),
        (("train", "--epochs", "1.5"), 2, "--epochs: '1.5' is not a whole number"),
        (("train", "--lr", "fast"), 2, "--lr: 'fast' is not a number"),
        (("train", "--lr", "inf"), 2, "--lr: 'inf' must be below inf"),
        (("train", "--lr", "nan"), 2, "--lr: 'nan' is not a number"),
        (("train", "--lr", "-1"), 2, "--lr: '-1' must be at least 0"),
        (("train", "--dropout", "1"), 2, "--dropout: '1' must be below 1"),
        (("train", "--hidden", "-4"), 2, "--hidden: '-4' must be at least 1"),
        (("train", "--seed", "-1"), 2, "--seed: '-1' must be at least 0"),
        (
            (
                "train",
                "--what",
            ),
            2,
            "unrecognized arguments: --what",
        ),
        (
            ("train", "--epocs", "3"),
            2,
            "unrecognized arguments: --epocs 3, did you mean '--epochs'.*see numgraph train --help",
        ),
        (
            ("train", "--modle=gat"),
            2,
            "unrecognized arguments: --modle=gat, did you mean '--model'.*see numgraph train --help",
        ),
        (("train", "--heads", "3"), 1, "heads is 3 for gcn; only gat has heads"),
        (
            ("partition", "--dataset", "karate", "--parts", "99", "--out", "never"),
            1,
            "--parts is 99, and there are 34 nodes; a part needs one",
        ),
        (
            ("train", "--dataset", "cora", "--data-dir", "/nowhere"),
            1,
            "ind.cora.x, ind.cora.y, .*ind.cora.test.index not in /nowhere/planetoid; ",
        ),
        ((*KARATE, "--save", "model.pt"), 1, "unknown file extension '.pt'"),
        ((*KARATE, "--save", "/nowhere/model.npz"), 1, "there is no folder /nowhere"),
        ((*KARATE, "--plot", "curves.xyz"), 1, "unknown file extension '.xyz'"),
        ((*KARATE, "--plot", "/nowhere/curves.png"), 1, "there is no folder /nowhere"),
        ((*KARATE, "--quiet", "--lr", "1e38"), 1, "loss is (nan|inf) in epoch 1; lower the learning rate"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(arguments)
    except SystemExit as leaving:
        found = leaving.code
    out, err = capsys.readouterr()
    assert found == status
    assert out == ""
    assert re.fullmatch(rf"numgraph( train| partition)?: error: .*{message}.*\n", err)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_result_that_cannot_be_written_is_told_with_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", "/dev/full"]) == 1
    assert re.search("info: error: .*No space left on device: '/dev/full'\n$", capsys.readouterr().err)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("info",), ("explain",), (*KARATE, "--epochs", "2", "--json")])
def test_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert re.search(rf"(^|\n)numgraph {arguments[0]}: error: .*No space left on device\n$", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*KARATE, "--hidden", "1000000000", "--quiet"]) == 1
    assert re.fullmatch("numgraph train: error: there is not enough memory .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--save", "--plot", "--data-dir"])
def test_an_empty_name_is_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*KARATE, option, ""])
    assert leaving.value.code == 2
    assert f"argument {option}: the name is empty" in capsys.readouterr().err


def test_damaged_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "planetoid"
    folder.mkdir()
    for part in ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index"):
        (folder / f"ind.cora.{part}").write_bytes(b"1\n")
    assert main(["train", "--dataset", "cora", "--data-dir", str(tmp_path)]) == 1
    assert re.fullmatch(
        r"numgraph train: error: load cora: .*ind\.cora\.x \(2 bytes\) is damaged.*\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize(
    ("module", "option", "extra"),
    [
        ("matplotlib.figure", ("--plot", "a.png"), "plot"),
        ("safetensors.numpy", ("--save", "a.safetensors"), "save"),
    ],
)
def test_a_missing_extra_is_named_before_the_training(
    module: str,
    option: tuple[str, str],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    assert main([*KARATE, *option]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"pip install 'numgraph[{extra}]'" in err


def test_no_tqdm_means_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(
        sys.stderr, "isatty", lambda: True
    )  # the module is asked for first, then the terminal
    assert main([*KARATE, "--epochs", "5"]) == 0
    assert "epoch 5/5" in capsys.readouterr().out


# The other commands


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"].keys() >= {"numgraph", "python", "numba", "scipy"}
    assert facts["threads"]["count"] >= 1
    assert facts["devices"]["cuda"]["devices"] or facts["devices"]["cuda"]["problem"]
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for title in ("versions", "threads", "layer", "kernel cache", "downloads", "cpu", "cuda"):
        assert title in text


@pytest.mark.parametrize("model", sorted(RECIPES))
def test_explain_prints_the_tape(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--model", model]) == 0
    text = capsys.readouterr().out
    assert text.startswith("#0 ")
    assert "cross_entropy" in text
    assert "on the REVERSED graph" in text
    assert "kernel of" not in text


def test_explain_tells_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--model", "gcn", "--kernel"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("kernel of z_v: v: lanes") for line in lines)
    assert any(line.startswith("kernel of ∂u.") and ": u: lanes" in line for line in lines)


@pytest.mark.parametrize("name", ["train", "predict", "explain", "partition", "bench", "info"])
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert "--json [FILE]" in capsys.readouterr().out


def test_help_tells_the_recipes_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option, field in (
        ("hidden", "hidden"),
        ("epochs", "epochs"),
        ("lr", "lr"),
        ("dropout", "dropout"),
        ("patience", "patience"),
    ):
        described = re.search(rf"--{option} \w (.*?)(--|$)", text)
        assert described
        for name in ("gcn", "gat"):
            assert f"{getattr(RECIPES[name], field):g}" in described[1] or getattr(RECIPES[name], field) == 0


@pytest.mark.parametrize("arguments", [("explain",), ("bench", "--help")])
def test_formulas_on_a_terminal_without_their_letters(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout or arguments != ("explain",)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "gat"),
        ("--message", "relu(u.x - v.x) * e.w"),
        (
            "--message",
            "lambda u, v: np.exp(u.h * v.h).sum(-1)",
            "--reduce",
            "edge",
            "--field",
            "u.h=2,4",
            "--field",
            "v.h=2,4",
        ),
    ],
)
def test_explain_writes_a_page(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "page.html"
    assert main(["explain", *arguments, "--html", str(target)]) == 0
    assert capsys.readouterr().out == f"wrote {target}\n"
    page = target.read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "the arrows are reversed, summed at u" in page
    assert "How the kernels run" in page
    assert "which is gone" not in page


def test_a_training_says_that_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*KARATE, "--epochs", "2", "--checkpoint", str(tmp_path / "point.npz")]
    told = f"{tmp_path / 'point.npz'} is there: the training goes on from it"
    for count in (0, 1):
        assert main(arguments) == 0
        assert capsys.readouterr().out.count(told) == count


def test_explain_a_message_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--message", "u.x * e.w", "--reduce", "mean", "--field", "e.w=3"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "#0 update_all(mean) (4, 3), (6, 3) → (4, 3)"
    assert any(line.startswith("∂u.x = Σ g_v/deg_v · e.w SpMM on the REVERSED graph") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--message", "u.x *"), "--message is no expression of Python"),
        (("--message", "1 + 2"), "reads no field of u, v or e"),
        (("--message", "u.x * q"), "name 'q' is not defined; it has u, v, e, np"),
        (("--message", "u.x, v.x"), "the message returned a tuple of 2"),
        (("--message", "u.x", "--field", "u.y=3"), "--field names u.y, which the message does not read"),
        (("--message", "u.x", "--reduce", "summ"), "unknown reduce 'summ'; choose from"),
        (("--reduce", "sum"), "belong to --message"),
        (("--message", "u.x", "--model", "gat"), "--model is of a model's training"),
        (("--message", "u.x", "--dataset", "digits"), "--dataset is of a model's training"),
        (("--message", "u.x", "--model", "gcn"), "--model is of a model's training"),
        (("--message", "u.x", "--data-dir", "x"), "--data-dir is of a model's training"),
        (("--message", "u.x", "--seed", "0"), "--seed is of a model's training"),
        (("--html", "/no/such/folder/page.html"), "there is no folder /no/such/folder; make it first"),
    ],
)
def test_explain_refuses(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 1
    assert told in capsys.readouterr().err
