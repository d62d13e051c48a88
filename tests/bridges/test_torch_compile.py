"""torch.compile: whole graphs without a break, forward and backward, and right from the caches that another
process left on disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore:.*isinstance.treespec.*:FutureWarning"
)

NODES, EDGES = 5, 8
_ids = np.random.default_rng(0)
g = ng.Graph(_ids.integers(0, NODES, EDGES), _ids.integers(0, NODES, EDGES), NODES)
OTHER = ng.Graph(_ids.integers(0, NODES, EDGES), _ids.integers(0, NODES, EDGES), NODES)
SLOPE = 0.2
OFFSETS = [0, 2, 2, 5, 8]


def make(*shape, seed=0, dtype=torch.float32):
    return (
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        .to(dtype)
        .requires_grad_(dtype.is_floating_point)
    )


def scores(u, v):
    return ng.leaky_relu(u.x.sum(-1, keepdims=True) + v.x.mean(-1, keepdims=True), SLOPE)


def reduced(reduce):
    return lambda x, w: ng.update_all(g, lambda u, e: u.x * e.w, reduce, u={"x": x}, e={"w": w})


CALLS = {
    **{reduce: reduced(reduce) for reduce in ("sum", "mean", "max", "prod")},
    "torch functions": lambda x, w: ng.update_all(
        g, lambda u, e: torch.relu(u.x) * torch.exp(e.w), "sum", u={"x": x}, e={"w": w}
    ),
    "apply_edges": lambda x, w: ng.apply_edges(
        g, lambda u, v, e: np.tanh(u.x - v.x) * e.w, u={"x": x}, v={"x": x}, e={"w": w}
    ),
    "attend": lambda x, w: ng.attend(g, scores, lambda u, e: u.x * e.w, u={"x": x}, v={"x": x}, e={"w": w}),
    "gspmm": lambda x, w: ng.ops.gspmm(g, "mul", "max", x, w),
    "u_mul_e_sum": lambda x, w: ng.ops.u_mul_e_sum(g, x, w),
    "u_dot_v": lambda x, w: ng.ops.u_dot_v(g, x, torch.sin(x)) * w,
    "edge_softmax": lambda x, w: ng.ops.edge_softmax(g, w) * w,
    "edge_softmax by source": lambda x, w: ng.ops.edge_softmax(g, w, norm_by="src") * w,
    "segment_reduce": lambda x, w: ng.ops.segment_reduce(OFFSETS, w, "sum"),
    "segment_softmax": lambda x, w: ng.ops.segment_softmax(OFFSETS, w),
    "segment_mm": lambda x, w: ng.ops.segment_mm(x, torch.stack([x[:3], x[2:]]), [0, 2, NODES]),
    "gather_mm": lambda x, w: ng.ops.gather_mm(x, torch.stack([x[:3], x[2:]]), [1, 0, 1, 1, 0]),
    "csrmask": lambda x, w: ng.ops.csrmask(g, w[:, 0], OTHER),
    "two": lambda x, w: (
        ng.ops.copy_u_sum(g, torch.tanh(ng.ops.u_mul_e_sum(g, torch.tanh(x), w))) + ng.ops.copy_e_mean(g, w)
    ),
    "numbers, functions and modules": lambda x, w: ng.apply_edges(g, made(2.0, torch.tanh), u={"x": x}) * w,
    "a number of the function around it": lambda x, w: around(x, 0.5),
}


def around(x, slope):
    return ng.update_all(g, lambda u: np.where(u.x > 0, u.x, u.x * slope), "sum", u={"x": x})


def made(k, act, shift=1):
    def message(u, k=k):
        return act(np.sum([u.x * one for one in (k, SLOPE)], 0) if shift is None else u.x * k + shift * SLOPE)

    return message


def gradients(f, *xs):
    y = f(*xs)
    seed = torch.cos(torch.arange(y.numel(), dtype=torch.float32)).reshape(y.shape)
    return y, *torch.autograd.grad((y * seed).sum(), xs, allow_unused=True, materialize_grads=True)


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


@pytest.mark.parametrize("call", CALLS)
def test_whole_graphs_forward_and_backward(call):
    f, xs = CALLS[call], (make(NODES, 3), make(EDGES, 1, seed=1))
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for found, wanted in zip(gradients(compiled, *xs), gradients(f, *xs)):
        torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*xs), f(*xs))


def test_nodes_are_walks_and_there_is_no_other_break():
    explained = torch._dynamo.explain(CALLS["two"])(make(NODES, 3), make(EDGES, 1))
    assert explained.graph_count == 1
    assert explained.graph_break_count == 0


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute:UserWarning"
)  # dynamo's, which looks at it where it begins a second part
@pytest.mark.parametrize(
    "call",
    [
        lambda w: ng.ops.csrmm(g, w, g, w * 2),
        lambda w: ng.ops.csrsum([g, OTHER], [w, w * 2]),
        lambda w: (0, ng.ops.segment_reduce(torch.tensor(OFFSETS), w, "max")),
        lambda w: (0, ng.ops.segment_softmax(torch.tensor(OFFSETS), w)),
        lambda w: (0, ng.ops.gather_mm(w[:, None], w.reshape(EDGES, 1, 1), torch.arange(EDGES))),
        lambda w: (0, ng.ops.segment_mm(w[:, None], w.reshape(EDGES, 1, 1), np.ones(EDGES, int))),
    ],
    ids=["csrmm", "csrsum", "segment_reduce", "segment_softmax", "gather_mm", "segment_mm"],
)
def test_functions_that_make_graphs_run_between_compiled_parts(call):
    w = make(EDGES)

    def f(w):
        return call(torch.tanh(w))[1] * 3

    for found, wanted in zip(gradients(torch.compile(f, backend="aot_eager"), w), gradients(f, w)):
        torch.testing.assert_close(found, wanted)


def test_dynamic_shapes_and_other_graphs_compile_again():
    compiled = torch.compile(
        lambda g, x: ng.ops.copy_u_sum(g, x * 2), fullgraph=True, backend="aot_eager", dynamic=True
    )
    for nodes in (3, 4, 6):
        other = ng.Graph(np.arange(nodes), np.roll(np.arange(nodes), 1))
        x = make(nodes, nodes)
        torch.testing.assert_close(compiled(other, x), x[torch.roll(torch.arange(nodes), -1)] * 2)


def test_training_a_compiled_module():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 8), torch.nn.Linear(8, 2)

        def forward(self, x):
            h = torch.relu(ng.ops.copy_u_mean(g, self.first(x)))
            return ng.attend(
                g,
                lambda u, v: (u.h - v.h).sum(-1),
                lambda u: u.h,
                u={"h": self.second(h)},
                v={"h": self.second(h)},
            )

    losses = []
    for wrap in (lambda net: net, lambda net: torch.compile(net, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        net = Net()
        run, optimiser = wrap(net), torch.optim.Adam(net.parameters(), lr=0.05)
        x, y = make(NODES, 3).detach(), torch.tensor([0, 1, 0, 1, 1])
        losses.append([])
        for _ in range(8):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(run(x), y)
            loss.backward()
            optimiser.step()
            losses[-1].append(loss.item())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize("call", ["sum", "mean", "attend", "edge_softmax"])
def test_the_operator_passes_torchs_own_checks(call):
    from torch.fx.experimental.proxy_tensor import make_fx

    f, xs = CALLS[call], (make(NODES, 3), make(EDGES, 1, seed=1))
    traced = make_fx(f, tracing_mode="fake")(*xs)
    walks = [node for node in traced.graph.nodes if node.target is torch.ops.numgraph.walk.default]
    assert walks
    torch.testing.assert_close(traced(*xs), f(*xs))
    fields, *texts = walks[0].args
    torch.library.opcheck(
        torch.ops.numgraph.walk.default, ([make(*x.meta["val"].shape) for x in fields], *texts)
    )


def test_transforms_within_compiled_code():
    x, w = make(3, NODES, 3).detach(), make(EDGES, 1, seed=1).detach()
    f = CALLS["sum"]

    def batched(x, w):
        return torch.func.vmap(f, (0, None))(x, w)

    def gradient(x, w):
        return torch.func.grad(lambda x: f(x, w).square().sum())(x)

    torch.testing.assert_close(
        torch.compile(batched, fullgraph=True, backend="aot_eager")(x, w),
        torch.stack([f(one, w) for one in x]),
    )
    torch.testing.assert_close(
        torch.compile(gradient, fullgraph=True, backend="aot_eager")(x[0], w), gradient(x[0], w)
    )


def test_export():
    class Model(torch.nn.Module):
        def forward(self, x, w):
            return CALLS["attend"](x, w)

    xs = make(NODES, 3).detach(), make(EDGES, 1, seed=1).detach()
    torch.testing.assert_close(torch.export.export(Model(), xs).module()(*xs), CALLS["attend"](*xs))


def test_a_graph_is_a_constant_of_what_is_exported_and_mapped():
    import numgraph.torch

    layer, x = numgraph.torch.nn.GCNConv(3, 2), make(NODES, 3).detach()
    exported = torch.export.export(layer, (g, x)).module()
    torch.testing.assert_close(exported(g, x), layer(g, x))
    with pytest.raises(ValueError, match="tree spec"):
        exported(ng.Graph([0], [1], NODES), x)
    torch.testing.assert_close(
        torch.func.vmap(layer)(g, torch.stack([x, -x])), torch.stack([layer(g, x), layer(g, -x)])
    )


@pytest.mark.parametrize(
    "weights",
    [np.arange(EDGES, dtype=np.float32)[:, None], np.arange(2 * EDGES)[::2, None]],
    ids=["float", "strided"],
)
def test_arrays_of_numpy_are_constants(weights):
    def f(x):
        return ng.update_all(
            g, lambda u, e: u.x * e.w, "sum", u={"x": x}, e={"w": weights}
        ) + ng.ops.u_mul_e_sum(g, x, weights)

    x = make(NODES, 3)
    found, wanted = torch.compile(f, fullgraph=True, backend="aot_eager")(x), f(x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(z.square().sum(), x)[0] for z in (found, wanted)))


def test_arrays_of_offsets_are_read_between_the_parts():
    offsets, x = np.array([0, 2, NODES]), make(NODES, 3).detach()
    f = lambda x: ng.ops.segment_reduce(offsets, x * 2, "sum")
    torch.testing.assert_close(torch.compile(f, backend="aot_eager")(x), f(x))
    torch._dynamo.reset()
    with pytest.raises(
        torch._dynamo.exc.Unsupported, match="give lists of offsets and ids, make graphs outside"
    ):
        torch.compile(f, fullgraph=True, backend="aot_eager")(x)


class Held:
    """What a message reads: everything here may change."""

    k, numbers, by_name, array, tensor = (
        2.0,
        [2.0],
        {"k": 2.0},
        np.full(3, 2.0, np.float32),
        torch.full((3,), 2.0),
    )

    def message(self, u):
        return u.x * self.k

    def __call__(self, u):
        return u.x * self.k


def scaled(x):
    return x * K


K, FUNCTION, HELPER, HELD = 2.0, np.tanh, scaled, Held()
GUARDED = {  # a message, and the name of a global that it reads
    "a number": (lambda u: u.x * K, "K", 3.0),
    "a number's dtype": (lambda u: u.x * K, "K", 2),
    "text": (lambda u: u.x * (2 if K == "double" else 1), "K", "double"),
    "a function of a library": (lambda u: FUNCTION(u.x), "FUNCTION", np.exp),
    "a function's own code": (lambda u: HELPER(u.x), "HELPER", lambda x: x - 1),
    "what a function reads": (lambda u: HELPER(u.x), "K", 3.0),
}
FACTORIES = {
    "a default": lambda k: lambda u, k=k: u.x * k,
    "an option": lambda k: eval("lambda k: lambda u, *, k=k: u.x * k", globals())(k),
    "a cell": lambda k: lambda u: u.x * k,
    "a function in a cell": lambda k: made(2.0, (np.tanh, np.exp, torch.relu)[int(k)]),
}
UNSEEN = {
    "an attribute": (lambda u: u.x * HELD.k, lambda: setattr(HELD, "k", 5.0)),
    "an object": (HELD, lambda: setattr(HELD, "k", 7.0)),
    "a method": (HELD.message, lambda: setattr(HELD, "k", 9.0)),
    "a list": (lambda u: u.x * HELD.numbers[0], lambda: HELD.numbers.__setitem__(0, 5.0)),
    "a dict": (lambda u: u.x * HELD.by_name["k"], lambda: HELD.by_name.update(k=5.0)),
    "an array": (lambda u: u.x * HELD.array, lambda: HELD.array.fill(5.0)),
    "a tensor": (lambda u: u.x * HELD.tensor, lambda: HELD.tensor.fill_(5.0)),
}


def summed(x, message):
    return ng.update_all(g, message, "sum", u={"x": x})


@pytest.mark.parametrize("case", GUARDED)
def test_what_a_message_reads_is_guarded(case, monkeypatch):
    message, name, value = GUARDED[case]
    compiled, x = (
        torch.compile(lambda x: summed(x, message), fullgraph=True, backend="aot_eager"),
        make(NODES, 3),
    )
    torch.testing.assert_close(compiled(x), summed(x, message))
    monkeypatch.setitem(globals(), name, value)
    torch.testing.assert_close(compiled(x), summed(x, message))


@pytest.mark.parametrize("case", FACTORIES)
def test_messages_of_the_same_code_differ_in_what_they_read(case):
    compiled, x = torch.compile(summed, fullgraph=True, backend="aot_eager"), make(NODES, 3)
    for k in (0.0, 1.0, 2.0):
        torch.testing.assert_close(compiled(x, FACTORIES[case](k)), summed(x, FACTORIES[case](k)))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("case", UNSEEN)
def test_what_torch_cannot_guard_is_read_at_every_call(case):
    message, change = UNSEEN[case]
    compiled, x = torch.compile(lambda x: summed(x * 2, message) + 1, backend="aot_eager"), make(NODES, 3)
    with pytest.raises(
        torch._dynamo.exc.Unsupported,
        match=r"update_all: the message reads .* from outside; pass it as a field",
    ):
        torch.compile(lambda x: summed(x, message), fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled(x), summed(x * 2, message) + 1)
    change()
    torch.testing.assert_close(compiled(x), summed(x * 2, message) + 1)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_parameters_that_a_message_captures_get_their_gradients():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.arange(3.0))

        def forward(self, x, k):
            a = self.a * 2
            return summed(x, lambda u: u.x * self.a * k) + summed(x, lambda u: u.x - a)

    layer, x = Layer(), make(NODES, 3)
    compiled = torch.compile(layer, backend="aot_eager")
    for k in (1.0, 2.0, 3.0):
        wanted = gradients(lambda x, a, k=k: layer(x, k), x, layer.a)
        for found, one in zip(gradients(lambda x, a, k=k: compiled(x, k), x, layer.a), wanted):
            torch.testing.assert_close(found, one)


PROGRAM = """
import json, sys
import numpy as np, torch, numgraph as ng
from torch._dynamo.utils import counters
g = ng.Graph([0, 1, 2, 2], [1, 2, 0, 1], 3)
MESSAGES = {"product": lambda u, e: u.x * e.w, "difference": lambda u, e: u.x - e.w}
x, w = torch.arange(6.0).reshape(3, 2).requires_grad_(), torch.arange(4.0).reshape(4, 1).requires_grad_()
def gradients(f):
    y = f(x, w)
    return [y, *torch.autograd.grad(y.sum(), (x, w))]
for name in sys.argv[1:]:
    def f(x, w, message=MESSAGES[name]):
        return torch.tanh(ng.update_all(g, message, "mean", u={"x": x * 2}, e={"w": w}) + 1)
    torch._dynamo.reset()
    counters.clear()
    found, wanted = gradients(torch.compile(f, fullgraph=True)), gradients(f)
    far = max((a - b).abs().max().item() for a, b in zip(found, wanted))
    print(json.dumps({"far": far, "hits": counters["inductor"]["fxgraph_cache_hit"]}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="inductor needs a C++ compiler"
)
def test_a_second_process_finds_the_caches_of_the_first(tmp_path):
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
    }
    environment |= {
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    found = []
    for messages in (
        ["product"],
        ["difference", "product"],
    ):  # the second process begins with another message
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, *messages],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        found += map(json.loads, run.stdout.splitlines()[-len(messages) :])
    assert all(one["far"] < 1e-5 for one in found), found
    assert found[0]["hits"] == 0
    assert found[2]["hits"] > 0
