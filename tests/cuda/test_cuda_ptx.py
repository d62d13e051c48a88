"""Kernels of the CUDA target as machine code for three generations of GPUs. No GPU is needed to compile, and
none is used.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import test_kernels
import walks

import numgraph as ng
from numgraph.compiler import reference
from numgraph.compiler.driver import make_plan
from numgraph.compiler.target import Request
from numgraph.expressions.walk import Output, sides
from numgraph.message import propagate
from numgraph.message.fields import traced

MISSING = [
    name
    for name in ("numba_cuda", "cuda.bindings.nvjitlink")
    if importlib.util.find_spec(name.split(".")[0]) is None
]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install 'numgraph[dev]')"
)

G = walks.graph()
CAPABILITIES = {"sm_75": (7, 5), "sm_80": (8, 0), "sm_90": (9, 0)}


def planned(outputs, ids="int32", ordered=False, wide=False, atomic=False):
    from numgraph.compiler.cuda.running import TARGET

    requests = [Request(rows, ids, ordered, wide, atomic=atomic) for rows in sorted(set(sides(outputs)))]
    plan = make_plan(TARGET, tuple(outputs), tuple(requests), True)
    assert not plan.empty
    return plan.kernels


def kernel_of(functions, reduce, to="v", ids="int32", ordered=False, atomic=False, **fields):
    """The one kernel of a walk."""
    functions = functions if isinstance(functions, tuple) else (functions,)
    roots, _ = traced("test", G, functions, *[fields.get(target) for target in "uve"])
    (kernel,) = planned((Output(tuple(roots), to, reduce),), ids, ordered, wide=atomic, atomic=atomic)
    return kernel


def kernels_of(run, fields, atomic=False):
    """All kernels of a walk and of its gradients, which are computed in plain NumPy meanwhile."""
    found = []

    def execute(g, outputs, given, out=None):
        found.extend(planned(outputs, wide=atomic, atomic=atomic))
        with np.errstate(all="ignore"):
            return reference.execute(g, outputs, given)

    with mock.patch.object(propagate, "execute", execute):
        walks.step(run, fields)
    assert found
    return found


def compiled(kernel, capability=(9, 0)):
    from numgraph.compiler.cuda import compiling

    return compiling.ptx_of(kernel.text, kernel.words, capability)


def check(kernel, capability, local=False):
    """What holds for every kernel: parameters, address space, nothing in local memory, no unasked atomics,
    and code for the device.
    """
    from numgraph.compiler.cuda import compiling

    ptx = compiled(kernel, capability)
    major, minor = capability
    assert f".target sm_{major}{minor}" in ptx
    header = ptx[ptx.index(f".entry {compiling.ENTRY}(") : ptx.index("{", ptx.index(".entry"))]
    assert header.count(".param .u64") == kernel.words
    assert local or ".local" not in ptx
    assert not re.search(r"\bcall\b.*__nv", ptx)
    added = {made.stored[0].replace("float", "global.add.f") for made in kernel.outputs if made.atomic}
    assert {name.partition(".")[2] for name in re.findall(r"\b(?:atom|red)\b[.\w]*", ptx)} == added
    assert not re.search(r"\b(ld|st)\.(v\d\.)?[fubs]\d+", ptx), (
        "an access to memory whose address space is not known"
    )
    code, log = compiling.linked(ptx, capability)
    assert code[:4] == b"\x7fELF"
    assert re.search(r" 0 bytes spill stores, 0 bytes spill loads", log), log
    return ptx


def loads(ptx):
    """How often each kind of load and store is there."""
    found = re.findall(r"\b(?:ld|st)\.global(?:\.[a-z]+)*?(?:\.v\d)?\.[fubs]\d+", ptx)
    return {name: found.count(name) for name in found}


def normal(target, *shape, dtype=np.float32):
    return walks.normal(G, target, *shape, dtype=dtype)


# --- every kernel ---


def walk_of(reduce, dtype=np.float32):
    """A function of u, v, e that walks with that reduce, and its fields."""
    message = test_kernels.MESSAGES[reduce]
    normal = functools.partial(walks.normal, G, dtype=dtype)
    fields = {"u": {"x": normal("u", 64)}, "v": {"y": normal("v", 64)}, "e": {"w": normal("e", 1)}}
    if reduce == "softmax":
        run = lambda u, v, e: ng.attend(G, *message, u=u, v=v, e=e)
    elif reduce == "logsumexp":
        run = lambda u, v, e: ng.ops.edge_softmax(G, e["w"])
        fields = {"e": {"w": normal("e", 8)}}
    elif reduce == "edge":
        run = lambda u, v, e: ng.apply_edges(G, message, u=u, v=v, e=e)
    else:
        run = lambda u, v, e: ng.update_all(G, message, reduce, u=u, v=v, e=e)
    return run, fields


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("reduce", test_kernels.MESSAGES)
def test_every_reduce_and_its_gradients(reduce, capability):
    for kernel in kernels_of(*walk_of(reduce)):
        check(kernel, CAPABILITIES[capability])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("reduce", ["sum", "max", "prod", "softmax", "edge"])
def test_every_float_and_its_gradients(reduce, capability, dtype):
    for kernel in kernels_of(*walk_of(reduce, getattr(ml_dtypes, dtype, dtype))):
        check(kernel, CAPABILITIES[capability])


@pytest.mark.parametrize("dtype", ["int64", "uint32", "int16", "uint8", "bool"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_other_dtype(dtype, capability):
    x, y = np.zeros((G.num_src, 12), dtype), np.zeros((G.num_dst, 12), dtype)
    for reduce in ("sum", "max") if dtype != "bool" else ("max",):
        function = (lambda u, v: u.x * v.y) if dtype != "bool" else (lambda u, v: u.x & v.y)
        check(kernel_of(function, reduce, u={"x": x}, v={"y": y}), CAPABILITIES[capability])


@pytest.mark.parametrize(
    "name",
    ["three axes", "sum over the first axis", "a reduction wider than a tile", "softmax over features"],
)
def test_structures_and_their_gradients(name):
    function, fields = test_kernels.structure(name, np.float32)
    for kernel in kernels_of(lambda u, v, e: ng.update_all(G, function, "sum", u=u, v=v, e=e), fields):
        check(kernel, (9, 0))


@pytest.mark.parametrize("name", ["GAT", "one head, wide", "dot product, keys narrower than values"])
def test_attention_and_its_gradients(name):
    score, value, shapes = test_kernels.ATTENTION[name]
    fields = {t: {k: normal(t, *shape) for k, shape in given.items()} for t, given in shapes.items()}
    for kernel in kernels_of(lambda u, v, e: ng.attend(G, score, value, u=u, v=v, e=e), fields):
        check(kernel, (9, 0))


@pytest.mark.parametrize("dtype", ["int64", "int16", "uint8"])
def test_whole_numbers(dtype):
    """Bits, shifts, quotients, rests and powers of integers."""

    def message(u, v):
        total = (u.x & v.y) + (u.x | 1) + (u.x ^ v.y) + ~u.x + (u.x << v.y) + (u.x >> v.y)
        return total + u.x // v.y + u.x % v.y + np.fmod(u.x, v.y) + u.x**v.y + u.x**5

    x, y = np.zeros((G.num_src, 12), dtype), np.zeros((G.num_dst, 12), dtype)
    kernel = kernel_of(message, "max", u={"x": x}, v={"y": y})
    assert all(
        f" {name}(" in kernel.text
        for name in ("bitwise_and", "left_shift", "floor_divide", "remainder", "fmod", "power")
    )
    check(kernel, (9, 0))


FUNCTIONS = (
    "floor",
    "sqrt",
    "exp",
    "expm1",
    "exp2",
    "log",
    "log1p",
    "log2",
    "log10",
    "tanh",
    "arctan",
    "abs",
    "sign",
)
QUOTIENTS = ("floor_divide", "remainder", "fmod", "arctan2")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_elementary_function(dtype):
    def message(u, v):
        x = u.x * v.y  # of both ends: a function of one is computed for each node beforehand
        total = np.power(np.maximum(u.x, v.y), np.minimum(u.x, v.y)) - u.x / v.y
        for name in FUNCTIONS:
            total = total + getattr(np, name)(x)
        for name in QUOTIENTS:
            total = total + getattr(np, name)(u.x, v.y)
        return ng.gelu(np.where((u.x < v.y) | ~(x != 0), total, x))

    kernel = kernel_of(
        message, "sum", u={"x": normal("u", 3, dtype=dtype)}, v={"y": normal("v", 3, dtype=dtype)}
    )
    assert all(
        f" {'absolute' if name == 'abs' else name}(" in kernel.text
        for name in (*FUNCTIONS, *QUOTIENTS, "erf", "power")
    )
    check(kernel, (9, 0))


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sines_reduce_large_angles_in_memory_of_the_thread(name):
    """libdevice's way beyond |x| of 1e5; the only functions that need it."""
    kernel = kernel_of(
        lambda u, v: getattr(np, name)(u.x * v.y), "sum", u={"x": normal("u", 3)}, v={"y": normal("v", 3)}
    )
    assert f" {name}(" in kernel.text
    assert ".local" in check(kernel, (9, 0), local=True)


