"""Datasets: what is embedded, the Planetoid reader on a made-up dataset and on Cora, downloads from a local
server, damaged files.
"""

from __future__ import annotations

import collections
import hashlib
import http.server
import io
import os
import pickle
import re
import threading
from pathlib import Path

import networkx
import numpy as np
import pytest
import scipy.sparse

from numgraph import data
from numgraph.data import fetch
from numgraph.data.unpickle import read_pickle

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")


def cora_dir() -> Path:
    for folder in (os.environ.get("NUMGRAPH_DATA_DIR"), Path(__file__).parents[3] / "shared" / "data"):
        if folder and (Path(folder) / "planetoid" / "ind.cora.x").is_file():
            return Path(folder)
    pytest.skip("Cora's files are in neither NUMGRAPH_DATA_DIR nor ../shared/data")


def dump(value: object) -> bytes:
    """A pickle as Python 2 with an old NumPy and SciPy wrote it: protocol 2, the old module names."""
    raw = pickle.dumps(value, protocol=2)
    old_names = {
        b"numpy._core.multiarray": b"numpy.core.multiarray",
        b"scipy.sparse._csr": b"scipy.sparse.csr",
    }
    for new, old in old_names.items():
        raw = raw.replace(b"c" + new + b"\n", b"c" + old + b"\n")
    return raw


def python2_array(array: np.ndarray) -> bytes:
    """An int32 matrix as Python 2 wrote it, its bytes as a string of Python 2, opcode by opcode."""
    rows, columns = array.shape
    content = array.astype("<i4").tobytes()
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = (
        b"(K\x01"
        + bytes([ord("K"), rows, ord("K"), columns])
        + b"\x86"
        + dtype
        + b"\x89T"
        + len(content).to_bytes(4, "little")
        + content
    )
    return b"\x80\x02" + new + state + b"tb."


class Planetoid:
    """12 nodes in the format: 3 train, 7 are outside the test set, the test ids are 11, 7, 9; 8 and 10 are
    missing, as in citeseer.
    """

    features = np.array(
        [[1, 0, 1], [0, 2, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0], [3, 0, 0], [0, 0, 4]], np.float32
    )
    test_features = np.array([[1, 0, 3], [0, 5, 0], [1, 1, 0]], np.float32)
    classes = np.eye(2, dtype=np.int32)[[0, 1, 0, 1, 1, 0, 0]]
    test_classes = np.eye(2, dtype=np.int32)[[1, 0, 1]]
    order = (11, 7, 9)
    edges = ((0, 1), (1, 0), (0, 1), (2, 2), (3, 9), (11, 7), (5, 6))

    def __init__(self, folder: Path, name: str = "citeseer") -> None:
        self.data_dir, self.name = folder, name
        self.folder = folder / "planetoid"
        self.folder.mkdir(parents=True)
        graph: collections.defaultdict[int, list[int]] = collections.defaultdict(list)
        for node in range(12):
            graph[node] = []
        for src, dst in self.edges:
            graph[src].append(dst)
        csr = scipy.sparse.csr_matrix
        self.write("x", dump(csr(self.features[:3])))
        self.write("tx", dump(csr(self.test_features)))
        self.write("allx", dump(csr(self.features)))
        self.write("y", python2_array(self.classes[:3]))
        self.write("ty", python2_array(self.test_classes))
        self.write("ally", dump(np.asfortranarray(self.classes)))
        self.write("graph", dump(graph))
        self.write("test.index", b"".join(b"%d\n" % node for node in self.order))

    def path(self, part: str) -> Path:
        return self.folder / f"ind.{self.name}.{part}"

    def write(self, part: str, content: bytes) -> None:
        self.path(part).write_bytes(content)

    def load(self, **options: bool) -> data.Dataset:
        return data.load(self.name, self.data_dir, **options)


@pytest.fixture
def planetoid(tmp_path: Path) -> Planetoid:
    return Planetoid(tmp_path / "data")


def pairs(dataset: data.Dataset) -> set[tuple[int, int]]:
    edges = list(zip(dataset.graph.src.tolist(), dataset.graph.dst.tolist()))
    assert len(edges) == len(set(edges))
    return set(edges)


# What is embedded


