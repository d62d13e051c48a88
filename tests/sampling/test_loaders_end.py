"""How loops over loaders end: interrupts, errors, forks, loops that are left, loaders in other processes."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque

import numpy as np
import pytest

import numgraph as ng
from numgraph.sampling.ahead import ahead

RNG = np.random.default_rng(0)
N = 60
G = ng.Graph(RNG.integers(0, N, 400), RNG.integers(0, N, 400), N)
DATA = (G, {"x": RNG.standard_normal((N, 4)).astype(np.float32)})
LOADERS = {
    "neighbours": lambda **o: ng.NeighborLoader(
        DATA, ng.sampling.NeighborSampler([3, 2], weight=np.ones(400)), batch_size=7, shuffle=True, **o
    ),
    "links": lambda **o: ng.LinkLoader(DATA, [3, 2], batch_size=40, shuffle=True, **o),
    "clusters": lambda **o: ng.ClusterLoader(DATA, np.arange(N) % 8, batch_size=2, shuffle=True, **o),
}


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("numgraph batch")]


def nodes_of(batches):
    return [batch.nodes.tolist() for batch in batches]


@pytest.mark.parametrize("name", LOADERS)
def test_an_interrupt_in_the_loop(name):
    def loop():
        for _ in LOADERS[name](prefetch=3):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert workers() == []


def test_an_interrupt_while_a_batch_is_waited_for():
    working, goes_on = threading.Event(), threading.Event()

    def make(i):
        if i == 1:
            working.set()
            goes_on.wait()
        return i

    def interrupt(*_):
        goes_on.set()
        raise KeyboardInterrupt

    def send():
        working.wait()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(ahead(make, 5, 2))
    finally:
        signal.signal(signal.SIGINT, before)
        sender.join()
    assert workers() == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_errors_name_their_batch(depth):
    def make(i):
        return 1 // (3 - i)

    found = []
    with pytest.raises(ZeroDivisionError) as caught:
        deque(map(found.append, ahead(make, 6, depth)))
    assert found == [0, 0, 1]
    assert caught.value.__notes__ == ["in batch 3 of 0 … 5"]
    assert workers() == []


def test_no_more_is_made_than_was_asked_for():
    made = []
    batches = ahead(made.append, 10, 2)
    next(batches)
    batches.close()
    assert sorted(made) == [0, 1, 2]
    assert workers() == []


@pytest.mark.parametrize("name", LOADERS)
def test_a_loop_that_is_left_frees_its_threads(name):
    for _ in LOADERS[name](prefetch=3):
        break
    assert workers() == []


@pytest.mark.parametrize("name", LOADERS)
def test_pickled_loaders_give_the_same(name):
    loader = LOADERS[name](seed=3)
    first = nodes_of(loader)
    other = pickle.loads(pickle.dumps(loader))
    assert other.epoch == 1
    assert nodes_of(other) == nodes_of(loader)
    other.epoch = 0
    assert nodes_of(other) == first


def test_loaders_side_by_side():
    want = {name: nodes_of(make(prefetch=0)) for name, make in LOADERS.items()}
    rounds = zip(*(make(prefetch=2) for make in LOADERS.values()))
    for i, batches in enumerate(rounds):
        for name, batch in zip(LOADERS, batches):
            assert batch.nodes.tolist() == want[name][i]
    found = {}
    threads = [
        threading.Thread(target=lambda k=k, n=n: found.update({(k, n): nodes_of(LOADERS[n]())}))
        for k in range(2)
        for n in LOADERS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {(k, n): want[n] for k in range(2) for n in LOADERS}
    assert workers() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", LOADERS)
def test_a_fork_in_the_middle_goes_on_in_both(name):
    want = nodes_of(LOADERS[name](prefetch=0))
    batches = iter(LOADERS[name](prefetch=3))
    first = next(batches).nodes.tolist()
    child = os.fork()
    if child == 0:  # the threads that make the next batches are not here
        try:
            status = 0 if [first, *nodes_of(batches)] == want and nodes_of(LOADERS[name]()) == want else 1
        except BaseException:
            status = 2
        os._exit(status)
    assert [first, *nodes_of(batches)] == want
    assert os.waitpid(child, 0)[1] == 0
