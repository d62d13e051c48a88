"""Sets of graphs: folders in the TU format, whole and damaged, and lists of one's own."""

from __future__ import annotations

import re

import numpy as np
import pytest

import numgraph as ng
from numgraph.data import GraphDataset, degree_features, read_tu

TEXTS = {  # the second graph has no nodes, the last no edges; nodes of the graphs are not in order
    "A": "1, 3\n3, 1\n4, 2\n2, 2\n1, 1",
    "graph_indicator": "1\n3\n1\n3\n4\n",
    "graph_labels": "1\n-1\n-1\n7\n",
    "node_labels": "5, 0\n-2, 0\n5, 1\n0, 0\n0, 1\n",
    "node_attributes": "0.5\n1e1\n-2\n3\n4\n",
    "edge_labels": "0\n1\n0\n0\n1\n",
    "edge_attributes": "1.5, 10\n2.5, 20\n3.5, 30\n4.5, 40\n5.5, 50\n",
    "graph_attributes": "0.5, 1\n1.5, 2\nnan, 3\n4.5, 4\n",
}


def written(folder, changes=None):
    for kind, text in (TEXTS | (changes or {})).items():
        if text is not None:
            (folder / f"few_{kind}.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_a_folder_is_read_as_it_was_written(tmp_path):
    data = read_tu(written(tmp_path), split=(0.5, 0.25, 0.25))
    assert repr(data) == "GraphDataset('few', graphs=4, features=6, classes=3, split=2/1/1)"
    assert data.classes == (-1, 1, 7)
    assert data.labels.tolist() == [1, 0, 0, 2]
    assert [g.num_nodes for g in data.graphs] == [2, 0, 2, 1]
    # nodes 1 and 3 of the file are graph 1's, 2 and 4 graph 3's
    assert [list(zip(g.src.tolist(), g.dst.tolist())) for g in data.graphs] == [
        [(0, 1), (1, 0), (0, 0)],
        [],
        [(1, 0), (0, 0)],
        [],
    ]
    # attributes, then labels −2, 0, 5 and 0, 1
    np.testing.assert_array_equal(data.features[0], [[0.5, 0, 0, 1, 1, 0], [-2, 0, 0, 1, 0, 1]])
    np.testing.assert_array_equal(data.features[2], [[10, 1, 0, 0, 1, 0], [3, 0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(data.features[3], [[4, 0, 1, 0, 0, 1]])
    np.testing.assert_array_equal(data.edge_attr[0], [[1.5, 10, 1, 0], [2.5, 20, 0, 1], [5.5, 50, 0, 1]])
    assert [one.shape for one in data.edge_attr] == [(3, 4), (0, 4), (2, 4), (0, 4)]
    assert data.features[1].shape == (0, 6)


def test_numbers_are_learnt_where_there_are_no_labels(tmp_path):
    data = read_tu(written(tmp_path, {"graph_labels": None}), split=(1, 0, 0))
    assert data.task == "regression"
    assert data.train_mask.tolist() == [True, True, False, True]
    np.testing.assert_allclose(data.label_scale, (np.mean([0.5, 1.5, 4.5]), np.std([0.5, 1.5, 4.5])))
    assert read_tu(tmp_path, target=1, task="regression").labels.tolist() == [1, 2, 3, 4]


SAME = {
    "from 0": {"A": "0,2\n2,0\n3,1\n1,1\n0,0", "graph_indicator": "0\n2\n0\n2\n3"},
    "Windows' ends of lines": {kind: text.replace("\n", "\r\n") for kind, text in TEXTS.items()},
    "empty lines at the end": {kind: text + "\n\n \n" for kind, text in TEXTS.items()},
    "a mark of UTF-8": {kind: b"\xef\xbb\xbf" + text.encode() for kind, text in TEXTS.items()},
}


@pytest.mark.parametrize("name", SAME)
def test_other_writings_of_the_same(name, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    data, same = read_tu(written(tmp_path / "a")), read_tu(written(tmp_path / "b", SAME[name]))
    for g, other in zip(data.graphs, same.graphs, strict=True):
        assert (g.num_nodes, g.src.tolist(), g.dst.tolist()) == (
            other.num_nodes,
            other.src.tolist(),
            other.dst.tolist(),
        )
    for x, other in zip([*data.features, *data.edge_attr], [*same.features, *same.edge_attr], strict=True):
        np.testing.assert_array_equal(x, other)


def test_nodes_without_features_have_their_degrees(tmp_path):
    bare = {"node_labels": None, "node_attributes": None}
    data = read_tu(written(tmp_path, bare))
    np.testing.assert_array_equal(data.features[0], [[0, 0, 1], [0, 1, 0]])
    assert [x.shape for x in read_tu(tmp_path, degrees=False).features] == [(2, 1), (0, 1), (2, 1), (1, 1)]
    assert read_tu(written(tmp_path), degrees=True).num_features == 9
    star = ng.Graph(np.arange(1, 100), np.zeros(99, int), 100)
    assert degree_features([star])[0].sum(0).tolist() == [99, *[0] * 63, 1]


def test_graphs_alone(tmp_path):
    """Without labels, edges or nodes: what there is to predict."""
    data = read_tu(written(tmp_path, {"graph_labels": None, "graph_attributes": None}))
    assert (len(data), data.labels.tolist(), bool(data.train_mask.any())) == (4, [-1] * 4, False)
    empty = dict.fromkeys(TEXTS) | {"A": "", "graph_indicator": "", "graph_labels": "1\n2"}
    (tmp_path / "empty").mkdir()
    data = read_tu(written(tmp_path / "empty", empty))
    assert [(g.num_nodes, g.num_edges) for g in data.graphs] == [(0, 0), (0, 0)]


DAMAGED = {
    "a word": (
        {"A": "1, 3\n3, x\n"},
        r"few_A.txt, line 2 is '3, x'; every line has 2 numbers, between commas",
    ),
    "a column too many": (
        {"A": "1, 3\n3, 1, 1\n"},
        r"few_A.txt, line 2 has 3 numbers; every line has 2 numbers, between commas",
    ),
    "an empty line": (
        {"graph_indicator": "1\n\n1\n3\n4"},
        r"few_graph_indicator.txt, line 2 is empty; every line has a number",
    ),
    "half a node": ({"A": "1, 3\n3, 1.5\n"}, r"few_A.txt, line 2 has 1.5; it has whole numbers"),
    "NaN for a node": ({"A": "1, 3\nnan, 1\n"}, r"few_A.txt, line 2 has nan; it has whole numbers"),
    "a huge id": ({"A": "1, 3\n1, 1e300\n"}, r"few_A.txt, line 2 has 1e\+300"),
    "no such node": (
        {"A": "1, 3\n1, 6\n"},
        r"few_A.txt, line 2 has node 6; there are 5 nodes, which count from 1 \(or 0\)",
    ),
    "a negative node": ({"A": "1, 3\n1, -1\n"}, r"few_A.txt, line 2 has node -1"),
    "an edge between graphs": (
        {"A": "1, 3\n1, 2\n"},
        r"few_A.txt, line 2 joins nodes of the graphs 1 and 3; an edge is in one graph",
    ),
    "no such graph": (
        {"graph_indicator": "1\n3\n1\n3\n5"},
        r"few_graph_indicator.txt, line 5 has graph 5; there are 4 graphs",
    ),
    "a graph without a label": ({"graph_labels": "1\n1\n1\nred"}, r"few_graph_labels.txt, line 4 is 'red'"),
    "labels that are none": (
        {"graph_labels": "1\n1.5\n1\n1"},
        r"few_graph_labels.txt, line 2 has 1.5; it has whole numbers",
    ),
    "too few lines": (
        {"node_labels": "1\n2\n"},
        r"few_node_labels.txt has 2 lines, few_graph_indicator.txt has 5; it has a line for each node",
    ),
    "too many lines": (
        {"edge_labels": "1\n" * 6},
        r"few_edge_labels.txt has 6 lines, few_A.txt has 5; it has a line for each edge",
    ),
    "no number": (
        {"node_attributes": "1\n2\ninf\n4\n5"},
        r"few_node_attributes.txt, line 3 has inf; give finite numbers",
    ),
    "past float32": ({"edge_attributes": "1\n2\n3\n4\n1e39"}, r"few_edge_attributes.txt, line 5 has 1e\+39"),
    "bytes": (
        {"graph_labels": b"\xff\xfe\x00"},
        r"few_graph_labels.txt is no text \(invalid start byte at byte 0\)",
    ),
    "zero bytes": ({"graph_indicator": b"1\n3\n1\x00\n3\n4"}, r"few_graph_indicator.txt, line 3 is '1\\x00'"),
    "no graph": (
        dict.fromkeys(TEXTS) | {"A": "", "graph_indicator": "", "graph_labels": ""},
        r"has no line; a set has one graph or more",
    ),
    "graphs by the million": (
        {"graph_labels": None, "graph_attributes": None, "graph_indicator": "1\n3\n1\n3\n1000000000000"},
        r"few_graph_indicator.txt, line 5 is graph 1000000000000 of 5 nodes",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_told_with_its_line(name, tmp_path):
    changes, text = DAMAGED[name]
    with pytest.raises(ValueError, match=text) as caught:
        read_tu(written(tmp_path, changes))
    assert str(caught.value).startswith("read_tu: ")


def test_labels_without_end_are_no_features(tmp_path):
    count = 5000
    texts = {
        "A": "1, 2",
        "graph_indicator": "1\n" * count,
        "graph_labels": "1",
        "node_labels": "\n".join(map(str, range(count))),
    }
    with pytest.raises(
        ValueError, match=r"few_node_labels.txt has 5,000 different labels; each is a feature"
    ):
        read_tu(written(tmp_path, dict.fromkeys(TEXTS) | texts))


def test_every_cut_of_a_file_is_an_error_or_a_set(tmp_path):
    """A file that ends anywhere never leads to more than a ValueError."""
    written(tmp_path)
    for kind in ("A", "graph_indicator", "node_attributes"):
        for end in range(len(TEXTS[kind])):
            (tmp_path / f"few_{kind}.txt").write_text(TEXTS[kind][:end])
            try:
                found = len(read_tu(tmp_path))
            except ValueError as error:
                found = str(error)
            assert found == 4 or re.match("read_tu: .*few_.*.txt", found), (kind, end)
        (tmp_path / f"few_{kind}.txt").write_text(TEXTS[kind])


def test_folders_and_options_that_cannot_be(tmp_path):
    for error, call, text in (
        (FileNotFoundError, lambda: read_tu(tmp_path / "none"), "there is no folder"),
        (FileNotFoundError, lambda: read_tu(tmp_path), "has 0 files NAME_A.txt; give one of the TU format"),
        (
            FileNotFoundError,
            lambda: read_tu(written(tmp_path, {"graph_indicator": None})),
            "there is no file .*few_graph_indicator.txt",
        ),
        (
            ValueError,
            lambda: read_tu(written(tmp_path), task="regression", target=2),
            "target is 2, and .* has 2 columns",
        ),
        (ValueError, lambda: read_tu(tmp_path, task="both"), "unknown task"),
    ):
        with pytest.raises(error, match=text):
            call()
    (tmp_path / "more_A.txt").write_text("")
    with pytest.raises(ValueError, match=r"2 files NAME_A\.txt, of few, more; say which by name"):
        read_tu(tmp_path)
    assert read_tu(tmp_path, name="few").name == "few"


PAIR, RING = ng.Graph([0, 1], [1, 0]), ng.Graph([0, 1, 2], [1, 2, 0])


def test_lists_of_ones_own():
    data = GraphDataset.from_graphs(
        [PAIR, RING] * 3, None, ["b", "a"] * 3, (0.5, 0.25, 0.25), edge_attr=[[1, 2], [3, 4, 5]] * 3
    )
    assert (data.classes, data.num_outputs, data.num_features) == (("a", "b"), 2, 2)
    batch = next(iter(ng.GraphLoader(data, 2, input_graphs=[1, 4])))
    assert batch.indices.tolist() == [1, 4]
    assert batch.edge_attr.ravel().tolist() == [3, 4, 5, 1, 2]
    assert batch.labels.tolist() == [0, 1]
    assert sum(len(b) for b in ng.GraphLoader(data, 2, input_graphs=data.train_mask)) == data.train_mask.sum()


def test_a_graph_without_edges_has_no_rows_of_edge_features():
    data = GraphDataset.from_graphs(
        [ng.Graph([], [], 2), PAIR] * 4, None, [0, 1] * 4, edge_attr=[np.zeros((0, 3)), np.ones((2, 3))] * 4
    )
    assert [array.shape for array in data.edge_attr[:2]] == [(0, 3), (2, 3)]


X = [np.ones((2, 1)), np.ones((3, 1))]


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (
            lambda: GraphDataset.from_graphs([PAIR, 3], X, [0, 1]),
            TypeError,
            "from_graphs: graphs[1] is an int",
        ),
        (lambda: GraphDataset.from_graphs(PAIR, X, [0, 1]), TypeError, "graphs is a Graph; give a list"),
        (
            lambda: GraphDataset.from_graphs([PAIR, RING], X[:1], [0, 1]),
            ValueError,
            "x has 1 entries, there are 2 graphs",
        ),
        (
            lambda: GraphDataset.from_graphs([PAIR, RING], X[::-1], [0, 1]),
            ValueError,
            "x[0] has 3 rows, its graph 2 nodes",
        ),
        (
            lambda: GraphDataset.from_graphs([PAIR, RING], [X[0], np.ones((3, 2))], [0, 1]),
            ValueError,
            "x[1] has 2 columns, x[0] has 1",
        ),
        (
            lambda: GraphDataset.from_graphs([PAIR, RING], X, [0]),
            ValueError,
            "y has a class number or a real number for each of the 2 graphs",
        ),
        (lambda: GraphDataset.from_graphs([PAIR, RING], X, [-1, -1]), ValueError, "no graph has a label"),
        (
            lambda: GraphDataset.from_graphs([PAIR], X[:1], [0], edge_attr=[[1.0]]),
            ValueError,
            "edge_attr[0] has 1 rows, its graph 2 edges",
        ),
        (
            lambda: ng.GraphLoader([(PAIR, X[0], 0)], input_graphs=[1]),
            ValueError,
            "input_graphs[0] is 1; ids run from 0 to 0",
        ),
        (
            lambda: ng.GraphLoader([(PAIR, X[0], 0)], input_graphs=[0.5]),
            TypeError,
            "input_graphs has dtype float64 and shape [1]",
        ),
    ],
)
def test_what_does_not_fit_is_told(make, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        make()
