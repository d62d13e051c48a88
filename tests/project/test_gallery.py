"""The programs of the gallery are short, draw without a warning, and their pictures are those that they
draw.
"""

from __future__ import annotations

import io
import runpy
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="matplotlib (the extra plot) is not installed")

ROOT = Path(__file__).parents[2]
PICTURES = runpy.run_path(str(ROOT / "docs" / "pictures.py"))
PROGRAMS = PICTURES["PROGRAMS"]
SMALL = {"pagerank": 10, "oscillators": 20, "heat": 10, "belief_propagation": 8, "backward": 3}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_draws(program: Path) -> None:
    figure = runpy.run_path(str(program))["draw"](SMALL.get(program.stem, 5))
    figure.savefig(io.BytesIO(), dpi=20)
    assert all(axis.has_data() or axis.texts for axis in figure.axes)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_its_picture_is_up_to_date(program: Path) -> None:
    assert len(program.read_text("utf-8").splitlines()) < 40
    picture = PICTURES["picture_of"](program).read_bytes()
    assert len(picture) <= 50_000
    assert PICTURES["fingerprint"](program).encode() in picture, (
        f"{program.name} has changed: make gallery ARGS={program.stem}"
    )


def test_the_page_shows_all() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert len(PROGRAMS) >= 12
    for program in PROGRAMS:
        assert f"(gallery/{program.stem}.png)" in page
        assert f"(../examples/gallery/{program.name})" in page
    assert {path.stem for path in (ROOT / "docs" / "gallery").iterdir()} == {
        program.stem for program in PROGRAMS
    }
