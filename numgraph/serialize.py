"""Parameters, and all that a training goes on from, in a file: safetensors or NumPy's .npz, by the file's
extension.

At load everything is checked before the first parameter changes.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import as_array, kind_of, listed
from numgraph.autodiff.tensor import Parameter, unwrap
from numgraph.errors import bad_type, bad_value, missing, unknown
from numgraph.runtime import atomic

MOST_DEFLATED = 1040
"""How many bytes one byte of a deflated file can stand for: 1,032, and the headers count as well."""

Names = Mapping[str, Any] | Iterable[Any]


def save_parameters(path: str | os.PathLike[str], parameters: Names) -> None:
    """Write arrays to ``path`` (.safetensors or .npz), in one step: a crash or a full disk leaves the old
    file as it was.

    A file that is there keeps its permissions, a link stays a link, and another hard link to it keeps the old
    content.

    ``parameters``: a mapping from names to arrays, Tensors or Parameters, or an iterable of Parameters, saved
    under their names."""
    write = check_target(path)
    given = {
        name: as_array("save", name, unwrap(value)) for name, value in _named("save", parameters).items()
    }
    arrays = {name: np.asarray(moved(array, "cpu"), order="C") for name, array in given.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise bad_type(
                "save", f"{name} has dtype {array.dtype}", "a file of parameters holds real numbers"
            )
    atomic.write(path, lambda file: write(file, arrays))


def load_parameters(path: str | os.PathLike[str], parameters: Names) -> None:
    """Fill parameters, by name and in place, with the arrays of a file that ``save_parameters`` wrote.

    Raises
    ------
    ValueError
        A damaged file, a name that only one side has, or another shape; no parameter has changed then.
    """
    fill("load", _named("load", parameters), read_arrays(path), "the file", str(path))


Generators = np.random.Generator | Mapping[str, np.random.Generator] | None


def save(
    path: str | os.PathLike[str],
    model: Any,
    optimizer: Any = None,
    rng: Generators = None,
    *,
    schedule: Any = None,
) -> None:
    """Write all that a training goes on from, in one step; nothing in it is pickled.

    Parameters
    ----------
    path : .safetensors or .npz
    model : Module, whose parameters, buffers and states of random generators are written
    optimizer, schedule : whose states are written beside them, or None
    rng : a generator beside the model, or several by name, or None

    Examples
    --------
    >>> import tempfile, numgraph as ng
    >>> model, other = ng.nn.Linear(2, 1, rng=0), ng.nn.Linear(2, 1, rng=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ng.save(f"{folder}/model.npz", model)
    ...     ng.load(f"{folder}/model.npz", other)
    >>> bool((model.weight.data == other.weight.data).all())
    True
    """
    _check_kinds("save", model, optimizer, rng, schedule)
    parts: dict[str, dict[str, Any]] = {"model": model.state_dict(), "random": model.random_state()}
    parts |= {
        name: {} if one is None else one.state_dict()
        for name, one in (("optimizer", optimizer), ("schedule", schedule))
    }
    parts["rng"] = {name: generator.bit_generator.state for name, generator in _named_generators(rng).items()}
    for part in ("random", "rng"):
        parts[part] = {name: as_bytes(state) for name, state in parts[part].items()}
    save_parameters(
        path, {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
    )


def load(
    path: str | os.PathLike[str],
    model: Any,
    optimizer: Any = None,
    rng: Generators = None,
    *,
    schedule: Any = None,
) -> None:
    """Restore, in place, what ``save`` wrote: a training that goes on from there gives the same bits as one
    that was never interrupted.

    What the file has for an optimiser, a generator or a schedule that is not given is left out, as for
    predictions. A file of parameters alone, as ``numgraph train --save`` writes it, fills the model.

    Parameters
    ----------
    path : .safetensors or .npz
    model, optimizer, rng, schedule : as of ``save``; they are changed

    Raises
    ------
    ValueError
        A damaged file, or one of another model or optimiser, or without what is asked for; nothing has
        changed then.

    Examples
    --------
    >>> import tempfile, numgraph as ng
    >>> model = ng.nn.Linear(1, 1, rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ng.save(f"{folder}/model.npz", model)
    ...     model.bias.data[:] = 7
    ...     ng.load(f"{folder}/model.npz", model)
    >>> model.bias.data
    array([0.], dtype=float32)
    """
    _check_kinds("load", model, optimizer, rng, schedule)
    parts: dict[str, dict[str, Any]] = {"model": {}, "random": {}, "optimizer": {}, "schedule": {}, "rng": {}}
    arrays = read_arrays(path)
    if "standing" in arrays:
        raise bad_value(
            "load",
            f"{path} is a checkpoint of numgraph.fit",
            "fit(model, dataset, epochs=…, checkpoint=path) goes on from it, and leaves the best epoch",
        )
    whole = any(key.partition("/")[0] in parts for key in arrays)
    for key, array in arrays.items() if whole else ():
        part, _, name = key.partition("/")
        if part not in parts:
            raise bad_value(
                "load",
                f"{path} has an entry {key!r}, which save does not write",
                "pass a file that numgraph.save wrote",
            )
        parts[part][name] = array
    if not whole:  # parameters alone, as the command line saves them
        parts["model"], parts["random"] = arrays, {}
    for name, given in (("optimizer", optimizer), ("rng", rng), ("schedule", schedule)):
        if given is not None and not parts[name]:
            raise bad_value(
                "load", f"{path} was saved without {name}=", f"load it without {name}, or save it with one"
            )
    others = [
        (one, parts[name])
        for name, one in (("schedule", schedule), ("optimizer", optimizer))
        if one is not None
    ]
    before = model.state_dict(), model.random_state(), [one.state_dict() for one, _ in others]
    try:
        model.load_state_dict(parts["model"])
        if whole:
            model.load_random_state(
                {name: from_bytes(path, array) for name, array in parts["random"].items()}
            )
        for one, state in others:  # the optimiser after its schedule, which sets its rates
            one.load_state_dict(state)
        if rng is not None:
            states = {name: from_bytes(path, array) for name, array in parts["rng"].items()}
            set_generators("load", _named_generators(rng), states, str(path), "rng")
    except BaseException:
        model.load_state_dict(before[0])
        model.load_random_state(before[1])
        for (one, _), state in zip(others, before[2]):
            one.load_state_dict(state)
        raise


def _named_generators(rng: Generators) -> dict[str, np.random.Generator]:
    return {} if rng is None else dict(rng) if isinstance(rng, Mapping) else {"rng": rng}


def _check_kinds(op: str, model: Any, optimizer: Any, rng: Any, schedule: Any) -> None:
    """What is passed is a model, and an optimiser, generators and a schedule or None."""
    for name, value, method, fix in (
        ("the model", model, "load_random_state", f"write {op}(path, model, optimizer, rng)"),
        ("optimizer", optimizer, "load_state_dict", "pass one of numgraph.optim, or leave it out"),
        ("schedule", schedule, "load_state_dict", "pass one of numgraph.optim, or leave it out"),
    ):
        if not (hasattr(type(value), method) or (value is None and name != "the model")):
            raise bad_type(op, f"{name} is {kind_of(value)}", fix)
    if not isinstance(rng, np.random.Generator | Mapping | None):
        raise bad_type(
            op,
            f"rng is {kind_of(rng)}",
            "pass a generator, as np.random.default_rng(0), or a dict of them, or leave it out",
        )
    for name, generator in _named_generators(rng).items():
        if not isinstance(generator, np.random.Generator) or not isinstance(name, str):
            raise bad_type(
                op,
                f"rng[{name!r}] is {kind_of(generator)}",
                "pass generators by name, as np.random.default_rng(0)",
            )


def set_generators(
    op: str,
    generators: Mapping[str, np.random.Generator],
    states: Mapping[str, Any],
    source: str,
    owner: str = "the model",
) -> None:
    """Set random generators, in place, to states by name; where one does not fit, nothing changes."""
    if not isinstance(states, Mapping):
        raise bad_type(
            op, f"the state is {kind_of(states)}", "pass what random_state() gave, names and states"
        )
    if generators.keys() != states.keys():
        problem = f"{source} has the generators {sorted(map(str, states))}, {owner} {sorted(generators)}"
        raise bad_value(op, problem, f"build {owner} with the options it was saved with")
    before = {name: generator.bit_generator.state for name, generator in generators.items()}
    try:
        for name, generator in generators.items():
            generator.bit_generator.state = states[name]
    except Exception as error:  # whatever a generator says to a state that is not its own
        for name, generator in generators.items():
            generator.bit_generator.state = before[name]
        has, kind = states[name], type(generators[name].bit_generator).__name__
        saved = has.get("bit_generator") if isinstance(has, Mapping) else None
        if isinstance(saved, str) and saved != kind:
            problem, fix = (
                f"the generator {name!r} is a {saved} in {source}",
                f"make it np.random.Generator(np.random.{saved}())",
            )
            raise bad_value(op, f"{problem}, here a {kind}", fix) from error
        raise bad_value(
            op, f"{source} has no state of the generator {name!r}: {error!s:.200}", "save it again"
        ) from error


def as_bytes(state: Any) -> np.ndarray:
    """The state of a random generator as the bytes of its JSON."""
    return np.frombuffer(json.dumps(state, default=_as_list).encode(), np.uint8)


def _as_list(array: Any) -> Any:
    """An array of a state, with its dtype."""
    return {"dtype": array.dtype.str, "values": array.tolist()}


def from_bytes(path: Any, raw: np.ndarray) -> Any:
    try:
        return json.loads(
            raw.tobytes(),
            object_hook=lambda entry: (
                np.array(entry["values"], entry["dtype"]) if "values" in entry else entry
            ),
        )
    except ValueError as error:
        raise bad_value(
            "load", f"{path} is damaged: the state of a random generator: {error}", "save it again"
        ) from error


class Mismatch(NamedTuple):
    """Names that only one side had where a state was loaded."""

    missing_keys: list[str]
    """What the model has and the state has not: it stays as it was."""
    unexpected_keys: list[str]
    """What the state has and the model has not."""


def fill_what_fits(
    op: str, targets: Mapping[str, Any], arrays: Mapping[str, Any], place: str, source: str
) -> Mismatch:
    """Copy the arrays whose names both sides have, as ``fill``; the names of the others."""
    fill(
        op,
        {n: x for n, x in targets.items() if n in arrays},
        {n: x for n, x in arrays.items() if n in targets},
        place,
        source,
    )
    return Mismatch(
        [name for name in targets if name not in arrays], [name for name in arrays if name not in targets]
    )


def fill(op: str, targets: Mapping[str, Any], arrays: Mapping[str, Any], place: str, source: str) -> None:
    """Copy arrays, by name, into the targets' arrays; names, shapes and kinds of dtype are all checked
    first.
    """
    arrays = {name: as_array(op, str(name), unwrap(array)) for name, array in arrays.items()}
    problems = [f"{name} is not in {place}" for name in targets if name not in arrays]
    problems += [f"{name} is in {place}, but not in the model" for name in arrays if name not in targets]
    for name in targets.keys() & arrays.keys():
        found, wanted = arrays[name], unwrap(targets[name])
        if found.shape != wanted.shape:
            problems.append(f"{name} has shape {found.shape} in {place}, {wanted.shape} in the model")
        elif not np.can_cast(found.dtype, wanted.dtype, "same_kind"):
            problems.append(f"{name} has dtype {found.dtype} in {place}, {wanted.dtype} in the model")
        elif not _fits(found, wanted.dtype):
            problems.append(
                f"{name} has numbers in {place} that are too large for the model's {wanted.dtype}"
            )
    if problems:
        raise bad_value(
            op,
            f"{source} does not fit the model: {'; '.join(sorted(problems))}",
            "build the model with the options it was saved with",
        )
    for name, target in targets.items():
        array = unwrap(target)
        array[...] = moved(arrays[name], device_of(array))
        if isinstance(target, Parameter):
            target.changed()


def _fits(array: Any, dtype: Any) -> bool:
    """Whether the numbers of an array of the host are still there, rounded, in a dtype of the same kind."""
    if not isinstance(array, np.ndarray) or array.dtype == dtype:
        return True
    with np.errstate(all="ignore"):
        made = array.astype(dtype)
        return bool(
            (np.isfinite(made) | ~np.isfinite(array)).all() if dtype.kind == "f" else (made == array).all()
        )


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name."""
    read = _reader(path)
    if not Path(path).exists():
        raise FileNotFoundError(f"load: there is no file {path}; numgraph.save writes one")
    raw = Path(path).read_bytes()
    try:
        return read(raw)
    except Exception as error:  # whatever a damaged file makes a reader do ends here
        problem = f"{path} ({len(raw)} bytes) is damaged: {type(error).__name__}: {error!s:.200}"
        raise bad_value("load", problem, "save it again, or take another copy") from error


def check_target(path: str | os.PathLike[str]) -> Callable[[Any, Mapping[str, np.ndarray]], None]:
    """The writer for this file; an error if its extension, its folder or what is installed says that saving
    will fail.
    """
    suffix = _suffix("save", path)
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"save: {path}: there is no folder {folder}; make it first")
    if Path(path).is_dir():
        raise IsADirectoryError(f"save: {path} is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"save: {path}: the folder {folder} cannot be written; choose another")
    if suffix == ".npz":
        return _write_npz
    safetensors = _safetensors("save")

    def write(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
        file.write(safetensors.save(dict(arrays)))

    return write


def _reader(path: str | os.PathLike[str]) -> Callable[[bytes], dict[str, np.ndarray]]:
    if _suffix("load", path) == ".npz":
        return _read_npz
    found: Callable[[bytes], dict[str, np.ndarray]] = _safetensors("load").load
    return found


def _suffix(op: str, path: str | os.PathLike[str]) -> str:
    if not isinstance(path, str | os.PathLike):
        raise bad_type(
            op, f"path is {kind_of(path)}", "the name of the file comes first, then the parameters"
        )
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".safetensors"):
        raise unknown(op, "file extension", suffix, (".safetensors", ".npz"))
    return suffix


def _safetensors(op: str) -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise missing(
            op, ".safetensors needs the package safetensors", "pip install 'numgraph[save]', or choose .npz"
        ) from None
    return safetensors.numpy


def _write_npz(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
    # Not np.savez: it takes names as keyword arguments, one of which ("file") is its own.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz(raw: bytes) -> dict[str, np.ndarray]:
    """The arrays, each only if the file has what its header claims: np.load would make room for any claim
    first.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_DEFLATED * len(raw):
            raise ValueError("it claims more than a file of its size can hold")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays or name == member.filename:
                raise ValueError(
                    f"{member.filename!r:.100} is {'there twice' if name in arrays else 'no array'}"
                )
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"{member.filename!r:.100} is compressed by a method that NumPy does not use"
                )
            with archive.open(member) as file:
                content = file.read()
            arrays[name] = _array(content)
    return arrays


def _array(content: bytes) -> np.ndarray:
    """The array of a .npy file."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(
            f"{len(content) - file.tell()} bytes for an array of shape {shape} and dtype {dtype}"
        )
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _named(op: str, parameters: Names) -> dict[str, Any]:
    if isinstance(parameters, Mapping):
        for name in parameters:
            if not isinstance(name, str):
                raise bad_type(op, f"the name {name!r} is {kind_of(name)}", "names are strings")
        return dict(parameters)
    named: dict[str, Any] = {}
    for place, parameter in enumerate(listed(op, "parameters", parameters)):
        name = getattr(parameter, "name", None)
        if not name or name in named:
            problem = (
                f"parameter {place} has {'no name' if not name else f'the name {name!r} of an earlier one'}"
            )
            raise bad_value(op, problem, "give names that differ, or a mapping from names to parameters")
        named[name] = parameter
    return named
