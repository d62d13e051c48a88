"""numgraph.torch.nn against PyG's layers: the same state, results and gradients, on graphs of every kind."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pyg = pytest.importorskip("torch_geometric.nn", reason="PyG is not installed", exc_type=ImportError)
layers = ng.torch.nn
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore:.*isinstance.treespec.*:FutureWarning"
)  # compilers'

RNG = np.random.default_rng(0)
LOOPS = [[3, 3, 3, 5, 0, 0], [3, 3, 3, 5, 0, 0]]


def edges(num_src, num_dst, count, extra=((), ())):
    """[2, edges]; parallel ones among them, in no order."""
    ids = np.stack([RNG.integers(0, num_src, count), RNG.integers(0, num_dst, count)])
    return torch.from_numpy(
        np.concatenate([ids[:, :7], np.array(extra, np.int64), ids[:, 7:], ids[:, :3]], 1)
    )


GRAPHS = {
    "directed": (edges(9, 9, 40), (9, 9)),
    "loops": (edges(9, 9, 20, LOOPS), (9, 9)),
    "isolated": (edges(6, 7, 15), (9, 9)),
    "no edges": (torch.zeros(2, 0, dtype=torch.int64), (9, 9)),
    "more sources": (edges(9, 6, 30, LOOPS), (9, 6)),
    "more destinations": (edges(6, 9, 30, LOOPS), (6, 9)),
}
SQUARE = [name for name, (_, counts) in GRAPHS.items() if counts[0] == counts[1]]

F, D = 6, 3
WEIGHT, ATTR = ("edge_weight", 0), ("edge_attr", D)
LAYERS = [
    ("GCNConv", (F, 4), {}, None),
    ("GCNConv", (F, 4), {}, WEIGHT),
    ("GCNConv", (F, 4), {"improved": True, "bias": False}, WEIGHT),
    ("GCNConv", (F, 4), {"improved": True}, None),
    ("GCNConv", (F, 4), {"add_self_loops": False}, None),
    ("GCNConv", (F, 4), {"add_self_loops": False}, WEIGHT),
    ("GCNConv", (F, 4), {"normalize": False}, None),
    ("GCNConv", (F, 4), {"normalize": False, "aggr": "mean"}, WEIGHT),
    *[("SAGEConv", (F, 4), {"aggr": aggr}, None) for aggr in ("mean", "sum", "add", "max", "min", "mul")],
    ("SAGEConv", (F, 4), {"normalize": True, "root_weight": False, "bias": False}, None),
    ("SAGEConv", (F, 4), {"project": True}, None),
    ("GINConv", (), {"eps": 0.5}, None),
    ("GINConv", (), {"train_eps": True}, None),
    ("GATConv", (F, 4), {"heads": 2}, None),
    ("GATConv", (F, 4), {"heads": 2, "concat": False, "residual": True, "negative_slope": 0.1}, None),
    ("GATConv", (F, 4), {"heads": 2, "add_self_loops": False, "bias": False}, None),
    *[
        ("GATConv", (F, 4), {"heads": 2, "edge_dim": D, "fill_value": fill}, ATTR)
        for fill in ("mean", "add", "max", "min", "mul", 0.5)
    ],
    ("GATConv", (F, 4), {"edge_dim": D, "fill_value": torch.tensor([1.0, 2.0, 3.0])}, ATTR),
    ("GATConv", (F, 4), {"edge_dim": D}, None),
    ("GATConv", (F, 4), {}, ATTR),
    ("GATConv", (F, 4), {"edge_dim": D, "add_self_loops": False}, ATTR),
    ("GATConv", (F, 4), {"edge_dim": 1}, WEIGHT),
    ("GATv2Conv", (F, 4), {"heads": 2}, None),
    ("GATv2Conv", (F, 4), {"heads": 2, "concat": False, "residual": True, "negative_slope": 0.1}, None),
    ("GATv2Conv", (F, 4), {"heads": 2, "share_weights": True, "bias": False}, None),
    ("GATv2Conv", (F, 4), {"heads": 2, "edge_dim": D}, ATTR),
    ("GATv2Conv", (F, 4), {"edge_dim": D, "fill_value": 0.5, "add_self_loops": False}, ATTR),
]
PAIRS = [
    *[("SAGEConv", ((F, 5), 4), {"aggr": aggr}, None) for aggr in ("mean", "max")],
    ("SAGEConv", ((F, 5), 4), {"project": True, "normalize": True}, None),
    ("GINConv", (), {"train_eps": True}, None),
    ("GATConv", ((F, 5), 4), {"heads": 2}, None),
    (
        "GATConv",
        ((F, 5), 4),
        {"heads": 2, "residual": True, "concat": False, "edge_dim": D, "fill_value": 0.5},
        ATTR,
    ),
    ("GATConv", ((F, 5), 4), {"add_self_loops": False}, None),
    ("GATConv", (F, 4), {"heads": 2}, None),
    ("GATv2Conv", ((F, 5), 4), {"heads": 2, "residual": True}, None),
    ("GATv2Conv", ((F, 5), 4), {"heads": 2, "edge_dim": D, "fill_value": 0.5}, ATTR),
    ("GATv2Conv", (F, 4), {"share_weights": True}, None),
]


def named(case):
    kind, _, options, data = case
    return "-".join(
        [kind, *[f"{name}={value}" for name, value in options.items()], *([data[0]] if data else [])]
    )


def made(kind, sizes, options, dtype=torch.float64):
    """PyG's layer, and numgraph's with its state."""
    torch.manual_seed(0)
    if kind == "GINConv":
        sizes = (torch.nn.Sequential(torch.nn.Linear(F, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4)),)
    theirs = getattr(pyg, kind)(*copy.deepcopy(sizes), **options).to(dtype)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn_like(p))  # biases too
    ours = getattr(layers, kind)(*copy.deepcopy(sizes), **options).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return theirs, ours


def features(rows, width, dtype=torch.float64, seed=1):
    return torch.randn(rows, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def edge_data(data, count, dtype=torch.float64):
    if data is None:
        return {}
    values = features(count, data[1] or 1, dtype, 2)
    return {data[0]: values if data[1] else values[:, 0].abs() + 0.1}


def overwritten(edge_index):
    """Ids of the loops that are not their node's last."""
    loops = [(int(v), e) for e, (u, v) in enumerate(edge_index.T) if u == v]
    last = dict(loops)
    return [e for v, e in loops if last[v] != e]


