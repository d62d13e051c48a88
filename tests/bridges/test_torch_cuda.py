"""Tensors on a CUDA device go through the same bridge: by DLPack, in the order of torch's current stream.
Here on the doubles of tensors (cuda_tensors.py) and of CuPy (device.py); what is right is said by torch's
gather and scatter on the host."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")

import cuda_tensors  # noqa: E402
import device as doubles  # noqa: E402
from cuda_tensors import CudaTensor, cuda, events, on  # noqa: E402

pytestmark = doubles.double_only
device = doubles.device

SRC, DST = torch.tensor([0, 1, 3, 1, 2, 1, 0, 3]), torch.tensor([2, 0, 1, 2, 0, 3, 3, 1])
HOST = ng.Graph(SRC, DST, 5)  # node 4 has no edges


@pytest.fixture
def g(monkeypatch, device):
    with cuda_tensors.tensors(monkeypatch, device):
        yield HOST.to("cuda")


def make(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def into(messages, reduce="sum"):
    rows = DST[:, None].expand_as(messages)
    return messages.new_zeros(5, messages.shape[1]).scatter_reduce(
        0, rows, messages, reduce, include_self=False
    )


def softmax(s):
    weight = torch.exp(s - into(s, "amax").detach()[DST])
    return weight / into(weight)[DST]


def message(u, v, e):
    return np.tanh(u.x - v.x) * e.w


CALLS = {
    "sum": (
        lambda g, x, w: ng.update_all(g, message, "sum", u={"x": x}, v={"x": x}, e={"w": w}),
        lambda x, w: into(torch.tanh(x[SRC] - x[DST]) * w),
    ),
    "mean": (
        lambda g, x, w: ng.update_all(g, message, "mean", u={"x": x}, v={"x": x}, e={"w": w}),
        lambda x, w: into(torch.tanh(x[SRC] - x[DST]) * w, "mean"),
    ),
    "max": (
        lambda g, x, w: ng.update_all(g, lambda u, e: u.x * e.w, "max", u={"x": x}, e={"w": w}),
        lambda x, w: into(x[SRC] * w, "amax"),
    ),
    "edges": (
        lambda g, x, w: ng.ops.u_dot_v(g, x, x) * w,
        lambda x, w: (x[SRC] * x[DST]).sum(1, keepdim=True) * w,
    ),
    "attention": (
        lambda g, x, w: ng.attend(
            g,
            lambda u, v, e: np.tanh(u.s + v.s) * e.w,
            lambda u: u.x,
            u={"x": x, "s": x},
            v={"s": x},
            e={"w": w},
        ),
        lambda x, w: into(softmax(torch.tanh(x[SRC] + x[DST]) * w) * x[SRC]),
    ),
    "captured": (
        lambda g, x, w: ng.update_all(g, lambda u: u.x * w[0] + w[1, 0], "sum", u={"x": x}),
        lambda x, w: into(x[SRC] * w[0] + w[1, 0]),
    ),
    "softmax": (lambda g, x, w: ng.ops.edge_softmax(g, w), lambda x, w: softmax(w)),
}


@pytest.mark.parametrize("call", CALLS)
def test_values_and_both_derivatives(g, call):
    ours, theirs = CALLS[call]
    x, w = make(5, 2).requires_grad_(), make(8, 1, seed=1).requires_grad_()
    there = cuda(x), cuda(w)
    found, wanted = ours(g, *there), theirs(x, w)
    seed = make(*wanted.shape, seed=2)
    for got, want in zip(
        _of_two_orders(found, there, cuda(seed)), _of_two_orders(wanted, (x, w), seed), strict=True
    ):
        assert type(got) is CudaTensor
        torch.testing.assert_close(got.host, want)


def _of_two_orders(z, inputs, seed):
    first = torch.autograd.grad((z * seed).sum(), inputs, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(
        sum((f.sin() * f).sum() for f in first) + z.square().sum(), inputs, materialize_grads=True
    )
    return z, *first, *second


FIELDS = {
    "expanded": lambda x: x[:, :1].expand(-1, 2),
    "strided": lambda x: x.t().contiguous().t(),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "int32": lambda x: (10 * x).int(),
    "bool": lambda x: x > 0,
}


@pytest.mark.parametrize("kind", FIELDS)
def test_tensors_as_they_come(g, kind):
    made = FIELDS[kind](cuda(make(5, 2)))
    found = ng.update_all(g, lambda u: u.x, "sum", u={"x": made})
    wanted = into(FIELDS[kind](make(5, 2)).double()[SRC])
    assert found.dtype is (made.dtype if made.is_floating_point() else torch.int64)
    torch.testing.assert_close(found.host.double(), wanted, rtol=2**-7, atol=2**-6)


def test_nothing_is_recorded_where_no_gradient_is_asked_for(g):
    x = cuda(make(5, 2).requires_grad_())
    with torch.no_grad():
        assert not ng.ops.copy_u_sum(g, x).requires_grad


# --- memory and order ---------------------------------------------------------------------------------------


def test_memory_is_shared_and_kept(g):
    x = cuda(make(5, 2))
    z = ng.apply_edges(g, lambda u: u.x + 1, u={"x": x})
    kinds = [kind for kind, *_ in events]
    assert kinds == ["in", "run", "out"]
    assert [address for *_, address in events if address] == [x.host.data_ptr(), z.host.data_ptr()]
    wanted = make(5, 2)[SRC] + 1
    del x
    gc.collect()
    others = [ng.apply_edges(g, lambda u: u.x, u={"x": cuda(make(5, 2, seed=i))}) for i in range(4)]
    torch.testing.assert_close(z.host, wanted)
    assert len({y.host.data_ptr() for y in (z, *others)}) == 5


def test_cupy_works_on_torchs_stream(g):
    """In order with what torch does before and after, also where it is no default stream, and in the
    backward.
    """
    x = cuda(make(5, 2).requires_grad_())
    for stream in (11, 12):
        events.clear()
        with on(stream=stream):
            CALLS["sum"][0](g, x, cuda(make(8, 1))).sum().backward()
        assert [kind for kind, *_ in events].count("run") == 2
        assert {at for _, at, _ in events} == {stream}
    assert cuda_tensors.cupy_stream() == 0


def test_an_error_leaves_the_stream_as_it_was(g, monkeypatch):
    def broken(*args):
        raise MemoryError

    monkeypatch.setattr("numgraph.compiler.cuda.execute", broken)
    with pytest.raises(MemoryError, match=r"there is no memory for \[5, 2\] of float64"):
        ng.ops.copy_u_sum(g, cuda(make(5, 2)))
    assert cuda_tensors.cupy_stream() == 0


# --- errors -------------------------------------------------------------------------------------------------

MOVE = "bring both to one device: graph.to(device), tensor.to(device)"
X, W = make(5, 2), make(8, 1)
MIXED = {
    "graph on the host": (
        lambda g: ng.ops.copy_u_sum(HOST, cuda(X)),
        f"lhs is on cuda, the graph is on cpu; {MOVE}",
    ),
    "field on the host": (
        lambda g: ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": cuda(X)}, e={"w": W}),
        f"field e.w is on cpu, the graph is on cuda; {MOVE}",
    ),
    "array of NumPy": (
        lambda g: ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": cuda(X)}, e={"w": W.numpy()}),
        "field e.w is on cpu, the graph is on cuda",
    ),
    "captured on the host": (
        lambda g: ng.update_all(g, lambda u: u.x * W[0], "sum", u={"x": cuda(X)}),
        "is on cpu, the graph is on cuda",
    ),
    "all on the host": (
        lambda g: ng.update_all(g, lambda u: u.x, "sum", u={"x": X}),
        f"field u.x is on cpu, the graph is on cuda; {MOVE}",
    ),
    "another device": (
        lambda g: ng.ops.copy_u_sum(g, cuda(X, 1)),
        "lhs is on cuda:1, the current device is cuda:0; call it within torch.cuda.device(1)",
    ),
    "one of two devices": (
        lambda g: ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": cuda(X)}, e={"w": cuda(W, 1)}),
        "field e.w is on cuda:1, the current device is cuda:0",
    ),
    "a lost gradient": (
        lambda g: ng.relu(cuda(make(5, 2).requires_grad_())),
        "that requires a gradient, which would be lost; use torch's function",
    ),
    "ids": (
        lambda g: ng.Graph(cuda(SRC), DST),
        "src is on cuda; ids are checked and sorted on the host: give src.cpu()",
    ),
    "offsets": (
        lambda g: ng.ops.segment_reduce(cuda(torch.tensor([0, 5])), X),
        "offsets is on cuda.* give offsets.cpu()",
    ),
    "an op of the host": (
        lambda g: ng.ops.csrmm(HOST, cuda(W[:, 0]), HOST, W[:, 0]),
        "runs on the host alone; take",
    ),
    "complex": (lambda g: ng.ops.copy_u_sum(g, cuda(X.cfloat())), "lhs has dtype complex64"),
}


@pytest.mark.parametrize("name", MIXED)
def test_errors(g, name):
    call, words = MIXED[name]
    with pytest.raises(TypeError, match=re.escape(words).replace(r"\.\*", ".*")):
        call(g)
    assert not events


def test_another_device_is_taken_where_it_is_the_current_one(g):
    with on(device=1):
        z = ng.ops.copy_u_sum(g, cuda(X, 1))
    assert z.device == torch.device("cuda", 1)
    torch.testing.assert_close(z.host, into(X[SRC]))


# --- beside walks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)], ids=["torch", "numpy"])
def test_dropout(g, rng):
    x = cuda(torch.ones(100, 40).requires_grad_())
    z = ng.dropout(x, 0.25, rng)
    assert type(z) is CudaTensor
    assert z.host.detach().unique().tolist() == pytest.approx([0, 4 / 3])
    assert 0.7 < (z.host > 0).float().mean() < 0.8
    z.sum().backward()
    torch.testing.assert_close(x.grad.host, z.host.detach())


def test_layers(g):
    import numgraph.torch

    layer = numgraph.torch.nn.GATConv(2, 3, heads=2).double()
    wanted = layer(HOST, X)
    for name, parameter in list(layer.named_parameters()):
        module, _, last = name.rpartition(".")
        owner = layer.get_submodule(module)
        delattr(owner, last)
        setattr(owner, last, cuda(parameter))
    torch.testing.assert_close(layer(g, cuda(X)).host, wanted)
