"""numgraph's modules as torch's: the tape's gradients to every order, shared memory, masks that replay."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore:.*isinstance.treespec.*:FutureWarning"
)  # compilers'

F, NUM = 6, 9
GRAPH = ng.Graph(*np.random.default_rng(0).integers(0, NUM, (2, 40)), NUM)


def features(rows, width, dtype=torch.float64, seed=1):
    return torch.randn(rows, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class Pair(ng.nn.Module):
    """Two inputs, one of them by name, and results in a tuple and a dict, one of integers."""

    def __init__(self):
        self.linear = ng.nn.Linear(F, 4, dtype=np.float64, rng=0)
        self.twice = [self.linear, ng.nn.LayerNorm(4, dtype=np.float64)]

    def forward(self, g, x, *, weight):
        z = ng.update_all(
            g, lambda u, e: u.h * e.w, "sum", u={"h": self.twice[1](self.linear(x))}, e={"w": weight}
        )
        return z, {"squares": z * z, "degrees": g.in_degrees()}


def test_module_gives_the_tapes_gradients():
    inner = ng.nn.GAT(F, 4, 3, heads=2, dropout=0.0, dtype=np.float64, rng=0)
    model, x = ng.torch.Module(inner), features(NUM, F).requires_grad_()
    z = model(GRAPH, x)
    cotangent = features(*z.shape, seed=4)
    grads = torch.autograd.grad(z, [x, *model.parameters()], cotangent, retain_graph=True)
    with ng.Tape() as tape:
        watched = tape.watch(x.detach().numpy())
        y = inner(GRAPH, watched)
    expected = tape.gradient(y, [watched, *inner.parameters()], seed=cotangent.numpy())
    assert np.array_equal(z.detach().numpy(), y.data)
    for a, b in zip(grads, expected, strict=True):
        assert np.array_equal(a.numpy(), b)
    again = torch.autograd.grad(z, [x, *model.parameters()], cotangent)
    assert all(torch.equal(a, b) for a, b in zip(grads, again, strict=True))
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in inner.named_parameters()]


def test_module_has_derivatives_of_every_order_and_several_results():
    model, x = ng.torch.Module(Pair()), features(NUM, F).requires_grad_()
    weight = features(GRAPH.num_edges, 1).requires_grad_()
    z, more = model(GRAPH, x, weight=weight)
    assert set(more) == {"squares", "degrees"}
    assert not more["degrees"].requires_grad
    torch.testing.assert_close(more["squares"], z * z)
    parameter = next(model.parameters())
    assert len(list(model.parameters())) == 4

    def call(x, weight):
        z, more = model(GRAPH, x, weight=weight)
        return z.sin(), more["squares"]

    assert torch.autograd.gradcheck(call, (x, weight))
    assert torch.autograd.gradgradcheck(call, (x, weight))
    (first,) = torch.autograd.grad(call(x, weight)[0].sum(), parameter, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), parameter)
    step, direction = 1e-6, features(*parameter.shape, seed=6)
    ends = []
    for sign in (1, -2):
        with torch.no_grad():
            parameter += sign * step * direction
        ends.append(torch.autograd.grad(call(x, weight)[0].sum(), parameter)[0].square().sum())
    torch.testing.assert_close(
        (second * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-6
    )


def test_torchs_optimiser_trains_numgraphs_module():
    inner = ng.nn.GCN(F, 4, 2, dropout=0.0, rng=0)
    twin = copy.deepcopy(inner)
    model, x = ng.torch.Module(inner), features(NUM, F, torch.float32)
    optimizer, own = torch.optim.SGD(model.parameters(), lr=0.1), ng.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(GRAPH, x).square().sum().backward()
        optimizer.step()
        with ng.Tape() as tape:
            loss = (twin(GRAPH, x.numpy()) ** 2).sum()
        own.step(tape.gradient(loss, own.parameters))
    for p, q in zip(inner.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-6)
    inner.load_state_dict(ng.nn.GCN(F, 4, 2, rng=5).state_dict())
    for p, q in zip(inner.parameters(), model.parameters(), strict=True):
        assert np.array_equal(p.data, q.detach().numpy())


class Noisy(ng.nn.Module):
    """Dropout, and a norm with running statistics."""

    def __init__(self):
        self.linear, self.norm, self.drop = (
            ng.nn.Linear(F, 4, rng=0),
            ng.nn.BatchNorm(4),
            ng.nn.Dropout(0.5, rng=0),
        )

    def forward(self, x, rng=None):
        return self.drop(self.norm(self.linear(x)), rng=rng)


def test_random_numbers_come_from_torchs_generator_and_replay():
    model, x = ng.torch.Module(Noisy()), features(30, F, torch.float32).requires_grad_()
    state = model.wrapped.random_state()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(model(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert str(model.wrapped.random_state()) == str(state)
    torch.manual_seed(1)
    (grad,) = torch.autograd.grad(
        torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).square().sum(), x
    )
    torch.testing.assert_close(grad, torch.autograd.grad(results[0].square().sum(), x)[0])
    given = np.random.default_rng(3)
    z = model(x, rng=given)
    after = given.bit_generator.state
    (first,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
    running = model.wrapped.norm.running_mean.copy()
    first.square().sum().backward(retain_graph=True)
    assert given.bit_generator.state == after
    assert np.array_equal(model.wrapped.norm.running_mean, running)
    exact = torch.autograd.grad(z.square().sum(), x)[0]
    torch.testing.assert_close(first, exact)
    assert x.grad.abs().sum() > 0
    model.eval()
    assert not model.wrapped.drop.training
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(model(x), model(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_buffers_are_torchs_and_copies_are_whole():
    model, x = ng.torch.Module(Noisy()), features(30, F, torch.float32)
    model(x)
    assert [name for name, _ in model.named_buffers()] == ["norm.running_mean", "norm.running_var"]
    moved = dict(model.named_buffers())["norm.running_mean"]
    assert moved.abs().sum() > 0
    assert np.array_equal(moved.numpy(), model.wrapped.norm.running_mean)
    model.eval()
    expected = model(x)
    other = ng.torch.Module(Noisy()).eval()
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), expected)
        with torch.no_grad():
            next(twin.parameters()).zero_()
        assert not torch.equal(twin(x), expected)
        assert not twin.wrapped.linear.weight.data.any()
    assert torch.equal(model(x), expected)
    assert model.double()(x.double()).dtype == torch.float64
    assert model.wrapped.linear.weight.dtype == np.float64


def test_module_without_gradients_makes_no_tape(monkeypatch):
    model, x = ng.torch.Module(ng.nn.GCN(F, 4, 2, rng=0)), features(NUM, F, torch.float32)

    def refuse(*args, **options):
        raise AssertionError("a tape was made")

    expected = model(GRAPH, x)
    assert expected.requires_grad
    monkeypatch.setattr(ng.torch.module, "Tape", refuse)
    with torch.no_grad():
        model.eval()
        model(GRAPH, x)
    model.requires_grad_(False)
    model(GRAPH, x)


def test_results_of_a_module_may_be_changed_in_place():
    model, x = (
        ng.torch.Module(ng.nn.GATConv(F, 4, dtype=np.float64, rng=0)),
        features(NUM, F).requires_grad_(),
    )
    expected = torch.autograd.grad(torch.relu(model(GRAPH, x)).square().sum(), x)[0]
    assert torch.equal(torch.autograd.grad(torch.relu_(model(GRAPH, x)).square().sum(), x)[0], expected)
    z = model(GRAPH, x)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_what_is_no_module_of_numgraph_is_an_error():
    with pytest.raises(TypeError, match="module is a torch"):
        ng.torch.Module(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_transforms_of_torch_func_are_an_error(transform):
    module, x = ng.torch.Module(ng.nn.GATConv(F, 3, rng=0)), features(NUM, F)
    run = {
        "grad": lambda: torch.func.grad(lambda x: module(GRAPH, x).sum())(x),
        "vmap": lambda: torch.func.vmap(lambda x: module(GRAPH, x))(x[None]),
        "jvp": lambda: torch.func.jvp(lambda x: module(GRAPH, x), (x,), (x,)),
    }
    with pytest.raises(
        TypeError, match=r"numgraph\.torch\.Module: a transform of torch\.func .* cannot look into"
    ):
        run[transform]()


def test_functional_call():
    module, x = ng.torch.Module(ng.nn.GCNConv(F, 3, dtype=np.float64, rng=0)), features(NUM, F)
    twice = torch.func.functional_call(module, {"weight": module.weight * 2}, (GRAPH, x))
    torch.testing.assert_close(twice, module(GRAPH, x) * 2)


@pytest.mark.parametrize("kind", ["GATConv", "GCNConv"])
def test_bfloat16_stays(kind):
    module = ng.torch.Module(getattr(ng.nn, kind)(F, 3, rng=0)).bfloat16()
    assert module(GRAPH, features(NUM, F).bfloat16()).dtype is torch.bfloat16


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # read by Dynamo where a graph ends
def test_module_in_a_compiled_model():
    inner = ng.torch.Module(ng.nn.GCN(F, 4, 2, dropout=0.0, dtype=np.float64, rng=0))
    model = torch.nn.Sequential(torch.nn.Linear(F, F), torch.nn.Tanh(), torch.nn.Linear(2, 2)).double()

    def whole(x):
        return model[2](inner(GRAPH, model[1](model[0](x))))

    x = features(NUM, F).requires_grad_()
    found = []
    for f in (torch.compile(whole, backend="aot_eager"), whole):
        z = f(x)
        found.append(
            [z, *torch.autograd.grad(z.square().sum(), [x, *inner.parameters(), *model.parameters()])]
        )
    torch._dynamo.reset()
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