def outcome(layer, args, options, wanted):
    """Result, and gradients of what is wanted and of the parameters."""
    z = layer(*args, **options)
    cotangent = features(*z.shape, z.dtype, 3)
    inputs = [*wanted, *layer.parameters()]
    return [z, *torch.autograd.grad(z, inputs, cotangent, allow_unused=True, materialize_grads=True)]


def assert_same(ours, theirs, tolerance=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("graph", SQUARE)
@pytest.mark.parametrize("case", LAYERS, ids=named)
def test_layer_is_pygs(case, graph):
    kind, sizes, options, data = case
    edge_index, (num, _) = GRAPHS[graph]
    theirs, ours = made(kind, sizes, options)
    x = features(num, F).requires_grad_()
    more = edge_data(data, edge_index.shape[1])
    wanted = [x, *[w.requires_grad_() for w in more.values()]]
    if kind.startswith("GAT") and "edge_weight" in more:
        more = {"edge_attr": more["edge_weight"]}
    found, expected = (outcome(layer, (x, edge_index), more, wanted) for layer in (ours, theirs))
    if kind == "GCNConv" and more and ours.add_self_loops:  # test_only_the_last_loops_weight_has_a_gradient
        expected[2][overwritten(edge_index)] = 0
    assert_same(found, expected)
    by_graph = outcome(ours, (ng.Graph.from_edge_index(edge_index, num), x), more, wanted)
    assert all(torch.equal(a, b) for a, b in zip(by_graph, found, strict=True))


@pytest.mark.parametrize("graph", ["more sources", "more destinations", "loops"])
@pytest.mark.parametrize("case", PAIRS, ids=named)
def test_layer_of_two_sets_is_pygs(case, graph):
    kind, sizes, options, data = case
    edge_index, (num_src, num_dst) = GRAPHS[graph]
    theirs, ours = made(kind, sizes, options)
    x = (
        features(num_src, F).requires_grad_(),
        features(num_dst, 5 if sizes and sizes[0] != F else F, seed=5).requires_grad_(),
    )
    more = edge_data(data, edge_index.shape[1])
    wanted = [*x, *[w.requires_grad_() for w in more.values()]]
    found = outcome(ours, (x, edge_index), more, wanted)
    assert_same(found, outcome(theirs, (x, edge_index), more, wanted))
    g = ng.Graph(edge_index[0].numpy(), edge_index[1].numpy(), num_src=num_src, num_dst=num_dst)
    assert all(torch.equal(a, b) for a, b in zip(outcome(ours, (g, x), more, wanted), found, strict=True))


@pytest.mark.parametrize(
    ("kind", "sizes"), [("SAGEConv", ((F, 5), 4)), ("GINConv", ()), ("GATConv", ((F, 5), 4))]
)
def test_pair_without_destinations_and_size(kind, sizes):
    edge_index, (num_src, num_dst) = GRAPHS["more sources"]
    theirs, ours = made(kind, sizes, {"add_self_loops": False} if kind == "GATConv" else {})
    x = features(num_src, F)
    for size in (None, (num_src, num_dst)):
        given = {"size": size}
        torch.testing.assert_close(
            ours((x, None), edge_index, **given),
            theirs((x, None), edge_index, **given),
            rtol=1e-10,
            atol=1e-10,
        )


def one(kind, data=None):
    """The first case of a layer."""
    return next(case for case in LAYERS if case[0] == kind and case[3] == data)


ONE_EACH = [one("GCNConv", WEIGHT), one("SAGEConv"), one("GINConv"), one("GATConv", ATTR), one("GATv2Conv")]


@pytest.mark.parametrize("case", ONE_EACH, ids=named)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_precisions(case, dtype):
    """Against PyG's layer in float64, with the same numbers: four roundings of the largest result."""
    kind, sizes, options, data = case
    edge_index, (num, _) = GRAPHS["loops"]
    theirs, ours = made(kind, sizes, options)
    for layer in (theirs, ours):
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_((p / 2).to(dtype))
    x, more = (
        features(num, F).to(dtype),
        {name: value.to(dtype) for name, value in edge_data(data, edge_index.shape[1]).items()},
    )
    z = ours.to(dtype)(x, edge_index, **more)
    assert z.dtype == dtype
    exact = theirs(x.double(), edge_index, **{name: value.double() for name, value in more.items()})
    assert (z - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_degrees_beyond_half_precision(dtype):
    """A hub of 5000 in-edges, whose degree bfloat16 cannot count, and of weights whose sum float16 cannot
    hold.
    """
    num = 5000
    edge_index = torch.stack([torch.arange(num), torch.zeros(num, dtype=torch.int64)])
    theirs, ours = made("GCNConv", (F, 4), {})
    x, weight = features(num, F).to(dtype), torch.full((num,), 16.0, dtype=dtype)
    ours.load_state_dict({name: p.to(dtype) for name, p in theirs.state_dict().items()})
    theirs.load_state_dict(ours.state_dict())
    for given in ({}, {"edge_weight": weight}):
        exact = theirs(x.double(), edge_index, **{name: w.double() for name, w in given.items()})
        z = ours.to(dtype)(x, edge_index, **given)
        torch.testing.assert_close(z.double(), exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["GATConv", "GATv2Conv"])
@pytest.mark.parametrize("graph", ["loops", "no edges"])
def test_attention_weights(kind, graph):
    edge_index, (num, _) = GRAPHS[graph]
    theirs, ours = made(kind, (F, 4), {"heads": 2, "dropout": 0.4})
    x = features(num, F)
    for training in (False, True):
        results = []
        for layer in (theirs.train(training), ours.train(training)):
            torch.manual_seed(1)
            results.append(layer(x, edge_index, return_attention_weights=True))
        (z, (ends, alpha)), (z_ours, (ends_ours, alpha_ours)) = results
        assert_same([z_ours, alpha_ours], [z, alpha])
        assert torch.equal(ends_ours, ends)
    g = ng.Graph.from_edge_index(edge_index, num)
    _, (looped, alpha) = ours.eval()(g, x, return_attention_weights=True)
    assert np.array_equal(np.stack([looped.src, looped.dst]), ends.numpy())
    assert alpha.shape == (looped.num_edges, 2)


@pytest.mark.parametrize("kind", ["GATConv", "GATv2Conv"])
@pytest.mark.parametrize("p", [0.4, 1.0])
def test_dropout_of_attention_is_what_torch_draws(kind, p):
    edge_index, (num, _) = GRAPHS["loops"]
    theirs, ours = made(kind, (F, 4), {"heads": 2, "dropout": p})
    x = features(num, F).requires_grad_()
    found = []
    for layer in (ours, theirs):
        torch.manual_seed(7)
        found.append(outcome(layer, (x, edge_index), {}, [x]))
    assert_same(*found)


def test_only_the_last_loops_weight_has_a_gradient():
    edge_index, (num, _) = GRAPHS["loops"]
    _, ours = made("GCNConv", (F, 4), {})
    x = features(num, F)
    weight = edge_data(WEIGHT, edge_index.shape[1])["edge_weight"].requires_grad_()
    assert torch.autograd.gradcheck(lambda w: ours(x, edge_index, w), weight)
    (grad,) = torch.autograd.grad(ours(x, edge_index, weight).square().sum(), weight)
    loops = torch.nonzero((edge_index[0] == edge_index[1]) & (edge_index[0] == 3)).flatten()
    assert grad[loops[:-1]].eq(0).all()
    assert grad[loops[-1]] != 0


@pytest.mark.parametrize("case", [one("GCNConv", WEIGHT), one("GATv2Conv")], ids=named)
def test_second_derivatives(case):
    kind, sizes, options, data = case
    edge_index, (num, _) = GRAPHS["directed"]
    _, ours = made(kind, sizes, options)
    more = {name: w.requires_grad_() for name, w in edge_data(data, edge_index.shape[1]).items()}
    x = features(num, F).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, *w: ours(x, edge_index, *w), (x, *more.values()))


def test_cached_keeps_the_first_graph():
    theirs, ours = made("GCNConv", (F, 4), {"cached": True})
    x = features(9, F)
    for graph in ("directed", "loops"):
        torch.testing.assert_close(ours(x, GRAPHS[graph][0]), theirs(x, GRAPHS[graph][0]))
    first = ours(x, GRAPHS["loops"][0])
    ours.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    assert not torch.allclose(ours(x, GRAPHS["loops"][0]), first)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("GCNConv", (-1, 4)), ("SAGEConv", ((-1, -1), 4)), ("GATConv", ((-1, -1), 4)), ("GATv2Conv", (-1, 4))],
)
def test_sizes_of_the_first_call(kind, sizes):
    edge_index, (num, _) = GRAPHS["loops"]
    torch.manual_seed(0)
    theirs, first, loaded = (
        getattr(pyg, kind)(*sizes),
        getattr(layers, kind)(*sizes),
        getattr(layers, kind)(*sizes),
    )
    x = features(num, F, torch.float32)
    expected = theirs(x, edge_index)
    assert first(x, edge_index).shape == expected.shape
    for ours in (first, loaded):
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(x, edge_index), expected, rtol=1e-5, atol=1e-5)


