"""Graphs and arrays on a device: what moves, what is remembered, what is said where there is none. The device
is support/device.py's.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from device import FUNCTIONS, TITLE, DeviceArray, asarray, device, double_only

from numgraph.arrays import cupy as cupy_arrays
from numgraph.arrays import devices
from numgraph.autodiff.tape import Tensor
from numgraph.graph import Graph
from numgraph.message import update_all

__all__ = ["device"]

G = Graph([0, 2, 1, 1, 3], [1, 0, 2, 0, 3], 4)
B = Graph([0, 1, 2], [1, 1, 0], num_src=3, num_dst=2)


def parts_of(g):
    """Every array of a graph."""
    yield from (g.src, g.dst, g.in_degrees(), g.out_degrees())
    for rows in (g.in_edges, g.out_edges):
        yield from (rows.indptr, rows.indices, rows.edge_ids)


@pytest.mark.parametrize(
    "g", [G, B, Graph.from_csc([0, 1, 3], [0, 1, 0], num_src=2), Graph([], [], 3)], ids=repr
)
def test_a_graph_on_the_device_has_the_same_arrays_there(device, g):
    there = g.to("cuda")
    assert (g.device, there.device) == ("cpu", "cuda")
    assert (there.num_src, there.num_dst, there.num_edges) == (g.num_src, g.num_dst, g.num_edges)
    for ours, theirs in zip(parts_of(g), parts_of(there), strict=True):
        assert type(theirs) is DeviceArray
        assert theirs.dtype == ours.dtype
        np.testing.assert_array_equal(theirs.get(), ours)
    assert there.in_edges.ordered == g.in_edges.ordered
    assert there.in_edges.host is g.in_edges
    assert g.in_edges.host is g.in_edges


def test_both_are_remembered(device):
    g = Graph([0, 1], [1, 2])
    there = g.to("cuda")
    assert g.to("cpu") is g
    assert there.to("cuda") is there is g.to("cuda")
    assert there.to("cpu") is g
    assert there.in_edges is there.in_edges
    assert there.src is there.src
    assert there.in_edges.edge_ids is there.in_edges.edge_ids


def test_a_reversed_graph_shares_its_arrays_on_the_device_too(device):
    there = G.to("cuda")
    assert there.reverse().in_edges is there.out_edges
    assert G.reverse().to("cuda").in_edges is there.out_edges
    back = there.reverse().to("cpu")
    assert back.device == "cpu"
    assert back.in_edges is G.out_edges


def test_the_copy_goes_with_its_last_graph(device):
    g = Graph([0, 1], [1, 2])
    there = g.to("cuda")
    rows, graph = weakref.ref(there.in_edges.indptr), weakref.ref(there)
    del there
    assert rows() is None
    assert graph() is None
    assert g.to("cuda").to("cpu") is g


def test_threads_get_one_copy(device):
    g = Graph(np.arange(1000) % 7, np.arange(1000) % 5, 7)
    found, gate = [], threading.Barrier(8)

    def ask():
        gate.wait()
        found.append((g.to("cuda"), g.to("cuda").in_edges.indices))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(graph) for graph, _ in found}) == 1
    assert len({id(indices) for _, indices in found}) == 1


@pytest.mark.parametrize("name", ["add_self_loops", "remove_self_loops", "coalesce", "to_bidirected"])
def test_transforms_stay_on_the_device(device, name):
    there = getattr(G.to("cuda"), name)()
    assert there.device == "cuda"
    for ours, theirs in zip(parts_of(getattr(G, name)()), parts_of(there), strict=True):
        np.testing.assert_array_equal(theirs.get(), ours)


def test_reorder_and_subgraph_on_the_device(device):
    there, permutation = G.to("cuda").reorder(method="rcm")
    want, order = G.reorder("rcm")
    assert (there.device, type(permutation)) == ("cuda", DeviceArray)
    np.testing.assert_array_equal(permutation.get(), order)
    np.testing.assert_array_equal(there.src.get(), want.src)
    sub = G.to("cuda").subgraph([1, 0])
    np.testing.assert_array_equal(sub.dst.get(), G.subgraph([1, 0]).dst)
    with pytest.raises(
        TypeError,
        match=r"Graph.subgraph: nodes is on cuda; ids are checked and sorted on the host: give nodes.get\(\)",
    ):
        G.subgraph(asarray([0, 1]))


def test_pickle_and_repr_keep_the_device(device):
    there = pickle.loads(pickle.dumps(G.to("cuda")))
    assert there.device == "cuda"
    np.testing.assert_array_equal(there.dst.get(), G.dst)
    assert repr(there) == "Graph(num_nodes=4, num_edges=5, device='cuda')"
    assert repr(there.to("cpu")) == "Graph(num_nodes=4, num_edges=5)"


def test_unknown_devices():
    for name in ("gpu", "cuda:1", None):
        with pytest.raises(ValueError, match=r"Graph.to: unknown device .*; choose from 'cpu', 'cuda'"):
            G.to(name)


class Missing:
    """A CuPy that imports, and fails where the driver does."""

    def __init__(self, text):
        self.cuda = self.runtime = self
        self.text = text

    def getDeviceCount(self):
        if self.text is None:
            return 0
        raise RuntimeError(self.text)


MISSING = [
    (("cupy",), None, ModuleNotFoundError, r"CuPy is not installed; pip install 'numgraph\[cuda\]'"),
    (
        ("numba_cuda",),
        None,
        ModuleNotFoundError,
        r"numba-cuda is not installed; pip install 'numgraph\[cuda\]'",
    ),
    (
        (),
        "cudaErrorInsufficientDriver: CUDA driver version",
        OSError,
        r"no usable NVIDIA driver: cudaErrorInsufficientDriver.*nvidia-smi",
    ),
    (
        (),
        "cudaErrorNoDevice: no CUDA-capable device",
        OSError,
        r"the NVIDIA driver finds no device; .*CUDA_VISIBLE_DEVICES",
    ),
    ((), None, OSError, r"the NVIDIA driver finds no device; .*CUDA_VISIBLE_DEVICES"),
]


@double_only
@pytest.mark.parametrize(
    ("absent", "said", "kind", "text"), MISSING, ids=["cupy", "numba-cuda", "driver", "device", "count"]
)
def test_what_is_missing_is_said(monkeypatch, absent, said, kind, text):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else object())
    monkeypatch.setattr(cupy_arrays, "module", lambda: Missing(said))
    with pytest.raises(kind, match=rf"Graph.to: 'cuda' cannot be used, {text}"):
        G.to("cuda")
    problem = devices.problem()
    assert problem is not None
    with pytest.raises(kind, match=re.escape(problem.split(" (")[0])):
        G.to("cuda")


def test_import_and_host_graphs_load_no_device_library():
    code = (
        "import sys, numgraph as ng; ng.Graph([0], [1]).to('cpu')\n"
        "print([name for name in sys.modules if name.startswith(('cupy', 'numba_cuda', 'numba.cuda'))])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        ).stdout.strip()
        == "[]"
    )


class Foreign:
    """As torch's tensors: the type has the attribute, and those on the host raise at it."""

    dtype = np.dtype(np.float32)

    def __init__(self, host, on_device):
        self.host, self.on_device, self.shape = host, on_device, host.shape

    @property
    def __cuda_array_interface__(self):
        if not self.on_device:
            raise AttributeError("a tensor of the host")
        return {"shape": self.shape}


