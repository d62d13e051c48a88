"""What differs where tests run side by side (pytest -n), and which tests are slow.

A worker computes with its share of the cores, but with two threads at least, for there are tests of threads;
threads that wait for work leave the cores to others. Each worker begins with its share of the longest tests,
so that none of them is left for the end."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from scripts import sampled

os.environ.setdefault(
    "JAX_PLATFORMS", "cpu"
)  # JAX's own choice is a GPU where there is one; kernels run on the CPU
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) if "PYTEST_XDIST_WORKER" in os.environ else 0
if WORKERS:  # before Numba and OpenMP are loaded
    _cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, _cores // WORKERS)))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

    @atexit.register  # before all others, so it runs after them
    def _leave(worker: int = os.getpid()) -> None:
        """A worker has told its results: that it takes torch, JAX and LLVM apart for seconds tells nothing."""
        if os.getpid() == worker:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


def pytest_configure() -> None:
    """Tests send SIGINT to themselves and to what they start, which a run in the background of a shell would
    ignore.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = frozenset(["test_cuda_machine", "test_cuda_simulator", "test_device_simulator"])
"""Files of tests that run whole files of tests in processes of their own."""

SLOW = LONGEST | frozenset(
    [
        *(
            "test_bench",
            "test_cache_damage",
            "test_caches",
            "test_cli",
            "test_cuda_ptx",
            "test_device_bench",
            "test_docs",
        ),
        *(
            "test_fork_compile",
            "test_gpu_report",
            "test_hostile_files",
            "test_interrupts",
            "test_packaging",
            "test_process",
        ),
        *(
            "test_atomic_files",
            "test_blas",
            "test_many_rows",
            "test_random_shapes",
            "test_recycling",
            "test_softmax_accuracy",
        ),
        *(
            "test_vectormath",
            "test_verify",
            "test_compiler_random",
            "test_compiler_verify",
            "test_convert",
            "test_jax",
            "test_jax_xla",
        ),
        *(
            "test_torch",
            "test_torch_accelerate",
            "test_torch_compile",
            "test_torch_distributed",
            "test_torch_layers",
            "test_torch_module",
        ),
        *(
            "test_distributed",
            "test_limits",
            "test_torch_ops",
            "test_torch_messages",
            "test_torch_errors",
            "test_torch_dropout",
        ),
        *(
            "test_optim",
            "test_device_layers",
            "test_device_dense",
            "test_device_options",
            "test_cuda_programs",
            "test_torch_cuda",
        ),
        *(
            "test_nn_pyg",
            "test_nn_options",
            "test_examples",
            "test_own_data",
            "test_tables",
            "test_threads_elementwise",
            "test_transforms",
        ),
        *(
            "test_typing",
            "test_many_edges",
            "test_pruning",
            "test_json",
            "test_site",
            "test_device_relations",
        ),
    ]
)
"""Files of tests that start processes, compile what no cache keeps, or take many numbers: `make quick` leaves
them out. Of the frameworks it runs the conformance suite."""


SAMPLED = frozenset(
    [
        *(
            "test_frameworks",
            "test_messages",
            "test_message_axes",
            "test_softmax_accuracy",
            "test_reduces",
            "test_integers",
        ),
        *(
            "test_jax",
            "test_torch",
            "test_torch_compile",
            "test_torch_messages",
            "test_torch_ops",
            "test_torch_layers",
            "test_ops",
            "test_examples_of_tables",
        ),
        *(
            "test_layers_inputs",
            "test_nn",
            "test_nn_models",
            "test_nn_options",
            "test_nn_pyg",
            "test_half",
            "test_compiler_random",
        ),
        *(
            "test_kernels",
            "test_kernel_inputs",
            "test_cuda_ptx",
            "test_device_layers",
            "test_optim",
            "test_balance",
            "test_compiler",
        ),
        *(
            "test_policies",
            "test_rowwise",
            "test_narrow_fields",
            "test_vectormath",
            "test_knowledge",
            "test_nn_hetero",
            "test_own_data",
        ),
        *(
            "test_device_relations",
            "test_device_options",
            "test_torch_cuda",
            "test_torch_accelerate",
            "test_cache_damage",
        ),
        "test_many_rows",
        *("test_rows_of_the_frameworks", "test_layers_in_shard_map", "test_elementary_functions"),
        *("test_rows_are_read_and_written_in_whole_sectors", "test_chosen_messages", "test_chosen_scores"),
    ]
)
"""Files of tests, and tests, that compile a kernel or more for each of many parameters. `make test` and
`make quick` run one in NUMGRAPH_TEST_SAMPLE of every test's parameters there; `make test-whole`, and pytest
by itself, run all."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make quick` does not import what it leaves out, torch.compile and JAX among it: every worker would."""
    return True if config.option.markexpr == "not slow" and collection_path.stem in SLOW else None


def pytest_collection_finish() -> None:
    """What is imported and collected stays until the end: no search for garbage has to look at it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """What this leaves is no garbage: pytest would look at it five times more."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
    share = int(os.environ.get("NUMGRAPH_TEST_SAMPLE", "1"))
    if share > 1 and not config.pluginmanager.hasplugin("cuda_route"):  # which takes its own sample
        many = [
            item
            for item in items
            if SAMPLED.intersection([item.path.stem, getattr(item, "originalname", None)])
        ]
        chosen = sampled(many, share)
        left_out = {item for item in many if item not in chosen}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    yield  # those that -m and -k leave out are taken away
    if WORKERS > 1:
        items[:] = shared(items)


def shared(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests in an order whose first part is the first worker's and so on, as xdist's worksteal hands them
    out: the longest go round.
    """
    long = [item for item in items if item.path.stem in LONGEST]
    short = [item for item in items if item.path.stem not in LONGEST]
    ordered: list[pytest.Item] = []
    for worker in range(WORKERS):
        ordered += long[worker::WORKERS]
        until = len(items) * (worker + 1) // WORKERS - len(ordered)
        ordered += short[: max(0, until)]
        short = short[max(0, until) :]
    return ordered + short