def test_graphs_of_edge_indices_are_remembered(monkeypatch):
    calls = []
    made_by = ng.Graph.from_edge_index.__func__

    def counting(cls, *args, **options):
        calls.append(args)
        return made_by(cls, *args, **options)

    monkeypatch.setattr(ng.Graph, "from_edge_index", classmethod(counting))
    theirs, ours = made("GATConv", (F, 4), {})
    edge_index, x = GRAPHS["directed"][0].clone(), features(9, F)
    for _ in range(3):
        ours(x, edge_index)
    assert len(calls) == 1
    edge_index[1, :5] = 2
    torch.testing.assert_close(ours(x, edge_index), theirs(x, edge_index))
    assert len(calls) == 2
    larger = features(11, F)
    torch.testing.assert_close(ours(larger, edge_index), theirs(larger, edge_index))
    assert len(calls) == 3
    with torch.inference_mode():
        frozen = edge_index.clone()
        torch.testing.assert_close(ours(x, frozen), theirs(x, frozen))
        frozen[1, :5] = 4
        torch.testing.assert_close(ours(x, frozen), theirs(x, frozen))


@pytest.mark.parametrize("case", ONE_EACH, ids=named)
def test_transforms_of_torch_func(case):
    """On an edge_index that was not seen before."""
    kind, sizes, options, data = case
    theirs, ours = made(kind, sizes, options)
    x = features(9, F)
    found = []
    for layer in (ours, theirs):
        edge_index = GRAPHS["directed"][0].clone()
        more = edge_data(data, edge_index.shape[1])

        def call(x, parameters, layer=layer, edge_index=edge_index, more=more):
            return torch.func.functional_call(layer, parameters, (x, edge_index), more)

        parameters = {name: p.detach() for name, p in layer.named_parameters()}
        doubled = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}
        found.append(
            [
                torch.func.jacrev(call)(x, parameters),
                *torch.func.jacrev(lambda p, f=call: f(x, p).sum())(parameters).values(),
            ]
        )
        found[-1].append(torch.func.vmap(call, (None, 0))(x, doubled))
    assert_same(*found)


