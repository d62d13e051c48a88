"""The tests of the CPU's kernels on the CUDA target, in Numba's simulator: loops, indexing, masks, chunks of
long rows, gradients.

The simulator is a setting of the process, so they run in one of their own (see cuda_route.py). It has no
warps and checks no types: folds are simulated over a board that a block's threads share, and types are proven
by test_cuda_ptx.py."""

from __future__ import annotations

import importlib.util

import pytest
from scripts import run_on_the_device, whole_only

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="numba-cuda is not installed (pip install 'numgraph[dev]')",
)

# the latter two would take all the time
OF_THE_CPU = "not lengths_share_kernels and not every_length_of_one_axis and not over_many"
TESTS = {
    "compiler/test_kernels.py": (OF_THE_CPU, 100),
    "compiler/test_half.py": (OF_THE_CPU, 10),
    "support/atomic_walks.py": ("", 60),
    "message/test_reduces.py": ("(var or std) and (values or long_rows or one_walk)", 8),
    "message/test_softmax_accuracy.py": ("(attend or dst) and (hubs and mixed or not_finite)", 100),
    "cuda/test_device_layers.py": ("test_layers or test_attention or test_edge_softmax or test_segments", 30),
}
"""What runs (one in SHARE of it, unless NUMGRAPH_TEST_WHOLE is set), and how many tests that is at least. The
last are of arrays on the device from end to end."""
ONLY_WHOLE = {"compiler/test_half.py", "cuda/test_device_layers.py"}


@pytest.mark.parametrize("tests", whole_only(TESTS, ONLY_WHOLE))
def test_in_the_simulator(tests):
    chosen, least = TESTS[tests]
    run_on_the_device(tests, chosen, least, NUMBA_ENABLE_CUDASIM="1")
