"""A signal while something compiles: its handler runs when that is done, once, and everything compiles
afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading

import pytest
from scripts import run

from numgraph.runtime.interrupts import deferred

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals differ on Windows")


@contextlib.contextmanager
def handling(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


class Stop(BaseException):
    """Raised by handlers, as KeyboardInterrupt, SystemExit and errors of timeouts are."""


def stop(number, frame):
    raise Stop(number)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGHUP]
)
def test_a_handler_runs_at_the_end(number):
    done = []
    with handling(number, stop):
        with pytest.raises(Stop), deferred():  # noqa: PT012 (the block raises at its end)
            signal.raise_signal(number)
            done.append("the whole block")
        assert signal.getsignal(number) is stop
    assert done == ["the whole block"]


def test_each_once_and_in_order():
    seen = []
    with (
        handling(signal.SIGTERM, lambda number, frame: seen.append(number)),
        handling(signal.SIGINT, lambda number, _: seen.append(number)),
    ):
        with deferred():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            assert seen == []
        assert seen == [signal.SIGTERM, signal.SIGINT]


def test_all_run_though_one_raises():
    seen = []
    with handling(signal.SIGINT, stop), handling(signal.SIGTERM, lambda number, _: seen.append(number)):
        with pytest.raises(Stop), deferred():  # noqa: PT012 (the block raises at its end)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) is stop


def test_blocks_in_blocks_end_with_the_outer_one():
    done = []
    with handling(signal.SIGINT, stop):
        with pytest.raises(Stop), deferred():  # noqa: PT012 (the block raises at its end)
            with deferred():
                signal.raise_signal(signal.SIGINT)
            done.append("inner")
            with deferred():
                done.append("another")
        assert signal.getsignal(signal.SIGINT) is stop
    assert done == ["inner", "another"]


def test_an_error_in_the_block_is_not_lost():
    with handling(signal.SIGINT, stop), pytest.raises(Stop) as caught, deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ValueError("of the block")
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_signals_without_a_handler_are_left_alone(handler):
    with handling(signal.SIGUSR2, handler), deferred():
        assert signal.getsignal(signal.SIGUSR2) == handler
        if handler == signal.SIG_IGN:
            signal.raise_signal(signal.SIGUSR2)


def test_another_thread_defers_nothing():
    found = []

    def work():
        with deferred():
            found.append(signal.getsignal(signal.SIGINT))

    with handling(signal.SIGINT, stop):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [stop]


def test_a_handler_that_raises_while_handlers_change():
    """Whatever the moment at which a signal comes, all handlers are theirs again afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def interrupted_after(steps):
        left = [steps]

        def trace(frame, event, arg):
            if frame.f_globals.get("__name__") != "numgraph.runtime.interrupts":
                return None
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), numbers[steps % 3])
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with deferred():
                pass
        except Stop:
            pass
        finally:
            sys.settrace(before)
        return left[0] <= 0

    with handling(numbers[0], stop), handling(numbers[1], stop), handling(numbers[2], stop):
        steps = 1
        while interrupted_after(steps):
            assert [signal.getsignal(number) for number in numbers] == [stop] * 3, steps
            steps += 1
        assert steps > 100


def test_the_loop_of_asyncio_hears_a_signal_once():
    async def main():
        heard = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, heard.append, 1)
        with deferred():
            signal.raise_signal(signal.SIGUSR1)
        for _ in range(20):
            await asyncio.sleep(0)
        while not heard:
            await asyncio.sleep(0.01)
        loop.remove_signal_handler(signal.SIGUSR1)
        return heard

    assert asyncio.run(main()) == [1]


INTERRUPTED = """
import signal, sys, threading, warnings
import numpy as np, numgraph as ng
class Stop(BaseException):
    pass
def stop(number, frame):
    raise Stop(number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
    signal.signal(number, stop)
rng = np.random.default_rng(0)
src, dst = rng.integers(0, 9, (2, 30))
x = rng.standard_normal((9, 3))

def chain(y, k):
    for _ in range(k):  # the length of the chain makes the kernel another one
        y = np.cos(y) + 0.5
    return y

def first_use(k):
    '''A message that no process has compiled.'''
    return ng.update_all(ng.Graph(src, dst, 9), lambda u: chain(u.x, k), "sum", u={"x": x}), k

def right(found):
    z, k = found
    want = np.zeros((9, 3))
    np.add.at(want, dst, chain(x, k)[src])
    np.testing.assert_allclose(z, want, rtol=1e-9)

def interrupted(k, after, number):
    '''The first use of a message with a signal after so many calls in it.'''
    left = [after]
    def profile(frame, event, arg):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)
    sys.setprofile(profile)
    try:
        first_use(k)
    except Stop:
        return left[0] <= 0
    finally:
        sys.setprofile(None)
    assert left[0] > 0, "the signal is lost"
    return False
"""


def test_a_signal_at_any_moment_of_a_compilation(tmp_path):
    out = run(
        """
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        moments = (30, 300, 1500, 4000, 9000, 20_000, 50_000, 120_000)
        hit = 0
        for k, after in enumerate(moments, 1):
            hit += interrupted(k, after, numbers[k % 3])
            assert all(signal.getsignal(number) is stop for number in numbers)
            right(first_use(k))
        errors = []
        def elsewhere():
            try:
                right(first_use(20))
            except BaseException as error:
                errors.append(error)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(120)
        assert not thread.is_alive() and not errors
        print(hit >= len(moments) - 2)
        """,
        setup=INTERRUPTED,
        NUMGRAPH_CACHE_DIR=str(tmp_path),
        NUMBA_CACHE_DIR=str(tmp_path / "numba"),
    )
    assert out == "True\n"
