"""Parameters in files: they come back bit for bit, and whatever is wrong with a file is said before a
parameter changes.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from numgraph import serialize
from numgraph.autodiff.tensor import Parameter
from numgraph.serialize import load_parameters, read_arrays, save_parameters

KINDS = ("npz", "safetensors")


def parameters(seed: int = 0) -> dict[str, Parameter]:
    rng = np.random.default_rng(seed)
    shapes = {"conv1.weight": (5, 3), "conv1.bias": (3,), "file": (2, 2, 2), "eps": (), "empty": (0, 4)}
    return {
        name: Parameter(rng.normal(size=shape).astype(np.float32), name=name)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_list", [False, True])
def test_round_trip_in_place(tmp_path: Path, kind: str, as_list: bool) -> None:
    path = tmp_path / f"model.{kind}"
    saved, loaded = parameters(0), parameters(1)
    buffers = {name: parameter.data for name, parameter in loaded.items()}
    save_parameters(path, saved.values() if as_list else saved)
    load_parameters(path, loaded.values() if as_list else loaded)
    for name, parameter in loaded.items():
        assert parameter.data is buffers[name]
        assert parameter.data.tobytes() == saved[name].data.tobytes()
        assert parameter.shape == saved[name].shape
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_strided_arrays_and_dtypes(tmp_path: Path, kind: str) -> None:
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    arrays = {
        "strided": base[::2, ::-1],
        "fortran": np.asfortranarray(base),
        "half": base.astype(np.float16),
        "whole": base.astype(np.int32),
    }
    save_parameters(tmp_path / f"a.{kind}", arrays)
    found = read_arrays(tmp_path / f"a.{kind}")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_files_are_what_other_programs_write_and_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(1, np.float32)}
    save_parameters(tmp_path / "ours.npz", arrays)
    save_parameters(tmp_path / "ours.safetensors", arrays)
    np.savez_compressed(tmp_path / "theirs.npz", **arrays)
    safetensors.save_file(arrays, tmp_path / "theirs.safetensors")
    with np.load(tmp_path / "ours.npz") as archive:
        found = [dict(archive), safetensors.load_file(tmp_path / "ours.safetensors")]
    found += [read_arrays(tmp_path / "theirs.npz"), read_arrays(tmp_path / "theirs.safetensors")]
    for one in found:
        assert one.keys() == arrays.keys()
        for name in arrays:
            np.testing.assert_array_equal(one[name], arrays[name])


def test_float64_file_fills_a_float32_parameter(tmp_path: Path) -> None:
    save_parameters(tmp_path / "a.npz", {"w": np.array([1 / 3])})
    target = Parameter(np.zeros(1, np.float32), name="w")
    load_parameters(tmp_path / "a.npz", [target])
    assert target.data.dtype == np.float32
    assert target.data[0] == np.float32(1 / 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["empty", "cut", "head", "flipped", "noise"])
def test_damaged_files(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / f"model.{kind}"
    save_parameters(path, parameters())
    raw = bytearray(path.read_bytes())
    if damage == "flipped":
        if kind == "safetensors":
            raw[2] ^= 0x40  # in the header's length; the format has no checksum over its numbers
        else:
            with zipfile.ZipFile(path) as archive:
                raw[archive.getinfo("conv1.weight.npy").header_offset + 200] ^= 1
    changed = {
        "empty": b"",
        "cut": raw[: len(raw) // 2],
        "head": raw[:9],
        "flipped": raw,
        "noise": os.urandom(300),
    }[damage]
    path.write_bytes(bytes(changed))
    target = parameters(1)
    before = {name: parameter.data.copy() for name, parameter in target.items()}
    with pytest.raises(ValueError, match=rf"load: .*model\.{kind} \(\d+ bytes\) is damaged.*save it again"):
        load_parameters(path, target)
    for name, parameter in target.items():
        np.testing.assert_array_equal(parameter.data, before[name])


def test_pickles_in_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", KINDS)
def test_names_shapes_and_dtypes_are_checked_first(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"model.{kind}"
    saved = {"a": np.ones((2, 3)), "b": np.ones(4), "d": np.ones(2), "z": np.ones(1)}
    save_parameters(path, saved)
    target = {"a": np.zeros((3, 2)), "b": np.zeros(4), "c": np.zeros(1), "d": np.zeros(2, int)}
    expected = (
        r"a has shape \(2, 3\) in the file, \(3, 2\) in the model; c is not in the file; "
        "d has dtype float64 in the file, int64 in the model; z is in the file, but not in the model; build "
        "the model with the options"
    )
    with pytest.raises(ValueError, match=expected):
        load_parameters(path, target)
    assert not target["b"].any()


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("model.pt", ValueError, r"save: unknown file extension '.pt'; choose from '.safetensors', '.npz'"),
        ("model", ValueError, "unknown file extension ''"),
        ("nowhere/model.npz", FileNotFoundError, "there is no folder .*nowhere; make it first"),
        ("folder.npz", IsADirectoryError, "is a folder"),
    ],
)
def test_bad_targets(tmp_path: Path, path: str, kind: type[Exception], message: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(kind, match=message):
        save_parameters(tmp_path / path, parameters())


def test_bad_parameters(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(TypeError, match="w has dtype object"):
        save_parameters(path, {"w": np.array([None])})
    with pytest.raises(ValueError, match="parameter 1 has the name 'w' of an earlier one"):
        save_parameters(path, [Parameter(np.ones(1), name="w"), Parameter(np.ones(1), name="w")])
    with pytest.raises(ValueError, match="parameter 0 has no name"):
        save_parameters(path, [np.ones(1)])
    assert not os.listdir(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.npz"):
        load_parameters(tmp_path / "model.npz", parameters())


def test_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModuleNotFoundError, match=r"numgraph\[save\].*\.npz"):
        save_parameters(tmp_path / "model.safetensors", parameters())
    save_parameters(tmp_path / "model.npz", parameters())


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.npz"
    save_parameters(path, {"w": np.ones(1)})
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(serialize.np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        save_parameters(path, {"w": np.zeros(1)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.npz"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.npz").symlink_to(tmp_path / "target.npz")
    save_parameters(tmp_path / "link.npz", {"w": np.ones(1)})
    assert (tmp_path / "link.npz").is_symlink()
    assert read_arrays(tmp_path / "target.npz").keys() == {"w"}
