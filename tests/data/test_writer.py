"""GraphWriter: pieces of any size make the folder that the whole makes, in memory for the nodes; a failure
leaves nothing half made.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os

import numpy as np
import pytest
from scripts import run

import numgraph as ng
from numgraph.data import writer
from numgraph.graph import external
from numgraph.runtime.mapping import mapping_of

RNG = np.random.default_rng(1)
N, E, F = 40, 300, 4
SRC, DST = RNG.integers(0, N - 3, E), RNG.integers(0, N - 3, E)
DST[:90] = 7  # a row longer than a bucket
X = RNG.standard_normal((N, F)).astype(np.float32)
W, TIME = RNG.random(E).astype(np.float32), RNG.integers(0, 9, (E, 2)).astype(np.int16)
LABELS = RNG.integers(-1, 3, N)
BY_DST, BY_SRC = np.argsort(DST, kind="stable"), np.argsort(SRC, kind="stable")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A disk that says that it is done: what it keeps after a crash of the machine is not tested here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def pieces(count, size):
    return [slice(first, first + size) for first in range(0, count, size)]


def write(path, size=70, order=slice(None), num_nodes=N, **options):
    with ng.data.GraphWriter(path, num_nodes, **options) as made:
        for part in pieces(E, size):
            made.add_edges(SRC[order][part], DST[order][part], W[order][part], time=TIME[order][part])
        for part in pieces(N, 9):
            made.add_features(X[part])
        made.set_labels(LABELS, rng=3)
    return path


@pytest.mark.parametrize("bucket", [1, 16, 1000])
@pytest.mark.parametrize("size", [1, 70, 1000])
@pytest.mark.parametrize(
    "order", [slice(None), BY_DST, BY_SRC], ids=["as it comes", "by destination", "by source"]
)
def test_pieces_make_what_the_whole_makes(tmp_path, order, size, bucket, monkeypatch):
    monkeypatch.setattr(writer, "BUCKET_EDGES", bucket)
    monkeypatch.setattr(
        external, "bucket_rows", lambda indptr, most, plain=external.bucket_rows: plain(indptr, bucket)
    )
    write(tmp_path / "pieces", size, order)
    whole = ng.Dataset.from_arrays(
        ng.Graph(SRC[order], DST[order], N), X, LABELS, rng=3, edge_weight=W[order], name="graph"
    )
    ng.data.save(tmp_path / "whole", whole)
    opened = ng.data.open_dataset(tmp_path / "pieces", verify="full")
    np.testing.assert_array_equal(opened.edge_data["time"], TIME[order])
    for path in (tmp_path / "whole").glob("*.npy"):
        assert (tmp_path / "pieces" / path.name).read_bytes() == path.read_bytes(), path.name
    assert {path.name for path in (tmp_path / "pieces").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    } | {"edge_data_time.npy"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("most", [1, 5, 300])
def test_buckets_are_whole_rows_of_so_many_edges(most):
    indptr = np.array([0, 0, 3, 3, 300, 301, 301, 303, 303])
    firsts = external.bucket_rows(indptr, most)
    assert firsts[0] == 0
    assert firsts[-1] == len(indptr) - 1
    assert (np.diff(firsts) > 0).all()
    assert all(indptr[b] - indptr[a] <= most or b == a + 1 for a, b in itertools.pairwise(firsts))


def test_numbers_of_nodes_follow_from_what_is_given(tmp_path):
    for name, x, y, count in (
        ("edges", None, None, N - 3),
        ("rows", X, None, N),
        ("labels", None, LABELS, N),
    ):
        with ng.data.GraphWriter(tmp_path / name) as made:
            made.add_edges([0, N - 4], [1, 1])
            made.add_edges([], [])
            if x is not None:
                made.add_features(x.astype(np.int8))
            if y is not None:
                made.set_labels(y)
        found = ng.data.open_dataset(tmp_path / name, verify="full")
        assert (found.num_nodes, found.num_features, found.graph.num_edges) == (
            count,
            F if x is not None else 0,
            2,
        )
        assert found.features.dtype == np.float32
        assert not found.train_mask.any() or y is not None
    with ng.data.GraphWriter(tmp_path / "empty"):
        pass
    assert ng.data.open_dataset(tmp_path / "empty", verify="full").num_nodes == 0


BAD = {
    "lengths": (lambda w: w.add_edges([0, 1], [1]), ValueError, "src has 2 entries and dst has 1"),
    "an id": (lambda w: w.add_edges([0, 1], [1, N]), IndexError, r"dst\[1\] is 40, num_nodes is 40"),
    "a negative id": (lambda w: w.add_edges([0, -1], [1, 2]), IndexError, r"src\[1\] is -1"),
    "fractions": (lambda w: w.add_edges([0.5], [1]), TypeError, "ids must be integers"),
    "weights": (lambda w: w.add_edges([0], [1], [1.0, 2.0]), ValueError, r"weight has shape \[2\]"),
    "NaN": (lambda w: w.add_edges([0], [1], [np.nan]), ValueError, r"weight\[0\] is nan"),
    "other data": (
        lambda w: (w.add_edges([0], [1], time=[1]), w.add_edges([0], [1])),
        ValueError,
        "those of the pieces before",
    ),
    "other rows": (
        lambda w: (w.add_edges([0], [1], time=[1]), w.add_edges([0], [1], time=[[1]])),
        ValueError,
        "rows of shape",
    ),
    "wider data": (
        lambda w: (w.add_edges([0], [1], t=np.int8([1])), w.add_edges([0], [1], t=[1])),
        ValueError,
        "dtype int64",
    ),
    "text": (lambda w: w.add_edges([0], [1], t=["a"]), TypeError, "t has dtype <U1"),
    "axes": (lambda w: w.add_edges([0], [1], t=np.ones((1,) * 9)), TypeError, "at most 8 axes"),
    "a name": (lambda w: w.add_edges([0], [1], **{"../t": [1]}), ValueError, "no name of a file"),
    "a vector": (lambda w: w.add_features(X[:, 0]), TypeError, "features are real numbers"),
    "other widths": (lambda w: (w.add_features(X[:3]), w.add_features(X[3:, :2])), ValueError, "2 features"),
    "too many rows": (lambda w: (w.add_features(X), w.add_features(X[:1])), ValueError, "41 rows"),
    "too few rows": (lambda w: w.add_features(X[:3]), ValueError, "3 rows of features and 40 nodes"),
    "infinity": (lambda w: w.add_features(np.full((2, 2), np.inf)), ValueError, r"x\[0, 0\] is inf"),
    "labels": (lambda w: w.set_labels([0, 1]), ValueError, r"y has dtype int64 and shape \[2\]"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_is_an_error_and_leaves_nothing(what, tmp_path):
    use, kind, message = BAD[what]
    with pytest.raises(kind, match=message), ng.data.GraphWriter(tmp_path / "data", N) as made:
        use(made)
    assert not list(tmp_path.iterdir())


def test_a_piece_that_does_not_fit_leaves_no_part_of_it(tmp_path):
    with ng.data.GraphWriter(tmp_path / "data", N) as made:
        made.add_edges(SRC, DST, W)
        for bad in (
            lambda: made.add_edges([1], [N], [1.0]),
            lambda: made.add_edges([1], [1]),
            lambda: made.add_features(X[:0, 0]),
        ):
            with pytest.raises((IndexError, ValueError, TypeError)):
                bad()
    found = ng.data.open_dataset(tmp_path / "data", verify="full")
    np.testing.assert_array_equal(found.graph.src, SRC)
    np.testing.assert_array_equal(found.edge_weight, W)


def test_large_ids_need_the_number_of_nodes(tmp_path):
    with pytest.raises(IndexError, match="give num_nodes"), ng.data.GraphWriter(tmp_path / "data") as made:
        made.add_edges([2**31 - 2], [0])


@pytest.mark.parametrize("how", ["exception", "discard", "forgotten", "sorting"])
def test_a_failure_leaves_the_old_dataset(how, tmp_path, monkeypatch):
    path = write(tmp_path / "data")

    def fails(*args):
        raise KeyboardInterrupt

    with pytest.raises(FileExistsError, match="overwrite"):
        ng.data.GraphWriter(path)
    made = ng.data.GraphWriter(path, N, overwrite=True)
    made.add_edges(SRC[:5], DST[:5])
    assert len(list(tmp_path.iterdir())) == 2
    if how == "exception":
        with pytest.raises(KeyboardInterrupt), made:
            raise KeyboardInterrupt
    elif how == "discard":
        made.discard()
    elif how == "forgotten":
        del made
        gc.collect()
    else:
        monkeypatch.setattr(writer, "group_into", fails)
        with pytest.raises(KeyboardInterrupt):
            made.close()
    assert [one.name for one in tmp_path.iterdir()] == ["data"]
    assert ng.data.open_dataset(path, verify="full").graph.num_edges == E
    if how == "discard":
        with pytest.raises(ValueError, match="closed, or has failed"):
            made.add_edges([0], [1])
        with pytest.raises(ValueError, match="closed, or has failed"):
            made.close()


def test_a_writer_replaces_what_it_may(tmp_path):
    path = write(tmp_path / "data")
    with ng.data.GraphWriter(path, 3, overwrite=True) as made:
        made.add_edges([0], [2])
    assert ng.data.open_dataset(path).num_nodes == 3


FULL_DISK = """
import os, resource
import numpy as np, numgraph as ng
with ng.data.GraphWriter(os.environ["FOLDER"], 40) as writer:
    writer.add_edges(np.zeros(9, int), np.ones(9, int))
print(ng.data.open_dataset(os.environ["FOLDER"], verify="full").graph.num_edges)
for limit, use in ((6000, lambda writer: writer.add_features(np.ones((40, 40)))), (6000, lambda writer: None)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        with ng.data.GraphWriter(os.environ["FOLDER"], 40, overwrite=True) as writer:
            for _ in range(40):
                writer.add_edges(np.arange(40)[::-1], np.arange(40)[::-1])
            use(writer)
    except OSError as error:
        print(error.errno)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
"""


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_leaves_the_old_dataset(tmp_path):
    pytest.importorskip("resource", reason="no limits there")
    assert run(FULL_DISK, setup="", FOLDER=str(tmp_path / "data")).split() == [
        "9",
        str(errno.EFBIG),
        str(errno.EFBIG),
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["data"]
    assert mapping_of(ng.data.open_dataset(tmp_path / "data", verify="full").graph.src) is not None