@double_only
def test_arrays_of_other_libraries_are_seen_where_they_are(device, monkeypatch):
    monkeypatch.setattr(
        device, "asarray", lambda x: DeviceArray(x.host) if isinstance(x, Foreign) else asarray(x)
    )
    x = np.ones((4, 2), np.float32)
    there, here = Foreign(x, True), Foreign(x, False)
    assert [devices.device_of(a) for a in (there, here, there, x, [1], 2.0, None)] == [
        "cuda",
        "cpu",
        "cuda",
        *["cpu"] * 4,
    ]
    assert type(devices.adopted(there)) is DeviceArray
    assert devices.adopted(here) is here
    assert type(Tensor(there).data) is DeviceArray
    z = update_all(G.to("cuda"), lambda u: u.x, "sum", u={"x": there})
    np.testing.assert_array_equal(z.get(), update_all(G, lambda u: u.x, "sum", u={"x": x}))


def test_a_device_array_without_cupy_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"cuda: arrays on a CUDA device need CuPy, which is not installed; pip install",
    ):
        devices.device_of(Foreign(np.ones(1), True))


# Atomic additions, on request


def test_atomics_hold_within_the_block_and_the_thread():
    assert not devices.ATOMICS.get()
    elsewhere = []
    with devices.atomics():
        other = threading.Thread(target=lambda: elsewhere.append(devices.ATOMICS.get()))
        other.start()
        other.join()
        with pytest.raises(ZeroDivisionError):
            devices.atomics()(lambda: 1 / 0)()
        assert devices.ATOMICS.get()
    assert elsewhere == [False]
    assert not devices.ATOMICS.get()


def test_atomics_change_nothing_on_the_host():
    x = np.random.default_rng(0).standard_normal((500, 3))
    g = Graph(np.arange(500), np.zeros(500, int), num_src=500, num_dst=1)
    want = update_all(g, lambda u: u.x, "sum", u={"x": x})
    with devices.atomics():
        np.testing.assert_array_equal(update_all(g, lambda u: u.x, "sum", u={"x": x}), want)


# The double itself


@double_only
def test_the_double_refuses_what_cupy_refuses(device):
    x = asarray(np.ones((2, 3)))
    for wrong in (
        lambda: np.asarray(x),
        lambda: x + np.ones(3),
        lambda: np.ones(3) * x,
        lambda: np.concatenate([x, np.ones((2, 3))]),
        lambda: np.where(np.ones(3) > 0, x, 0),
        lambda: np.add(x, 1, where=True),
        lambda: np.matmul(np.ones((2, 2)), x),
        lambda: x[np.array([0, 1])],
        lambda: np.sum(x, axis=0, where=True),
        lambda: np.array_equal(x, np.ones((2, 3))),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(NotImplementedError):
        np.maximum.reduce(x)
    assert not hasattr(x.flags, "writeable")
    assert type(np.sum(x)) is DeviceArray
    assert type(x.sum()) is DeviceArray


def test_the_table_of_the_double_is_cupys():
    cupy = pytest.importorskip(
        "cupy",
        reason="CuPy is not installed: its functions cannot be compared with tests/support/cupy_api.txt",
    )
    import inspect

    written = TITLE.removeprefix("# CuPy ").partition(":")[0]
    if cupy.__version__ != written:
        pytest.skip(f"tests/support/cupy_api.txt is of CuPy {written}, here is {cupy.__version__}")
    for name, signature in FUNCTIONS.items():
        if name != "size":  # compiled, without a signature
            assert list(inspect.signature(getattr(cupy, name)).parameters) == list(signature.parameters), name
