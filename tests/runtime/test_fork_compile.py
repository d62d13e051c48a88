"""A fork at any moment: the child computes what its parent has and has not compiled, and so does the
parent.
"""

from __future__ import annotations

import os
import sys

import pytest
from scripts import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKING = """
import multiprocessing, os, signal, subprocess, sys, threading
import numpy as np, numgraph as ng
from numba.core import event
rng = np.random.default_rng(0)
src, dst = rng.integers(0, 9, (2, 30))
x = rng.standard_normal((9, 3))
g = ng.Graph(src, dst, 9)

def chain(y, k):
    for _ in range(k):  # the length of the chain makes the kernel another one
        y = np.cos(y) + 0.5
    return y

def compute(k):
    '''A message that nobody has compiled.'''
    z = ng.update_all(ng.Graph(src, dst, 9), lambda u: chain(u.x, k), "sum", u={"x": x})
    want = np.zeros((9, 3))
    np.add.at(want, dst, chain(x, k)[src])
    np.testing.assert_allclose(z, want, rtol=1e-9)

def long(k):
    '''One that takes longer.'''
    return ng.update_all(g, lambda u: np.exp(-chain(u.x, 9 + k)), "sum", u={"x": x})

class Begun(event.Listener):
    '''An event that is set when something begins to compile.'''
    def __init__(self):
        self.event = threading.Event()
    def on_start(self, found):
        self.event.set()
    def on_end(self, found):
        pass

def child_of(work):
    '''A fork that works, and its id.'''
    child = os.fork()
    if child == 0:
        signal.alarm(100)  # a child that hangs ends itself
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child

def good(child):
    return os.waitpid(child, 0)[1] == 0

def busy(*numbers):
    '''Threads that compile, one message each; the first has begun.'''
    begun = Begun()
    event.register("numba:compile", begun)
    threads = [threading.Thread(target=long, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    assert begun.event.wait(100)
    event.unregister("numba:compile", begun)
    return threads
"""

CASES = {
    "the main thread forks": """
        threads = busy(1, 2)
        children = [child_of(lambda: compute(1)), child_of(lambda: (compute(2), compute(3)))]
        compute(4)
        """,
    "another thread forks": """
        threads = busy(1)
        children = []
        forking = threading.Thread(target=lambda: children.append(child_of(lambda: compute(1))))
        forking.start()
        compute(2)
        forking.join()
        """,
    "a child forks": """
        threads = busy(1)
        def nested():
            long(5)
            assert good(child_of(lambda: compute(1)))
            compute(2)
        children = [child_of(nested)]
        """,
    "a child with threads that compile forks": """
        threads = busy(1)
        def nested():
            more = busy(6, 7)
            assert good(child_of(lambda: compute(1)))
            [thread.join() for thread in more]
        children = [child_of(nested)]
        """,
    "a pool of multiprocessing": """
        threads = busy(1)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map_async(compute, range(1, 4)).get(100)
        children = []
        """,
    "a compilation forks": """
        children = []
        class Forking(Begun):
            def on_start(self, found):
                if not children:
                    children.append(child_of(lambda: None))
        listener = Forking()
        event.register("numba:compile", listener)
        compute(1)
        event.unregister("numba:compile", listener)
        threads = []
        """,
    "programs are started": """
        threads = busy(1)
        for _ in range(3):
            subprocess.run([sys.executable, "-S", "-c", "pass"], check=True)
        subprocess.run([sys.executable, "-S", "-c", "pass"], check=True, preexec_fn=lambda: None)
        children = []
        """,
    "nothing compiles": """
        threads = []
        children = [child_of(lambda: compute(1)) for _ in range(3)]
        """,
}


@pytest.mark.parametrize("name", CASES)
def test_fork(tmp_path, name):
    after = """
        assert all(good(child) for child in children)
        for thread in threads:
            thread.join(100)
            assert not thread.is_alive()
        compute(8)
        print("good")
        """
    cache = {"NUMGRAPH_CACHE_DIR": str(tmp_path / "cache")}
    if sys.version_info >= (3, 12):
        cache["PYTHONWARNINGS"] = "ignore"  # of every fork in a process with threads
    assert run(CASES[name] + after, setup=FORKING, **cache) == "good\n"