@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "max", "std", "softmax", "logsumexp"])
def test_chunks_of_long_rows_become_rows(reduce):
    from numgraph.compiler.cuda import chunks

    float32, ids = np.dtype(np.float32), np.dtype(np.int32)
    number = (4, 1), float32
    shapes = {
        "max": (((4, 8), float32), ((4, 8), ids)),
        "softmax": (((4, 8), float32), number, number),
        "logsumexp": (number, number),
    }
    if reduce == "std":
        arrays = ((4, 8), float32), ((4, 8), float32)
        walks = [chunks._means(arrays), chunks._variances("std", arrays)]
    else:
        walks = [chunks._combination(reduce, shapes.get(reduce, (((4, 8), float32),)))]
        walks += [chunks._winners(shapes["max"])] if reduce == "max" else []
    for output in walks:
        for kernel in planned((output,), ordered=True, wide=True):
            check(kernel, (9, 0))


# --- chunks that add atomically, on request ---


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_chunks_add_to_their_row(capability, reduce, dtype):
    """An addition for every lane that a thread holds; whole rows are stored as ever."""
    lanes = {(64, "float64"): 2, (33, "float32"): 2, (33, "float64"): 2, (33, "float16"): 2, (1, dtype): 1}
    for width in (64, 33, 1):
        x = {"x": np.zeros((G.num_src, width), dtype)}
        kernel = kernel_of(lambda u: u.x, reduce, u=x, atomic=True)
        ptx = check(kernel, CAPABILITIES[capability])
        assert len(re.findall(r"\batom\.|\bred\.", ptx)) == lanes.get((width, dtype), 4)
        assert any(name.startswith("st.global") for name in loads(ptx))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "softmax"])
