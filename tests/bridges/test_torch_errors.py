"""What numgraph cannot take from torch is an error in torch's terms, and no gradient is lost in silence."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")

g = ng.Graph([0, 1, 2, 2], [1, 2, 0, 1], 3)
x = torch.ones(3, 2, requires_grad=True)


def given(value, **others):
    return ng.update_all(g, lambda u: u.x, "sum", u={"x": value, **others})


def make_fx(*args, **options):
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(*args, **options)


def quantised():
    return torch.quantize_per_tensor(torch.ones(3, 2), 0.1, 0, torch.qint8)


FIELDS = {
    "meta": (
        lambda: given(x.to("meta")),
        TypeError,
        "update_all: field u.x is a tensor on the device meta, without numbers",
    ),
    "sparse": (
        lambda: given(torch.eye(3).to_sparse()),
        TypeError,
        "field u.x is a tensor of layout sparse_coo; give x.to_dense()",
    ),
    "csr": (lambda: given(torch.eye(3).to_sparse_csr()), TypeError, "layout sparse_csr; give x.to_dense()"),
    "quantised": (lambda: given(quantised()), TypeError, "field u.x has dtype qint8; give x.dequantize()"),
    "nested": (
        lambda: given(torch.nested.nested_tensor([torch.ones(2)] * 3)),
        TypeError,
        "field u.x is a nested tensor",
    ),
    "complex": (
        lambda: given(torch.ones(3, 2, dtype=torch.complex64)),
        TypeError,
        "field u.x has dtype complex64",
    ),
    "float8": (
        lambda: given(torch.ones(3, 2).to(torch.float8_e4m3fn)),
        TypeError,
        "field u.x has dtype float8_e4m3fn; convert it",
    ),
    "uint64": (lambda: given(torch.ones(3, 2, dtype=torch.uint64)), TypeError, "field u.x has dtype uint64"),
    "rows": (
        lambda: given(torch.ones(4, 2)),
        ValueError,
        "field u.x has shape (4, 2), the graph's num_src is 3; the first axis must be 3",
    ),
    "no axis": (
        lambda: given(torch.ones(())),
        ValueError,
        "field u.x has shape (), the graph's num_src is 3",
    ),
    "masked": (
        lambda: given(torch.masked.masked_tensor(x.detach(), x > 0)),
        TypeError,
        "field u.x is a MaskedTensor; give x.to_tensor(value)",
    ),
    "jit": (lambda: torch.jit.trace(given, (x,)), TypeError, "field u.x is a tensor within torch.jit.trace"),
    "fx": (
        lambda: torch.fx.symbolic_trace(lambda x: given(x)),
        TypeError,
        "field u.x is a tensor within torch.fx.symbolic_trace",
    ),
    "symbolic": (
        lambda: make_fx(given, tracing_mode="symbolic")(x),
        TypeError,
        "field u.x has a shape with symbols",
    ),
    "where": (
        lambda: ng.update_all(g, lambda u: torch.where(True, u.x, 0), "sum", u={"x": x}),
        TypeError,
        "in the message a function got a symbol that is no array of its library",
    ),
    "size": (
        lambda: ng.update_all(g, lambda u: u.x * u.x.size(-1), "sum", u={"x": x}),
        TypeError,
        "write u.x.shape[-1]",
    ),
    "Tensor": (
        lambda: given(x, y=ng.Tensor(np.ones((3, 2)))),
        TypeError,
        "field u.y is a Tensor of a tape beside arrays of torch",
    ),
    "captured Tensor": (
        lambda: ng.update_all(g, lambda u: u.x * ng.Tensor(np.ones(2)), "sum", u={"x": x}),
        TypeError,
        "is a Tensor of a tape beside arrays of torch",
    ),
    "captured rows": (
        lambda: ng.update_all(g, lambda u: u.x * torch.ones(4, 1), "sum", u={"x": x}),
        ValueError,
        "the captured array w of shape [4, 1] has a row for each edge",
    ),
    "operand": (
        lambda: ng.ops.u_dot_v(g, torch.ones(4, 2), x),
        ValueError,
        "u_dot_v: lhs has shape [4, 2], the graph's num_src is 3",
    ),
    "operand meta": (
        lambda: ng.ops.copy_u_sum(g, x.to("meta")),
        TypeError,
        "copy_u_sum: lhs is a tensor on the device meta",
    ),
    "negative power": (
        lambda: ng.apply_edges(g, lambda u: 2**u.x, u={"x": torch.tensor([[1], [-1], [2]])}),
        ValueError,
        "the exponent u.x of an integer is negative on an edge",
    ),
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*MaskedTensors is in prototype:UserWarning"
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:torch|tests", "ignore:.*(quantiz|prototype|beta state).*")
@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_are_not_taken(name):
    call, kind, words = FIELDS[name]
    with pytest.raises(kind, match=re.escape(words)):
        call()


LOST = {
    "layer": lambda: ng.nn.GCNConv(2, 2)(g, x),
    "linear": lambda: ng.nn.Linear(2, 2)(x),
    "tape": lambda: ng.Tape().watch(x),
    "gather": lambda: ng.gather(x, np.array([0])),
    "scatter_add": lambda: ng.scatter_add(x, np.arange(3), 3),
    "cross_entropy": lambda: ng.cross_entropy(x, np.zeros(3, int)),
    "graph": lambda: ng.Graph.from_edge_index(x),
}


LOST |= {
    name: functools.partial(getattr(ng, name), x)
    for name in ("relu", "gelu", "softmax", "log_softmax", "layer_norm", "batch_norm", "sigmoid")
}


@pytest.mark.parametrize("name", LOST)
def test_no_gradient_is_lost(name):
    with pytest.raises(
        TypeError,
        match=r"is a torch\.Tensor that requires a gradient, which would be lost; use torch's function",
    ):
        LOST[name]()


def weighted(w):
    return ng.update_all(g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": w})


CHANGED = {
    "field": ((4, 1), weighted, "update_all(sum): field e.w, of shape [4, 1], was changed"),
    "captured": (
        (2,),
        lambda w: ng.update_all(g, lambda u: u.x * w, "sum", u={"x": x}),
        "an array that the message captures, of shape [2], was changed",
    ),
    "score": (
        (4, 1),
        lambda w: ng.attend(g, lambda e: e.w, lambda u: u.x, u={"x": x}, e={"w": w}),
        "attend: field e.w, of shape [4, 1], was changed",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_arrays_of_numpy_that_change_before_the_backward(name):
    shape, call, words = CHANGED[name]
    w = np.ones(shape, np.float32)
    loss = call(w).sum()
    w += 1
    with pytest.raises(ValueError, match=re.escape(words)):
        loss.backward()


MIXED = {
    "field": (lambda y: given(x, y=y), "update_all: field u.y is an array of JAX, others are of torch"),
    "captured": (
        lambda y: ng.update_all(g, lambda u: u.x * y[0], "sum", u={"x": x}),
        "update_all: the captured array of shape [2] is",
    ),
    "operand": (lambda y: ng.ops.u_dot_v(g, x, y), "is an array of JAX, others are of torch"),
    "segment_mm": (
        lambda y: ng.ops.segment_mm(x, y[None, :2], [3]),
        "segment_mm: b is an array of JAX, others are of torch",
    ),
    "csrsum": (
        lambda y: ng.ops.csrsum([g, g], [torch.ones(4), y.reshape(-1)[:4]]),
        "csrsum: weights[1] is an array of JAX",
    ),
    "csrmm": (
        lambda y: ng.ops.csrmm(g, torch.ones(4), g, y.reshape(-1)[:4]),
        "is an array of JAX, others are of torch",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_arrays_of_two_libraries_do_not_mix(name):
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    call, words = MIXED[name]
    with pytest.raises(TypeError, match=re.escape(words)):
        call(jnp.ones((3, 2)))


def test_graphs_of_tensors():
    src, dst = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 0, 1], dtype=torch.int32)
    for made in (
        ng.Graph(src, dst),
        ng.Graph.from_edge_index(torch.stack([src, dst.long()])),
        ng.Graph(src[::1], dst.flip(0).flip(0)),
    ):
        np.testing.assert_array_equal(made.src, g.src)
        np.testing.assert_array_equal(made.dst, g.dst)


def test_results_of_torch_alone_are_arrays_of_numpy_in_dense_functions():
    """What requires no gradient is read as NumPy reads it."""
    np.testing.assert_array_equal(ng.relu(torch.tensor([-1.0, 2.0])), [0, 2])
