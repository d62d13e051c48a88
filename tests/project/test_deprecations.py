"""What is deprecated works, and says what to write instead and when it ends; CONTRIBUTING.md has the
policy.
"""

from __future__ import annotations

import pytest

import numgraph as ng
from numgraph.arrays import recycling


def test_recycling_has_moved():
    with pytest.warns(
        DeprecationWarning, match=r"numgraph\.arrays\.recycling since 0\.2; the old name goes with 0\.3"
    ):
        found = ng.recycling
    assert found is recycling