def test_gradients_add_to_rows_too(reduce):
    kernels = kernels_of(*walk_of(reduce), atomic=True)
    for kernel in kernels:
        check(kernel, (9, 0))
    assert sum(made.atomic for kernel in kernels for made in kernel.outputs) >= 2


def test_a_sum_beside_a_maximum():
    roots, _ = traced("test", G, (lambda u: u.x, lambda u: u.x * 2), {"x": normal("u", 64)}, None, None)
    outputs = Output((roots[0],), "v", "sum"), Output((roots[1],), "v", "max")
    (kernel,) = planned(outputs, wide=True, atomic=True)
    assert [made.atomic for made in kernel.outputs] == [True, False]
    assert len(re.findall(r"\batom\.", check(kernel, (9, 0)))) == 4


@pytest.mark.parametrize("reduce", ["max", "min", "prod", "softmax", "logsumexp"])
def test_other_reduces_have_the_same_kernels(reduce):
    functions = (lambda u: u.x, lambda u: u.y) if reduce == "softmax" else lambda u: u.x
    fields = {"x": normal("u", 12)} | ({"y": normal("u", 12)} if reduce == "softmax" else {})
    assert (
        kernel_of(functions, reduce, u=fields, atomic=True).text
        == kernel_of(functions, reduce, u=fields).text
    )
    whole = {"x": np.zeros((G.num_src, 12), np.int64)}
    assert (
        kernel_of(lambda u: u.x, "sum", u=whole, atomic=True).text
        == kernel_of(lambda u: u.x, "sum", u=whole).text
    )


# --- what the code is made of ---