def test_results_may_be_changed_in_place():
    edge_index, _ = GRAPHS["directed"]
    for kind in ("GCNConv", "SAGEConv", "GATConv", "GATv2Conv"):
        theirs, ours = made(kind, (F, 4), {})
        x = features(9, F).requires_grad_()
        grads = [
            torch.autograd.grad(torch.relu_(layer(x, edge_index)).square().sum(), x)[0]
            for layer in (ours, theirs)
        ]
        torch.testing.assert_close(*grads)


EVERY = [make(F, 4) for make in (layers.GCNConv, layers.SAGEConv, layers.GATConv, layers.GATv2Conv)] + [
    layers.GINConv(torch.nn.Identity())
]
THREE = ng.Graph([0, 1, 2], [0, 0, 1], num_src=3, num_dst=2)
PAIR = torch.ones(2, F), torch.tensor([[0, 1], [1, 0]])
TRACED = [
    lambda layer: torch.compile(layer, fullgraph=True, backend="eager")(*PAIR),
    lambda layer: torch.export.export(layer, PAIR),
    lambda layer: torch.jit.trace(layer, PAIR),
]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.GCNConv(F, 4)(torch.ones(9, F), [[0], [1]]), "the edges are a list"),
        (lambda: layers.GCNConv(F, 4)(torch.ones(9, F), torch.eye(9).to_sparse()), "layout torch.sparse_coo"),
        (lambda: layers.GCNConv(F, 4)(torch.ones(9, F), torch.tensor([[0], [9]])), r"dst\[0\] is 9"),
        (
            lambda: layers.GCNConv(F, 4)(torch.ones(9, F), torch.tensor([[0, 1]]), torch.ones(3)),
            r"edge_index has shape \[1, 2\]",
        ),
        (
            lambda: layers.GCNConv(F, 4)(torch.ones(9, F), torch.tensor([[0], [1]]), torch.ones(3)),
            r"edge_weight has shape \[3\]",
        ),
        (
            lambda: layers.GCNConv(F, 4)(torch.ones(2, 9, F), torch.tensor([[0], [1]])),
            r"x has shape \[2, 9, 6\]",
        ),
        (lambda: layers.GCNConv(F, 4)((torch.ones(9, F), None), torch.tensor([[0], [1]])), "x is no tensor"),
        (
            lambda: layers.GCNConv(F, 4)(ng.Graph([0], [1], num_src=2, num_dst=3), torch.ones(2, F)),
            "bipartite",
        ),
        (
            lambda: layers.GCNConv(F, 4, normalize=False, add_self_loops=True),
            "add_self_loops is True without normalize",
        ),
        *[
            (
                lambda layer=layer: layer(ng.Graph([0, 1], [1, 0], num_src=2, num_dst=2), torch.ones(2, F)),
                "bipartite, with 2 sources and 2 destinations",
            )
            for layer in EVERY
        ],
        *[
            (
                lambda layer=layer: layer(THREE, (torch.ones(3, F), torch.ones(1, F))),
                r"x\[1\] has shape \[1, 6\], the graph 3 sources and 2 destinations; the first axis must be 2",
            )
            for layer in EVERY[1:]
        ],
        *[
            (lambda layer=layer: layer(ng.Graph([0], [1]), torch.ones(2, 5)), "made for 6 features")
            for layer in EVERY[:-1]
        ],
        *[
            (lambda layer=layer: layer(ng.Graph([0], [1]), torch.ones(2, F).long()), r"int64; give x\.float")
            for layer in EVERY[:-1]
        ],
        (lambda: layers.SAGEConv(F, 4, aggr="lstm"), "unknown aggr 'lstm'"),
        (lambda: layers.SAGEConv((1, 2, 3), 4), "in_channels is"),
        (lambda: layers.GATConv(F, 4, dropout=1.5), "dropout is 1.5"),
        (
            lambda: layers.GATv2Conv(F, 4)(torch.ones(9, F), torch.tensor([[0], [1]]), torch.ones(1, 3)),
            "no edge_dim",
        ),
        *[
            (lambda layer=layer: layer(ng.Graph([0], [1]), np.ones((2, F))), r"torch\.from_numpy\(x\)")
            for layer in EVERY
        ],
        *[
            (
                lambda run=run: run(layers.GCNConv(F, 4)),
                r"make the graph outside, g = numgraph\.Graph\.from_edge_index",
            )
            for run in TRACED
        ],
    ],
)
def test_errors(call, message):
    with pytest.raises((ValueError, TypeError, IndexError, torch._dynamo.exc.Unsupported), match=message):
        call()


