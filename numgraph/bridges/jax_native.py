"""A handler for XLA without Python: walks are programs of numbers that compiled code plays on XLA's buffers.
Small ones, which one thread runs, need nothing else; for larger ones Python's handler opens the gate to the
pool of threads.

A walk has its handle and its slot in XLA's program. A slot has three words: the handle whose walk it is,
where that walk's numbers are, and how many threads are at it. Whoever finds another handle there leaves the
frame to Python's handler; whoever frees a slot waits for the threads in it, so none reads what is gone, even
where XLA runs in the background what Python has let go of."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from numgraph.compiler.cpu.programs import Program, length, play, play_on_threads, word
from numgraph.runtime import threads
from numgraph.runtime.compiling import njit, undisturbed

SLOTS = 4096
_TABLE = np.zeros((SLOTS, 3), np.int64)
_free = list(range(SLOTS - 1, -1, -1))
_lock = threading.Lock()
_WORD = ir.IntType(64)


@intrinsic
def _add(typingctx: Any, address: Any, number: Any) -> Any:
    """Add to the int64 at an address, in one order for all threads; what was there before."""

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return builder.atomic_rmw(
            "add", builder.inttoptr(values[0], _WORD.as_pointer()), values[1], "seq_cst"
        )

    return types.int64(types.int64, types.int64), codegen


@njit()
def _add_at(address, number):
    return _add(address, number)


@njit()
def _table(program, frame):
    """The addresses of a call frame's fields and results, as a program takes them."""
    fields, results = word(frame + 56), word(frame + 96)
    table = np.empty(length(program), np.int64)
    for i in range(fields):
        table[i] = word(word(word(frame + 72) + 8 * i) + 24)
    for i in range(results):
        table[fields + i] = word(word(word(frame + 112) + 8 * i) + 24)
    return table


@njit()
def _on_one(program, frame):
    play(program, _table(program, frame))


@njit()
def _on_threads(program, frame):
    play_on_threads(program, _table(program, frame))


def run(program: Program, frame: int) -> None:
    """A program on the memory of a call frame, by threads where they are free."""
    threads.run(_on_threads, _on_one, program.address, frame, work=program.work)


@njit()
def _played(frame, table, slots):
    """Whether the walk of a call frame (see jax_ffi) was run here."""
    if word(frame + 8) != 0:
        return False
    attributes = word(frame + 160)
    handle, slot = word(word(word(attributes) + 8)), word(word(word(attributes + 8) + 8))
    if slot < 0 or slot >= slots:
        return False
    place = table + 24 * slot
    _add(place + 16, 1)
    mine = _add(place, 0) == handle
    if mine:
        _on_one(word(place + 8), frame)
    _add(place + 16, -1)
    return mine


def handler(python: Any) -> Any:
    """The compiled handler, which leaves other frames to Python's; Python's itself where nothing is compiled.
    XLA calls it by its address, so it has to be kept."""
    if numba.config.DISABLE_JIT:
        return python
    table = _TABLE.ctypes.data

    def handle(frame):
        if _played(frame, table, SLOTS):
            return 0
        return python(frame)

    with undisturbed():
        return numba.cfunc(types.intp(types.intp))(handle)


def place(owner: Any, handle: int, program: Program) -> int:
    """A slot for a program as long as its owner lives; −1 if it takes threads, or there is none left."""
    with _lock:
        slot = _free.pop() if _free and program.work < threads.SMALL else -1
    if slot >= 0:
        _TABLE[slot, 1] = program.address
        _add_at(_address(slot, 0), handle)  # from 0: whoever sees it sees the address too
        weakref.finalize(owner, _leave, slot, handle, program).atexit = False
    return slot


def _leave(slot: int, handle: int, program: Program) -> None:
    _add_at(_address(slot, 0), -handle)
    while _add_at(_address(slot, 2), 0):
        time.sleep(0)
    _free.append(slot)


def _address(slot: int, word: int) -> int:
    return int(_TABLE.ctypes.data + 8 * (3 * slot + word))