def test_a_copied_row_is_summed_in_registers():
    """F 64: 16 threads a row of four floats each."""
    kernel = kernel_of(lambda u: u.x, "sum", u={"x": normal("u", 64)})
    assert (kernel.shape.threads, kernel.shape.vector, kernel.shape.vectors) == (16, 4, 1)
    ptx = compiled(kernel)
    found = loads(ptx)
    assert found.pop("st.global.v4.f32") == 1
    assert found.pop("ld.global.v4.f32") >= 1
    assert set(found) <= {"ld.global.s32", "ld.global.u32"}, (
        "something else than indices is loaded one by one"
    )
    assert "shfl" not in ptx


@pytest.mark.parametrize(
    ("width", "dtype", "vector"),
    [
        (128, "float32", "v4.f32"),
        (6, "float32", "v2.f32"),
        (33, "float32", "f32"),
        (64, "float64", "v2.f64"),
        (64, "float16", "v2.u32"),
    ],
)
def test_loads_are_as_wide_as_the_row_allows(width, dtype, vector):
    found = loads(compiled(kernel_of(lambda u: u.x, "sum", u={"x": np.zeros((G.num_src, width), dtype)})))
    gathered = [
        name
        for name in found
        if name.startswith("ld.global") and name not in ("ld.global.s32", "ld.global.u32")
    ]
    assert gathered == [f"ld.global.{vector}"]


@pytest.mark.parametrize(("width", "steps"), [(4, 0), (8, 1), (64, 4), (100, 5), (250, 5)])
def test_a_product_is_folded_by_shuffles(width, steps):
    """A group of 2ⁿ threads folds in n steps, in a fixed order and without memory."""
    ptx = compiled(
        kernel_of(
            lambda u, v: (u.x * v.y).sum(-1),
            "edge",
            to="e",
            u={"x": normal("u", width)},
            v={"y": normal("v", width)},
        )
    )
    assert len(re.findall(r"shfl\.sync\.bfly\.b32", ptx)) == steps
    assert ".shared" not in ptx
    assert "bar.sync" not in ptx


def test_heads_share_a_group():
    """8 heads of 16 features: 32 threads, of which four have a head's score; no scores are exchanged."""
    score, value = lambda u, v: u.a + v.b, lambda u: u.h
    fields = {"u": {"a": normal("u", 8, 1), "h": normal("u", 8, 16)}, "v": {"b": normal("v", 8, 1)}}
    kernel = kernel_of((score, value), "softmax", **fields)
    assert (kernel.shape.threads, kernel.shape.vector) == (32, 4)
    assert "shfl" not in compiled(kernel)


def test_wide_ids():
    kernel = kernel_of(
        lambda u, e: u.x * e.w, "max", ids="int64", u={"x": normal("u", 64)}, e={"w": normal("e", 1)}
    )
    found = loads(check(kernel, (9, 0)))
    assert not any(name in found for name in ("ld.global.s32", "ld.global.u32", "st.global.v4.u32"))
    assert found["ld.global.u64"] >= 3


def test_registers_leave_room_for_many_rows():
    """2048 threads of a multiprocessor have 32 registers each; 1024 have 64."""
    from numgraph.compiler.cuda import compiling

    relu = kernel_of(
        lambda u, v, e: ng.relu(u.x - v.y) * e.w,
        "sum",
        u={"x": normal("u", 128)},
        v={"y": normal("v", 128)},
        e={"w": normal("e", 1)},
    )
    for kernel, most in ((kernel_of(lambda u: u.x, "sum", u={"x": normal("u", 128)}), 40), (relu, 64)):
        _, log = compiling.linked(compiled(kernel), (9, 0))
        assert int(re.search(r"Used (\d+) registers", log)[1]) <= most


def test_a_kernel_is_compiled_once_for_all_processes(tmp_path, monkeypatch):
    from numgraph.compiler.cuda import compiling
    from numgraph.runtime import caches

    monkeypatch.setattr(caches, "folder", lambda: tmp_path)
    kernel = kernel_of(lambda u: u.x * 3.5, "sum", u={"x": normal("u", 64)})
    code = compiling.cubin_of(kernel.text, kernel.words, (9, 0))
    assert [path.read_bytes()[: len(code)] for path in tmp_path.glob("*.sm_90.cubin")] == [code]
    monkeypatch.setattr(compiling, "ptx_of", None)
    assert compiling.cubin_of(kernel.text, kernel.words, (9, 0)) == code
    assert not list(tmp_path.glob("*.tmp"))
