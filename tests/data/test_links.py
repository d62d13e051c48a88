"""Splits: shares of nodes and of links, nothing held out that leaks; and the measures of links and numbers
against scikit-learn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import numgraph as ng
from numgraph.data import split_links
from numgraph.training.metrics import average_precision, link_values, regression_values, roc_auc


def random_dataset(num_nodes: int, num_edges: int, seed: int) -> ng.Dataset:
    """A directed multigraph with self loops."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_nodes, (2, num_edges))
    graph = ng.Graph(src, dst, num_nodes)
    weight = rng.random(num_edges).astype(np.float32)
    return ng.Dataset.from_arrays(graph, None, np.arange(num_nodes) % 2, edge_weight=weight)


def as_sets(pairs: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(pair) for pair in pairs.tolist()}


@pytest.mark.parametrize(("num_nodes", "num_edges"), [(5, 4), (30, 200), (200, 700), (12, 100)])
@pytest.mark.parametrize("split", [(0.8, 0.1, 0.1), (0.5, 0.2, 0.2)])
def test_nothing_of_a_held_out_link_is_in_the_graph(num_nodes: int, num_edges: int, split: Any) -> None:
    data = random_dataset(num_nodes, num_edges, seed=num_edges)
    links = split_links(data, split, rng=3)
    everything = {frozenset(pair) for pair in zip(data.graph.src.tolist(), data.graph.dst.tolist())}
    joined = {pair for pair in everything if len(pair) == 2}
    train, val, test = (as_sets(part) for part in (links.train, links.val, links.test))
    assert len(train) + len(val) + len(test) == len(links.train) + len(links.val) + len(links.test)
    assert len(train | val | test) == len(train) + len(val) + len(test)
    assert (train | val | test) <= joined
    for part, share in zip((train, val, test), split):
        assert abs(len(part) - share * len(joined)) <= 1
    left = list(
        zip(links.data.graph.src.tolist(), links.data.graph.dst.tolist(), links.data.edge_weight.tolist())
    )
    kept = [
        (u, v, w)
        for u, v, w in zip(data.graph.src.tolist(), data.graph.dst.tolist(), data.edge_weight.tolist())
        if u == v or frozenset((u, v)) in train
    ]
    assert left == kept
    for part, negatives in ((links.val, links.val_negatives), (links.test, links.test_negatives)):
        assert len(negatives) == len(part)
        assert not as_sets(negatives) & joined
        assert (negatives[:, 0] < negatives[:, 1]).all()


def test_pairs_without_an_edge_are_drawn_evenly() -> None:
    data = random_dataset(6, 6, seed=1)
    joined = as_sets(np.stack([data.graph.src, data.graph.dst], axis=1))
    free = [(u, v) for u in range(6) for v in range(u + 1, 6) if frozenset((u, v)) not in joined]
    from numgraph.data.links import keys_of, negative_pairs

    pairs = np.array([sorted(pair) for pair in joined if len(pair) == 2])
    drawn = negative_pairs("test", keys_of(pairs, 6), 6, 6000, np.random.default_rng(0))
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert list(map(tuple, found.tolist())) == free
    assert np.abs(counts - 6000 / len(free)).max() < 5 * np.sqrt(6000 / len(free))


def test_split_links_says_what_is_wrong() -> None:
    complete = ng.Dataset.from_arrays(ng.Graph(*np.triu_indices(5, 1), 5), None, np.arange(5))
    with pytest.raises(ValueError, match="all 10 pairs of 5 nodes are joined"):
        split_links(complete)
    with pytest.raises(ValueError, match="all 10 pairs of 5 nodes are joined"):
        split_links(complete, split=(1, 0, 0))  # no epoch would find a pair without an edge
    assert len(split_links(complete, split=(0.5, 0, 0)).train) == 5
    empty = ng.Dataset.from_arrays(ng.Graph([], [], 3), None, np.arange(3))
    with pytest.raises(ValueError, match="of 0 pairs none is for training"):
        split_links(empty)
    with pytest.raises(TypeError, match="data is a Graph"):
        split_links(complete.graph)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", [(0.6, 0.2, 0.2), (1, 0, 0), (0.1, 0.1, 0.1)])
def test_shares_of_nodes_class_by_class(split: tuple[float, ...]) -> None:
    labels = np.repeat([0, 1, 2, -1], [50, 100, 150, 40])
    data = ng.Dataset.from_arrays(
        ng.Graph([], [], 340), None, np.random.default_rng(0).permutation(labels), split=split, rng=5
    )
    for mask, share in zip((data.train_mask, data.val_mask, data.test_mask), split):
        assert mask.sum() == round(share * 300)
        np.testing.assert_allclose(
            np.bincount(data.labels[mask], minlength=3), share * np.array([50, 100, 150]), atol=1
        )
    again = ng.Dataset.from_arrays(data.graph, None, data.labels, split=split, rng=5)
    other = ng.Dataset.from_arrays(data.graph, None, data.labels, split=split, rng=6)
    assert (again.train_mask == data.train_mask).all()
    assert split[0] == 1 or (other.train_mask != data.train_mask).any()


