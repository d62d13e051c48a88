"""The CUDA target's code, run instruction by instruction: the tests of the CPU's kernels on the machine of
ptx.py, which has no GPU.

Where Numba's simulator proves what the generated text says, this proves what it was compiled to: types,
addresses, divergence, shuffles."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import ptx
import pytest
import test_cuda_ptx
from ptx_instructions import Stuck
from scripts import SHARE, run_on_the_device, whole_only

import numgraph as ng
from numgraph.compiler.cuda import compiling
from numgraph.runtime import caches

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None,
    reason="numba-cuda is not installed (pip install 'numgraph[dev]')",
)

TESTS = {
    "compiler/test_kernels.py": ("not lengths_share_kernels", 120),
    "compiler/test_half.py": ("not over_many", 30),  # three million edges are too many for it
    "compiler/test_kernel_inputs.py": ("", 30),
    "expressions/test_integers.py": ("two_fields or halves or negative", 20),
    "message/test_messages.py": ("not gradient and not second_order", 200),
    "ops/test_ops.py": ("not second_order and not gradients", 150),
    "message/test_policies.py": ("not python_threads and not number_of_threads", 90),
    "cuda/test_device_layers.py": ("test_layers or test_attention or test_edge_softmax or test_segments", 30),
    "support/atomic_walks.py": ("", 60),
    "message/test_softmax_accuracy.py": ("(attend or dst) and (hubs and mixed or not_finite)", 100),
}
"""What runs (one in SHARE of it, unless NUMGRAPH_TEST_WHOLE is set), and how many tests that is at least."""
ONLY_WHOLE = {
    "compiler/test_kernel_inputs.py",
    "ops/test_ops.py",
    "cuda/test_device_layers.py",
    "message/test_policies.py",
}


def cache():
    """A folder for kernels that is the machine's own, for what is kept there as code for a device is PTX. It
    is kept between runs, until the way from a text to its PTX changes (what a text means is part of the
    text)."""
    return (
        caches.cache_root()
        / f"machine-{hashlib.sha256(Path(compiling.__file__).read_bytes()).hexdigest()[:12]}"
    )


@pytest.mark.parametrize("tests", whole_only(TESTS, ONLY_WHOLE))
def test_on_the_machine(tests):
    chosen, least = TESTS[tests]
    printed = run_on_the_device(tests, chosen, least, NUMGRAPH_CACHE_DIR=str(cache()))
    assert int(re.search(r"(\d+) kernels ran on the machine", printed)[1]) >= least / (2 * SHARE)


# --- the elementary functions as compiled, over all of their range ---


def launched(kernel, num_rows, fields, out):
    """Run a kernel on a graph whose edge i goes from node i to itself; the traffic of its loads and
    stores.
    """
    nodes = np.arange(num_rows, dtype=np.int32)
    ids = {"tasks": np.stack([nodes, nodes, nodes + 1, nodes], axis=1).reshape(-1), "indices": nodes}
    words, arrays = [], []
    for kind, what in kernel.slots:
        if kind in ("count", "size", "float"):
            words.append(
                num_rows
                if kind == "count"
                else what
                if kind == "size"
                else int(np.float64(what).view(np.int64))
            )
            continue
        array = ids[what] if kind == "ids" else fields[what] if kind == "field" else out
        arrays.append(array)
        words += [array.ctypes.data, len(array), *([] if kind == "ids" else [array.strides[0]])]
    ranges = [np.lib.array_utils.byte_bounds(array) for array in arrays]
    traffic = {}
    ptx.launch(
        test_cuda_ptx.compiled(kernel),
        -(-num_rows * kernel.shape.threads // 128),
        128,
        words,
        ranges,
        traffic,
    )
    return traffic


FUNCTIONS = {
    **{
        name: (getattr(np, name), 2)
        for name in (
            "floor",
            "sqrt",
            "exp",
            "expm1",
            "exp2",
            "log",
            "log1p",
            "log2",
            "log10",
            "sin",
            "cos",
            "tanh",
            "arctan",
            "abs",
            "sign",
        )
    },
    "power": (lambda x: np.power(np.abs(x), x), 4),
    "quotient": (lambda x: 3 / x, 1),
    "gelu": (ng.gelu, 8),
}
"""A function of one array, and the error that is allowed: units in the last place of the result, or of 1
where that is larger (gelu).
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions(monkeypatch, name, dtype):
    function, ulps = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        x = np.concatenate(
            [
                rng.normal(size=800),
                rng.normal(size=200) * 1e5,
                rng.normal(size=100) * 1e-30,
                [0, -0.0, np.inf, -np.inf, np.nan],
            ]
        )
    x = x.astype(dtype)[:, None]
    ones, out = np.ones_like(x), np.full_like(x, -7)
    monkeypatch.setattr(test_cuda_ptx, "G", ng.Graph(np.arange(len(x)), np.arange(len(x)), len(x)))
    kernel = test_cuda_ptx.kernel_of(lambda u, v: function(u.x * v.y), "sum", u={"x": x}, v={"y": ones})
    launched(kernel, len(x), {("u", "x"): x, ("v", "y"): ones}, out)
    with np.errstate(all="ignore"):
        if name == "gelu":
            from scipy.special import ndtr

            want = (x * ndtr(x.astype(np.float64))).astype(dtype)
            unit = np.spacing(np.maximum(np.abs(want), dtype(1)))
        else:
            want = function(x.astype(np.longdouble if dtype == np.float64 else np.float64)).astype(dtype)
            unit = np.spacing(np.abs(want))
        wrong = ~((out == want) | (np.isnan(out) & np.isnan(want)) | (np.abs(out - want) <= ulps * unit))
    assert not wrong.any(), f"{function}({x[wrong][:3]}) is {out[wrong][:3]}, not {want[wrong][:3]}"


