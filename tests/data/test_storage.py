"""Datasets on disk: what is opened is what was saved, bit for bit; other folders are errors, and no kernel
leaves its memory.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys

import numpy as np
import pytest
import scipy.sparse
from scripts import run

import numgraph as ng
from numgraph.data import npy, storage
from numgraph.runtime.mapping import mapping_of

RNG = np.random.default_rng(0)
N, E, F = 30, 150, 4
SRC, DST = RNG.integers(0, N, E), RNG.integers(0, N, E)
X = RNG.standard_normal((N, F)).astype(np.float32)
LABELS = RNG.integers(-1, 3, N)
ARRAYS = ("labels", "train_mask", "val_mask", "test_mask")
posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions and limits differ on Windows")


def made(src=SRC, dst=DST, x=X, y=LABELS, n=N, **options):
    return ng.Dataset.from_arrays(ng.Graph(src, dst, n), x, y, **options)


ORDER = np.argsort(DST, kind="stable")
KINDS = {
    "plain": made(),
    "sorted by destination": made(SRC[ORDER], DST[ORDER]),
    "sorted by source": made(SRC[np.argsort(SRC, kind="stable")], DST),
    "no edges": made([], []),
    "one node": made([0], [0], X[:1], [0], 1),
    "no features": made(x=X[:, :0]),
    "sparse": made(x=scipy.sparse.csr_matrix(X * (X > 0))),
    "weights": made(edge_weight=RNG.random(E)),
    "names": made(names=[f"node {i} é" * (i % 3) for i in range(N)]),
    "numbers": made(names=list(range(N))),
    "regression": made(y=RNG.standard_normal(N)),
    "names of classes": made(y=[["red", "", "blue"][i % 3] for i in range(N)]),
    "karate": ng.data.load("karate"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A disk that says that it is done: what it keeps after a crash of the machine is not tested here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def dense(x):
    return x.toarray() if scipy.sparse.issparse(x) else np.asarray(x)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "data"
    ng.data.save(folder, KINDS["plain"])
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "data")


def edit(folder, change):
    """graph.json with a change."""
    about = json.loads((folder / "graph.json").read_text())
    change(about)
    (folder / "graph.json").write_text(json.dumps(about))


def write(folder, name, array, honest=True):
    """Another array under a name; honest: graph.json says so."""
    np.save(folder / f"{name}.npy", array, allow_pickle=True)
    if honest:
        digest = npy.digest(folder / f"{name}.npy")
        entry = {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": digest}
        edit(folder, lambda about: about["arrays"].update({name: entry}))


def array(folder, name):
    return np.load(folder / f"{name}.npy")


# --- what is opened is what was saved ---


@pytest.mark.parametrize("verify", ["sizes", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_is_what_was_saved(kind, verify, tmp_path):
    data = KINDS[kind]
    ng.data.save(tmp_path / "data", data)
    found = ng.data.open_dataset(tmp_path / "data", verify=verify)
    for name in ("name", "task", "num_classes", "label_scale", "num_features", "columns"):
        assert getattr(found, name) == getattr(data, name), name
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(data, name))
        assert getattr(found, name).dtype == getattr(data, name).dtype
    np.testing.assert_array_equal(dense(found.features), dense(data.features))
    assert found.features.dtype == data.features.dtype
    assert found.names is None if data.names is None else list(found.names) == list(data.names)
    assert (found.edge_weight is None) == (data.edge_weight is None)
    if data.edge_weight is not None:
        np.testing.assert_array_equal(found.edge_weight, data.edge_weight)
    for g, h in ((found.graph, data.graph), (found.graph.reverse(), data.graph.reverse())):
        assert (g.num_nodes, g.num_edges) == (h.num_nodes, h.num_edges)
        for pair in (
            (g.src, h.src),
            (g.dst, h.dst),
            (g.in_degrees(), h.in_degrees()),
            (g.out_degrees(), h.out_degrees()),
        ):
            np.testing.assert_array_equal(*pair)
        for one in ("indptr", "indices", "edge_ids", "ordered"):
            np.testing.assert_array_equal(getattr(g.in_edges, one), getattr(h.in_edges, one))
            assert one == "ordered" or getattr(g.in_edges, one).dtype == getattr(h.in_edges, one).dtype


def test_edges_and_features_stay_on_disk(saved):
    data = ng.data.open_dataset(saved)
    for mapped in (data.features, data.graph.src, data.graph.in_edges.indices, data.graph.out_edges.edge_ids):
        assert mapping_of(mapped) is not None
        assert not mapped.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            mapped[:1] = 0
    assert mapping_of(data.graph.in_edges.indptr) is None
    for path in saved.glob("*.npy"):
        np.load(path, allow_pickle=False)
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            assert version == (1, 0)
            np.lib.format.read_array_header_1_0(file)
            assert file.tell() == 4096


def test_walks_gradients_and_samples_are_those_of_the_graph_in_memory(saved):
    data, opened = KINDS["plain"], ng.data.open_dataset(saved)
    results = []
    for one in (data, opened):
        with ng.Tape() as tape:
            x = tape.watch(np.asarray(one.features))
            z = ng.update_all(one.graph, lambda u, v: np.maximum(u.x, v.x), "sum", u={"x": x}, v={"x": x})
            (dx,) = tape.gradient((z * z).sum(), [x])
        batches = list(ng.NeighborLoader(one, [2, -1], batch_size=8, shuffle=True, seed=3))
        parts = [
            part
            for b in batches
            for part in (b.nodes, b.x, b.labels, *b.edge_ids, *(block.src for block in b.blocks))
        ]
        results.append([z.data, dx, *parts])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_dataset_that_was_opened_can_be_saved(copy, tmp_path):
    write(copy, "edge_data_time", np.arange(E, dtype=np.int16).reshape(E, 1))
    ng.data.save(tmp_path / "again", ng.data.open_dataset(copy))
    again = ng.data.open_dataset(tmp_path / "again", verify="full")
    np.testing.assert_array_equal(again.edge_data["time"][:, 0], np.arange(E))
    assert (tmp_path / "again" / "features.npy").read_bytes() == (copy / "features.npy").read_bytes()


# --- damaged, lying and foreign folders ---


def cut(folder, name, by=1):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-by])


def linked(folder):
    os.replace(folder / "features.npy", folder.parent / "elsewhere.npy")
    os.symlink(folder.parent / "elsewhere.npy", folder / "features.npy")


def text(folder, content):
    (folder / "graph.json").write_bytes(content)


def entry(name, **changes):
    return lambda folder: edit(folder, lambda about: about["arrays"][name].update(changes))


def says(**changes):
    return lambda folder: edit(folder, lambda about: about.update(changes))


def renamed(folder, name, other):
    edit(folder, lambda about: about["arrays"].update({other: about["arrays"].pop(name)}))


DAMAGE = {
    "a byte is missing": (lambda f: cut(f, "features.npy"), r"features.npy: .*bytes"),
    "the header is cut": (lambda f: cut(f, "src.npy", 4096 + 4 * E - 20), r"src.npy"),
    "an empty file": (lambda f: (f / "labels.npy").write_bytes(b""), r"labels.npy"),
    "bytes too many": (
        lambda f: (f / "src.npy").write_bytes((f / "src.npy").read_bytes() + b"more"),
        r"src.npy: .*bytes",
    ),
    "no such file": (lambda f: (f / "in_indices.npy").unlink(), r"in_indices.npy: FileNotFoundError"),
    "a folder for a file": (lambda f: ((f / "dst.npy").unlink(), (f / "dst.npy").mkdir()), r"dst.npy"),
    "another format": (
        lambda f: (f / "features.npy").write_bytes(b"PK" + bytes(4096 + 4 * N * F)),
        r"features.npy: .*magic",
    ),
    "a pickle": (
        lambda f: write(f, "features", np.array([[print] * F] * N, object), False),
        r"features.npy: .*dtype object",
    ),
    "another dtype": (
        lambda f: write(f, "features", X.astype(np.float64), False),
        r"features.npy: .*dtype float64.*float32",
    ),
    "the other byte order": (
        lambda f: write(f, "features", X.astype(">f4"), False),
        r"features.npy: .*dtype >f4",
    ),
    "another shape": (lambda f: write(f, "features", X.T.copy(), False), r"features.npy: .*shape \[4, 30\]"),
    "columns first": (
        lambda f: write(f, "features", np.asfortranarray(X), False),
        r"features.npy: .*Fortran",
    ),
    "a link": (linked, r"features.npy"),
    "no graph.json": (
        lambda f: (f / "graph.json").unlink(),
        r"no dataset of numgraph: there is no graph.json.*--task graph or read_tu",
    ),
    "no JSON": (lambda f: text(f, b"\x93NUMPY"), r"graph.json"),
    "half of it": (lambda f: cut(f, "graph.json", 200), r"graph.json: JSONDecodeError"),
    "no text": (lambda f: text(f, b"\xff\xfe{}"), r"graph.json: UnicodeDecodeError"),
    "a list": (lambda f: text(f, b"[1, 2]"), "format"),
    "deep": (lambda f: text(f, b"[" * 300_000 + b"]" * 300_000), "graph.json: RecursionError"),
    "long": (lambda f: text(f, b" " * (2 << 20)), "larger than"),
    "another's": (lambda f: text(f, b'{"nodes": [], "links": []}'), 'does not say "format"'),
    "a name twice": (
        lambda f: text(f, (f / "graph.json").read_bytes().replace(b"{", b'{"name": "x",', 1)),
        "twice",
    ),
    "a later version": (says(version=2), "version 2"),
    "true for a version": (says(version=True), "version True"),
    "an entry more": (says(extra=1), "unknown entry 'extra'"),
    "an entry less": (lambda f: edit(f, lambda about: about.pop("num_edges")), "no 'num_edges'"),
    "NaN": (
        lambda f: text(f, (f / "graph.json").read_bytes().replace(b'"num_edges": 150', b'"num_edges": NaN')),
        "NaN",
    ),
    "infinity": (
        lambda f: text(
            f, (f / "graph.json").read_bytes().replace(b'"num_edges": 150', b'"num_edges": 1e999')
        ),
        "num_edges is inf",
    ),
    "a fraction": (says(num_edges=150.0), r"num_edges is 150.0"),
    "text for a number": (says(num_edges="150"), "num_edges is '150'"),
    "below zero": (says(num_nodes=-1), "num_nodes is -1"),
    "huge": (says(num_nodes=2**64), "num_nodes is"),
    "too many digits": (
        lambda f: text(f, (f / "graph.json").read_bytes().replace(b": 150,", b": 1" + b"0" * 9999 + b",")),
        "graph.json",
    ),
    "more nodes": (says(num_nodes=N + 1), "does not fit num_nodes 31"),
    "fewer edges": (says(num_edges=E - 1), "does not fit"),
    "other features": (says(num_features=F + 1), "does not fit"),
    "an unknown task": (says(task="link"), "task is 'link'"),
    "labels of another task": (says(task="regression"), "labels"),
    "a name that is none": (says(name=["x"]), "name is"),
    "a scale of one": (says(label_scale=[1.0]), "label_scale"),
    "a scale of text": (says(label_scale=["0", "1"]), "label_scale"),
    "a scale past floats": (says(label_scale=[0, 10**400]), "OverflowError"),
    "arrays in a list": (says(arrays=[]), "arrays is"),
    "no arrays": (says(arrays={}), "no array dst"),
    "an array less": (
        lambda f: edit(f, lambda about: about["arrays"].pop("in_edge_ids")),
        "no array in_edge_ids",
    ),
    "an array of no dataset": (lambda f: renamed(f, "features", "x"), "array 'x'"),
    "a path upwards": (lambda f: renamed(f, "features", "../elsewhere"), r"array '\.\./elsewhere'"),
    "an absolute path": (lambda f: renamed(f, "features", "/etc/passwd"), "array '/etc/passwd'"),
    "edge data upwards": (lambda f: renamed(f, "features", "edge_data_../../x"), "array 'edge_data_"),
    "objects": (entry("features", dtype="|O8"), "features"),
    "a dtype that is none": (entry("features", dtype="<q7"), "features"),
    "a record": (entry("features", dtype="f4,f4"), "features"),
    "no dtype": (entry("features", dtype=None), "features"),
    "a lie on the dtype": (entry("features", dtype="<f8"), "features.npy: .*dtype float32"),
    "a lie on the shape": (entry("features", shape=[N, F, 1]), "features"),
    "a shape below zero": (entry("features", shape=[N, -F]), "features"),
    "a shape of text": (entry("features", shape="30"), "features"),
    "a shape past memory": (entry("edge_weight", shape=[2**40, 2**40]), "edge_weight"),
    "numbers in no order": (lambda f: write(f, "in_indptr", array(f, "in_indptr")[::-1].copy()), "in_indptr"),
    "a falling row start": (
        lambda f: write(f, "out_indptr", swapped(array(f, "out_indptr"))),
        "out_indptr.npy falls from",
    ),
    "a mask of other bytes": (
        lambda f: write(f, "val_mask", np.full(N, 2, np.uint8).view(bool)),
        "val_mask.npy has bytes",
    ),
    "a label past the classes": (lambda f: write(f, "labels", np.full(N, 3)), "label 3"),
    "names that fall": (
        lambda f: (
            write(f, "names_text", np.zeros(1, np.uint8)),
            write(f, "names_ends", np.arange(N)[::-1].copy()),
        ),
        "names",
    ),
    "no columns": (lambda f: write(f, "columns", np.frombuffer(b'{"inputs": 3}', np.uint8)), "damaged"),
}


def swapped(starts):
    i = int(np.flatnonzero(np.diff(starts))[3])
    starts[i], starts[i + 1] = starts[i + 1], starts[i]
    return starts


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_an_error_that_names_the_file(what, copy):
    harm, message = DAMAGE[what]
    if "edge_weight" in message:
        write(copy, "edge_weight", np.ones(E, np.float32))
    harm(copy)
    with pytest.raises(ValueError, match=message) as caught:
        ng.data.open_dataset(copy)
    assert str(copy) in str(caught.value)


def spoilt(name, position, value):
    def harm(folder):
        ids = array(folder, name)
        ids[position] = value
        write(folder, name, ids)

    return harm


OUTSIDE = {
    "src": (spoilt("src", 7, N), r"src.npy has 30 at position 7, num_nodes is 30"),
    "dst": (spoilt("dst", E - 1, -1), r"dst.npy has -1 at position 149"),
    "sources": (spoilt("in_indices", 0, 2**31 - 1), r"in_indices.npy has 2147483647 at position 0"),
    "destinations": (spoilt("out_indices", 3, -(2**31)), r"out_indices.npy has -2147483648 at position 3"),
    "in-edges' ids": (
        spoilt("in_edge_ids", 5, E),
        r"in_edge_ids.npy has 150 at position 5, num_edges is 150",
    ),
    "out-edges' ids": (spoilt("out_edge_ids", 5, -7), r"out_edge_ids.npy has -7 at position 5"),
}
FULL = {
    "another byte": (lambda f: flipped(f / "features.npy"), r"features.npy is not what was written"),
    "another hash": (entry("labels", sha256="0" * 64), r"labels.npy is not what was written"),
    "another source": (
        spoilt("in_indices", slice(None), 0),
        r"in_indptr, in_indices and in_edge_ids does not agree",
    ),
    "an edge twice": (
        spoilt("out_edge_ids", slice(0, 2), 0),
        r"out_indptr, out_indices and out_edge_ids does not agree",
    ),
    "other rows": (lambda f: write(f, "in_indptr", np.repeat([0, E], [1, N])), r"position \d+ of in_indptr"),
    **OUTSIDE,
}


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("what", FULL)
def test_a_full_check_reads_what_is_in_the_files(what, copy):
    harm, message = FULL[what]
    harm(copy)
    ng.data.open_dataset(copy)
    with pytest.raises((ValueError, IndexError), match=message):
        ng.data.open_dataset(copy, verify="full")


def walk(g):
    return ng.update_all(g, lambda u: u.x, "sum", u={"x": X})


def links(g):
    return next(iter(ng.LinkLoader((g, {"x": X}), [-1], negatives=0, batch_size=E, prefetch=0)))


def edge_walk(g):
    return ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": X}, e={"w": np.ones((E, 1), np.float32)})


USES = {
    "src": [lambda g: g.src, lambda g: g.add_self_loops(), lambda g: g.reverse().dst],
    "dst": [lambda g: g.dst, lambda g: ng.apply_edges(g, lambda u, v: u.x + v.x, u={"x": X}, v={"x": X})],
    "sources": [
        walk,
        lambda g: g.in_edges,
        lambda g: ng.sampling.NeighborSampler([-1]).sample(g, range(N)),
        links,
    ],
    "destinations": [lambda g: walk(g.reverse()), lambda g: g.out_edges],
    "in-edges' ids": [edge_walk, lambda g: ng.sampling.NeighborSampler([-1]).sample(g, range(N)).edge_ids],
    "out-edges' ids": [lambda g: edge_walk(g.reverse())],
}


@pytest.mark.parametrize(("what", "use"), [(what, i) for what in USES for i in range(len(USES[what]))])
def test_no_id_is_used_before_it_is_checked(what, use, copy):
    harm, message = OUTSIDE[what]
    harm(copy)
    g = ng.data.open_dataset(copy).graph
    for _ in range(2):
        with pytest.raises(IndexError, match=message):
            USES[what][use](g)


def test_sampling_reads_no_more_than_it_draws(copy):
    spoilt("in_indices", slice(None), -1)(copy)
    g = ng.data.open_dataset(copy).graph
    alone = np.flatnonzero(g.in_degrees() == 0)
    assert len(ng.sampling.NeighborSampler([2]).sample(g, alone).nodes) == len(alone)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("nothing", FileNotFoundError), (3, TypeError), ("file", ValueError), ("folder", ValueError)],
    ids=str,
)
def test_what_is_no_folder_of_a_dataset(path, kind, tmp_path):
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match="open_dataset"):
        ng.data.open_dataset(tmp_path / path if isinstance(path, str) else path)


def test_an_unknown_check(saved):
    with pytest.raises(ValueError, match="verify"):
        ng.data.open_dataset(saved, verify="all")


# --- writing ---


def test_a_folder_is_replaced_only_if_asked(copy):
    before = ng.data.open_dataset(copy)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ng.data.save(copy, KINDS["karate"])
    ng.data.save(copy, KINDS["karate"], overwrite=True)
    assert ng.data.open_dataset(copy, verify="full").name == "karate"
    np.testing.assert_array_equal(before.features, X)  # who has the old one open keeps it
    np.testing.assert_array_equal(before.graph.src, SRC)
    assert [path.name for path in copy.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("kind", ["file", "other folder", "more in it", "damaged"])
def test_nothing_of_the_users_is_replaced(kind, copy, tmp_path):
    target, keep = tmp_path / "theirs", copy
    if kind == "file":
        target.write_text("mine")
        keep = target
    elif kind == "other folder":
        target.mkdir()
        keep = target / "notes.txt"
        keep.write_text("mine")
    elif kind == "more in it":
        target, keep = copy, copy / "notes.txt"
        keep.write_text("mine")
    else:
        target = copy
        text(copy, b"{}")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=str(target)):
            ng.data.save(target, KINDS["plain"], overwrite=overwrite)
    assert keep.exists()
    assert not list(tmp_path.glob("*.tmp-*"))


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "data").mkdir()
    ng.data.save(tmp_path / "data", KINDS["plain"])
    ng.data.open_dataset(tmp_path / "data")


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("step", ["write", "digest", "commit"])
def test_a_failure_leaves_the_old_dataset(step, exchange, copy, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    if not exchange:
        monkeypatch.setattr("ctypes.CDLL", lambda *args, **options: object())
    place = {"write": (npy, "write"), "digest": (npy, "digest"), "commit": (storage.NewFolder, "commit")}[
        step
    ]
    with monkeypatch.context() as patch:
        patch.setattr(*place, fail)
        with pytest.raises(KeyboardInterrupt):
            ng.data.save(copy, KINDS["karate"], overwrite=True)
    assert ng.data.open_dataset(copy, verify="full").name == "arrays"
    assert [path.name for path in copy.parent.iterdir()] == ["data"]
    ng.data.save(copy, KINDS["karate"], overwrite=True)
    assert ng.data.open_dataset(copy, verify="full").name == "karate"
    assert [path.name for path in copy.parent.iterdir()] == ["data"]


FULL_DISK = """
import os, resource
import numgraph as ng
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    ng.data.save(os.environ["FOLDER"], ng.data.load("karate"), overwrite=True)
except OSError as error:
    print(type(error).__name__, error.errno)
