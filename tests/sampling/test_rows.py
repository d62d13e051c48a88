"""Rows of mapped files: the same bits however many threads read them and whatever is kept in memory."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from scripts import run

import numgraph as ng
from numgraph.sampling import cold as cold_reads
from numgraph.sampling import rows
from numgraph.sampling.rows import rows_of

RNG = np.random.default_rng(0)
N = 700
IDS = RNG.integers(0, N, 1500).astype(np.int32)
SHAPES = [
    ((128,), np.float32),
    ((3,), np.float32),
    ((2, 5), np.float64),
    ((7,), np.uint8),
    ((), np.int16),
    ((0,), np.float32),
]


@pytest.fixture
def cold(monkeypatch):
    """Every page is one that the disk is waited for."""
    count = itertools.count(0, 1000)
    monkeypatch.setattr(cold_reads, "_waits", lambda: next(count))


def mapped(path, shape=(128,), dtype=np.float32, mode="r"):
    x = (RNG.standard_normal((N, *shape)) * 100).astype(dtype)
    np.save(path, x)
    return x, np.load(path, mmap_mode=mode)


@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
@pytest.mark.parametrize("kept", [0, 10_000, 1 << 30])
def test_cold_rows_are_those_of_the_file(shape, dtype, kept, tmp_path, cold):
    x, file = mapped(tmp_path / "x.npy", shape, dtype)
    take = rows.Rows(file, kept, lambda count: np.arange(N)[::-1][:count])
    take.keep()
    for ids in (IDS, IDS[:1], IDS[:0], IDS.astype(np.int64)):
        found = take(ids)
        np.testing.assert_array_equal(found, x[ids])
        assert found.dtype == x.dtype


@pytest.mark.parametrize(
    "part", [slice(None), slice(100, None), slice(0, 500), slice(None, None, 2)], ids=str
)
def test_parts_of_files_are_read_too(part, tmp_path, cold):
    x, file = mapped(tmp_path / "x.npy")
    ids = IDS[len(x[part]) > IDS]
    np.testing.assert_array_equal(rows_of(file[part], ids), x[part][ids])
    np.testing.assert_array_equal(rows_of(file[part].view(np.ndarray), ids), x[part][ids])


@pytest.mark.parametrize("waits", [lambda: 0, lambda: None], ids=["warm", "unknown"])
def test_warm_rows_and_systems_that_do_not_count(waits, tmp_path, monkeypatch):
    monkeypatch.setattr(cold_reads, "_waits", waits)
    x, file = mapped(tmp_path / "x.npy")
    np.testing.assert_array_equal(rows_of(file, IDS), x[IDS])


LIMITED = """
import pathlib, resource, tempfile
import numpy as np
from numgraph.sampling import cold, rows
with tempfile.TemporaryDirectory() as folder:
    x = np.random.default_rng(0).standard_normal((100_000, 4)).astype(np.float32)
    np.save(folder + "/x.npy", x)
    file = np.load(folder + "/x.npy", mmap_mode="r")
    ids = np.random.default_rng(1).permutation(len(x))
    rows.rows_of(file, ids[:9])
    count = iter(range(0, 10**9, 1000))
    cold._waits = lambda: next(count)
    before = int(pathlib.Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (before + (40 << 20), -1))  # room for a few stacks
    print(cold._readers() < 64, np.array_equal(rows.rows_of(file, ids), x[ids]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in another way there")
def test_a_limit_on_memory_makes_fewer_readers():
    assert run(LIMITED, setup="").split() == ["True", "True"]


def test_an_error_of_a_reader_is_raised(tmp_path, cold, monkeypatch):
    _, file = mapped(tmp_path / "x.npy")

    def fails(*args):
        if len(args[4]):  # the order of readers
            raise MemoryError("no more")

    monkeypatch.setattr(rows, "_copy_mapped", fails)
    with pytest.raises(MemoryError, match="no more"):
        rows_of(file, IDS)


G = ng.Graph(RNG.integers(0, N, 4000) ** 2 // N, RNG.integers(0, N, 4000), N)


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("cache_bytes", [0, 40_000, 1 << 26])
def test_batches_do_not_depend_on_what_is_kept(cache_bytes, prefetch, tmp_path, cold):
    x, file = mapped(tmp_path / "x.npy")
    loader = ng.NeighborLoader(
        (G, {"x": file}), [4, 3], batch_size=100, shuffle=True, prefetch=prefetch, cache_bytes=cache_bytes
    )
    for _ in range(2):
        for batch in loader:
            np.testing.assert_array_equal(batch.x, x[batch.nodes])


@pytest.mark.parametrize("fanouts", [[3, 2], [-1]], ids=str)
def test_batches_of_a_graph_on_disk_do_not_depend_on_what_is_in_memory(fanouts, tmp_path, cold):
    data = ng.Dataset.from_arrays(G, RNG.standard_normal((N, 8)), np.arange(N) % 3)
    ng.data.save(tmp_path / "data", data)
    opened = ng.data.open_dataset(tmp_path / "data")
    for one, other in zip(
        *(ng.NeighborLoader(d, fanouts, batch_size=300, prefetch=0) for d in (data, opened)), strict=True
    ):
        for a, b in zip(
            [one.nodes, one.x, *one.edge_ids], [other.nodes, other.x, *other.edge_ids], strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_the_rows_of_the_nodes_with_the_most_out_edges_are_kept(tmp_path):
    x, file = mapped(tmp_path / "x.npy", mode="r+")
    falling = -np.sort(-G.out_degrees())
    count = 40 + int(np.flatnonzero(np.diff(falling[39:]))[0])  # with no others that have as many out-edges
    kept = np.argsort(-G.out_degrees(), kind="stable")[:count]
    loader = ng.NeighborLoader((G, {"x": file}), [-1], batch_size=N, cache_bytes=count * 512, prefetch=0)
    np.testing.assert_array_equal(next(iter(loader)).x, x)
    file[:] = 0  # what is read from now on
    found = next(iter(loader)).x
    np.testing.assert_array_equal(found[kept], x[kept])
    assert not found[np.setdiff1d(np.arange(N), kept)].any()


def test_a_bad_number_of_bytes():
    with pytest.raises(ValueError, match="cache_bytes"):
        ng.NeighborLoader((G, {}), [1], cache_bytes=-1)
