"""Memory that is no process's: a set that does not fit into what one may have is trained by four."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from mpiexec import run, starts

assert starts
pytestmark = pytest.mark.usefixtures("starts")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts what is mapped on Linux alone"
)
def test_what_fits_into_no_rank_is_trained_by_four(tmp_path):
    """Under the same limit on the memory of each, one rank with all of it fails, and four end their training.
    What all have alike, and no file, is in one memory."""
    status, out, error = run(4, Path(__file__).parent / "limited.py", tmp_path)
    assert status == 0, error[-3000:]
    report = json.loads(out.splitlines()[-1])
    assert report["one"]
    if not report["enforced"]:
        pytest.skip("the system does not enforce RLIMIT_DATA")
    assert not report["whole"]
    assert report["losses"][-1] < 0.8 * report["losses"][0]