def test_links_of_a_graph_without_labels() -> None:
    graph = ng.Graph(range(9), range(1, 10), 10)
    alone = ng.Dataset.from_arrays(graph)
    assert np.array_equal(alone.features.toarray(), np.eye(10))
    assert set(alone.labels.tolist()) == {-1}
    assert not (alone.train_mask | alone.val_mask | alone.test_mask).any()
    links = ng.data.split_links(ng.Dataset.from_arrays(graph, np.ones((10, 3))), split=(0.6, 0.2, 0.2))
    assert links.data.features.shape == (10, 3)
    assert (len(links.train), len(links.val), len(links.test)) == (5, 2, 2)


def test_from_arrays_takes_masks_and_says_what_is_wrong() -> None:
    graph = ng.Graph([0, 1], [1, 2], 3)
    masks = tuple(np.eye(3, dtype=bool))
    data = ng.Dataset.from_arrays(graph, [1, 2, 3], [0, 1, 0], split=masks, names=["a", "b", "c"])
    assert data.features.tolist() == [[1], [2], [3]]
    assert [mask.tolist() for mask in (data.train_mask, data.val_mask, data.test_mask)] == np.eye(
        3, dtype=bool
    ).tolist()
    named = ng.Dataset.from_arrays(graph, None, ["red", None, "blue"], split=(1, 0, 0))
    assert (named.columns.classes, named.labels.tolist(), named.num_classes) == (
        ("blue", "red"),
        [1, -1, 0],
        2,
    )
    assert ng.Dataset.from_arrays(graph, None, [True, False, True]).labels.tolist() == [1, 0, 1]
    assert ng.Dataset.from_arrays(graph, None, [0, 10**12, 0]).labels.tolist() == [
        0,
        10**12,
        0,
    ]  # nothing is as large as a class number
    for changes, message in (
        ({"y": [0, 1]}, "y has dtype int64 and shape"),
        ({"y": [1j, 0, 0]}, "y has dtype complex128"),
        ({"y": np.array([{}, 1, None], object)}, "y has dtype object"),
        ({"y": [-1, -1, -1]}, "no node has a label"),
        ({"x": np.ones((4, 2))}, "x has 4 rows, the graph 3 nodes"),
        ({"x": [[np.inf], [0], [1]]}, r"x\[0, 0\] is inf"),
        ({"split": (0.5, 0.6, 0)}, "together at most 1"),
        ({"split": 0.5}, "split is 0.5"),
        ({"split": (masks[0], masks[1], [1, 0, 1])}, r"split\[2\] has dtype int64"),
        ({"split": (masks[0], masks[0], masks[1])}, "node 0 is in more than one of the masks"),
        ({"y": [0.5, np.inf, 1.5]}, r"y\[1\] is inf"),
        ({"y": [-1, 1, 0], "split": masks}, r"node 0 is in split\[0\], but has no label"),
        ({"edge_weight": [1.0, np.nan]}, r"edge_weight\[1\] is nan"),
        ({"edge_weight": [1.0]}, "edge_weight has 1 rows, the graph 2 edges"),
        ({"names": ["a"]}, "names has 1 entries, the graph 3 nodes"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            ng.Dataset.from_arrays(**{"graph": graph, "x": None, "y": [0, 1, 0], **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [3, 1000])
def test_measures_against_scikit_learn(seed: int, levels: int) -> None:
    """Few levels: many equal scores."""
    import sklearn.metrics

    rng = np.random.default_rng(seed)
    wanted = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + wanted, 1 if levels == 1000 else 0)
    assert link_values(wanted, scores) == pytest.approx(
        {
            "auc": sklearn.metrics.roc_auc_score(wanted, scores),
            "average_precision": sklearn.metrics.average_precision_score(wanted, scores),
        }
    )
    y, z = rng.normal(size=50), rng.normal(size=50)
    assert regression_values(z, y) == pytest.approx(
        {
            "r2": sklearn.metrics.r2_score(y, z),
            "rmse": sklearn.metrics.root_mean_squared_error(y, z),
            "mae": sklearn.metrics.mean_absolute_error(y, z),
        }
    )


def test_measures_where_there_is_nothing_to_compare() -> None:
    assert np.isnan(roc_auc([True, True], [1, 2]))
    assert np.isnan(average_precision([False], [1.0]))
    assert np.isnan(regression_values([1.0, 2.0], [3.0, 3.0])["r2"])


PAIRS = [[("a", "b"), ("b", "c"), ("a", "c")], [(7, 3), (3, 7), (7, 7)], [((0, 1), "x"), ("x", 2)], []]


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("directed", [True, False])
def test_graphs_of_pairs(pairs: list[Any], directed: bool) -> None:
    graph, names = ng.Graph.from_pairs(iter(pairs), directed=directed)
    found = [(names[u], names[v]) for u, v in zip(graph.src, graph.dst)]
    assert found == pairs + ([] if directed else [(v, u) for u, v in pairs if u != v])
    assert names == list(dict.fromkeys(name for pair in pairs for name in pair))
    if pairs and all(isinstance(name, int) for pair in pairs for name in pair):
        again, others = ng.Graph.from_pairs(np.array(pairs), directed=directed)
        assert (again.src.tolist(), others) == (graph.src.tolist(), names)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "b", "c")], r"pairs\[0\] is \('a', 'b', 'c'\)"),
        ([("a", "b"), "ab"], r"pairs\[1\] is 'ab'"),
        ([("a", None)], r"\[0\] is None"),
        (np.zeros((2, 3), int), r"it must be \[num_edges, 2\]; transpose"),
        ("ab", "pairs is a str"),
        (5, "pairs is an int"),
    ],
)
def test_what_are_no_pairs(pairs: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ng.Graph.from_pairs(pairs)