def test_digits_are_the_published_images() -> None:
    digits = data.load("digits")
    assert digits.features.shape == (1797, 64)
    assert digits.features.dtype == np.float32
    assert digits.labels.dtype == np.int64
    assert digits.features.min() == 0
    assert digits.features.max() == 1
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    first = [
        0,
        0,
        5,
        13,
        9,
        1,
        0,
        0,
        0,
        0,
        13,
        15,
        10,
        15,
        5,
        0,
    ]  # the first two rows of the first image, as scikit-learn's documentation prints it
    assert (digits.features[0, :16] * 16).tolist() == first


def test_digits_are_joined_with_their_nearest_neighbours() -> None:
    digits = data.load("digits", neighbors=3)
    pixels = digits.features.astype(np.float64)
    edges = pairs(digits)
    assert edges == {(dst, src) for src, dst in edges}
    rng = np.random.default_rng(0)
    nodes = rng.choice(1797, 40, replace=False)
    distance = ((pixels[nodes, None] - pixels[None]) ** 2).sum(-1)
    distance[np.arange(40), nodes] = np.inf
    third = np.sort(distance, 1)[:, 2]
    for row, node in enumerate(nodes):
        closer = np.flatnonzero(
            distance[row] < third[row]
        )  # whole pixel values: several may tie for the third place
        assert all((node, other) in edges for other in closer)
        assert digits.graph.out_degrees()[node] >= 3
    lengths = ((pixels[digits.graph.src] - pixels[digits.graph.dst]) ** 2).sum(-1)
    for row, node in enumerate(
        nodes
    ):  # an edge that is longer than a node's third neighbour is there for its other end's sake
        farther = digits.graph.dst[(digits.graph.src == node) & (lengths > third[row] + 1e-12)]
        for other in farther:
            squared = ((pixels[other] - pixels) ** 2).sum(-1)
            assert (squared < squared[node]).sum() - 1 < 3


def test_digits_split_is_balanced_and_seeded() -> None:
    one, two, other = (
        data.load("digits"),
        data.load("digits"),
        data.load("digits", seed=1, labels_per_class=5),
    )
    assert np.bincount(one.labels[one.train_mask]).tolist() == [10] * 10
    assert (one.train_mask | one.val_mask | one.test_mask).all()
    assert (one.train_mask.astype(int) + one.val_mask + one.test_mask == 1).all()
    np.testing.assert_array_equal(one.train_mask, two.train_mask)
    assert np.bincount(other.labels[other.train_mask]).tolist() == [5] * 10
    assert (one.train_mask & ~other.train_mask).any()
    seen, expected = np.zeros(10, int), []
    for image in np.random.RandomState(0).permutation(
        1797
    ):  # the stream that NumPy never changes, or accuracies could not be compared
        if seen[one.labels[image]] < 10:
            expected.append(image)
        seen[one.labels[image]] += 1
    assert np.flatnonzero(one.train_mask).tolist() == sorted(expected)


def test_karate_is_the_club_of_networkx() -> None:
    club = networkx.karate_club_graph()
    karate = data.load("karate")
    edges = pairs(karate)
    assert edges == {pair for src, dst in club.edges for pair in ((src, dst), (dst, src))}
    assert len(edges) == 156
    factions = [0 if club.nodes[member]["club"] == "Mr. Hi" else 1 for member in range(34)]
    assert karate.labels.tolist() == factions
    assert np.flatnonzero(karate.train_mask).tolist() == [0, 33]
    np.testing.assert_array_equal(karate.features, np.eye(34, dtype=np.float32))


def test_karate_communities_have_the_largest_modularity() -> None:
    karate = data.load("karate", communities=4)
    groups = [set(np.flatnonzero(karate.labels == label).tolist()) for label in range(4)]
    modularity = networkx.community.modularity(networkx.karate_club_graph(), groups, weight=None)
    assert modularity == pytest.approx(0.4198, abs=5e-5)  # Brandes et al. 2008, the proven optimum
    assert karate.train_mask.sum() == 4
    assert set(karate.labels[karate.train_mask].tolist()) == {0, 1, 2, 3}


# The Planetoid format


