"""Files that somebody made to break their reader, and files that chance broke: an error that names the file,
in little memory and time.

What may end the process runs in one of its own, whose memory is limited.
"""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from scripts import run
from test_data import Planetoid, dump

from numgraph.data.unpickle import read_pickle
from numgraph.serialize import load_parameters, read_arrays

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no limits on memory there")
DEEP = 300_000

LIMITED = """
import json, pathlib, resource, sys, time, warnings
warnings.simplefilter("error")
from numgraph.data.unpickle import read_pickle
from numgraph.data import load
from numgraph.serialize import read_arrays
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
"""


def have_safetensors() -> bool:
    return importlib.util.find_spec("safetensors") is not None


# --- pickles ---

ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
FLOAT4 = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array(shape: bytes, content: bytes) -> bytes:
    """Opcodes for a float32 array; shape and content are opcodes too."""
    return ARRAY + b"(K\x01" + shape + FLOAT4 + b"\x89" + content + b"tb"


def csr(**change: object) -> bytes:
    matrix = scipy.sparse.csr_matrix(np.array([[1.0, 0, 0], [0, 0, 2]]))
    matrix.__dict__.update(change)
    return dump(matrix)


def memo(place: int) -> bytes:
    return b"r" + place.to_bytes(4, "little")


LAUGHS_OF_LISTS = b"]" + b"".join(b"]q\x00(" + b"h\x00" * 9 + b"e" for _ in range(20)) + b"."
LAUGHS_OF_TUPLES = b"K\x01q\x00" + b"".join(b"(" + b"h\x00" * 9 + b"tq\x00" for _ in range(20)) + b"."
LIST = b"]q\x00(" + b"K\x01" * 20_000 + b"e"

PICKLES = {
    "tuples as a key": b"}K\x01" + b"\x85" * DEEP + b"K\x01s.",
    "tuples as a value": b"}K\x01K\x01" + b"\x85" * DEEP + b"s.",
    "pairs": b"K\x01" + b"q\x00h\x00\x86" * DEEP + b".",
    "lists": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "tables": b"}" + b"K\x01}" * DEEP + b"s" * DEEP + b".",
    "marks": b"(" * DEEP + b"t" * DEEP + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "a table in itself": b"}q\x00K\x01h\x00s.",
    "a tuple with a list that holds it": b"]q\x00h\x00\x85q\x01h\x00h\x01a.",
    "lists of the same lists": LAUGHS_OF_LISTS,
    "tuples of the same tuples": LAUGHS_OF_TUPLES,
    "neighbours shared by all": b"}(K\x00"
    + LIST
    + b"".join(b"M" + struct.pack("<H", i) + b"h\x00" for i in range(1, 20_000))
    + b"u.",
    "an integer of a megabyte": b"\x8b" + (1 << 20).to_bytes(4, "little") + b"\x7f" * (1 << 20) + b".",
    "an integer of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "a string of 2 GB in 10 bytes": b"T\xff\xff\xff\x7fabc.",
    "a text of 4 EB in 20 bytes": b"\x8d" + (1 << 62).to_bytes(8, "little") + b"abc.",
    "bytes of 4 EB in 20 bytes": b"\x8e" + (1 << 62).to_bytes(8, "little") + b"abc.",
    "a place of the memo far away": b"K\x01r\xff\xff\xff\x7fj\xff\xff\xff\x7e.",
    "an array of 3 GB": array(b"J\x00\x00\x00\x2f\x85", b"U\x04abcd") + b".",
    "an array of a negative shape": array(b"J\xff\xff\xff\xff\x85", b"U\x04abcd") + b".",
    "an array of three axes": array(b"K\x01K\x01K\x01\x87", b"U\x04abcd") + b".",
    "an array with a shape of text": array(b"U\x01a\x85", b"U\x04abcd") + b".",
    "an array without its state": ARRAY + b".",
    "an array with half an element": array(b"K\x01\x85", b"U\x03abc") + b".",
    "the same bytes in a thousand arrays": b"}("
    b"K\x01T\x80\x1a\x06\x00"
    + b"a" * 400_000
    + b"q\x00"
    + b"".join(b"M" + struct.pack("<H", i) + array(b"J\xa0\x86\x01\x00\x85", b"h\x00") for i in range(1000))
    + b"u.",
    "the same text encoded a thousand times": b"}(K\x00X\x40\x42\x0f\x00"
    + b"a" * 1_000_000
    + b"q\x00"
    + b"".join(b"M" + struct.pack("<H", i) + b"c_codecs\nencode\nh\x00U\x06latin1\x86R" for i in range(1000))
    + b"u.",
    "a matrix of 3 GB": csr(_shape=(2, 200_000_000)),
    "a matrix of more columns than there are": csr(_shape=(2, 1 << 62)),
    "a matrix of negative columns": csr(_shape=(2, -3)),
    "a matrix of one axis": csr(_shape=(2,)),
    "a matrix of half a row": csr(_shape=(2.5, 3)),
    "a matrix whose differences of int8 wrap": csr(
        indptr=np.array([0, 100, -100, 2], np.int8),
        data=np.ones(2),
        indices=np.zeros(2, np.int32),
        _shape=(3, 3),
    ),
    "a matrix of a place beyond int64": csr(indptr=np.array([0, 1 << 62, 2])),
    "a matrix without its data": csr(data=None),
    "a matrix in a matrix": csr(data=scipy.sparse.csr_matrix(np.eye(2))),
    "a set": b"\x8f.",
    "an extension": b"\x82\x01.",
    "an old instance": b"(ios\nsystem\n.",
    "an object": b"(cos\nsystem\nU\x02lso.",
    "a call of int": b"c__builtin__\nint\nU\x01a\x85R.",
    "a state for a number": b"K\x01}b.",
    "two results": b"K\x01K\x02.",
    "nothing to take": b"\x85.",
    "no end": b"K\x01",
}

