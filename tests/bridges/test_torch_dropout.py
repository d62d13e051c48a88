"""ng.dropout of tensors: which elements are kept is drawn from torch's generators, what is computed is x ·
mask / (1 − p).
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import numgraph as ng

torch = pytest.importorskip("torch", reason="torch is not installed")

SHAPES = [(7,), (5, 3), (130, 520)]  # the last is a walk over rows
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def ones(shape, **options):
    return torch.ones(*shape, **options)


def key_of(seed):
    return (
        torch.randint(-(2**63), 2**63 - 1, (), generator=torch.Generator().manual_seed(seed)).item() % 2**64
    )


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_mask_is_the_counters(shape, dtype):
    x = torch.linspace(1, 2, int(np.prod(shape)), dtype=torch.float64).reshape(shape).to(dtype)
    found = ng.dropout(x, 0.25, torch.Generator().manual_seed(3))
    bits = oracle.splitmix64(key_of(3), x.numel() // 2 + 1)
    kept = torch.tensor([half >= 2**30 for z in bits for half in (z % 2**32, z >> 32)][: x.numel()]).reshape(
        shape
    )
    assert found.dtype is dtype
    torch.testing.assert_close(found, torch.where(kept, x.double() / 0.75, 0).to(dtype))


@shapes
def test_gradients_pass_where_elements_are_kept(shape):
    x = ones(shape, dtype=torch.float64, requires_grad=True)
    y = ng.dropout(x, 0.5)
    saved = y.grad_fn.saved_tensors if hasattr(y.grad_fn, "saved_tensors") else []
    assert all(s.dtype is torch.bool for s in saved)  # one byte an element
    torch.relu_(y)
    seed = torch.rand(shape, dtype=torch.float64)
    (found,) = torch.autograd.grad(y, x, seed)
    torch.testing.assert_close(found, seed * (y > 0) * 2)


@shapes
def test_torchs_seed_repeats_it_and_checkpoints_replay_it(shape):
    torch.manual_seed(5)
    first, second = (ng.dropout(ones(shape), 0.5) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(ng.dropout(ones(shape), 0.5), first)
    x = ones(shape, requires_grad=True)
    for reentrant in (True, False):
        y = torch.utils.checkpoint.checkpoint(lambda x: ng.dropout(x * x, 0.5), x, use_reentrant=reentrant)
        (found,) = torch.autograd.grad(y.sum(), x) if not reentrant else (_through_backward(y, x),)
        torch.testing.assert_close(found, 2 * y.detach())


def _through_backward(y, x):
    x.grad = None
    y.sum().backward()
    return x.grad


def test_p_without_axes():
    for p in (torch.tensor(0.5), np.array(0.5), np.float32(0.5)):
        wanted = ng.dropout(ones((5, 3)), 0.5, torch.Generator().manual_seed(0))
        torch.testing.assert_close(ng.dropout(ones((5, 3)), p, torch.Generator().manual_seed(0)), wanted)
    with pytest.raises(TypeError, match=r"the order is dropout\(x, p, rng\)"):
        ng.dropout(ones((5, 3)), torch.Generator(), 0.5)
    with pytest.raises(TypeError, match=r"the order is dropout\(x, p, rng\)"):
        ng.dropout(np.ones((5, 3)), np.random.default_rng(0), 0.5)
    with pytest.raises(ValueError, match="p is a Python number"):
        torch.func.vmap(lambda p: ng.dropout(ones((5, 3)), p))(torch.tensor([0.1, 0.2]))


def test_how_many_are_kept():
    y = ng.dropout(ones((400, 1000)), 0.3)
    assert abs((y > 0).double().mean().item() - 0.7) < 0.005
    torch.testing.assert_close(y[y > 0].unique(), torch.tensor([1 / 0.7]))


@shapes
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore:.*isinstance.treespec.*:FutureWarning"
)
def test_compiled(shape):
    torch._dynamo.reset()
    f = torch.compile(lambda x: ng.dropout(x * 2, 0.5), fullgraph=True, backend="aot_eager")
    x = ones(shape, requires_grad=True)
    torch.manual_seed(1)
    first, second = f(x), f(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    torch.testing.assert_close(first, f(x))
    torch.testing.assert_close(torch.autograd.grad(second.sum(), x)[0], second.detach())


@shapes
@pytest.mark.parametrize("randomness", ["different", "same"])
def test_vmap(shape, randomness):
    y = torch.func.vmap(lambda x: ng.dropout(x, 0.5), randomness=randomness)(ones((4, *shape)))
    assert y.shape == (4, *shape)
    assert set(y.unique().tolist()) == {0, 2}
    assert torch.equal(y[0], y[1]) == (randomness == "same")


def test_within_grad_of_torch_func():
    torch.manual_seed(2)
    wanted = ng.dropout(ones((5, 3)), 0.5)
    torch.manual_seed(2)
    torch.testing.assert_close(torch.func.grad(lambda x: ng.dropout(x, 0.5).sum())(ones((5, 3))), wanted)


def test_numpys_generator_gives_numpys_mask():
    found = ng.dropout(ones((5, 3), dtype=torch.float64), 0.5, np.random.default_rng(1))
    np.testing.assert_array_equal(found, ng.dropout(np.ones((5, 3)), 0.5, np.random.default_rng(1)))


def test_a_default_device_does_not_matter():
    with torch.device("meta"):
        made = ng.dropout(torch.ones(1000, device="cpu"), 0.5)
    assert set(made.tolist()) == {0, 2}


def test_where_nothing_is_dropped_the_tensor_is_itself():
    x = ones((5, 3))
    assert ng.dropout(x, 0.5, training=False) is x
    assert ng.dropout(x, 0.0) is x
    assert ng.dropout(torch.ones(4, dtype=torch.int64), 0.5).dtype is torch.float64
    assert ng.dropout(ones((0, 3)), 0.5).shape == (0, 3)


def test_errors():
    with pytest.raises(TypeError, match=r"dropout: rng is an int; pass torch\.Generator"):
        ng.dropout(ones((2, 2)), 0.5, 3)
    with pytest.raises(ValueError, match=r"dropout: p is 1\.5"):
        ng.dropout(ones((2, 2)), 1.5)
    with pytest.raises(TypeError, match="dropout: x is a tensor of layout sparse_coo"):
        ng.dropout(torch.eye(3).to_sparse(), 0.5)
    with pytest.raises(TypeError, match="dropout: rng is a NoneType"):
        ng.dropout(np.ones(3), 0.5)