def test_planetoid_with_missing_test_ids(planetoid: Planetoid) -> None:
    dataset = planetoid.load(row_normalize=False)
    assert dataset.num_nodes == 12
    np.testing.assert_array_equal(dataset.features[:7], Planetoid.features)
    np.testing.assert_array_equal(dataset.features[list(Planetoid.order)], Planetoid.test_features)
    assert not dataset.features[[8, 10]].any()
    assert dataset.labels.tolist() == [0, 1, 0, 1, 1, 0, 0, 0, -1, 1, -1, 1]
    assert np.flatnonzero(dataset.train_mask).tolist() == [0, 1, 2]
    assert np.flatnonzero(dataset.val_mask).tolist() == [3, 4, 5, 6]
    assert np.flatnonzero(dataset.test_mask).tolist() == [7, 9, 11]
    assert pairs(dataset) == {(0, 1), (1, 0), (3, 9), (9, 3), (11, 7), (7, 11), (5, 6), (6, 5)}
    assert dataset.graph.in_degrees()[[8, 10]].tolist() == [0, 0]
    assert dataset.num_classes == 2
    np.testing.assert_array_equal(dataset.sparse_features.toarray(), dataset.features)


def test_planetoid_rows_sum_to_one(planetoid: Planetoid) -> None:
    dataset = planetoid.load()
    assert dataset.features.dtype == np.float32
    np.testing.assert_allclose(dataset.features.sum(1), [1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(dataset.features[11], [0.25, 0, 0.75], rtol=1e-6)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float64", ">f4", "int32", "bool", "uint8"])
def test_pickles_of_today_are_read_too(tmp_path: Path, protocol: int, dtype: str) -> None:
    dense = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]]).astype(dtype)
    path = tmp_path / "pickle"
    native = dense.astype(dense.dtype.newbyteorder("="))  # SciPy has no other
    for value in (dense, np.asfortranarray(dense), scipy.sparse.csr_matrix(native)):
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        np.testing.assert_array_equal(read_pickle(path, "load"), dense)


def test_cora_is_cora() -> None:
    folder = cora_dir()
    cora = data.load("cora", folder)
    assert (cora.num_nodes, cora.graph.num_edges, cora.num_features, cora.num_classes) == (
        2708,
        10556,
        1433,
        7,
    )
    assert [int(mask.sum()) for mask in (cora.train_mask, cora.val_mask, cora.test_mask)] == [140, 500, 1000]
    assert np.bincount(cora.labels[cora.train_mask]).tolist() == [20] * 7
    assert np.bincount(cora.labels).tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert cora.sparse_features.nnz == 49216
    with (folder / "planetoid" / "ind.cora.graph").open(
        "rb"
    ) as file:  # by the unrestricted machine and networkx
        lists = pickle.load(file, encoding="latin1")
    expected = networkx.from_dict_of_lists(lists)
    assert pairs(cora) == {
        pair for src, dst in expected.edges if src != dst for pair in ((src, dst), (dst, src))
    }


def test_cora_matches_the_hashes() -> None:
    folder = cora_dir() / "planetoid"
    found = [hashlib.sha256((folder / f"ind.cora.{part}").read_bytes()).hexdigest() for part in PARTS]
    assert found == list(fetch.SHA256["cora"])


# Damage, and worse