"""


@pytest.mark.slow
@posix
def test_a_full_disk_is_an_error_and_leaves_nothing(copy):
    assert run(FULL_DISK, setup="", FOLDER=str(copy)) == f"OSError {errno.EFBIG}\n"
    assert ng.data.open_dataset(copy, verify="full").name == "arrays"
    assert [path.name for path in copy.parent.iterdir()] == ["data"]


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_folder_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        ng.data.save(tmp_path / "data", KINDS["plain"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o666 & ~umask}


@posix
def test_a_link_to_a_folder_stays_one(copy, tmp_path):
    os.symlink(copy, tmp_path / "link")
    ng.data.save(tmp_path / "link", KINDS["karate"], overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert ng.data.open_dataset(copy).name == ng.data.open_dataset(tmp_path / "link").name == "karate"


@pytest.mark.parametrize(
    ("path", "value", "kind", "message"),
    [
        ("data", ng.Graph([0], [0]), TypeError, "give a Dataset"),
        ("data", ng.nn.GCN(3, 2, 2), TypeError, "numgraph.save"),
        (3, KINDS["plain"], TypeError, "the folder comes first"),
        ("no/data", KINDS["plain"], FileNotFoundError, "make it first"),
        ("data", made(names=[2**63 - i for i in range(N)]), ValueError, r"names\[0\] is 9223372036854775808"),
        ("data", made(names=[("a", i) for i in range(N)]), TypeError, r"names\[0\] is a tuple"),
    ],
)
def test_what_cannot_be_saved(path, value, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        ng.data.save(tmp_path / path if isinstance(path, str) else path, value)
    assert not list(tmp_path.iterdir())
