"""multi_update_all: values and gradients against the formulas of DGL's cross-reducers in torch, and against
loops over edges.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from checks import weights_like

import numgraph as ng

A, B, C, D = (
    ("item", "near", "item"),
    ("user", "likes", "item"),
    ("tag", "on", "item"),
    ("item", "of", "user"),
)
RNG = np.random.default_rng(5)


def graph():
    """Of item: node 5 has no in-edge at all, node 4 none but from tags; nothing leads to tag or spare."""
    ends = {
        A: ([0, 1, 1, 2, 5], [1, 0, 2, 2, 0]),
        B: ([0, 0, 1, 2, 2, 2], [0, 1, 1, 3, 3, 2]),
        C: ([0, 1, 1], [4, 4, 0]),
        D: ([0, 1, 5], [0, 0, 2]),
    }
    return ng.HeteroGraph(ends, {"item": 6, "user": 3, "tag": 2, "spare": 4})


def fields(dtype=np.float64):
    h = graph()
    x = {kind: RNG.normal(size=(count, 3)) for kind, count in h.num_nodes.items()}
    w = {relation: RNG.normal(size=(count, 3)) for relation, count in h.num_edges.items()}
    if np.dtype(dtype).kind == "i":
        x, w = ({key: (10 * array) for key, array in one.items()} for one in (x, w))
    return h, *({key: array.astype(dtype) for key, array in one.items()} for one in (x, w))


FUNCTIONS = {  # not in the order of h.edge_types
    "likes": (lambda u, e: u.x * e.w, "sum"),
    "near": (lambda u, v: u.x - v.x, "max"),
    "on": (lambda u: u.x, "mean"),
    "of": (lambda u, e: u.x + e.w, "min"),
}


def of_torch(torch, x, w, cross):
    """DGL's definition: the results of a type's relations, in the order of the functions, stacked first and
    reduced; "stack" sorts them.
    """
    h, made = graph(), {}
    for relation in (B, A, C, D):
        src, dst = (
            torch.tensor(np.array(ids), dtype=torch.int64) for ids in (h[relation].src, h[relation].dst)
        )
        u, v, e = x[relation[0]][src], x[relation[2]][dst], w[relation]
        message, reduce = {A: (u - v, "amax"), B: (u * e, "sum"), C: (u, "mean"), D: (u + e, "amin")}[
            relation
        ]
        zeros = torch.zeros(h.num_nodes[relation[2]], 3, dtype=torch.float64)
        index = dst[:, None].expand(-1, 3)
        made.setdefault(relation[2], []).append(
            (relation, zeros.scatter_reduce(0, index, message, reduce, include_self=False))
        )
    found = {}
    for kind, results in made.items():
        frames = [z for _, z in results]
        if cross == "stack":
            found[kind] = torch.stack([z for _, z in sorted(results, key=lambda one: one[0])], 1)
        elif len(frames) == 1:
            found[kind] = frames[0]
        else:
            reduced = getattr(torch, cross)(torch.stack(frames, 0), dim=0)
            found[kind] = reduced[0] if cross in ("max", "min") else reduced
    return found


@pytest.mark.parametrize("cross", ["sum", "mean", "max", "min", "stack"])
def test_values_and_gradients_are_those_of_dgls_formulas(cross):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    h, x, w = fields()
    tx, tw = ({key: torch.tensor(array, requires_grad=True) for key, array in one.items()} for one in (x, w))
    wanted = of_torch(torch, tx, tw, cross)
    sum((z * torch.tensor(weights_like(tuple(z.shape)))).sum() for z in wanted.values()).backward()
    with ng.Tape() as tape:
        vx, vw = ({key: tape.watch(array) for key, array in one.items()} for one in (x, w))
        nodes, edges = (
            {key: {name: array} for key, array in one.items()} for name, one in (("x", vx), ("w", vw))
        )
        found = ng.multi_update_all(h, FUNCTIONS, cross, nodes=nodes, edges=edges)
        loss = sum((found[kind] * weights_like(found[kind].shape)).sum() for kind in wanted)
    assert list(found) == h.node_types
    for kind, z in wanted.items():
        assert np.abs(found[kind].data - z.detach().numpy()).max() <= 1e-12, kind
    for kind in ("spare", "tag"):
        assert found[kind].shape == (
            (h.num_nodes[kind], 0, 3) if cross == "stack" else (h.num_nodes[kind], 3)
        )
        assert not found[kind].any()
    pairs = [(vx[key], tx[key]) for key in ("item", "user", "tag")] + [(vw[key], tw[key]) for key in (B, D)]
    for got, want in zip(
        tape.gradient(loss, [one for one, _ in pairs]), [one.grad.numpy() for _, one in pairs]
    ):
        assert np.abs(got - want).max() <= 1e-12


@pytest.mark.parametrize("cross", ["max", "min"])
def test_of_equal_results_the_first_takes_the_gradient(cross):
    h = ng.HeteroGraph({("a", "r", "b"): ([0], [0]), ("a", "s", "b"): ([1], [0])})
    functions = {"s": (lambda u: u.x, "sum"), "r": (lambda u: u.x, "sum")}
    with ng.Tape() as tape:
        x = tape.watch(np.array([2.0, 2.0]))
        loss = ng.multi_update_all(h, functions, cross, nodes={"a": {"x": x}})["b"].sum()
    assert tape.gradient(loss, [x])[0].tolist() == [0.0, 1.0]


def test_the_zero_of_a_row_without_edges_can_win_and_nan_does():
    h = ng.HeteroGraph({("a", "r", "b"): ([0, 1], [0, 1]), ("a", "s", "b"): ([0], [0])}, {"b": 3})
    functions = {name: (lambda u: u.x, "max") for name in ("r", "s")}
    found = ng.multi_update_all(h, functions, "max", nodes={"a": {"x": np.array([-2.0, -3.0])}})
    assert found["b"].tolist() == [-2.0, 0.0, 0.0]
    found = ng.multi_update_all(h, functions, "max", nodes={"a": {"x": np.array([-2.0, np.nan])}})
    assert np.isnan(found["b"][1])


@pytest.mark.parametrize("cross", ["sum", "mean", "max", "min", "stack"])
@pytest.mark.parametrize("dtype", [np.int32, np.float16])
def test_integers_and_halves(cross, dtype):
    h, x, w = fields(dtype)
    names = ("likes", "near", "on")
    functions = {name: (FUNCTIONS[name][0], "sum") for name in names}
    nodes, edges = ({key: {name: array} for key, array in one.items()} for name, one in (("x", x), ("w", w)))
    found = ng.multi_update_all(h, functions, cross, nodes=nodes, edges=edges)["item"]
    parts = [
        ng.update_all(
            h[one], *functions[one], u=nodes[h.canonical(one)[0]], v=nodes["item"], e=edges[h.canonical(one)]
        )
        for one in names
    ]
    for part, one in zip(parts, names):
        literal = oracle.update_all(
            h[one], *functions[one], u=nodes[h.canonical(one)[0]], v=nodes["item"], e=edges[h.canonical(one)]
        )
        assert np.allclose(part.astype(np.float64), literal.astype(np.float64), rtol=2e-3, atol=2e-3)
    if cross == "stack":
        wanted = np.stack([parts[1], parts[2], parts[0]], 1)  # near, on, likes: the order of the triples
    else:
        wide = [part.astype(np.float64) for part in parts]
        wanted = getattr(np, cross)(np.stack(wide), axis=0)
        wanted = wanted.astype(np.float64 if cross == "mean" and dtype == np.int32 else parts[0].dtype)
    assert found.dtype == wanted.dtype
    step = 0 if dtype == np.int32 else np.spacing(np.abs(wanted))
    assert (np.abs(found.astype(np.float64) - wanted.astype(np.float64)) <= step).all()


def test_tensors_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    h, x, w = fields()
    tx = {key: torch.tensor(array, requires_grad=True) for key, array in x.items()}
    tw = {key: torch.tensor(array) for key, array in w.items()}
    nodes, edges = (
        {key: {name: array} for key, array in one.items()} for name, one in (("x", tx), ("w", tw))
    )
    for cross in ("sum", "max", "stack"):
        found, wanted = (
            ng.multi_update_all(h, FUNCTIONS, cross, nodes=nodes, edges=edges),
            of_torch(torch, tx, tw, cross),
        )
        assert all(torch.allclose(found[kind], wanted[kind], atol=1e-12) for kind in wanted)
        got, want = (torch.autograd.grad((one["item"] ** 3).sum(), tx["item"])[0] for one in (found, wanted))
        assert torch.allclose(got, want, atol=1e-12)
        assert found["tag"].dtype == torch.float64


def plain(h, **options):
    return ng.multi_update_all(h, {"likes": (lambda u: u.x, "sum")}, **options)


ERRORS = [
    (
        lambda h: ng.multi_update_all(h["near"], {}),
        TypeError,
        "the first argument is a Graph; give numgraph.HeteroGraph",
    ),
    (lambda h: ng.multi_update_all(h, {}), ValueError, "functions is empty"),
    (
        lambda h: ng.multi_update_all(h, [("likes", None)]),
        TypeError,
        "functions is a list; give a dict by relation",
    ),
    (lambda h: ng.multi_update_all(h, {"like": (lambda u: u.x, "sum")}), ValueError, "did you mean 'likes'"),
    (lambda h: ng.multi_update_all(h, {"likes": "sum"}), TypeError, r"give a pair, \(message, reduce\)"),
    (
        lambda h: ng.multi_update_all(h, {"likes": (lambda u: u.x, ("sum",))}),
        TypeError,
        "the reduce is a tuple",
    ),
    (
        lambda h: ng.multi_update_all(h, {"likes": (lambda u: u.x, "sum"), B: (lambda u: u.x, "sum")}),
        ValueError,
        "twice",
    ),
    (lambda h: plain(h, cross_reduce="prod"), ValueError, "unknown cross_reduce 'prod'"),
    (lambda h: plain(h, nodes={"usr": {}}), ValueError, "did you mean 'user'"),
    (lambda h: plain(h, edges={"likez": {}}), ValueError, "did you mean 'likes'"),
    (lambda h: plain(h, nodes={"user": {"x": np.ones((5, 2))}}), ValueError, "the first axis must be 3"),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS)
def test_errors_say_what_to_do(call, kind, text):
    with pytest.raises(kind, match=text):
        call(graph())


def test_errors_name_the_relation():
    h, x, _ = fields()
    with pytest.raises(ValueError, match="num_src") as caught:
        plain(h, nodes={"user": {"x": np.ones((5, 2))}})
    assert caught.value.__notes__ == [f"multi_update_all: this was the relation {B}"]
    with pytest.raises(AttributeError, match=r"field u\.x is unknown") as caught:
        ng.multi_update_all(h, {B: (lambda u: u.x, "sum")})
    assert caught.value.__notes__ == [f"multi_update_all: this was the relation {B}"]
    nodes = {"user": {"x": np.ones((3, 2))}, "item": {"x": x["item"]}}
    with pytest.raises(ValueError, match=r"'near'.* gives \[6, 3\], .*'likes'.* gives \[6, 2\]"):
        ng.multi_update_all(h, {"likes": (lambda u: u.x, "sum"), "near": (lambda u: u.x, "sum")}, nodes=nodes)