def aligned(*shape, dtype=np.float32):
    """Numbers at a multiple of 256 bytes, as a device's allocator gives them."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 256, np.uint8)
    start = -raw.ctypes.data % 256
    array = raw[start : start + size].view(dtype).reshape(shape)
    array[...] = np.random.default_rng(0).uniform(1, 2, shape)
    return array


MESSAGES = {
    "copy_u": lambda u: u.x,
    "u_mul_v": lambda u, v: u.x * v.y,
    "relu": lambda u, v: ng.relu(u.x - v.y),
}


@pytest.mark.parametrize("width", [8, 32, 64, 100, 128, 256, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", MESSAGES)
def test_rows_are_read_and_written_in_whole_sectors(monkeypatch, name, dtype, width):
    """Coalesced: memory moves what is asked for once. A sector more a load is where rows do not start at a
    sector or end with a tile.
    """
    num = 70
    fields = {("u", "x"): aligned(num, width, dtype=dtype), ("v", "y"): aligned(num, width, dtype=dtype)}
    monkeypatch.setattr(test_cuda_ptx, "G", ng.Graph(np.arange(num), np.arange(num), num))
    kernel = test_cuda_ptx.kernel_of(
        MESSAGES[name], "sum", u={"x": fields["u", "x"]}, v={"y": fields["v", "y"]}
    )
    out = aligned(num, width, dtype=dtype)
    traffic = launched(kernel, num, fields, out.view(np.uint16) if dtype is np.float16 else out)
    row = width * np.dtype(dtype).itemsize
    rows = {
        text: counts for text, counts in traffic.items() if not re.search(r"ld\.global\.[su](32|64)\s", text)
    }  # those are ids
    moved = sum(sectors for _, sectors in rows.values())
    arrays = 2 if name == "copy_u" else 3
    assert {text.partition(".")[0] for text in rows} == {"ld", "st"}
    needed = arrays * num * row
    assert moved == needed if width & (width - 1) == 0 else needed < moved < 1.2 * needed


# --- the machine sees what is wrong ---

HEAD = """.version 8.0
.target sm_90
.visible .entry body(
 .param .u64 body_param_0,
 .param .u64 body_param_1
)
{
 .reg .pred %p<9>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %rd<9>;
 ld.param.u64 %rd1, [body_param_0];
 ld.param.u64 %rd2, [body_param_1];
 mov.u32 %r1, %tid.x;
 mul.wide.u32 %rd3, %r1, 4;
 add.s64 %rd4, %rd1, %rd3;
 cvt.rn.f32.u32 %f1, %r1;
"""


def ran(body, count=32):
    """An array of ``count`` ones after a block of 32 threads: %rd1 its start, %rd4 a thread's own place, %r1
    and %f1 its number.
    """
    array = np.ones(count, np.float32)
    ptx.launch(
        HEAD + body + "\n ret;\n}\n", 1, 32, [array.ctypes.data, 3], [np.lib.array_utils.byte_bounds(array)]
    )
    return array


def test_every_thread_writes_its_place():
    np.testing.assert_array_equal(
        ran("fma.rn.f32 %f2, %f1, 0f40000000, 0f3F800000; st.global.f32 [%rd4], %f2;"), 2 * np.arange(32) + 1
    )


def test_threads_part_and_meet():
    body = """
 and.b32 %r2, %r1, 1; setp.eq.s32 %p1, %r2, 0; @%p1 bra $EVEN;
 neg.f32 %f1, %f1; bra.uni $MEET;
$EVEN:
 add.f32 %f1, %f1, %f1;
$MEET:
 mov.b32 %r3, %f1;
 shfl.sync.bfly.b32 %r4|%p2, %r3, 1, 31, -1;
 mov.b32 %f2, %r4; st.global.f32 [%rd4], %f2;"""
    want = [-(i ^ 1) if i % 2 == 0 else 2 * (i ^ 1) for i in range(32)]
    np.testing.assert_array_equal(ran(body), want)


def test_loops_of_different_length():
    body = """
 mov.u32 %r2, 0; mov.f32 %f2, 0f00000000;
$LOOP:
 setp.ge.u32 %p1, %r2, %r1; @%p1 bra $END;
 add.f32 %f2, %f2, 0f3F800000; add.s32 %r2, %r2, 1; bra.uni $LOOP;
$END:
 st.global.f32 [%rd4], %f2;"""
    np.testing.assert_array_equal(ran(body), np.arange(32))


FAULTS = {
    "past the end": ("st.global.f32 [%rd4+4], %f1;", "is outside of all arrays"),
    "before the start": ("ld.global.f32 %f2, [%rd4+-4];", "is outside of all arrays"),
    "a vector over the end": ("ld.global.v2.f32 {%f2, %f3}, [%rd1+124];", "124 is|outside|no multiple of 8"),
    "between two floats": ("ld.global.f32 %f2, [%rd1+2];", "is no multiple of 4"),
    "a vector not at its multiple": (
        "ld.global.v4.f32 {%f2, %f3, %f4, %f5}, [%rd1+4];",
        "is no multiple of 16",
    ),
    "two writers": ("st.global.f32 [%rd1], %f1;", "two threads write one place"),
    "a shuffle that some never reach": (
        (
            "setp.lt.u32 %p1, %r1, 16; @%p1 bra $END; mov.b32 %r3, %f1; shfl.sync.bfly.b32 %r4, %r3, 1, 31, "
            "-1;\n$END:"
        ),
        "16 threads wait for others",
    ),
    "a shuffle out of the mask": (
        "mov.u32 %r5, 1; shl.b32 %r5, %r5, %r1; shfl.sync.bfly.b32 %r4, %r1, 1, 31, %r5;",
        "not in the mask",
    ),
    "a shuffle without oneself": (
        "mov.u32 %r5, 1; shfl.sync.bfly.b32 %r4, %r1, 1, 31, %r5;",
        "not in its own mask",
    ),
    "what it does not know": ("vadd.s32.s32.s32 %r2, %r1, %r1;", "not known to this machine"),
    "memory of any kind": ("ld.f32 %f2, [%rd4];", "not known to this machine"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name):
    body, text = FAULTS[name]
    with pytest.raises(Stuck, match=text):
        ran(body)


@pytest.mark.parametrize("order", ["write, then read", "read, then write"])
def test_what_another_thread_writes_is_garbage(order):
    """Every thread but the first, which reads its own place, reads its left neighbour's."""
    write, read = (
        "st.global.f32 [%rd4], %f1;",
        (
            "max.s32 %r2, %r1, 1; mul.wide.u32 %rd5, %r2, 4; add.s64 %rd5, %rd5, %rd1; ld.global.f32 %f2, "
            "[%rd5+-4];"
        ),
    )
    found = ran(
        (write + read if order == "write, then read" else read)
        + "add.f32 %f2, %f2, %f1; st.global.f32 [%rd4], %f2;"
    )
    assert found[0] == (0 if order == "write, then read" else 1)
    np.testing.assert_array_equal(
        found[1:], np.arange(1, 32), err_msg="0xA5A5A5A5 is a tiny float, a number of a neighbour is not"
    )


def test_atomic_additions_of_several_threads():
    found = ran("mov.f32 %f2, 0f3F800000; red.global.add.f32 [%rd1], %f2;")
    np.testing.assert_array_equal(found, [33] + 31 * [1])
    with pytest.raises(Stuck, match="two threads write one place"):
        ran("red.global.add.f32 [%rd1], %f1; st.global.f32 [%rd4], %f1;")