READ_ALL = """
for path in sorted(pathlib.Path(FOLDER).iterdir()):
    began = time.process_time()
    try:
        found = READ(path)
        print(json.dumps([path.name, "read", repr(type(found)), 0]))
    except (ValueError, OSError) as error:
        print(json.dumps([path.name, type(error).__name__, str(error), time.process_time() - began]))
status = pathlib.Path("/proc/self/status")  # where there is none: the peak of the process that started this one counts too
high = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
print("peak", int(high[0] if high else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) >> 10)
"""


def outcomes(folder: Path, read: str) -> dict[str, tuple[str, str]]:
    """What reading every file of a folder gives, in one process; none takes much memory or time."""
    *lines, peak = run(f"FOLDER, READ = {str(folder)!r}, {read}\n" + READ_ALL, setup=LIMITED).splitlines()
    assert int(peak.split()[1]) < 600
    found = {}
    for name, kind, message, seconds in map(json.loads, lines):
        assert seconds < 20, name
        found[name] = (kind, message)
    return found


def test_pickles_made_to_break_the_reader(tmp_path: Path) -> None:
    for number, raw in enumerate(PICKLES.values()):
        (tmp_path / f"{number:02}").write_bytes(raw if raw.startswith(b"\x80") else b"\x80\x02" + raw)
    found = outcomes(tmp_path, "lambda path: read_pickle(path, 'load')")
    for number, name in enumerate(PICKLES):
        kind, message = found[f"{number:02}"]
        assert kind == "ValueError", (name, kind, message)
        assert str(tmp_path / f"{number:02}") in message, name
        assert "is damaged" in message or "do not trust" in message, name
        assert len(message) < 600, name


def test_bytes_of_bool_are_truth(tmp_path: Path) -> None:
    raw = dump(np.array([[True, False], [False, True]]))
    place = raw.index(b"\x01\x00\x00\x01")
    (tmp_path / "a").write_bytes(raw[:place] + b"\x07\x00\x00\x7f" + raw[place + 4 :])
    found = read_pickle(tmp_path / "a", "load")
    assert found.view(np.uint8).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("allx", np.full((7, 3), 1e300), "x is not the beginning"),
        ("tx", np.full((3, 3), 1e300), "tx has features of node 7 that are too large for float32"),
        ("tx", np.array([[3e38, 3e38, 0], [0, 5, 0], [1e-45, -3e38, 3e38]]), None),
        (
            "tx",
            np.array([[1, -1, 1e-45], [0, 5, 0], [1, 1, 0]]),
            "tx has features of node 11 that are too large",
        ),
        ("ty", np.zeros((3, 2), int), r"ty row 0 is \[0, 0\]"),
        ("ty", np.array([[1e308, 1e308], [1, 0], [1, 0]]), "ty row 0"),
        ("graph", {0: [1 << 63]}, "graph has the edge"),
        ("graph", {0: ["a" * 10_000]}, "graph has the edge"),
        ("graph", {"a": [1]}, "graph has the edge"),
        ("graph", {0: [True]}, "graph has the edge"),
        ("allx", np.zeros((7, 0)), "allx holds an array of shape"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, part: str, value: object, message: str | None) -> None:
    made = Planetoid(tmp_path / "data")
    made.write(part, dump(value))
    if message is None:
        made.load()
        return
    with pytest.raises(ValueError, match=message) as caught:
        made.load()
    assert len(str(caught.value)) < 600


