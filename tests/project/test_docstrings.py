"""Docstrings of what is public: NumPy's sections, every parameter by its name, and an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import numgraph as ng
from numgraph import training

TABLES = re.compile(r"copy_[uve](_\w+)?|[uve]_\w+_[uve](_\w+)?")
"""Operations that a table makes, each with its formula and sections, 57 kernels: test_typing.py has them."""


def described() -> Iterator[Any]:
    """Layers, models, optimisers, schedules, functions of arrays and losses, operations; functions of data
    and training.
    """
    for module in (ng.nn, ng.optim, ng.dense, ng.ops):
        for name in module.__all__:
            found = getattr(module, name)
            if not inspect.ismodule(found) and not (module is ng.ops and TABLES.fullmatch(name)):
                yield pytest.param(found, id=f"{module.__name__.partition('.')[2]}.{name}")
    for module in (ng.data, ng.sampling, training):
        for name in module.__all__:
            if inspect.isfunction(found := getattr(module, name)):
                yield pytest.param(found, id=f"{module.__name__.partition('.')[2]}.{name}")


PUBLIC = list(described())


def sections(said: str) -> dict[str, str]:
    """The text of each section, that before the first under ''."""
    parts = re.split(r"(?m)^(\w+)\n-{3,}\n", said)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("found", PUBLIC)
def test_sections(found: Any) -> None:
    said = sections(inspect.getdoc(found) or "")
    assert said[""].strip()
    assert ">>> " in said.get("Examples", "")
    parameters = [name for name in inspect.signature(found).parameters if name != "self"]
    told = re.findall(r"\w+", " ".join(re.findall(r"(?m)^([\w*, ]+?)(?: : |$)", said.get("Parameters", ""))))
    assert set(parameters) <= set(told), f"Parameters does not tell of {sorted(set(parameters) - set(told))}"
    if inspect.isfunction(found):
        assert said.get("Returns", "").strip()
    elif issubclass(found, ng.nn.Module) and found.forward is not ng.nn.Module.forward:
        assert re.search(r"\[|\bcalls\b|returns", said.get("Notes", ""), re.IGNORECASE), (
            "Notes says how it is called, with shapes"
        )


@pytest.mark.parametrize("found", PUBLIC)
def test_examples(found: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(found, found.__name__, module=False, globs={})
    failed, attempted = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert attempted
    assert not failed, capsys.readouterr().out