@pytest.mark.parametrize("part", [part for part in PARTS if part != "test.index"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "lfs"])
def test_damaged_files_are_named(planetoid: Planetoid, part: str, damage: str) -> None:
    content = planetoid.path(part).read_bytes()
    noise = bytes(np.random.default_rng(0).integers(0, 256, 400, dtype=np.uint8))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    planetoid.write(
        part, {"empty": b"", "half": content[: len(content) // 2], "noise": noise, "lfs": pointer}[damage]
    )
    with pytest.raises(ValueError, match=re.escape(f"ind.citeseer.{part}") + "(?s:.*)(anew|git lfs pull)"):
        planetoid.load()


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_never_get_through_as_anything_but_a_value_error(
    planetoid: Planetoid, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    part = PARTS[seed % 7]
    content = bytearray(planetoid.path(part).read_bytes())
    for place in rng.integers(0, len(content), 3):
        content[place] = rng.integers(0, 256)
    planetoid.write(part, bytes(content))
    try:
        planetoid.load()
    except ValueError as error:
        assert "load citeseer" in str(error)  # noqa: PT017 (not every flip is damage: some change a feature's value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"7\nx\n9\n",
        b"7\n7\n9\n",
        b"7\n9\n",
        b"7\n8\n6\n",
        b"7\n9\n99999999999\n",
        b"7\n9\n" + b"9" * 30 + b"\n",
        b"\xff",
    ],
)
def test_damaged_index(planetoid: Planetoid, content: bytes) -> None:
    planetoid.write("test.index", content)
    with pytest.raises(ValueError, match=r"ind\.citeseer\.test\.index"):
        planetoid.load()


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("allx", np.ones(7), r"allx holds an array of shape \(7,\)"),
        ("allx", {0: [1]}, "allx holds dict"),
        ("tx", np.full((3, 3), np.nan), r"tx has nan at \(0, 0\)"),
        ("tx", np.ones((2, 3)), "tx has shape"),
        ("tx", np.ones((3, 4)), "tx.* do not belong together"),
        ("y", np.eye(2)[[1, 1, 1]], "y is not the beginning of ind.citeseer.ally"),
        ("x", np.ones((3, 3)), "x is not the beginning of ind.citeseer.allx"),
        ("ty", np.full((3, 2), 1), r"ty row 0 is \[1, 1\]"),
        ("ally", np.full((7, 2), 5), "ally"),
        ("graph", np.ones((2, 2)), "graph holds no lists"),
        ("graph", {0: 3}, "graph holds no lists"),
        ("graph", {0: [12]}, r"graph has the edge \(0, 12\)"),
        ("graph", {-1: [2]}, r"graph has the edge \(-1, 2\)"),
        ("graph", {0: [1.5]}, r"graph has the edge \(0, 1.5\)"),
        ("graph", {0: ["1"]}, r"graph has the edge \(0, '1'\)"),
    ],
)
def test_files_of_the_wrong_content(planetoid: Planetoid, part: str, value: object, message: str) -> None:
    planetoid.write(part, dump(value))
    with pytest.raises(ValueError, match=message):
        planetoid.load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": np.array([0, 7], np.int32)}, "3 columns has indices from 0 to 7"),
        ({"indices": np.array([0, -1], np.int32)}, "indices from -1"),
        ({"indptr": np.array([0, 9, 2], np.int32)}, "indptr"),
        ({"indptr": np.array([0, 2], np.int32)}, "indptr"),
        ({"indptr": np.array([0.0, 1, 2])}, "integers"),
        ({"data": np.ones((2, 1))}, "one-dimensional"),
    ],
)
def test_csr_that_points_outside(tmp_path: Path, change: dict, message: str) -> None:
    matrix = scipy.sparse.csr_matrix(np.array([[1.0, 0, 0], [0, 0, 2]]))
    for field, value in change.items():
        matrix.__dict__[field] = value
    path = tmp_path / "pickle"
    path.write_bytes(dump(matrix))
    with pytest.raises(ValueError, match=message):
        read_pickle(path, "load")


class _Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (_Call(os.system, "touch owned"), "system"),
        (_Call(eval, "open('owned', 'w')"), "eval"),
        (_Call(getattr, 1, "real"), "getattr"),
        (_Call(np.memmap, "owned", "f4", "w+", 0, 1), "memmap"),
        (_Call(np.load, "owned"), "load"),
        (np.array([{}], object), "dtype 'O8'"),
        (np.zeros(1, "V4"), "dtype 'V4'"),
        (np.zeros(1, [("a", "f4")]), "dtype"),
        (np.zeros(1, complex), "dtype 'c16'"),
        (scipy.sparse.coo_matrix(np.eye(2)), "coo_matrix"),
        (collections.Counter("a"), "Counter"),
        (_Call(bytearray, 10), "bytearray"),
    ],
)
def test_other_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pickle").write_bytes(dump(value))
    with pytest.raises(ValueError, match=f"pickle asks for .*{name}.*do not trust"):
        read_pickle(Path("pickle"), "load")
    assert not Path("owned").exists()


def test_persistent_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pickle"
    path.write_bytes(b"\x80\x02U\x01aQ.")
    with pytest.raises(ValueError, match=r"asks for the opcode BINPERSID.*do not trust"):
        read_pickle(path, "load")


@pytest.mark.parametrize(
    "content",
    [b"1\n", b"<html>404</html>", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x89PNG", b"null", b"", b"\x93NUMPY\x01"],
)
def test_another_kind_of_file_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pickle"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"load: {path} \({len(content)} bytes\) is damaged: .*delete it and get it anew"
    ):
        read_pickle(path, "load")


# Where files come from