def test_few_nodes_of_many_features(tmp_path: Path) -> None:
    """Each file is in proportion, and a thousand rows of zeros for the ids in between are not."""
    made = Planetoid(tmp_path / "data")
    columns = 100_000
    for part, rows in (("x", 1), ("allx", 1), ("tx", 1)):
        made.write(part, dump(scipy.sparse.csr_matrix((rows, columns))) + b" " * 400)
    for part in ("y", "ally", "ty"):
        made.write(part, dump(np.eye(2, dtype=int)[:1]))
    made.write("graph", dump({0: [1]}))
    made.write("test.index", b"1000\n")
    with pytest.raises(
        ValueError, match=r"ind\.citeseer\.allx.*1001 nodes of 100000 features.*out of all proportion"
    ):
        made.load()


FUZZ = """
import random
sys.path.insert(0, TESTS)
from test_data import PARTS, Planetoid
made = Planetoid(pathlib.Path(FOLDER) / "data")
whole = {part: made.path(part).read_bytes() for part in PARTS}
chance, loads, refused = random.Random(0), 0, 0
def cases(raw):
    for length in range(0, len(raw), 2):
        yield raw[:length]
    for _ in range(150):
        changed = bytearray(raw)
        for _ in range(chance.choice((1, 1, 1, 3))):
            changed[chance.randrange(len(raw))] = chance.choice((chance.randrange(256), 0, 255, *b"()}]tbR."))
        yield bytes(changed)
for part in PARTS:
    for raw in cases(whole[part]):
        made.write(part, raw)
        loads += 1
        try:
            made.load()
        except (ValueError, OSError) as error:
            refused += 1
            assert "ind.citeseer." in str(error) and len(str(error)) < 1000, error
    made.write(part, whole[part])
made.load()
arrays = {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(50, np.float32), "n": np.arange(3)}
for name in NAMES:
    path = pathlib.Path(FOLDER) / name
    np.savez_compressed(path, **arrays) if name == "compressed.npz" else save_parameters(path, arrays)
    for raw in cases(path.read_bytes()):
        path.write_bytes(raw)
        loads += 1
        try:
            read_arrays(path)
        except (ValueError, OSError) as error:
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 1000, error
print(loads > 3000, refused > loads // 2)
"""


def test_every_cut_and_thousands_of_flips(tmp_path: Path) -> None:
    """An error out of the process's end, a warning or an error of another kind would show here."""
    names = ["a.npz", "compressed.npz", *(["a.safetensors"] if have_safetensors() else [])]
    given = f"FOLDER, TESTS, NAMES = {str(tmp_path)!r}, {str(Path(__file__).parent)!r}, {names!r}\n"
    more = "import numpy as np\nfrom numgraph.serialize import save_parameters\n"
    assert run(given + more + FUZZ, setup=LIMITED) == "True True\n"


# --- parameters ---


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def npz(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def claimed(raw: bytes, size: int) -> bytes:
    """An archive whose directory says that its first member has so many bytes."""
    place = raw.index(b"PK\x01\x02")
    return raw[: place + 24] + size.to_bytes(4, "little") + raw[place + 28 :]


def header(descr: object, shape: object) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}}}"


def safetensors(table: object, content: bytes = b"", length: int | None = None) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


