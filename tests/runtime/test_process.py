"""What holds for whole processes: threads, forks, interrupts. Each test runs a script of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from scripts import SETUP, interruptible, run

__all__ = ["interruptible"]

LAYERS = ["workqueue", "omp", "tbb"]


def layers():
    """The threading layers that Numba can load here."""
    found = []
    for layer in LAYERS:
        module = {"workqueue": "workqueue", "omp": "omppool", "tbb": "tbbpool"}[layer]
        done = subprocess.run(
            [sys.executable, "-c", f"import numba.np.ufunc.{module}"], capture_output=True, timeout=120
        )
        if done.returncode == 0:
            found.append(layer)
    return found


# --- the same bits ---


def test_same_bits_on_any_number_of_threads():
    """With a hub, more threads than cores, the pool and the serial twin, with a tape and without, once and
    again.
    """
    out = run(
        """
        import numba
        want = step()
        for count in (1, 2, 3, 4):
            numba.set_num_threads(count)
            assert same(step(), want), count
            assert same(step(taped=False), want[:8]), count
        threads.SMALL = 1 << 62
        assert same(step(), want), "serial"
        print(numba.get_num_threads(), numba.threading_layer() != "")
        """,
        NUMBA_NUM_THREADS="4",
    )
    assert out == "4 True\n"


def test_same_bits_in_every_process():
    script = "import hashlib; print([hashlib.sha256(a.tobytes()).hexdigest() for a in step()])"
    assert (
        run(script)
        == run(script, NUMBA_NUM_THREADS="1")
        == run(script, NUMBA_NUM_THREADS="3", PYTHONHASHSEED="7")
    )


# --- many Python threads ---

EIGHT = """
from concurrent.futures import ThreadPoolExecutor
import threading
start = threading.Barrier(8)

def work(i):
    own = ng.Graph(src, dst, n)
    start.wait()
    return [step(g if (i + k) % 2 else own) for k in range(3)]

with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(work, range(8)))  # the first calls compile, in all threads at once
want = step()
assert all(same(each, want) for steps in found for each in steps)
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_eight_python_threads_at_once(layer):
    """On shared graphs and on graphs of their own, whose adjacencies are built meanwhile."""
    if layer not in layers():
        pytest.skip(f"Numba's threading layer {layer} is not installed here")
    out = run(
        EIGHT + "import numba; print(numba.threading_layer())",
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="4",
    )
    assert out == f"{layer}\n"


def test_eight_threads_compile_from_an_empty_cache(tmp_path):
    run(EIGHT, NUMGRAPH_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="4")


# --- forks ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_child_after_the_pool_was_used(layer):
    """A forked child computes the same, also what its parent has not compiled, and so does the parent
    afterwards.
    """
    if layer not in layers():
        pytest.skip(f"Numba's threading layer {layer} is not installed here")
    run(
        """
        import os, signal
        want = step()
        child = os.fork()
        if child == 0:
            signal.alarm(120)  # a child that hangs ends itself
            try:
                good = same(step(), want) and same(step(ng.Graph(src, dst, n)), want)
                z = ng.update_all(g, lambda u: u.x * 2 + np.exp2(u.x), "sum", u={"x": x})
                os._exit(0 if good and np.isfinite(z).all() else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert same(step(), want)
        """,
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="2",
        PYTHONWARNINGS="ignore",  # Python 3.12 warns of every fork in a process with threads
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_multiprocessing_pool_of_forks():
    run(
        """
        import multiprocessing
        want = step()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = [pool.apply_async(step) for _ in range(4)]
            assert all(same(each.get(120), want) for each in found)
        """,
        PYTHONWARNINGS="ignore",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forks_while_other_threads_compute():
    """Whoever was inside of the pool when the child was made does not exist in the child."""
    run(
        """
        import os, signal, threading
        want = step()
        done = threading.Event()
        def busy():
            while not done.is_set():
                step()
        thread = threading.Thread(target=busy)
        thread.start()
        try:
            for _ in range(5):
                child = os.fork()
                if child == 0:
                    signal.alarm(120)
                    try:
                        os._exit(0 if same(step(), want) else 1)
                    finally:
                        os._exit(2)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            done.set()
            thread.join()
        """,
        PYTHONWARNINGS="ignore",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")
def test_ctrl_c_leaves_things_usable(interruptible):
    """Interrupted at any moment of a step: the next step is right, on the pool again.

    The first step compiles before: an interrupt inside of llvmlite's own callbacks is printed and lost there.
    """
    script = textwrap.dedent(SETUP) + textwrap.dedent(
        """
        import sys
        step()
        print("ready", flush=True)
        count = 0
        while count < 4:
            try:
                while True:
                    step()
                    print("step", flush=True)
            except KeyboardInterrupt:
                count += 1
                print("interrupted", flush=True)
        with np.errstate(all="ignore"):
            want = step()
        assert all(np.isfinite(a).all() for a in want[:3])
        assert same(step(), want) and threads._gate.acquire(blocking=False)
        print("good", flush=True)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "ready\n"
            for delay in (0.3, 0.7, 0.05, 0.02):
                time.sleep(delay)
                process.send_signal(signal.SIGINT)
                while (line := process.stdout.readline()) == "step\n":
                    pass
                assert line == "interrupted\n", process.stderr.read()
            out, err = process.communicate(timeout=200)
        finally:
            process.kill()
    assert out.endswith("good\n"), err
