"""Every function of ng.ops takes tensors and gives tensors with gradients."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")

rng = np.random.default_rng(0)
A = ng.Graph(rng.integers(0, 5, 9), rng.integers(0, 4, 9), num_src=5, num_dst=4)  # with parallel edges
B = ng.Graph(rng.integers(0, 4, 8), rng.integers(0, 3, 8), num_src=4, num_dst=3)
A2 = ng.Graph(rng.integers(0, 5, 7), rng.integers(0, 4, 7), num_src=5, num_dst=4)


def make(n, seed, dtype=torch.float64):
    return (
        torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        .to(dtype)
        .requires_grad_(dtype.is_floating_point)
    )


a, b, a2 = make(9, 0), make(8, 1), make(7, 2)
SPARSE = {
    "csrmm": (
        lambda a, b: ng.ops.csrmm(A, a, B, b),
        lambda a, b: oracle.matrix(A, a) @ oracle.matrix(B, b),
        (a, b),
    ),
    "csrsum": (
        lambda a, b: ng.ops.csrsum([A, A2], [a, b]),
        lambda a, b: oracle.matrix(A, a) + oracle.matrix(A2, b),
        (a, a2),
    ),
    "csrmask": (lambda a: (A2, ng.ops.csrmask(A, a, A2)), lambda a: oracle.matrix(A, a), (a,)),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_products(name):
    f, dense, xs = SPARSE[name]
    g, found = f(*xs)
    assert type(found) is torch.Tensor
    wanted = dense(*[x.detach().numpy() for x in xs])
    np.testing.assert_allclose(found.detach().numpy(), wanted[g.src, g.dst], rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(lambda *xs: f(*xs)[1], xs)
    assert torch.autograd.gradgradcheck(lambda *xs: f(*xs)[1], xs)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("dtype", [torch.int32, torch.float16, torch.bfloat16, torch.bool])
def test_dtypes_of_sparse_products(name, dtype):
    f, dense, xs = SPARSE[name]
    xs = [(x.detach() * 3).to(dtype) for x in xs]
    g, found = f(*xs)
    assert found.dtype is (dtype if dtype.is_floating_point else torch.int64)
    wanted = dense(*[x.double().numpy() for x in xs])[g.src, g.dst]
    np.testing.assert_allclose(found.double().numpy(), wanted, rtol=0.02, atol=0.05)


def test_an_array_of_numpy_beside_tensors():
    g, found = ng.ops.csrmm(A, a, B, b.detach().numpy())
    wanted = oracle.matrix(A, a.detach().numpy()) @ oracle.matrix(B, b.detach().numpy())
    np.testing.assert_allclose(found.detach().numpy(), wanted[g.src, g.dst], rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: ng.ops.csrmm(A, x, B, b.detach().numpy())[1], (a,))
    assert torch.autograd.gradcheck(lambda x: ng.ops.csrsum([A, A2], [x, np.ones(7)])[1], (a,))


SQUARE = ng.Graph(rng.integers(0, 4, 9), rng.integers(0, 4, 9), 4)
ROWS = {"u": 4, "v": 4, "e": 9}


def arguments(name):
    """The tensors that a function of ng.ops takes, and how it is called with them."""
    x, y, e = (
        make(n, i).reshape(-1, 1) * torch.ones(1, 2, dtype=torch.float64) for i, n in enumerate((4, 4, 9))
    )
    of = {"u": x, "v": y, "e": e}
    f = getattr(ng.ops, name)
    special = {
        "gspmm": lambda: f(SQUARE, "mul", "mean", x, e),
        "gsddmm": lambda: f(SQUARE, "dot", x, y),
        "edge_softmax": lambda: f(SQUARE, e, norm_by="src"),
        "segment_reduce": lambda: f([0, 2, 4], x, "max"),
        "segment_softmax": lambda: f(torch.tensor([0, 2, 4]), x),
        "segment_mm": lambda: f(x, torch.stack([x[:2], y[:2]]), [1, 3]),
        "gather_mm": lambda: f(x, torch.stack([x[:2], y[:2]]), torch.tensor([1, 0, 0, 1])),
        "csrmm": lambda: f(A, a, B, b)[1],
        "csrsum": lambda: f([A, A2], [a, a2])[1],
        "csrmask": lambda: f(A, a, A2),
    }
    if name in special:
        return special[name]
    targets = [part for part in name.split("_") if part in of]
    return lambda: f(SQUARE, *[of[target] for target in targets])


@pytest.mark.parametrize("name", ng.ops.__all__)
def test_every_function_gives_tensors_with_gradients(name):
    made = arguments(name)()
    assert type(made) is torch.Tensor
    assert made.dtype is torch.float64
    assert made.requires_grad
    assert made.grad_fn is not None
