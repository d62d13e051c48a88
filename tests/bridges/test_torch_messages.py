"""Messages written with torch's functions and methods: the same expressions of tensors are torch's own
answer.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch.nn import functional as F  # noqa: E402

NODES = 5
g = ng.Graph(np.arange(NODES), np.arange(NODES))  # the sum over the one in-edge of each node is the message
x = torch.linspace(-2, 2, NODES * 3, dtype=torch.float64).reshape(NODES, 3)
y = torch.linspace(0.41, 1.7, NODES * 3, dtype=torch.float64).reshape(NODES, 3)
w = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)

SAME = {  # functions of x [5, 3] and y > 0, of captured w [3]
    "exp": lambda x, y: torch.exp(x),
    "captured on the left": lambda x, y: w * x + w - x / w,
    "reversed": lambda x, y: (
        w - x + (w / y) + (2 - x) + 1 / y + torch.rsub(x, w) + torch.tensor(2.0, dtype=x_dtype) ** x
    ),
    "where": lambda x, y: torch.where(x > 0.1, x, y) + torch.where(w > 0, x, 0.0),
    "maximum": lambda x, y: torch.maximum(x, y) * torch.minimum(x, w) + torch.max(x, y) - torch.min(x, y),
    "clamp": lambda x, y: (
        torch.clamp(x, -1, 1)
        + torch.clamp(x, min=0)
        + x.clamp(max=0.5)
        + torch.clamp_min(x, 0.2)
        + x.clamp_max(0.3)
    ),
    "relu": lambda x, y: torch.relu(x) + F.relu(y) + torch.nn.ReLU()(x),
    "leaky_relu": lambda x, y: F.leaky_relu(x, 0.2) + torch.nn.LeakyReLU(0.3)(y),
    "activations": lambda x, y: (
        F.elu(x, 0.7) + F.gelu(x) + F.silu(x) + F.softplus(x) + F.softplus(x, beta=2) + F.logsigmoid(x)
    ),
    "prelu": lambda x, y: F.prelu(x, torch.tensor([0.25], dtype=x_dtype)),
    "sigmoid": lambda x, y: (
        torch.sigmoid(x) + x.sigmoid() + torch.special.expit(y) + F.sigmoid(x) + F.tanh(x)
    ),
    "trigonometric": lambda x, y: (
        torch.sin(x) + torch.cos(x) * torch.tan(y / 2) + torch.atan(x) + torch.atan2(x, y) + torch.tanh(x)
    ),
    "inverses": lambda x, y: (
        torch.asin(x / 9)
        + torch.acos(x / 9) * torch.asinh(x)
        + torch.acosh(y + 1)
        + torch.atanh(x / 9)
        + torch.deg2rad(torch.rad2deg(x))
    ),
    "pairs": lambda x, y: (
        torch.fmax(x, 1.01 * w) * torch.fmin(x, 1.01 * y)
        + torch.copysign(x, w)
        + torch.logaddexp2(x, y)
        + torch.round(x)
        + x.trunc()
    ),
    "logarithms": lambda x, y: (
        torch.log(y) + torch.log1p(y) + torch.log2(y) + y.log10() + torch.logaddexp(x, y) + torch.expm1(x)
    ),
    "powers": lambda x, y: (
        x**2
        + torch.pow(y, 1.5)
        + torch.sqrt(y)
        + torch.rsqrt(y)
        + torch.square(x)
        + y.reciprocal()
        + y.pow(2)
    ),
    "sums": lambda x, y: (
        x * x.sum(dim=-1, keepdim=True)
        + torch.sum(y, dim=-1, keepdim=True)
        + x.sum()
        + torch.sum(x, -1).unsqueeze(-1)
    ),
    "means": lambda x, y: (
        x - torch.mean(x, dim=-1, keepdim=True) + y.mean(-1, True) + y.mean(dim=[-1], keepdim=True)
    ),
    "extremes": lambda x, y: (
        x - torch.amax(x, -1, keepdim=True) + y.amin(dim=-1, keepdim=True) + torch.max(x) - y.min()
    ),
    "arithmetic": lambda x, y: (
        torch.add(x, y, alpha=2)
        - torch.sub(x, w, alpha=3)
        + torch.mul(x, w)
        + torch.true_divide(x, y)
        - x.neg()
    ),
    "whole": lambda x, y: (
        x % y + torch.remainder(x, w) + torch.fmod(x, y) + torch.floor(x) * torch.ceil(y) + x.sign()
    ),
    "comparisons": lambda x, y: (
        ((x < y) & (w <= x) | torch.eq(x, y) ^ torch.logical_not(x >= w)).double() * x
        + (w == w).double() * (y != x)
    ),
    "casts": lambda x, y: x.float().double() + y.to(torch.float32).double(),
    "others": lambda x, y: (
        torch.lerp(x, y, 0.3)
        + torch.masked_fill(x, x > 0, 2.0)
        + torch.erf(x)
        + torch.hypot(x, y)
        + x.clone()
        + abs(x)
    ),
    "axes": lambda x, y: (
        torch.cat([x[:1], y[1:]]) * F.softmax(x, dim=-1)
        + torch.stack([x, y], -1)[..., 1] * torch.linalg.norm(x)
        + x[[2, 0, 1]]
    ),
    "products": lambda x, y: (
        torch.einsum("i,j->i", x, y) + (x @ w) * y + torch.log_softmax(y, -1) + torch.logsumexp(x * w, -1)
    ),
    "not finite": lambda x, y: (torch.isnan(x) | torch.isinf(y) | torch.isfinite(x)).double() * x,
}
x_dtype = torch.float64


@pytest.mark.parametrize("name", SAME)
def test_functions_of_symbols_are_those_of_tensors(name):
    f = SAME[name]
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    found = ng.update_all(g, lambda u, v: f(u.x, v.y), "sum", u={"x": a}, v={"y": b})
    wanted = torch.stack([f(*rows) for rows in zip(a, b)])
    torch.testing.assert_close(found, wanted)
    seed = torch.cos(torch.arange(15.0, dtype=x_dtype)).reshape(NODES, 3)
    for one, other in zip(
        *(
            torch.autograd.grad(z, (a, b), seed, allow_unused=True, materialize_grads=True)
            for z in (found, wanted)
        )
    ):
        torch.testing.assert_close(one, other)


def test_bits_of_integers():
    a = torch.arange(15).reshape(NODES, 3)
    three = torch.tensor([3, 5, 6])
    message = lambda x: (
        (three & x) + (x | 4) * (three ^ x) - torch.bitwise_not(x) + torch.bitwise_left_shift(x, 2)
    )
    torch.testing.assert_close(ng.update_all(g, lambda u: message(u.x), "sum", u={"x": a}), message(a))


def test_floor_division_which_torch_does_not_differentiate():
    message = lambda x, y: x // y + w // y
    torch.testing.assert_close(
        ng.apply_edges(g, lambda u, v: message(u.x, v.y), u={"x": x}, v={"y": y}), message(x, y)
    )


def test_functions_of_torch_act_among_arrays_of_numpy():
    found = ng.update_all(g, lambda u: torch.exp(u.x), "sum", u={"x": x.numpy()})
    assert type(found) is np.ndarray
    np.testing.assert_allclose(found, np.exp(x.numpy()))


def test_a_message_of_methods_alone_is_known_among_tensors_only():
    message = lambda u: u.x.exp()  # reads nothing else, so its expression is kept
    torch.testing.assert_close(ng.update_all(g, message, "sum", u={"x": x}), x.exp())
    with pytest.raises(AttributeError, match=r"is a symbol and has no \.exp; write np\.exp"):
        ng.update_all(g, message, "sum", u={"x": x.numpy()})


ERRORS = {
    "unknown": (lambda u: torch.linalg.inv(u.x), TypeError, "torch's linalg_inv cannot be part of a message"),
    "advice": (lambda u: torch.vdot(u.x, u.x), TypeError, r"write \(u.x \* v.y\).sum\(-1\)"),
    "places": (lambda u: torch.max(u.x, dim=-1), TypeError, r"torch.amax\(x, dim\)"),
    "in place": (lambda u: F.relu(u.x, inplace=True), TypeError, "in place"),
    "method in place": (lambda u: u.x.add_(1), AttributeError, "has no .add_"),
    "out": (lambda u: torch.exp(u.x, out=w), TypeError, "in place"),
    "options": (
        lambda u: torch.sum(u.x, dtype=torch.float32),
        TypeError,
        "torch's sum with 1 operands, dtype= cannot be part of a message",
    ),
    "device": (lambda u: u.x.to("cuda"), TypeError, "move the field before the call"),
    "approximate": (lambda u: F.gelu(u.x, approximate="tanh"), TypeError, "approximate='tanh'"),
    "all fields": (
        lambda u: torch.exp(u),
        TypeError,
        "u is no array, but has the fields x; name one of them, as u.x",
    ),
    "detached": (lambda u: u.x.detach(), AttributeError, "has no .detach"),
    "a branch": (lambda u: u.x if (torch.sum(u.x) > 0) else -u.x, TypeError, "a Python branch"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_unknown_is_an_error_as_numpys(name):
    message, kind, words = ERRORS[name]
    with pytest.raises(kind, match=words if name == "advice" or "\\" in words else re.escape(words)):
        ng.update_all(g, message, "sum", u={"x": x})
