"""The documentation site: it builds without a warning, has every public name, needs nothing from elsewhere,
no link of it is dead, and a browser shows its main pages."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import browser
import pytest

import numgraph

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("mkdocs") is None,
        reason="MkDocs is not installed: pip install 'numgraph[docs]'",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="the pages of numgraph.torch need PyTorch"
    ),
]


class _Page(HTMLParser):
    """Ids, links, and what the browser loads by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found.get("href", ""))
        elif "src" in found:
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: _Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_links_and_anchors(pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            there = (path.parent / unquote(target)).resolve() if target else path
            assert there.exists(), f"{path.name} links to {link}"
            if anchor and there in pages:
                assert unquote(anchor) in pages[there].ids, f"{path.name} links to {link}"


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        for source in page.loaded:
            assert not re.match(r"(https?:)?//", source), f"{path.name} loads {source}"
            assert source.startswith("data:") or (path.parent / unquote(source.partition("?")[0])).exists(), (
                f"{path.name} loads {source}"
            )


def test_every_public_name_has_a_place(pages: dict[Path, _Page]) -> None:
    described = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "api"))
    for name in numgraph.__all__:
        found = getattr(numgraph, name)
        names = [f"{name}.{inner}" for inner in found.__all__] if isinstance(found, ModuleType) else [name]
        for public in names:
            assert f"numgraph.{public}" in described, f"the API pages do not have numgraph.{public}"


def test_docstrings_are_on_their_pages(pages: dict[Path, _Page]) -> None:
    """What a docstring says is there to be read, parameters too."""
    (messages,) = (path for path in pages if path.parts[-2:] == ("api", "messages.html"))
    text = re.sub(r"<[^>]+>", "", messages.read_text("utf-8"))
    for said in ("update_all", "over the in-edges", "initial", "what the reduce starts with"):
        assert said in text


MAIN = (
    "index",
    "quickstart",
    "data",
    "messages",
    "relations",
    "backward",
    "gallery",
    "benchmarks",
    "migrating",
    "api/index",
    "api/nn",
)


@pytest.mark.skipif(browser.PATH is None, reason=browser.MISSING)
def test_a_browser_shows_the_main_pages(pages: dict[Path, _Page], tmp_path: Path) -> None:
    """No error, nothing from elsewhere, nothing cut off, on a wide window and on a telephone's; and the
    search finds something.
    """
    site = next(path for path in pages if path.parts[-2:] == ("api", "index.html")).parents[1]
    with browser.served(site) as address, browser.running(tmp_path) as tab:
        for width in (1280, 400):
            for page in MAIN:
                seen = tab.open(f"{address}{page}.html", width)
                assert not seen.errors, f"{page}: {seen.errors}"
                assert not seen.cut_off, f"{page} at {width}: {seen.cut_off}"
                assert len(seen.requests) > 1
                away = [url for url in seen.requests if not url.startswith((address, "data:", "blob:"))]
                assert not away, f"{page} asks for {away}"
        tab.open(f"{address}index.html?q=update_all", 1280)
        assert "update_all" in tab.run(FIRST_FOUND)


FIRST_FOUND = """new Promise((told) => {
  const look = () => { const found = document.querySelector('.md-search-result__item'); if (found) told(found.textContent); return found; };
  if (!look()) new MutationObserver((_, observer) => { if (look()) observer.disconnect(); }).observe(document, {childList: true,
    subtree: true});
})"""
