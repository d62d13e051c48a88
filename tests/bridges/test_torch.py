"""PyTorch's tensors through numgraph's functions: values against NumPy's or torch's own gather and scatter,
derivatives against torch's.
"""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`torch\.jit\.:DeprecationWarning"
)  # torch's own, of its forward mode

NODES, EDGES = 7, 12
REDUCES = ("sum", "mean", "max", "min", "prod")


@pytest.fixture(scope="module")
def g():
    rng = np.random.default_rng(0)
    return ng.Graph(
        rng.integers(0, NODES - 1, EDGES), rng.integers(0, NODES - 1, EDGES), NODES
    )  # the last node is isolated


def make(*shape, dtype=torch.float64, seed=0, grad=False):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype).requires_grad_(grad)


def conv(g, x, w, reduce="sum"):
    return ng.update_all(g, lambda u, e: u.x * e.w, reduce, u={"x": x}, e={"w": w})


def reference(g, x, w, reduce="sum"):
    """The same, by torch's gather and scatter."""
    messages = x[torch.as_tensor(g.src.astype(np.int64))] * w
    into = torch.as_tensor(g.dst.astype(np.int64))[:, None].expand(-1, messages.shape[1])
    start = torch.ones if reduce == "prod" else torch.zeros
    made = start(g.num_dst, messages.shape[1], dtype=messages.dtype)
    name = {"max": "amax", "min": "amin"}.get(reduce, reduce)
    return made.scatter_reduce(0, into, messages, name, include_self=reduce == "prod")


def attention(g, x, y, w):
    return ng.attend(
        g,
        lambda u, v: np.tanh(u.s + v.y),
        lambda u, e: u.x * e.w,
        u={"x": x, "s": x.sum(-1, keepdim=True)},
        v={"y": y},
        e={"w": w},
    )


CALLS = {
    **{reduce: functools.partial(conv, reduce=reduce) for reduce in REDUCES},
    "apply_edges": lambda g, x, w: ng.apply_edges(
        g, lambda u, v, e: np.tanh(u.x - v.x) * e.w, u={"x": x}, v={"x": x}, e={"w": w}
    ),
    "attend": lambda g, x, w: attention(g, x, x[:, :1], w),
    "edge_softmax": lambda g, x, w: ng.ops.edge_softmax(g, w) * ng.ops.u_dot_v(g, x, x),
    "captured": lambda g, x, w: ng.update_all(
        g, lambda u, e: u.x * w[0] + w[0, 0], "sum", u={"x": x}, e={"w": w}
    ),
}
calls = pytest.mark.parametrize("call", CALLS)


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_gather_and_scatter(g, reduce, dtype):
    x, w = make(NODES, 3, dtype=dtype, grad=True), make(EDGES, 1, dtype=dtype, seed=1, grad=True)
    seed = make(NODES, 3, dtype=dtype, seed=2)
    found, wanted = (f(g, x, w, reduce) for f in (conv, reference))
    assert type(found) is torch.Tensor
    assert found.dtype is dtype
    torch.testing.assert_close(found, wanted)
    for a, b in zip(*(torch.autograd.grad(z, (x, w), seed) for z in (found, wanted))):
        torch.testing.assert_close(a, b)


@calls
def test_first_and_second_derivatives(g, call):
    x, w = make(NODES, 2, grad=True), make(EDGES, 1, seed=1, grad=True)
    f = functools.partial(CALLS[call], g)
    assert torch.autograd.gradcheck(f, (x, w))
    assert torch.autograd.gradgradcheck(f, (x, w))


@calls
def test_transforms_agree_with_reverse_mode(g, call):
    x, w = make(NODES, 2), make(EDGES, 1, seed=1)
    f = functools.partial(CALLS[call], g)
    jacobians = torch.autograd.functional.jacobian(f, (x, w))  # reverse mode, a row at a time
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):  # vmap of it, and vmap of forward mode
        torch.testing.assert_close(jacobian(f, (0, 1))(x, w), jacobians)
    tangents = make(NODES, 2, seed=3), make(EDGES, 1, seed=4)
    product = sum(torch.tensordot(j, t, t.ndim) for j, t in zip(jacobians, tangents))
    torch.testing.assert_close(torch.func.jvp(f, (x, w), tangents)[1], product)
    torch.testing.assert_close(torch.autograd.functional.jvp(f, (x, w), tangents)[1], product)
    with torch.autograd.forward_ad.dual_level():
        duals = [torch.autograd.forward_ad.make_dual(*pair) for pair in zip((x, w), tangents)]
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(f(*duals)).tangent, product)


@pytest.mark.parametrize("call", ["sum", "max", "attend", "edge_softmax"])
def test_hessians_agree(g, call):
    x, w = make(NODES, 2), make(EDGES, 1, seed=1)

    def loss(scale):
        return CALLS[call](g, torch.tanh(x * scale), w).square().sum()

    at = make(2, seed=5)
    wanted = torch.autograd.functional.hessian(loss, at)
    for hessian in (
        functools.partial(
            functools.partial,
            torch.autograd.functional.hessian,
            vectorize=True,
            outer_jacobian_strategy="forward-mode",
        ),
        torch.func.hessian,
        lambda f: torch.func.jacrev(torch.func.jacrev(f)),
        lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
    ):
        torch.testing.assert_close(hessian(loss)(at), wanted)


@pytest.mark.parametrize("call", ["sum", "captured", "attend"])
def test_gradients_of_a_batch_of_seeds(g, call):
    """``vectorize=True`` and ``is_grads_batched=True``, which have a vmap of their own."""
    x, w = make(NODES, 2, grad=True), make(EDGES, 1, seed=1, grad=True)
    f = functools.partial(CALLS[call], g)
    jacobian = torch.autograd.functional.jacobian
    for strategy in ("reverse-mode", "forward-mode"):
        torch.testing.assert_close(
            jacobian(f, (x, w), vectorize=True, strategy=strategy), jacobian(f, (x, w))
        )
    seeds = make(3, NODES, 2, seed=2)
    found = torch.autograd.grad(f(x, w), (x, w), seeds, is_grads_batched=True)
    for a, b in zip(found, zip(*[torch.autograd.grad(f(x, w), (x, w), seed) for seed in seeds])):
        torch.testing.assert_close(a, torch.stack(b))


@calls
@pytest.mark.parametrize("dims", [(0, None), (1, 2), (None, 0)])
def test_vmap_is_a_loop(g, call, dims):
    x, w = make(NODES, 2), make(EDGES, 1, seed=1)
    batch = [x if dim is None else torch.stack([x, x + 0.5, -x], dim) for x, dim in zip((x, w), dims)]
    f = functools.partial(CALLS[call], g)
    each = [[x if dim is None else x.select(dim, i) for x, dim in zip(batch, dims)] for i in range(3)]
    torch.testing.assert_close(torch.func.vmap(f, dims)(*batch), torch.stack([f(*one) for one in each]))
    gradient = torch.func.grad(lambda *xs: f(*xs).square().sum(), (0, 1))
    found = torch.func.vmap(gradient, dims)(*batch)
    for a, b in zip(found, zip(*[gradient(*one) for one in each])):
        torch.testing.assert_close(a, torch.stack(b))


@pytest.mark.parametrize("call", ["sum", "attend"])
def test_functionalize(g, call):
    x, w = make(NODES, 2), make(EDGES, 1, seed=1)

    def f(x, w):
        z = CALLS[call](g, x, w)
        return torch.relu_(z.add_(1))

    wanted = f(x, w)
    torch.testing.assert_close(torch.func.functionalize(f)(x, w), wanted)
    batch = torch.func.vmap(torch.func.functionalize(f), (0, None))(torch.stack([x, x]), w)
    torch.testing.assert_close(batch, torch.stack([wanted, wanted]))


# --- tensors as they come -----------------------------------------------------------------------------------


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "strided": lambda x: torch.stack([x, -x], -1).flatten(1)[:, ::2],
    "reversed": lambda x: x.flip(0).flip(0),
    "narrowed": lambda x: torch.cat([x, x])[: len(x)],
    "negated": lambda x: torch._neg_view(-x),
    "Parameter": torch.nn.Parameter,
    "subclass": lambda x: x.as_subclass(type("Mine", (torch.Tensor,), {})),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_taken(g, layout):
    x, w = make(NODES, 4), make(EDGES, 1, seed=1)
    laid = LAYOUTS[layout](x)
    torch.testing.assert_close(conv(g, laid, w).as_subclass(torch.Tensor), reference(g, x, w))
    y = LAYOUTS[layout](x.clone()).detach().requires_grad_()
    conv(g, y, w).as_subclass(torch.Tensor).backward(x)
    x.requires_grad_()
    torch.testing.assert_close(
        y.grad.as_subclass(torch.Tensor), torch.autograd.grad(reference(g, x, w), x, x.detach())[0]
    )


def test_expanded_tensors_are_taken(g):
    x, w = make(NODES, 1, grad=True), make(1, 1, seed=1, grad=True)
    found, wanted = (f(g, x.expand(-1, 4), w.expand(EDGES, 1)) for f in (conv, reference))
    torch.testing.assert_close(found, wanted)
    for a, b in zip(
        *(torch.autograd.grad(z.sum(), (x, w)) for z in (found, wanted))
    ):  # of an expanded gradient
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("nodes", "edges", "width"), [(0, 0, 3), (4, 0, 3), (4, 5, 0)])
def test_nothing_is_taken(nodes, edges, width):
    g = ng.Graph([0] * edges, [1] * edges, nodes)
    x, w = make(nodes, width, grad=True), make(edges, 1, grad=True)
    for reduce in REDUCES:
        found = conv(g, x, w, reduce)
        torch.testing.assert_close(
            found, (torch.ones if reduce == "prod" else torch.zeros)(nodes, width, dtype=x.dtype)
        )
        for x_grad in torch.autograd.grad(found.sum(), (x, w)):
            assert not x_grad.any()


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("reduce", ["sum", "max", "mean"])
@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_are_those_of_numpy(g, name, reduce):
    x = make(NODES, 3).mul(3).to(getattr(torch, name))
    found = ng.update_all(g, lambda u: u.x, reduce, u={"x": x})
    if name == "bfloat16":
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
        wanted = ng.update_all(
            g, lambda u: u.x, reduce, u={"x": x.float().numpy().astype(ml_dtypes.bfloat16)}
        ).astype(np.float32)
        assert found.dtype is torch.bfloat16
        found = found.float()
    else:
        wanted = ng.update_all(g, lambda u: u.x, reduce, u={"x": x.numpy()})
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=0, atol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_half_precision(g, dtype):
    x, w = make(NODES, 3, dtype=dtype, grad=True), make(EDGES, 1, seed=1, grad=True)
    conv(g, x, w.to(dtype)).float().square().sum().backward()
    assert x.grad.dtype is dtype
    exact = x.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(reference(g, exact, w).square().sum(), exact)
    torch.testing.assert_close(x.grad.double(), wanted, rtol=0.05, atol=0.1)


def test_what_is_not_finite_reaches_the_result(g):
    x = make(NODES, 3)
    x[int(g.src[0])] = torch.tensor([np.nan, np.inf, -np.inf])
    w = torch.ones(EDGES, 1, dtype=x.dtype)
    for reduce in ("sum", "max"):
        torch.testing.assert_close(conv(g, x, w, reduce), reference(g, x, w, reduce), equal_nan=True)


def test_arrays_of_numpy_are_constants_beside_tensors(g):
    x, w, bias = make(NODES, 3, grad=True), make(EDGES, 1, seed=1), np.arange(3.0)
    found = ng.update_all(g, lambda u, e: u.x * e.w + bias, "sum", u={"x": x}, e={"w": w.numpy()})
    wanted = ng.update_all(
        g, lambda u, e: u.x * e.w + bias, "sum", u={"x": x.detach().numpy()}, e={"w": w.numpy()}
    )
    torch.testing.assert_close(found.detach(), torch.from_numpy(wanted))
    (found,) = torch.autograd.grad(found, x, x.detach())
    torch.testing.assert_close(found, torch.autograd.grad(reference(g, x, w), x, x.detach())[0])


def test_captured_tensors_have_gradients(g):
    x, scale, shift = (
        make(NODES, 3),
        make(3, seed=1, grad=True),
        torch.tensor(0.5, dtype=torch.float64, requires_grad=True),
    )
    found = ng.update_all(g, lambda u: (u.x - shift) * scale, "sum", u={"x": x})
    wanted = reference(g, (x - shift) * scale, torch.ones(EDGES, 1, dtype=x.dtype))
    torch.testing.assert_close(found, wanted)
    for a, b in zip(*(torch.autograd.grad(z, (scale, shift), x) for z in (found, wanted))):
        torch.testing.assert_close(a, b)
    captured_alone = ng.update_all(g, lambda u: u.x * scale, "sum", u={"x": x.numpy()})
    assert captured_alone.requires_grad


# --- memory -------------------------------------------------------------------------------------------------


def test_tensors_are_read_where_they_are(g, monkeypatch):
    from numgraph.message.propagate import Walk

    addresses = []
    run = Walk.run

    def watched(walk, arrays):
        addresses.append([x.__array_interface__["data"][0] for x in arrays])
        made = run(walk, arrays)
        addresses.append([x.__array_interface__["data"][0] for x in made])
        return made

    monkeypatch.setattr(Walk, "run", watched)
    x, w = make(NODES, 3, grad=True), make(EDGES, 1, seed=1, grad=True)
    z = conv(g, x, w)
    assert addresses == [[x.data_ptr(), w.data_ptr()], [z.data_ptr()]]
    addresses.clear()
    seed = make(NODES, 3)
    grads = torch.autograd.grad(z, (x, w), seed)
    assert set(addresses[0]) == {x.data_ptr(), w.data_ptr(), seed.data_ptr()}
    assert set(addresses[1]) == {grad.data_ptr() for grad in grads}


def test_results_own_their_memory(g):
    x = torch.ones(400, 1000)  # a result large enough that its memory is used again
    big = ng.Graph(np.arange(400), np.arange(400), 400)
    kept = [ng.update_all(big, lambda u: u.x * 2, "sum", u={"x": x * i}) for i in range(3)]
    for i, z in enumerate(kept):
        assert (z == 2 * i).all()
    y = ng.apply_edges(big, lambda u: u.x, u={"x": x})
    y.zero_()
    assert (x == 1).all()


def test_only_what_the_backward_reads_is_saved(g):
    x, w = make(NODES, 3, grad=True), make(EDGES, 1, seed=1)
    z = conv(g, x, w)
    assert [tuple(saved.shape) for saved in z.grad_fn.saved_tensors] == [(EDGES, 1)]
    assert conv(g, x.detach(), w).grad_fn is None
    for y in (
        ng.update_all(g, lambda u: u.x * 2, reduce, u={"x": x}) for reduce in ("sum", "mean", "max", "min")
    ):
        torch.relu_(y)
        y.sum().backward()


def test_a_saved_field_that_changed_is_torchs_error(g):
    x, w = make(NODES, 3), make(EDGES, 1, seed=1, grad=True)
    z = conv(g, x, w)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_leaves_results_and_graphs_follow_torchs_rules(g):
    x, w = make(NODES, 3, grad=True), make(EDGES, 1, seed=1)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.add_(conv(g, x, w))
    with torch.no_grad():
        x.add_(conv(g, x, w))
    z = conv(g, x, w)
    z.add_(1)  # results are no views
    z.sum().backward(retain_graph=True)
    first = x.grad.clone()
    z.sum().backward()
    torch.testing.assert_close(x.grad, 2 * first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        z.sum().backward()


# --- torch's contexts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_nothing_is_recorded_where_no_gradient_is_asked_for(g, context):
    x, w = make(NODES, 3, grad=True), make(EDGES, 1, seed=1)
    with context():
        z = conv(g, x, w)
    assert not z.requires_grad
    torch.testing.assert_close(z.clone(), reference(g, x, w).detach())


def test_autocast(g):
    linear, x, w = (
        torch.nn.Linear(3, 2),
        make(NODES, 3, dtype=torch.float32),
        make(EDGES, 1, dtype=torch.float32, grad=True),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = conv(g, linear(x), w)
    assert z.dtype is torch.float32  # of bfloat16 features and float32 weights
    z.sum().backward()
    assert linear.weight.grad.dtype is torch.float32
    assert w.grad.shape == w.shape


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("call", ["max", "attend"])
def test_checkpoint(g, call, reentrant):
    x, w = make(NODES, 3, grad=True), make(EDGES, 1, seed=1, grad=True)
    f = functools.partial(CALLS[call], g)
    z = torch.utils.checkpoint.checkpoint(f, x, w, use_reentrant=reentrant)
    z.square().sum().backward()
    for a, b in zip(torch.autograd.grad(f(x, w).square().sum(), (x, w)), (x.grad, w.grad)):
        torch.testing.assert_close(a, b)


def test_hooks_of_saved_tensors(g):
    packed = []

    def pack(x):
        packed.append(tuple(x.shape))
        return x.numpy(force=True).copy()

    x, w = make(NODES, 3, grad=True), make(EDGES, 1, seed=1, grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy):
        z = conv(g, x, w)
    assert sorted(packed) == [(NODES, 3), (EDGES, 1)]
    for a, b in zip(*(torch.autograd.grad(f.sum(), (x, w)) for f in (z, reference(g, x, w)))):
        torch.testing.assert_close(a, b)
    with torch.autograd.graph.save_on_cpu():
        assert torch.autograd.gradcheck(functools.partial(conv, g), (x, w))


def test_threads(g):
    from concurrent.futures import ThreadPoolExecutor

    def work(seed):
        x, w = make(NODES, 3, seed=seed, grad=True), make(EDGES, 1, seed=1)
        for _ in range(20):
            found, wanted = (torch.autograd.grad(f(g, x, w).square().sum(), x)[0] for f in (conv, reference))
            torch.testing.assert_close(found, wanted)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


class Neighbours(torch.utils.data.Dataset):
    def __init__(self, g, x):
        self.g, self.x = g, x

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return ng.update_all(self.g, lambda u: u.x * 2, "sum", u={"x": self.x + i})


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="the system has no fork")
def test_workers_of_a_data_loader(g):
    x = make(NODES, 3)
    dataset = Neighbours(g, x)
    wanted = torch.stack([dataset[i] for i in range(4)])  # the parent has run kernels before it forks
    with _forking():
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=4, num_workers=2, multiprocessing_context="fork"
        )
        torch.testing.assert_close(next(iter(loader)), wanted)


@contextlib.contextmanager
def _forking():
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "This process .* is multi-threaded", DeprecationWarning
        )  # Python 3.12's, of torch's own threads
        warnings.filterwarnings(
            "ignore", r"os\.fork\(\) was called", RuntimeWarning
        )  # JAX's, where another test has imported it
        yield
