"""How the CUDA target hands a kernel its arguments, with a driver that only writes down what it is asked."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import threading
import weakref
from types import SimpleNamespace

import device
import numpy as np
import pytest
import walks

from numgraph.arrays import cupy as cupy_arrays
from numgraph.arrays import devices
from numgraph.arrays.lookup import CUPY
from numgraph.compiler.driver import make_plan
from numgraph.compiler.target import Request
from numgraph.expressions.walk import Output
from numgraph.message.fields import traced

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="numba-cuda is not installed (pip install 'numgraph[dev]')",
)

G = walks.graph()


class Array(np.ndarray):
    """A NumPy array that gives its address as CuPy's arrays do."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.__array_interface__["data"][0])


def placed(shape, dtype=np.float32, at=0):
    """An array at an address that is ``at`` bytes past a multiple of 256."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 512, np.uint8)
    start = -raw.__array_interface__["data"][0] % 256 + at
    return raw[start : start + size].view(dtype).reshape(shape).view(Array)


@pytest.fixture
def launches(monkeypatch):
    """What the driver is asked: the function, blocks, threads, stream, and a reader of so many arguments."""
    from numgraph.compiler.cuda import launching

    found, thread = [], threading.local()

    def launch(function, *numbers):
        assert len(numbers) == 10
        assert vars(thread) == {"entered": True}, (
            "a thread has no context before its first call of the runtime"
        )
        pointers = ctypes.cast(numbers[8], ctypes.POINTER(ctypes.POINTER(ctypes.c_int64)))
        words = [pointers[i][0] for i in range(function[1])]
        found.append(
            SimpleNamespace(
                text=function[0], grid=numbers[:3], block=numbers[3:6], stream=numbers[7], words=words
            )
        )

    driver = SimpleNamespace(launchKernel=launch)
    runtime = SimpleNamespace(getDevice=lambda: 3, memGetInfo=lambda: setattr(thread, "entered", True))
    cuda = SimpleNamespace(driver=driver, runtime=runtime, get_current_stream=lambda: SimpleNamespace(ptr=77))
    monkeypatch.setattr(cupy_arrays, "module", lambda: SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(launching, "_THREAD", launching._Thread())
    monkeypatch.setattr(
        launching, "_function", lambda text, words, device: SimpleNamespace(ptr=(text, words))
    )
    return found


def kernel_of(function, **fields):
    from numgraph.compiler.cuda.running import TARGET

    roots, _ = traced("test", G, (function,), *[fields.get(target) for target in "uve"])
    plan = make_plan(TARGET, (Output(tuple(roots), "v", "sum"),), (Request("v", "int32", False),), False)
    return plan.kernels[0]


def start(kernel, x, out, count=1000):
    """Launch a kernel of one field; the words of its argument block by slot."""
    from numgraph.compiler.cuda.launching import launch_of, start

    ids = placed((4 * count,), np.int32)
    launch = launch_of(kernel, count, lambda _: ids, {"u": len(x), 0: len(out)})
    start(launch, {("u", "x"): x}, {(0, 0): out})
    return ids


@pytest.mark.parametrize(("width", "threads"), [(1, 1), (12, 4), (64, 16), (500, 32)])
def test_blocks_addresses_and_numbers(launches, width, threads):
    kernel = kernel_of(lambda u: u.x, u={"x": np.zeros((G.num_src, width), np.float32)})
    assert kernel.shape.threads == threads
    x, out = placed((G.num_src, width)), placed((G.num_dst, width))
    ids = start(kernel, x, out)
    (made,) = launches
    assert (made.text, made.stream) == (kernel.text, 77)
    assert made.block == (128, 1, 1)
    assert made.grid == (-(-1000 * threads // 128), 1, 1)
    words = dict(zip(kernel.slots, kernel.offsets, strict=True))
    for slot, offset in words.items():
        array = {"ids": ids, "field": x, "out": out}.get(slot[0])
        if array is None:
            assert made.words[offset] == {"count": 1000, "size": width}[slot[0]]
        elif slot[0] == "ids":
            assert made.words[offset : offset + 2] == [ids.data.ptr, 4000]
        else:
            assert made.words[offset : offset + 3] == [array.data.ptr, len(array), 4 * width]


def test_rows_that_vectors_cannot_read_are_copied(launches):
    """Vectors of four floats are read at multiples of 16 bytes alone: the start and the step from row to
    row.
    """
    kernel = kernel_of(lambda u: u.x, u={"x": np.zeros((G.num_src, 8), np.float32)})
    (offset,) = [
        offset for (kind, _), offset in zip(kernel.slots, kernel.offsets, strict=True) if kind == "field"
    ]
    out = placed((G.num_dst, 8))
    whole, wide = placed((G.num_src, 12)), placed((G.num_src, 9))
    given = {
        "as it is": placed((G.num_src, 8)),
        "rows apart": whole[:, :8],
        "starts at 4": placed((G.num_src, 8), at=4),
        "steps of 36": wide[:, :8],
    }
    for name, x in given.items():
        start(kernel, x, out)
        address, rows, stride = launches[-1].words[offset : offset + 3]
        assert rows == G.num_src
        assert address % 16 == stride % 16 == 0, name
        assert (address == x.data.ptr) == (name in ("as it is", "rows apart")), name


def test_every_thread_has_a_context(launches):
    kernel = kernel_of(lambda u: u.x, u={"x": np.zeros((G.num_src, 8), np.float32)})
    x, out = placed((G.num_src, 8)), placed((G.num_dst, 8))
    for _ in range(2):
        thread = threading.Thread(target=lambda: [start(kernel, x, out), start(kernel, x, out)])
        thread.start()
        thread.join()
    assert len(launches) == 4


def test_a_field_without_rows(launches):
    kernel = kernel_of(lambda u: u.x, u={"x": np.zeros((G.num_src, 8), np.float32)})
    start(kernel, placed((3, 9))[:0, 1:], placed((G.num_dst, 8)))
    assert len(launches) == 1


def test_no_tasks_no_launch(launches):
    kernel = kernel_of(lambda u: u.x, u={"x": np.zeros((G.num_src, 8), np.float32)})
    start(kernel, placed((G.num_src, 8)), placed((G.num_dst, 8)), count=0)
    assert not launches


@pytest.mark.parametrize("layout", ["Fortran", "every other feature", "backwards", "one axis", "shared"])
def test_operands_have_contiguous_features(layout):
    from numgraph.compiler.cuda.launching import in_rows

    x = np.arange(60.0, dtype=np.float32).reshape(6, 10).view(Array)
    given = {
        "Fortran": np.asfortranarray(x).view(Array),
        "every other feature": x[:, ::2],
        "backwards": x[::-1],
        "one axis": x[:, 3],
    }
    array = given.get(layout, x)
    rows = 1 if layout == "shared" else 6
    features = array.size // rows
    made, stride = in_rows(array, layout == "shared", 4 * features)
    seen = np.lib.stride_tricks.as_strided(np.asarray(made), (rows, features), (stride, 4))
    np.testing.assert_array_equal(seen, np.asarray(array).reshape(rows, features))
    assert (made is array) == (layout in ("backwards", "one axis", "shared"))


@device.double_only
def test_what_is_prepared_lives_as_long_as_the_graph_on_the_device(monkeypatch):
    """Kernels of a second copy of a graph are given that copy's arrays, and nothing holds the first one's."""
    from numgraph.compiler.cuda import launching, running, tasks

    found, made = [], device.library()
    monkeypatch.setattr(cupy_arrays, "module", lambda: made)
    monkeypatch.setattr(CUPY, "kinds", {device.DeviceArray})
    monkeypatch.setattr(devices, "_problem", lambda: None)
    monkeypatch.setattr(tasks, "CHUNK", 6)
    monkeypatch.setattr(launching, "run", lambda kernel, words, count: found.append((kernel, words)))
    roots, _ = traced("test", G, (lambda u: u.x,), {"x": np.zeros((G.num_src, 8), np.float32)}, None, None)
    fields = {("u", "x"): device.asarray(np.zeros((G.num_src, 8), np.float32))}
    for reduce in ("sum", "max"):
        arrays = []
        for _ in range(2):
            there = G.to("cuda")
            for _ in range(2):
                found.clear()
                running.execute(there, (Output(tuple(roots), "v", reduce),), fields)
                kernel, words = found[0]
                assert len(found) == {"sum": 2, "max": 3}[reduce]
                at = kernel.offsets[kernel.slots.index(("ids", "indices"))]
                assert words[at] == there.in_edges.indices.data.ptr
            arrays.append(weakref.ref(there.in_edges.indices))
            del there
            gc.collect()
            assert arrays[-1]() is None
