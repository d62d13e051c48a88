"""Docstrings of what is public: NumPy's sections, every parameter or field by its name, and an example that
runs.
"""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from types import FunctionType, MethodType
from typing import Any

import pytest

import numgraph as ng
from numgraph import distributed, training
from numgraph.distributed import DistGraph, SharedRows

TABLES = re.compile(r"copy_[uve](_\w+)?|[uve]_\w+_[uve](_\w+)?")
"""Operations that a table makes, 57 kernels: their sections are checked in test_typing.py."""
MADE = [name for name in ng.ops.__all__ if TABLES.fullmatch(name)]


def described() -> Iterator[Any]:
    """Layers, models, optimisers, schedules, functions of arrays and losses, operations; the package's own
    functions, those of data and training.
    """
    seen = set()
    for module in (ng.nn, ng.optim, ng.dense, ng.ops, ng, ng.data, ng.sampling, training):
        for name in module.__all__:
            found = getattr(module, name)
            wanted = inspect.isfunction if module in (ng, ng.data, ng.sampling, training) else callable
            if wanted(found) and found not in seen and not (module is ng.ops and TABLES.fullmatch(name)):
                seen.add(found)
                yield pytest.param(found, id=f"{module.__name__}.{name}".removeprefix("numgraph."))


PUBLIC = list(described())

GRAPHS = (ng.Graph, ng.HeteroGraph, ng.EdgeMap)
TENSORS = (ng.Tensor,)
"""Each of their methods has an example of its own."""
SHARED = (DistGraph, SharedRows)
"""What several processes have: their examples are programs under mpiexec."""
CLASSES = (
    *(ng.GraphBatch, ng.Dataset, ng.GraphDataset, ng.GraphLoader, ng.Profile),
    *(ng.data.GraphWriter, ng.data.Links, ng.data.LoadedBatch, ng.data.StoredDataset, ng.data.Triples),
    *(ng.ClusterLoader, ng.LinkLoader, ng.NeighborLoader),
    *(ng.sampling.Batch, ng.sampling.HeteroSampler, ng.sampling.NeighborSampler),
    *(training.CrossValidation, training.History, training.Metrics, training.Predictor),
    *(ng.Adjacency, ng.Parameter, ng.Tape, ng.nn.Module, ng.optim.Optimizer),
)
"""Data sets, loaders, what they and training give, tapes: the example is that of the class, for all its
methods.
"""
LOADER = {"all_rows", "over_all", "take_rows"}
INTERNAL = {
    "Graph": {"edge_ids_at", "is_reverse_of", "remembered"},
    "HeteroGraph": {"by_relation", "by_type", "checked_type", "into"},
    "Adjacency": {"derived"},
    "GraphDataset": {"of"},
    "Module": {"replicated", "forward"},
    "Tape": {"reached", "records"},
    **dict.fromkeys(("ClusterLoader", "LinkLoader", "NeighborLoader"), LOADER),
    **{kind: {"drawn"} for kind in ("HeteroSampler", "NeighborSampler")},
}
"""Methods without an underscore that other files of the package call, and nobody else."""
RAISES = re.compile(
    r"\braise |_square\(|_given\(|_ranges\(|_sides\(|\bchecked_\w+\(|\bcheck_\w+\(|canonical\("
)
"""What a function that refuses something has in its text."""


def methods(kinds: tuple[type, ...]) -> Iterator[Any]:
    """Their public methods that take something."""
    for kind in kinds:
        for name in sorted(set(dir(kind)) - INTERNAL.get(kind.__name__, set())):
            found = getattr(kind, name)
            if name[0] != "_" and isinstance(found, FunctionType | MethodType) and named(found):
                yield pytest.param(found, id=f"{kind.__name__}.{name}")


def named(found: Any) -> set[str]:
    """The parameters of a function, by their names."""
    return set(inspect.signature(found).parameters) - {"self"}


def gives_nothing(found: Any) -> bool:
    return inspect.signature(found).return_annotation in (None, "None")


