"""Samples of HeteroGraphs: blocks are edges of the graph, all in-edges give the whole graph's results,
batches repeat.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import numgraph as ng
from numgraph import HeteroGraph, NeighborLoader, nn
from numgraph.sampling import HeteroSampler, NeighborSampler

RNG = np.random.default_rng(4)
COUNTS = {"author": 30, "paper": 40, "venue": 5, "city": 3}
WRITES, CITES, AT, REV = (
    ("author", "writes", "paper"),
    ("paper", "cites", "paper"),
    ("paper", "at", "venue"),
    ("paper", "by", "author"),
)


def ends(source, target, count):
    return RNG.integers(0, COUNTS[source], count), RNG.integers(0, COUNTS[target], count)


H = HeteroGraph(
    {key: ends(key[0], key[2], count) for key, count in ((WRITES, 120), (CITES, 150), (AT, 40), (REV, 100))},
    COUNTS,
)
X = {kind: RNG.normal(size=(count, 4)) for kind, count in COUNTS.items()}
SEEDS = np.array([3, 17, 0, 39])


def check_blocks(batch, fanouts, replace=False):
    """Each block's edges are the graph's, no more of a node than its fanout, and the next block's sources are
    its destinations.
    """
    for block, fanout in zip(batch.blocks, fanouts):
        for relation, graph in block.items():
            ids, whole = block.edge_ids[relation], H[relation]
            src, dst = (block.nodes[kind] for kind in (relation[0], relation[2]))
            assert (graph.num_src, graph.num_dst) == (
                block.num_nodes[relation[0]],
                block.num_dst[relation[2]],
            )
            assert src[graph.src].tolist() == whole.src[ids].tolist()
            assert dst[graph.dst].tolist() == whole.dst[ids].tolist()
            if not replace:
                assert len(np.unique(ids)) == len(ids)
            wanted = whole.in_degrees()[dst[: graph.num_dst]]
            if fanout >= 0:
                wanted = np.where(wanted > 0, fanout, 0) if replace else np.minimum(wanted, fanout)
            assert graph.in_degrees().tolist() == wanted.tolist()
    for outer, inner in zip(batch.blocks, batch.blocks[1:]):
        assert outer.num_dst == inner.num_nodes
    last = batch.blocks[-1]
    assert {kind: last.nodes[kind][:count].tolist() for kind, count in last.num_dst.items() if count} == {
        kind: ids.tolist() for kind, ids in batch.seeds.items()
    }
    assert all(len(np.unique(ids)) == len(ids) for ids in batch.nodes.values())


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fanouts", [[2, 3], [-1, -1], [0, 1]])
def test_blocks_are_edges_of_the_graph(fanouts, replace):
    if replace and -1 in fanouts:
        fanouts = [3, 2, 1]
    batch = HeteroSampler(fanouts, replace=replace).sample(H, {"paper": SEEDS, "venue": [1]}, seed=5)
    check_blocks(batch, fanouts, replace)
    assert not len(batch.nodes["city"])


def test_fanouts_of_relations():
    sampler = HeteroSampler({"writes": [1, 2], CITES: [0, 1]})
    batch = sampler.sample(H, {"paper": SEEDS})
    assert [block.edge_types for block in batch.blocks] == [[WRITES, CITES]] * 2
    assert [max(block["writes"].in_degrees()) for block in batch.blocks] == [1, 2]
    assert batch.blocks[0]["cites"].num_edges == 0


def test_what_is_drawn_depends_on_the_node_alone():
    sampler = HeteroSampler([3])
    together, alone = (sampler.sample(H, {"paper": seeds}, seed=9) for seeds in (SEEDS, SEEDS[1:2]))
    of_second = [
        ids for ids in together.blocks[0].edge_ids[WRITES].tolist() if H[WRITES].dst[ids] == SEEDS[1]
    ]
    assert sorted(of_second) == sorted(alone.blocks[0].edge_ids[WRITES].tolist())
    other = sampler.sample(H, {"paper": SEEDS}, seed=10)
    assert other.blocks[0].edge_ids[CITES].tolist() != together.blocks[0].edge_ids[CITES].tolist()


class Model(nn.Module):
    def __init__(self, first, second):
        self.layers = [first, second]

    def forward(self, blocks, x):
        graphs = blocks if isinstance(blocks, list) else [blocks] * 2
        return self.layers[1](
            graphs[1], {kind: ng.relu(z) for kind, z in self.layers[0](graphs[0], x).items()}
        )


def hetero_convs(aggr):
    convs = {"writes": nn.SAGEConv, "cites": nn.SAGEConv, "at": nn.GATv2Conv, "by": nn.SAGEConv}
    options = {"at": {"add_self_loops": False}}
    return nn.HeteroConv(
        {
            name: kind((4, 4), 4, rng=1, dtype=np.float64, **options.get(name, {}))
            for name, kind in convs.items()
        },
        aggr,
    )


def hgt(_):
    return nn.HGTConv(4, 4, H.edge_types, heads=2, node_types=H.node_types, rng=2, dtype=np.float64)


def rgcn(_):
    return nn.RGCNConv(4, 4, len(H), rng=3, dtype=np.float64)


@pytest.mark.parametrize(
    ("layer", "aggr"), [(hetero_convs, "sum"), (hetero_convs, "max"), (hgt, ""), (rgcn, "")]
)
def test_all_in_edges_give_the_whole_graphs_results(layer, aggr):
    model = Model(layer(aggr), layer(aggr))
    whole = model(H, X)
    for batch in NeighborLoader(
        (H, {kind: {"x": x} for kind, x in X.items()}), [-1, -1], input_nodes=("paper", SEEDS), batch_size=3
    ):
        found = model(batch.blocks, batch.x)["paper"]
        assert np.allclose(found, whole["paper"][batch.seeds["paper"]], atol=1e-12)


def test_multi_update_all_on_a_block():
    block = HeteroSampler([-1]).sample(H, {"paper": SEEDS}).blocks[0]
    functions = {"writes": (lambda u, v: u.x * v.x, "sum"), "cites": (lambda u, v: u.x - v.x, "max")}
    nodes = {kind: {"x": X[kind][block.nodes[kind]]} for kind in COUNTS}
    found = ng.multi_update_all(block, functions, nodes=nodes)
    whole = ng.multi_update_all(H, functions, nodes={kind: {"x": x} for kind, x in X.items()})
    assert np.allclose(found["paper"], whole["paper"][SEEDS], atol=1e-12)
    assert found["venue"].shape == (0, 4)


def test_batches_repeat_and_have_labels():
    labels = RNG.integers(0, 3, 40)
    data = (H, {"paper": {"x": X["paper"], "labels": labels}, "author": {"x": X["author"]}})
    passes = []
    for prefetch in (0, 3):
        mask = np.arange(40) % 2 == 0
        loader = NeighborLoader(
            data, [2, 2], input_nodes=("paper", mask), batch_size=6, shuffle=True, seed=1, prefetch=prefetch
        )
        assert len(loader) == 4
        passes.append([batch for _ in range(2) for batch in loader])
    for a, b in zip(*passes):
        assert a.seeds["paper"].tolist() == b.seeds["paper"].tolist()
        assert all(np.array_equal(a.nodes[kind], b.nodes[kind]) for kind in COUNTS)
        assert a.blocks[0].edge_ids[CITES].tolist() == b.blocks[0].edge_ids[CITES].tolist()
        assert a.labels.tolist() == labels[a.seeds["paper"]].tolist()
        assert np.array_equal(a.x["author"], X["author"][a.nodes["author"]])
        assert set(a.x) == {"author", "paper"}
    assert sorted(np.concatenate([batch.seeds["paper"] for batch in passes[0][:4]]).tolist()) == list(
        range(0, 40, 2)
    )
    assert "4 batches of 6 of 'paper'" in repr(loader)


def test_blocks_are_pickled_and_not_changed():
    block = HeteroSampler([2]).sample(H, {"paper": SEEDS}).blocks[0]
    back = pickle.loads(pickle.dumps(block))
    assert repr(back) == repr(block)
    assert back.num_dst == block.num_dst
    assert back.edge_ids[WRITES].tolist() == block.edge_ids[WRITES].tolist()
    with pytest.raises(TypeError, match="a block is one hop of sampled edges"):
        block.reverse()


DATA = (H, {"paper": {"x": X["paper"]}})
ERRORS = [
    (lambda: HeteroSampler({"writes": [1, 2], "cites": [1]}), ValueError, r"fanouts have lengths \[1, 2\]"),
    (lambda: HeteroSampler([1]).sample(H, {"papers": [1]}), ValueError, "did you mean 'paper'"),
    (
        lambda: HeteroSampler([1]).sample(H, {"paper": [1, 1]}),
        ValueError,
        r"seeds\[1\] is 1, which is there before",
    ),
    (
        lambda: HeteroSampler([1]).sample(H, {"paper": [40]}),
        IndexError,
        r"seeds\[0\] is 40, num_nodes\['paper'\] is 40",
    ),
    (lambda: HeteroSampler({"wrote": [1]}).sample(H, {"paper": [1]}), ValueError, "did you mean 'writes'"),
    (lambda: NeighborLoader(DATA, [2]), TypeError, "input_nodes is None; give the type and the ids"),
    (lambda: NeighborLoader(DATA, [2], input_nodes=("pape", None)), ValueError, "did you mean 'paper'"),
    (
        lambda: NeighborLoader((H, {"paper": {"y": X["paper"]}}), [2], input_nodes="paper"),
        ValueError,
        "'paper' has 'y'",
    ),
    (
        lambda: NeighborLoader((H, {"paper": {"x": X["author"]}}), [2], input_nodes="paper"),
        ValueError,
        "has 30 rows, the graph 40 nodes",
    ),
    (lambda: NeighborLoader(H, [2], input_nodes="paper"), TypeError, "data is a HeteroGraph"),
    (
        lambda: NeighborLoader(DATA, NeighborSampler([2], weight=[1.0]), input_nodes="paper"),
        ValueError,
        "the sampler has weights",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_say_what_to_do(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