@pytest.mark.parametrize("case", [*ONE_EACH, one("GATConv"), one("GATv2Conv", ATTR)], ids=named)
def test_layer_compiles_without_a_break(case):
    kind, sizes, options, data = case
    if kind.startswith("GAT"):
        options = {**options, "dropout": 0.5}
    edge_index, (num, _) = GRAPHS["loops"]
    _, ours = made(kind, sizes, options, torch.float32)
    g = ng.Graph.from_edge_index(edge_index, num)  # of which nothing is kept yet
    x, more = (
        features(num, F, torch.float32).requires_grad_(),
        edge_data(data, edge_index.shape[1], torch.float32),
    )
    found = []
    for layer in (torch.compile(ours, fullgraph=True, backend="aot_eager"), ours):
        torch.manual_seed(0)
        found.append(outcome(layer, (g, x), more, [x]))
    torch._dynamo.reset()
    assert_same(*found, tolerance=1e-5)


def test_compiled_layer_follows_its_edges():
    _, ours = made("GATConv", (F, 4), {})
    x = features(9, F)
    compiled = torch.compile(ours, backend="aot_eager")
    for graph in ("directed", "loops", "directed"):
        edge_index = GRAPHS[graph][0]
        torch.testing.assert_close(compiled(x, edge_index), ours(x, edge_index), rtol=1e-10, atol=1e-10)
        g = ng.Graph.from_edge_index(edge_index, 9)
        torch.testing.assert_close(compiled(g, x), ours(x, edge_index), rtol=1e-10, atol=1e-10)
    torch._dynamo.reset()
