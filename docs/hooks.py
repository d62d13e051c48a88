"""What MkDocs calls while it builds the site: pages of the API from what is public, and the programs that pages link to."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ASIDE = re.compile(r"\]\(\.\./([^)#]+)")
"""Links to files beside docs/: programs, results. They go into the site."""

GROUPS = {
    "messages": ("Messages", "What runs along edges, and how it is reduced.", ("message",)),
    "graphs": ("Graphs", "Edges with ids, their two groupings, and graphs as one.", ("graph",)),
    "tapes": ("Tapes and gradients", "What is recorded, and differentiated.", ("autodiff",)),
    "functions": ("Functions of arrays", "Of arrays and Tensors, of messages and rows alike.", ("dense", "expressions")),
    "loading": ("Data and training", "Datasets, batches, and the loop around them.", ("data", "sampling", "training")),
    "files": ("Files", "What a training goes on from.", ("serialize",)),
    "more": ("More", "What else `numgraph` names.", ()),
}
"""Pages of the names of numgraph itself: title, a line, and the rooms of the package that the names come from. The last has the others."""
SUBMODULES = ("training", "torch", "distributed")
"""Public, and not imported by ``import numgraph``; those in ``numgraph.__all__`` come by themselves."""


def public() -> dict[str, tuple[str, str, list[str]]]:
    """The pages of the API by name: a title, a line, and the full names that stand there."""
    import numgraph

    rooms = {room: page for page, (_, _, rooms) in GROUPS.items() for room in rooms}
    pages: dict[str, tuple[str, str, list[str]]] = {page: (title, line, []) for page, (title, line, _) in GROUPS.items()}
    modules = [name for name in numgraph.__all__ if isinstance(getattr(numgraph, name), ModuleType)]
    for name in numgraph.__all__:
        if name not in modules:
            room = getattr(getattr(numgraph, name), "__module__", "").split(".")[1:2]
            pages[rooms.get(room[0] if room else "", "more")][2].append(f"numgraph.{name}")
    for module in dict.fromkeys([*modules, *SUBMODULES]):
        found = importlib.import_module(f"numgraph.{module}")
        names = [f"numgraph.{module}.{name}" for name in found.__all__]
        pages[module] = (f"numgraph.{module}", inspect.getdoc(found) or "", names)
    return {page: content for page, content in pages.items() if content[2]}


def lookup(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def entry(name: str) -> str:
    """What the page says of a name: its docstring, by mkdocstrings where it stands in a file, else of the function that a table made."""
    found = lookup(name)
    last = name.rpartition(".")[2]
    if inspect.isclass(found) or (inspect.isfunction(found) and re.match(rf"(@.*\n)*def {found.__name__}\b", inspect.getsource(found))):
        # What a graph can do stands in several files, each a class that the next one extends.
        whole = inspect.isclass(found) and found.__module__.startswith("numgraph.graph.")
        return f"::: {name}\n" + ("    options:\n      inherited_members: true\n" if whole else "")
    heading = f"## `{last}` {{ #{name} }}\n\n"
    if isinstance(found, ModuleType):
        return f"{heading}{inspect.getdoc(found) or ''}\n"
    if not inspect.isfunction(found):
        return f"{heading}`{found!r}`\n"
    signature = str(inspect.signature(found)).replace("'", "")
    return f"{heading}```python\n{last}{signature}\n```\n\n{inspect.getdoc(found) or ''}\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    pages = [{title: f"api/{page}.md"} for page, (title, _, _) in public().items()]
    config.nav = [*(config.nav or []), {"API": ["api/index.md", *pages]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    overview = ["# The API\n\nWhat stands here is public: versions promise this and nothing else.\n"]
    for page, (title, line, names) in public().items():
        body = "\n\n".join([f"# {title}", line, *map(entry, names)])
        files.append(File.generated(config, f"api/{page}.md", content=body))
        links = ", ".join(f"[`{name.rpartition('.')[2]}`]({page}.md#{name})" for name in names)
        overview.append(f"## [{title}]({page}.md)\n\n{links}\n")
    files.append(File.generated(config, "api/index.md", content="\n".join(overview)))
    found = {name for page in (ROOT / "docs").glob("*.md") for name in ASIDE.findall(page.read_text("utf-8"))}
    for name in sorted(found):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files beside docs/ lead to their copies; blocks for a GPU are Python to a reader too."""
    return ASIDE.sub(r"](\1", markdown).replace("```python gpu\n", "```python\n")
