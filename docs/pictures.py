"""`make gallery`: runs the programs of examples/gallery, or those that are named, and keeps their pictures in docs/gallery.

A picture says which text of its program it was made by, so that a test finds those that are out of date.
"""

from __future__ import annotations

import hashlib
import runpy
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "examples" / "gallery").glob("*.py"))


def picture_of(program: Path) -> Path:
    return ROOT / "docs" / "gallery" / f"{program.stem}.png"


def fingerprint(program: Path) -> str:
    return hashlib.sha256(program.read_bytes()).hexdigest()


if __name__ == "__main__":
    for program in PROGRAMS:
        if len(sys.argv) == 1 or program.stem in sys.argv[1:]:
            figure = runpy.run_path(str(program))["draw"]()
            drawn, said = BytesIO(), PngInfo()
            figure.savefig(drawn, dpi=100)
            said.add_text("Source", fingerprint(program))
            Image.open(drawn).convert("RGB").quantize(64).save(picture_of(program), optimize=True, pnginfo=said)
            print(f"{picture_of(program).relative_to(ROOT)}: {picture_of(program).stat().st_size:,} bytes")