class _Server(http.server.ThreadingHTTPServer):
    content: dict[str, bytes]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        content = self.server.content.get(self.path.lstrip("/"))
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(planetoid: Planetoid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server with the made-up citeseer, whose hashes the module knows for the time of the test; downloads
    go to tmp_path/cache.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.content = {path.name: path.read_bytes() for path in planetoid.folder.iterdir()}
    digests = tuple(hashlib.sha256(server.content[name]).hexdigest() for name in fetch.file_names("citeseer"))
    monkeypatch.setitem(fetch.SHA256, "citeseer", digests)
    monkeypatch.setattr(fetch, "_SOURCE", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("NUMGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits between its attempts
    monkeypatch.delenv("NUMGRAPH_DATA_DIR", raising=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_is_checked_and_kept(server: _Server, planetoid: Planetoid) -> None:
    downloaded = data.load("citeseer")
    assert pairs(downloaded) == pairs(planetoid.load())
    server.content.clear()
    np.testing.assert_array_equal(data.load("citeseer").features, planetoid.load().features)  # from the cache


def test_download_with_another_hash_is_refused(server: _Server) -> None:
    server.content["ind.citeseer.graph"] += b" "
    with pytest.raises(ValueError, match=r"ind\.citeseer\.graph is not the file this version knows"):
        data.load("citeseer")
    assert not (fetch.download_folder() / "ind.citeseer.graph").exists()


def test_damaged_cache_is_downloaded_again(server: _Server, planetoid: Planetoid) -> None:
    data.load("citeseer")
    (fetch.download_folder() / "ind.citeseer.allx").write_bytes(b"damaged")
    np.testing.assert_array_equal(data.load("citeseer").features, planetoid.load().features)


def test_download_that_fails_says_how_to_provide_the_files(
    server: _Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del server.content["ind.citeseer.ty"]
    monkeypatch.setenv("NUMGRAPH_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(
        FileNotFoundError,
        match=r"ind\.citeseer\.ty.*elsewhere.*cache.*download failed \(HTTP status 404\);.*NUMGRAPH_DATA_DIR",
    ):
        data.load("citeseer")


def test_cache_that_cannot_be_written(
    server: _Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMGRAPH_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError, match=r"ind\.citeseer\.x.*not in .*file.*DIR/planetoid"):
        data.load("citeseer")


def test_no_pooch(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"ind\.citeseer\.x.*numgraph\[data\].*data_dir"):
        data.load("citeseer")


def test_environment_and_data_dir(
    planetoid: Planetoid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMGRAPH_DATA_DIR", str(planetoid.data_dir))
    assert data.load("citeseer").num_nodes == 12
    planetoid.path("tx").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=rf"load citeseer: ind\.citeseer\.tx not in {re.escape(str(planetoid.folder))}; put them there",
    ):
        planetoid.load()
    with pytest.raises(FileNotFoundError, match=r"ind\.cora\.x, .*ind\.cora\.test\.index not in .*nowhere"):
        data.load("cora", tmp_path / "nowhere")


# Bad arguments


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("corra", {}, ValueError, "unknown dataset 'corra'; choose from 'digits', 'karate', 'cora'"),
        ("digits", {"k": 3}, TypeError, "unknown option 'k'; it takes neighbors"),
        ("digits", {"neighbors": 0}, ValueError, "neighbors is 0"),
        ("digits", {"neighbors": 2.0}, ValueError, "neighbors is 2.0"),
        ("digits", {"labels_per_class": 174}, ValueError, "labels_per_class is 174"),
        ("digits", {"seed": -1}, ValueError, "seed is -1"),
        ("karate", {"communities": 3}, ValueError, "communities is 3; choose 2 or 4"),
    ],
)
def test_bad_arguments(name: str, options: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        data.load(name, **options)


def test_dataset_checks_itself() -> None:
    karate = data.load("karate")
    fields = {field: getattr(karate, field) for field in karate.__dataclass_fields__}
    with pytest.raises(ValueError, match="features has 33 rows, the graph 34 nodes"):
        data.Dataset(**{**fields, "features": karate.features[:33]})
    with pytest.raises(ValueError, match="node 0 is in more than one of the masks"):
        data.Dataset(**{**fields, "val_mask": karate.train_mask})
    with pytest.raises(ValueError, match="node 33 is in a mask and has label 1"):
        data.Dataset(
            **{**fields, "num_classes": 1, "test_mask": np.zeros(34, bool), "val_mask": np.zeros(34, bool)}
        )
    assert "nodes=34, edges=156" in repr(karate)
    assert io.StringIO(repr(karate)).read().startswith("Dataset('karate'")
