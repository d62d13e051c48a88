"""Tables become datasets: formats, features, labels, splits, and what is said of broken ones."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numgraph as ng
from numgraph.data import read_tables
from numgraph.data.columns import Columns

pa = pytest.importorskip("pyarrow", reason="pyarrow (the extra tables) is not installed")

EDGES: dict[str, list[Any]] = {
    "from": ["ann", "ben", "Zoë", "ann"],
    "to": ["ben", "Zoë", "dan", "dan"],
    "weight": [1.0, 0.5, 2.25, 0.0],
}
NODES: dict[str, list[Any]] = {
    "name": ["ann", "ben", "Zoë", "dan"],
    "age": [31, 42, 55, 18],
    "city": ["Rome", "Oslo", "Rome", "a, b"],
    "height": [1.5, None, 1.7, 1.6],
    "team": ["red", "blue", "red", None],
}
SRC, DST = [0, 1, 2, 0], [1, 2, 3, 3]


def quietly(*arguments: Any, **options: Any) -> ng.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read_tables(*arguments, **options)


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """A table in the format of the path's extension, by another hand than the package's: pandas, or Arrow for
    its own format.
    """
    import pandas as pd

    frame = pd.DataFrame(columns)
    kind = path.name.split(".")[1]
    if kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    elif kind == "parquet":
        frame.to_parquet(path, index=False)
    else:
        import pyarrow.feather

        pyarrow.feather.write_feather(pa.table(columns), path)
    return path


def table_of(kind: str, columns: dict[str, list[Any]], path: Path) -> Any:
    if kind == "dict":
        return columns
    if kind == "pandas":
        import pandas as pd

        return pd.DataFrame(columns)
    if kind == "polars":
        import polars

        return polars.DataFrame(columns)
    if kind == "pyarrow":
        return pa.table(columns)
    return write(path.with_suffix(f".{kind}"), columns)


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "csv.gz", "parquet", "arrow", "dict", "pandas", "polars", "pyarrow"]
)
def test_every_format_gives_the_same_dataset(kind: str, tmp_path: Path) -> None:
    data = quietly(
        table_of(kind, EDGES, tmp_path / "edges"), table_of(kind, NODES, tmp_path / "nodes"), target="team"
    )
    assert (data.graph.src.tolist(), data.graph.dst.tolist()) == (SRC, DST)
    assert list(data.names) == NODES["name"]
    assert (data.names[2], data.names.index("dan"), list(data.names[1:3])) == ("Zoë", 3, ["ben", "Zoë"])
    np.testing.assert_array_equal(data.edge_weight, np.array(EDGES["weight"], np.float32))
    assert data.columns.classes == ("blue", "red")
    assert data.labels.tolist() == [1, 0, 1, -1]
    assert (data.train_mask | data.val_mask | data.test_mask).tolist() == [True, True, True, False]
    age, height = np.array([31.0, 42, 55, 18]), np.array([1.5, 1.6, 1.7, 1.6])
    there = np.array([1.5, 1.7, 1.6])
    city = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])  # Oslo, Rome, "a, b"
    want = np.column_stack([(age - age.mean()) / age.std(), city, (height - 1.6) / there.std()])
    np.testing.assert_allclose(data.features, want, rtol=1e-6, atol=1e-6)


def test_numbers_are_names_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").write_text("a,b\n7,007\n007,1e3\n")
    data = read_tables(tmp_path / "edges.csv")
    assert sorted(data.names) == ["007", "1e3", "7"]
    parquet = read_tables(
        write(tmp_path / "e.parquet", {"a": [3, 5], "b": [5, 9]}), {"id": [3.0, 5.0, 9.0], "x": [1, 2, 3]}
    )
    assert list(parquet.names) == ["3", "5", "9"]
    assert parquet.graph.dst.tolist() == [1, 2]


def test_edges_alone_make_each_node_a_feature() -> None:
    data = read_tables(EDGES)
    assert data.features.shape == (4, 4)
    assert (data.features.toarray() == np.eye(4)).all()
    pairs = [(data.names[u], data.names[v]) for u, v in zip(data.graph.src, data.graph.dst)]
    assert pairs == list(zip(EDGES["from"], EDGES["to"]))
    assert not data.train_mask.any()


def test_identity_stands_behind_the_other_features() -> None:
    data = quietly(EDGES, NODES, target="team", identity=True)
    plain = quietly(EDGES, NODES, target="team")
    np.testing.assert_array_equal(
        data.features.toarray(), np.hstack([plain.features, np.eye(4, dtype=np.float32)])
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_both_ways(weighted: bool) -> None:
    edges = {"u": ["a", "b", "b", "c", "c", "d"], "v": ["b", "a", "c", "c", "d", "a"]}
    if weighted:
        edges["weight"] = [1, 2, 3, 4, 5, 6]
    data = read_tables(edges, directed=False)
    given = dict(zip(zip(edges["u"], edges["v"]), edges.get("weight", [1] * 6)))
    want = {(v, u): w for (u, v), w in given.items()} | given
    found = [(data.names[u], data.names[v]) for u, v in zip(data.graph.src, data.graph.dst)]
    assert len(found) == len(want)
    assert set(found) == set(want)
    if weighted:
        assert dict(zip(found, data.edge_weight)) == want


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["a", "b", "", "a"], "classification", ("a", "b")),
        (["1", "0", "", "1"], "classification", ("0", "1")),
        (["10", "9", "2", ""], "classification", ("2", "9", "10")),
        (["1.0", "0.0", "NA", "1.0"], "classification", ("0.0", "1.0")),
        (["true", "false", "", "true"], "classification", ("false", "true")),
        (["0.5", "1.25", "", "3"], "regression", ()),
        (["-1e3", "2.5", "nan", "+7"], "regression", ()),
        ([str(i) for i in range(30)], "regression", ()),
        ([str(i % 20) for i in range(30)], "classification", tuple(map(str, range(20)))),
        (["1", "2", "three", ""], "classification", ("1", "2", "three")),
    ],
)
def test_what_a_target_asks_for(
    values: list[str], task: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    names = [f"n{i}" for i in range(len(values))]
    (tmp_path / "nodes.csv").write_text(
        "name,y\n" + "".join(f"{name},{value}\n" for name, value in zip(names, values))
    )
    data = quietly({"u": names, "v": names[1:] + names[:1]}, tmp_path / "nodes.csv", target="y")
    assert (data.task, data.columns.classes) == (task, classes)
    for i, value in enumerate(values):
        missing = value in ("", "NA", "nan")
        if task == "regression":
            assert np.isnan(data.labels[i]) if missing else data.labels[i] == np.float32(value)
        else:
            assert data.labels[i] == (-1 if missing else classes.index(value))
    if task == "regression":
        learnt = data.labels[data.train_mask].astype(float)
        assert data.label_scale == pytest.approx((learnt.mean(), learnt.std()), rel=1e-6)


def test_task_decides_where_it_is_unclear() -> None:
    nodes = {"name": ["a", "b", "c", "d"], "y": [1, 2, 3, 1], "zip": [100, 200, 100, 200]}
    edges = {"u": ["a", "b", "c"], "v": ["b", "c", "d"]}
    assert read_tables(edges, nodes, target="y").task == "classification"
    assert read_tables(edges, nodes, target="y", task="regression").labels.tolist() == [1, 2, 3, 1]
    assert read_tables(edges, nodes, target="y").features.shape == (4, 1)
    kinds = read_tables(edges, nodes, target="y", categories=["zip"])
    assert kinds.features.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_split_column() -> None:
    nodes = {
        "name": list("abcdef"),
        "y": ["p", "q", "p", "q", "p", None],
        "split": ["train", "TRAIN", "val", "test", None, "test"],
    }
    data = quietly({"u": list("abcde"), "v": list("bcdef")}, nodes, target="y")
    masks = [data.train_mask, data.val_mask, data.test_mask]
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [[0, 1], [2], [3]]


def test_columns_with_a_meaning_in_letters_of_either_case() -> None:
    nodes = {"name": list("abc"), "y": ["p", "q", "p"], "Split": ["train", "train", "test"]}
    data = read_tables({"u": ["a", "b"], "v": ["b", "c"], " Weight": [2.0, 3.0]}, nodes, target="y")
    assert data.edge_weight.tolist() == [2, 3]
    assert data.test_mask.tolist() == [False, False, True]
    assert data.features.shape == (3, 3)  # each node one, none of the split


def test_features_beside_the_table(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "x.npy", x)
    data = quietly(
        EDGES, {"name": NODES["name"], "team": NODES["team"]}, target="team", features=tmp_path / "x.npy"
    )
    np.testing.assert_array_equal(data.features, x.astype(np.float32))
    both = quietly(EDGES, NODES, target="team", features=x)
    np.testing.assert_array_equal(both.features[:, -3:], x)
    assert both.features.shape == (4, 8)


@pytest.mark.parametrize("identity", [True, False])
def test_other_tables_are_encoded_as_the_first_was(identity: bool, tmp_path: Path) -> None:
    """Other nodes, another order of columns and rows, a category that is new, a target that is not there: row
    by row the same features.
    """
    first = quietly(EDGES, NODES, target="team", identity=identity)
    columns = Columns.from_dict(first.columns.as_dict())
    other = {
        "who": ["new", "Zoë", "ann"],
        "height": [9.0, 1.7, 1.5],
        "city": ["Paris", "Rome", "Rome"],
        "unused": [0, 0, 0],
        "age": [36.5, 55, 31],
    }
    with pytest.warns(UserWarning, match="was not") as said:
        again = read_tables({"u": ["new", "ann"], "v": ["ann", "Zoë"]}, other, columns=columns)
    assert len(said) == 1 + identity
    assert "row 0, column 'city': 'Paris' was not seen in training" in str(said[0].message)
    was, now = (data.features.toarray() if identity else data.features for data in (first, again))
    np.testing.assert_array_equal(now[1], was[2])
    np.testing.assert_array_equal(now[2], was[0])
    new = np.zeros(was.shape[1], np.float32)
    new[4] = (9.0 - 1.6) / np.std([1.5, 1.7, 1.6])
    np.testing.assert_allclose(now[0], new, atol=1e-6)
    assert again.labels.tolist() == [-1, -1, -1]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """Blank lines and texts over several lines are counted as an editor counts them; a text may run over
    lines anywhere in a file.
    """
    rows = "".join(f'"first\nsecond {i}",x\n\n' for i in range(60_000))
    (tmp_path / "edges.csv").write_text("u,v\n" + rows + ",x\n")
    with pytest.raises(
        ValueError, match=rf"edges\.csv, line {3 * 60_000 + 2}, column 'u': the name of the node is missing"
    ):
        read_tables(tmp_path / "edges.csv")


E = "u,v\na,b\nb,c\nc,d\n"
N = "name,y,x\na,p,1\nb,q,2\nc,p,3\nd,,4\n"
W = "u,v,weight\n"

BROKEN: dict[str, tuple[str | bytes, str | bytes, dict[str, Any], str]] = {
    "unknown name": (
        "u,v\na,b\na,zoe\n",
        N,
        {},
        r"edges\.csv, line 3, column 'v': the node 'zoe' is not in .*nodes\.csv",
    ),
    "unknown source": ("u,v\na,b\ne,b\n", N, {}, r"edges\.csv, line 3, column 'u': the node 'e' is not in"),
    "no source": (
        "u,v\na,b\n,c\n",
        N,
        {},
        r"edges\.csv, line 3, column 'u': the name of the node is missing",
    ),
    "no target": (
        "u,v\na,b\n\nb,\n",
        N,
        {},
        r"edges\.csv, line 4, column 'v': the name of the node is missing",
    ),
    "edges without header": ("a,b\nb,c\nc,d\nd,a\n", N, {}, r"edges\.csv begins with the nodes 'a' and 'b'"),
    "numbers without header": (
        "0,1\n1,2\n",
        "id,y\n0,p\n1,q\n2,p\n",
        {},
        r"edges\.csv begins with the nodes '0' and '1'",
    ),
    "one column": ("u\na\n", N, {}, r"edges\.csv has one column, 'u'; it needs two"),
    "semicolons": ("u;v\na;b\n", N, {}, r"has one column, 'u;v'; .* ';' .* not commas: .* sep=';'"),
    "tabs in nodes": ("u,v\na,b\n", "name\ty\na\t0\n", {}, r"nodes\.csv has one column, .*: name it \.tsv"),
    "ends not first": (
        "w,u,v\n1,a,b\n",
        N,
        {},
        r"the node '1' is not in .*; the first two columns, 'w', 'u', name",
    ),
    "too few values": ("u,v\na,b\nb\n", N, {}, r"edges\.csv, line 3: 1 values, the first line has 2"),
    "too many values": ("u,v\na,b\nb,c,d\n", N, {}, r"edges\.csv, line 3: 3 values, the first line has 2"),
    "open quote": ('u,v\na,b\n"b,c\n', N, {}, r"edges\.csv, line 3"),
    "empty edges": ("", N, {}, r"edges\.csv is empty"),
    "empty nodes": (E, "", {}, r"nodes\.csv is empty"),
    "edges that are no text": (
        b"u,v\na,b\nb,\xff\xfec\n",
        N,
        {},
        r"edges\.csv, line 3, column 'v': '\\xff\\xfec' is no text in UTF-8",
    ),
    "nodes that are no text": (
        E,
        b"name,y,x\na,p,1\nb,\xe9,2\n",
        {},
        r"nodes\.csv, line 3, column 'y': '\\xe9' is no text in UTF-8",
    ),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", N, {}, r"edges\.csv, line 1 is no text in UTF-8"),
    "UTF-16": ("u,v\na,b\n".encode("utf-16"), N, {}, r"edges\.csv, line 1 is no text in UTF-8"),
    "two columns of one name": ("u,u\na,b\n", N, {}, r"edges\.csv has two columns 'u'"),
    "weight no number": (
        W + "a,b,1\nb,c,much\n",
        N,
        {},
        r"edges\.csv, line 3, column 'weight': 'much' is no number",
    ),
    "weight missing": (
        W + "a,b,1\nb,c,\n",
        N,
        {},
        r"edges\.csv, line 3, column 'weight': the weight is missing",
    ),
    "weight NaN": (W + "a,b,1\nb,c,nan\n", N, {}, r"edges\.csv, line 3, column 'weight': the weight is nan"),
    "weight infinite": (
        W + "a,b,1\nb,c,inf\n",
        N,
        {},
        r"edges\.csv, line 3, column 'weight': the weight is inf",
    ),
    "weight negative": (
        W + "a,b,1\nb,c,-2\n",
        N,
        {},
        r"edges\.csv, line 3, column 'weight': the weight is -2",
    ),
    "node twice": (
        E,
        "name,y\na,p\nb,q\nc,p\nd,q\nb,q\n",
        {},
        r"nodes\.csv, line 6: the node 'b' is there twice, first in .*line 3",
    ),
    "node without name": (
        E,
        "name,y\na,p\n,q\n",
        {},
        r"nodes\.csv, line 3, column 'name': the name of the node is missing",
    ),
    "no edges": ("u,v\n", N, {}, r"edges\.csv has no edges, only the names of columns"),
    "no nodes": (E, "name,y\n", {}, r"nodes\.csv has no nodes"),
    "header alone": ("u,v", N, {}, r"edges\.csv has no edges, only the names of columns"),
    "header of nodes alone": (E, "name,y", {}, r"nodes\.csv has no nodes, only the names of columns"),
    "empty lines": ("\n\n", N, {}, r"edges\.csv is empty"),
    "spaces": ("  ", N, {}, r"edges\.csv is empty"),
    "a mark of UTF-8 alone": (b"\xef\xbb\xbf", N, {}, r"edges\.csv is empty"),
    "target that names": (
        E,
        N,
        {"target": "name"},
        r"nodes\.csv: the column 'name' is the first.*another one as the target",
    ),
    "categories that name": (
        E,
        N,
        {"categories": ["name"]},
        r"nodes\.csv: the column 'name' is the first.*another one as categories",
    ),
    "feature too large": (
        E,
        "name,y,x\na,p,1\nb,q,-2e200\nc,p,1e200\nd,,4\n",
        {},
        r"nodes\.csv, line 3, column 'x': '-2e200' is too large",
    ),
    "features out of range": (
        E,
        N,
        {"features": np.full((4, 2), 1e300)},
        r"x\[0, 0\] is inf; .* within the range of float32",
    ),
    "target not there": (
        E,
        N,
        {"target": "Y"},
        r"nodes\.csv has no column 'Y' for the target; it has .*did you mean 'y'\?",
    ),
    "target empty": (E, "name,y\na,\nb,\nc,\nd,\n", {}, r"nodes\.csv: the target 'y' is empty in every row"),
    "one class": (E, "name,y\na,p\nb,p\nc,p\nd,\n", {}, r"nodes\.csv: every label in 'y' is 'p'"),
    "target no number": (E, N, {"task": "regression"}, r"nodes\.csv, line 2, column 'y': 'p' is no number"),
    "target infinite": (
        E,
        "name,y\na,1.5\nb,inf\nc,2\nd,3\n",
        {},
        r"nodes\.csv, line 3, column 'y': inf is not finite",
    ),
    "unknown part": (
        E,
        "name,y,split\na,p,train\nb,q,tset\nc,p,val\nd,,\n",
        {},
        r"nodes\.csv, line 3, column 'split': 'tset' is no part; .*'test'",
    ),
    "nothing to train": (
        E,
        "name,y,split\na,p,val\nb,q,test\nc,p,val\nd,,train\n",
        {},
        r"nodes\.csv: no row with a label is for training",
    ),
    "feature no number": (
        E,
        "name,y,x\na,p,1\nb,q,2\nc,p,x3\nd,,4\n",
        {},
        r"nodes\.csv, line 4, column 'x': 'x3' is no number",
    ),
    "feature infinite": (
        E,
        "name,y,x\na,p,1\nb,q,inf\nc,p,3\nd,,4\n",
        {},
        r"nodes\.csv, line 3, column 'x': inf is not finite",
    ),
    "category unknown": (E, N, {"categories": ["z"]}, r"nodes\.csv has no column 'z'"),
    "features of other nodes": (E, N, {"features": np.ones((3, 2))}, "x has 3 rows, the graph 4 nodes"),
    "features with NaN": (E, N, {"features": np.full((4, 2), np.nan)}, r"x\[0, 0\] is nan"),
    "unknown task": (E, N, {"task": "clustering"}, "unknown task 'clustering'"),
    "no shares": (E, N, {"split": (0.9, 0.2, 0.1)}, "shares are at least 0, and together at most 1"),
}

DOUBTFUL: dict[str, tuple[str, str, str]] = {
    "node without edges": ("u,v\na,b\nb,c\n", N, r"nodes\.csv, line 5: the node 'd' has no edges"),
    "edge twice": (
        "u,v\na,b\nb,c\nc,d\n\na,b\n",
        N,
        r"edges\.csv, line 6: the edge 'a' → 'b' is there already, in .*edges\.csv, line 2",
    ),
    "missing number": (
        E,
        "name,y,x\na,p,1\nb,q,\nc,p,3\nd,,NA\n",
        r"nodes\.csv, line 3, column 'x': there is no number.*and 1 more",
    ),
    "missing text": (
        E,
        "name,y,k\na,p,r\nb,q,\nc,p,s\nd,,r\n",
        r"nodes\.csv, line 3, column 'k': nothing is there",
    ),
    "empty column": (
        E,
        "name,y,x,z\na,p,1,\nb,q,2,\nc,p,3,\nd,,4,\n",
        r"nodes\.csv: the column 'z' is empty and is left out",
    ),
    "training without label": (
        E,
        "name,y,x,split\na,p,1,train\nb,q,2,train\nc,,3,train\nd,p,4,val\n",
        r"nodes\.csv, line 4, column 'split': it is for train, but has no label",
    ),
}


def both(tmp_path: Path, edges: str | bytes, nodes: str | bytes) -> tuple[Path, Path]:
    paths = tmp_path / "edges.csv", tmp_path / "nodes.csv"
    for path, content in zip(paths, (edges, nodes)):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return paths


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables_are_errors_that_say_where(name: str, tmp_path: Path) -> None:
    edges, nodes, options, message = BROKEN[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises((ValueError, TypeError), match=message) as raised:
            read_tables(*both(tmp_path, edges, nodes), **{"target": "y", **options})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_tables_are_warnings_that_say_where(name: str, tmp_path: Path) -> None:
    edges, nodes, message = DOUBTFUL[name]
    with pytest.warns(UserWarning, match=message) as said:
        read_tables(*both(tmp_path, edges, nodes), target="y")
    assert len(said) == 1
    assert said[0].filename == __file__


@pytest.mark.parametrize(
    ("edges", "nodes", "kind", "message"),
    [
        ("nowhere.csv", None, FileNotFoundError, "there is no file nowhere.csv"),
        ("edges.xlsx", None, ValueError, r"extension '.xlsx', which is no table's"),
        (5, None, TypeError, "edges is an int"),
        ({"u": ["a", 1], "v": ["b", "c"]}, None, ValueError, "the table of edges cannot be read"),
        ({"u": ["a"], "v": [["b"]]}, None, ValueError, r"the table of edges, column 'v'"),
    ],
)
def test_what_is_no_table(
    edges: Any, nodes: Any, kind: type[Exception], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edges.xlsx").write_bytes(b"PK")
    with pytest.raises(kind, match=message):
        read_tables(edges, nodes)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_columnar_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"edges.{kind}"
    path.write_bytes(write(tmp_path / f"whole.{kind}", EDGES).read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"edges\.{kind} \(\d+ bytes\) is damaged"):
        read_tables(path)


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'numgraph\[tables\]'"):
        read_tables(EDGES)