OF_GRAPHS = list(methods((*GRAPHS, *TENSORS)))
OF_CLASSES = list(methods((*CLASSES, *SHARED)))
KINDS = [pytest.param(kind, id=kind.__name__) for kind in (*GRAPHS, *TENSORS, *CLASSES)]


def told(said: dict[str, str], section: str) -> set[str]:
    """The names that a section tells of."""
    heads = re.findall(r"(?m)^([\w*, ]+?)(?: : |$)", said.get(section, ""))
    return set(re.findall(r"\w+", " ".join(heads)))


def sections(said: str) -> dict[str, str]:
    """The text of each section, that before the first under ''."""
    parts = re.split(r"(?m)^(\w+)\n-{3,}\n", said)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("found", PUBLIC)
def test_sections(found: Any) -> None:
    said = sections(inspect.getdoc(found) or "")
    assert said[""].strip()
    assert ">>> " in said.get("Examples", "")
    lacking = named(found) - told(said, "Parameters")
    assert not lacking, f"Parameters does not tell of {sorted(lacking)}"
    if inspect.isfunction(found):
        assert gives_nothing(found) or said.get("Returns", "").strip()
    elif issubclass(found, ng.nn.Module) and found.forward is not ng.nn.Module.forward:
        assert re.search(r"\[|\bcalls\b|returns", said.get("Notes", ""), re.IGNORECASE), (
            "Notes says how it is called, with shapes"
        )


@pytest.mark.parametrize("found", [*OF_GRAPHS, *OF_CLASSES])
def test_sections_of_methods(found: Any) -> None:
    said = sections(inspect.getdoc(found) or "")
    assert said[""].strip()
    lacking = named(found) - told(said, "Parameters")
    assert not lacking, f"Parameters does not tell of {sorted(lacking)}"
    assert gives_nothing(found) or said.get("Returns", "").strip()
    if RAISES.search(inspect.getsource(found)):
        assert said.get("Raises", "").strip()


@pytest.mark.parametrize("kind", KINDS)
def test_sections_of_classes(kind: type) -> None:
    said = sections(inspect.getdoc(kind) or "")
    assert said[""].strip()
    assert ">>> " in said.get("Examples", "")
    fields = (
        {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else named(kind)
    )
    lacking = (
        {name for name in fields if name[0] != "_"} - told(said, "Attributes") - told(said, "Parameters")
    )
    assert not lacking, f"neither Attributes nor Parameters tells of {sorted(lacking)}"


@pytest.mark.parametrize("kind", KINDS)
def test_properties_have_a_sentence(kind: type) -> None:
    properties = inspect.getmembers_static(kind, lambda found: isinstance(found, property | cached_property))
    silent = [name for name, found in properties if name[0] != "_" and not inspect.getdoc(found)]
    assert not silent


@pytest.mark.parametrize("found", [*PUBLIC, *OF_GRAPHS, *KINDS])
def test_examples(found: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(found, found.__name__, module=False, globs={})
    for library in re.findall(r"\b(?:dgl|igraph|networkx|torch_geometric)\b", lines_of(example)):
        pytest.importorskip(library, reason=f"{library} is not installed")
    failed, attempted = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert attempted
    assert not failed, capsys.readouterr().out


@pytest.mark.parametrize("name", MADE)
def test_examples_of_tables(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    test_examples(getattr(ng.ops, name), capsys)


@pytest.mark.parametrize("name", ["allreduce", "divide", "partition", "replicate", "write_shards"])
def test_sections_of_distributed(name: str) -> None:
    """Their examples are programs under mpiexec, in docs/distributed.md."""
    found = getattr(distributed, name)
    said = sections(inspect.getdoc(found) or "")
    assert named(found) <= told(said, "Parameters")
    assert said.get("Returns", "").strip()


def lines_of(example: doctest.DocTest) -> str:
    """What an example imports."""
    return "".join(one.source for one in example.examples if one.source.startswith(("import ", "from ")))