GOOD = npy(header("<f8", (2,)), bytes(16))
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
ARCHIVES = {
    "3 GB.npz": npz(("w.npy", npy(header("<f8", (400_000_000,)), b"abcd"))),
    "3 GB in the directory.npz": claimed(npz(("w.npy", GOOD)), 0x7FFFFFFF),
    "3 GB of one element.npz": npz(("w.npy", npy(header("V3000000000", (1,)), b"abcd"))),
    "3 GB of one text.npz": npz(("w.npy", npy(header("<U800000000", ()), b"abcd"))),
    "negative.npz": npz(("w.npy", npy(header("<f8", (-2, -1)), bytes(16)))),
    "beyond int64.npz": npz(("w.npy", npy(header("<f8", (1 << 40, 1 << 40)), bytes(16)))),
    "no shape.npz": npz(("w.npy", npy(header("<f8", "ab"), bytes(16)))),
    "too much.npz": npz(("w.npy", GOOD + b"more")),
    "parentheses.npz": npz(("w.npy", npy("(" * 9000))),
    "signs.npz": npz(("w.npy", npy("-" * 9000 + "1"))),
    "a call.npz": npz(("w.npy", npy("__import__('os').system('touch owned')"))),
    "objects.npz": npz(("w.npy", npy(header("|O", (1,)), pickle.dumps([1])))),
    "objects in a record.npz": npz(("w.npy", npy(header([("a", "|O")], (1,)), pickle.dumps([1])))),
    "twice.npz": npz(("w.npy", GOOD), ("v.npy", GOOD)).replace(b"v.npy", b"w.npy"),
    "a text.npz": npz(("readme.txt", b"hello")),
    "bzip2.npz": npz(("w.npy", npy(header("<f8", (1 << 17,)), bytes(1 << 20))), method=zipfile.ZIP_BZIP2),
    "lzma.npz": npz(("w.npy", npy(header("<f8", (1 << 17,)), bytes(1 << 20))), method=zipfile.ZIP_LZMA),
    "an array.npz": GOOD,
    "a pickle.npz": pickle.dumps([1]),
    "long header.safetensors": safetensors({"w": ONE}, bytes(4), length=1 << 62),
    "short header.safetensors": safetensors({"w": ONE}, bytes(4), length=5),
    "3 GB.safetensors": safetensors(
        {"w": {**ONE, "shape": [800_000_000], "data_offsets": [0, 3_200_000_000]}}, bytes(4)
    ),
    "too little.safetensors": safetensors({"w": {**ONE, "data_offsets": [0, 8]}}, bytes(4)),
    "another size.safetensors": safetensors({"w": {**ONE, "shape": [2]}}, bytes(4)),
    "overflowing.safetensors": safetensors({"w": {**ONE, "shape": [1 << 62, 1 << 62]}}, bytes(4)),
    "negative.safetensors": safetensors({"w": {**ONE, "shape": [-1]}}, bytes(4)),
    "backwards.safetensors": safetensors({"w": {**ONE, "data_offsets": [4, 0]}}, bytes(4)),
    "overlapping.safetensors": safetensors({"w": ONE, "v": ONE}, bytes(4)),
    "a hole.safetensors": safetensors({"w": {**ONE, "data_offsets": [4, 8]}}, bytes(8)),
    "rest.safetensors": safetensors({"w": ONE}, bytes(40)),
    "unknown dtype.safetensors": safetensors({"w": {**ONE, "dtype": "Q7"}}, bytes(4)),
    "lists.safetensors": safetensors(b'{"w":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "no table.safetensors": safetensors([1, 2]),
    "not a text.safetensors": safetensors(b'{"\xff": 1}'),
}


def test_archives_made_to_break_the_reader(tmp_path: Path) -> None:
    chosen = {name: raw for name, raw in ARCHIVES.items() if name.endswith(".npz") or have_safetensors()}
    for name, raw in chosen.items():
        (tmp_path / name).write_bytes(raw)
    for name, (kind, message) in outcomes(tmp_path, "read_arrays").items():
        assert kind == "ValueError", (name, kind, message)
        assert f"load: {tmp_path / name} ({len(chosen[name])} bytes) is damaged" in message
        assert len(message) < 600, name
    assert not Path("owned").exists()


def test_compressed_archives_of_zeros_are_read(tmp_path: Path) -> None:
    """They hold a thousand times their size, honestly."""
    np.savez_compressed(
        tmp_path / "a.npz", w=np.zeros(1_000_000), b=np.zeros((3, 0)), text=np.array(["ab", "c"])
    )
    found = read_arrays(tmp_path / "a.npz")
    assert found["w"].shape == (1_000_000,)
    assert not found["w"].any()
    assert found["b"].shape == (3, 0)
    assert found["text"].tolist() == ["ab", "c"]


@pytest.mark.parametrize(
    ("saved", "dtype", "fits"),
    [
        (np.array([1e300, 1]), np.float32, False),
        (np.array([np.inf, np.nan, 1 / 3]), np.float32, True),
        (np.array([70000.0]), np.float16, False),
        (np.array([1 << 40]), np.int32, False),
        (np.array([1 << 30]), np.int32, True),
    ],
)
def test_numbers_that_the_model_cannot_hold(
    tmp_path: Path, saved: np.ndarray, dtype: type, fits: bool
) -> None:
    np.savez(tmp_path / "a.npz", w=saved, b=np.ones(2))
    target = {"w": np.zeros(saved.shape, dtype), "b": np.zeros(2)}
    if fits:
        load_parameters(tmp_path / "a.npz", target)
        np.testing.assert_array_equal(target["w"], saved.astype(dtype))
        return
    with pytest.raises(
        ValueError, match=f"w has numbers in the file that are too large for the model's {np.dtype(dtype)}"
    ):
        load_parameters(tmp_path / "a.npz", target)
    assert not target["b"].any()
