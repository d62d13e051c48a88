"""The whole table of ops: op × shape × reducer against the literal oracle, gradients against central
differences, errors word by word.
"""

from __future__ import annotations

import pickle

import numpy as np
import oracle
import pytest
from checks import check_float32, check_gradient
from strategies import given, graphs, seeds, settings

import numgraph as ng
from numgraph import ops

# Bipartite, so that rows of u and v cannot be mixed up; edge ids are not in row order; 1 → 2 is there twice;
# v = 3 and u = 4 have no edge.
G = ng.Graph([1, 0, 3, 1, 2, 1, 0, 3], [2, 0, 1, 2, 0, 4, 4, 1], num_src=5, num_dst=6)
REDUCES = ("sum", "mean", "max", "min", "prod")
SPMM_OPS = ("add", "sub", "mul", "div", "copy_lhs", "copy_rhs")
SDDMM_OPS = ("add", "sub", "mul", "div", "dot", "copy_lhs", "copy_rhs")
SHAPES = [  # feature shapes of lhs and rhs
    ((), ()),
    ((3,), ()),
    ((), (3,)),
    ((3,), (1,)),
    ((1,), (3,)),
    ((3,), (3,)),
    ((2, 3), ()),
    ((2, 3), (2, 1)),
    ((2, 1), (1, 3)),
    ((2, 3), (3,)),
    ((3, 1), (2, 3, 2)),
    ((0,), (0,)),
]


def data(*shape, seed=0, dtype=np.float64):
    """Away from 0, for div; all different, so that max and min have no ties."""
    rng = np.random.default_rng([seed, *shape])
    return (rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape)).astype(dtype)


def operands(lhs, rhs, dtype=np.float64, lhs_rows=G.num_src, rhs_rows=G.num_edges):
    return data(lhs_rows, *lhs, seed=1, dtype=dtype), data(rhs_rows, *rhs, seed=2, dtype=dtype)


def assert_same(got, want, rtol=1e-12):
    assert isinstance(got, np.ndarray)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


ROWS = {"u": G.num_src, "v": G.num_dst, "e": G.num_edges}
PAIRS = [(lhs, rhs) for lhs in "uve" for rhs in "uve"]


# --- SpMM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("op", SPMM_OPS)
def test_spmm_of_every_op_and_reduce(op, reduce):
    for dtype, rtol in (
        ((np.float64, 1e-12), (np.float32, 1e-5)) if op in ("mul", "copy_lhs") else ((np.float64, 1e-12),)
    ):
        x, w = operands((3,), (3,), dtype)
        x, w = (None if op == "copy_rhs" else x), (None if op == "copy_lhs" else w)
        assert_same(ops.gspmm(G, op, reduce, x, w), oracle.gspmm(G, op, reduce, x, w), rtol)


@pytest.mark.parametrize("reduce", ["sum", "max"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_spmm_of_every_shape(shapes, reduce):
    x, w = operands(*shapes)
    assert_same(ops.gspmm(G, "mul", reduce, x, w), oracle.gspmm(G, "mul", reduce, *aligned(x, w)))


def aligned(x, w):
    """Missing feature axes added on the left, after the rows."""
    rank = max(x.ndim, w.ndim)
    return tuple(a.reshape(a.shape[:1] + (1,) * (rank - a.ndim) + a.shape[1:]) for a in (x, w))


@pytest.mark.parametrize("reduce", REDUCES)
@pytest.mark.parametrize("op", SPMM_OPS)
def test_gradients_of_spmm(op, reduce):
    x, w = operands((3,), (3,))
    if op.startswith("copy"):
        arrays = [x if op == "copy_lhs" else w]
        lhs = op == "copy_lhs"
        check_gradient(lambda a: ops.gspmm(G, op, reduce, a if lhs else None, None if lhs else a), arrays)
    else:
        check_gradient(lambda a, b: ops.gspmm(G, op, reduce, a, b), [x, w])


@pytest.mark.parametrize("shapes", [s for s in SHAPES if s[0] != s[1]], ids=str)
def test_gradients_of_spmm_sum_back_over_broadcast_axes(shapes):
    check_gradient(lambda a, b: ops.gspmm(G, "mul", "sum", a, b), operands(*shapes))


@pytest.mark.parametrize(
    ("op", "reduce", "shapes"),
    [
        ("mul", "sum", ((2, 3), (2, 1))),
        ("div", "mean", ((3,), (3,))),
        ("mul", "max", ((3,), (3,))),
        ("mul", "prod", ((3,), (3,))),
    ],
)
def test_second_order_of_spmm(op, reduce, shapes):
    check_gradient(lambda a, b: ops.gspmm(G, op, reduce, a, b), operands(*shapes), order=2)


def test_spmm_in_float32():
    x, w = operands((2, 3), (2, 1), np.float32)
    check_float32(lambda a, b: ops.u_mul_e_sum(G, a, b), [x, w])
    check_float32(lambda a, b: ops.u_mul_e_max(G, a, b), [x, w])


@settings(max_examples=60, deadline=None)
@given(graphs(), seeds)
def test_adjoint_identity(g, seed):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ with Aᵀ the op on the reversed graph."""
    rng = np.random.default_rng(seed)
    x, y, w = rng.normal(size=(g.num_src, 3)), rng.normal(size=(g.num_dst, 3)), rng.normal(size=g.num_edges)
    forward, backward = ops.u_mul_e_sum(g, x, w), ops.u_mul_e_sum(g.reverse(), y, w)
    np.testing.assert_allclose(np.vdot(forward, y), np.vdot(x, backward), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(forward, oracle.matrix(g, w).T @ x, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(graphs(), seeds)
def test_gradient_is_the_op_on_the_reversed_graph(g, seed):
    rng = np.random.default_rng(seed)
    x, w, y = rng.normal(size=(g.num_src, 3)), rng.normal(size=g.num_edges), rng.normal(size=(g.num_dst, 3))
    with ng.Tape() as tape:
        a, b = tape.watch(x), tape.watch(w)
        loss = (ops.u_mul_e_sum(g, a, b) * y).sum()
    da, db = tape.gradient(loss, [a, b])
    np.testing.assert_allclose(da, oracle.matrix(g, w) @ y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        db, np.array([x[g.src[k]] @ y[g.dst[k]] for k in range(g.num_edges)]), rtol=1e-12, atol=1e-12
    )


# --- SDDMM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", PAIRS, ids="_".join)
@pytest.mark.parametrize("op", SDDMM_OPS)
def test_sddmm_of_every_op_and_pair(op, targets):
    lhs, rhs = targets
    x, y = operands((3,), (3,), lhs_rows=ROWS[lhs], rhs_rows=ROWS[rhs])
    x, y = (None if op == "copy_rhs" else x), (None if op == "copy_lhs" else y)
    assert_same(ops.gsddmm(G, op, x, y, lhs, rhs), oracle.gsddmm(G, op, x, y, lhs, rhs))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_sddmm_of_every_shape(shapes):
    x, y = operands(*shapes, rhs_rows=G.num_dst)
    assert_same(ops.gsddmm(G, "sub", x, y), oracle.gsddmm(G, "sub", *aligned(x, y)))


@pytest.mark.parametrize(
    "shapes",
    [((), ()), ((4,), (4,)), ((2, 4), (2, 4)), ((2, 4), (4,)), ((1, 4), (2, 4)), ((), (1,))],
    ids=str,
)
def test_dot_keeps_the_last_axis(shapes):
    x, y = operands(*shapes, rhs_rows=G.num_dst)
    got = ops.u_dot_v(G, x, y)
    assert_same(got, oracle.gsddmm(G, "dot", *aligned(x, y)))
    rank = max(x.ndim, y.ndim)
    assert got.shape[-1] == 1 if rank > 1 else got.shape == (G.num_edges,)


@pytest.mark.parametrize(
    ("op", "targets"), [*[(op, ("u", "v")) for op in SDDMM_OPS[:5]], *[("mul", pair) for pair in PAIRS]]
)
def test_gradients_of_sddmm(op, targets):
    lhs, rhs = targets
    x, y = operands((2, 3), (2, 3), lhs_rows=ROWS[lhs], rhs_rows=ROWS[rhs])
    check_gradient(
        lambda a, b: ops.gsddmm(G, op, a, b, lhs, rhs), [x, y], order=2 if op in ("dot", "div") else 1
    )


def test_gradients_of_one_array_at_both_ends():
    g = ng.Graph([0, 1, 2, 2, 0], [1, 2, 2, 0, 1])
    check_gradient(lambda x: ops.u_dot_v(g, x, x), [data(3, 4)], order=2)


@pytest.mark.parametrize("name", ["copy_u", "copy_v", "copy_e"])
def test_copies_to_edges(name):
    target = name[-1]
    x = data(ROWS[target], 3)
    index = {"u": G.src, "v": G.dst, "e": slice(None)}[target]
    assert_same(getattr(ops, name)(G, x), x[index])
    check_gradient(lambda a: getattr(ops, name)(G, a), [x])


def test_sddmm_in_float32():
    x, y = operands((2, 3), (2, 3), np.float32, rhs_rows=G.num_dst)
    assert_same(ops.u_dot_v(G, x, y), oracle.gsddmm(G, "dot", x, y), 1e-5)
    check_float32(lambda a, b: ops.u_dot_v(G, a, b), [x, y])


# --- the named functions ------------------------------------------------------------------------------------

SPMM_NAMES = [f"{kind}_{reduce}" for kind in ("copy_u", "copy_e") for reduce in REDUCES[:4]]
SPMM_NAMES += [f"u_{op}_e_{reduce}" for op in SPMM_OPS[:4] for reduce in REDUCES[:4]]
SDDMM_NAMES = [f"{lhs}_{op}_{rhs}" for lhs, rhs in PAIRS if lhs != rhs for op in SDDMM_OPS[:5]]
OTHERS = [
    "copy_u",
    "copy_v",
    "copy_e",
    "gspmm",
    "gsddmm",
    "edge_softmax",
    "segment_reduce",
    "segment_softmax",
    "segment_mm",
    "gather_mm",
]


@pytest.mark.parametrize("name", SPMM_NAMES)
def test_named_spmm(name):
    *start, reduce = name.split("_")
    x, w = operands((3,), (3,))
    if start[0] == "copy":
        x, w = (x, None) if start[1] == "u" else (None, w)
        op = "copy_rhs" if x is None else "copy_lhs"
        assert_same(getattr(ops, name)(G, w if x is None else x), oracle.gspmm(G, op, reduce, x, w))
    else:
        assert_same(getattr(ops, name)(G, x, w), oracle.gspmm(G, start[1], reduce, x, w))


@pytest.mark.parametrize("name", SDDMM_NAMES)
def test_named_sddmm(name):
    lhs, op, rhs = name.split("_")
    x, y = operands((3,), (3,), lhs_rows=ROWS[lhs], rhs_rows=ROWS[rhs])
    assert_same(getattr(ops, name)(G, x, y), oracle.gsddmm(G, op, x, y, lhs, rhs))


def test_the_list_of_names():
    assert set(ops.__all__) == {*SPMM_NAMES, *SDDMM_NAMES, *OTHERS, "csrmm", "csrsum", "csrmask"}
    assert len(SPMM_NAMES) == 24
    assert len(SDDMM_NAMES) == 30


@pytest.mark.parametrize("name", ops.__all__)
def test_names_are_found_by_people_and_programs(name):
    function = getattr(ops, name)
    assert function.__name__ == name
    assert len(function.__doc__) > 40
    assert pickle.loads(pickle.dumps(function)) is function


# --- softmax over edges -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_by", ["dst", "src"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1)], ids=str)
def test_edge_softmax(shape, norm_by):
    s = data(G.num_edges, *shape) * 3
    assert_same(ops.edge_softmax(G, s, norm_by), oracle.edge_softmax(G, s, norm_by))
    if shape != (3,):
        check_gradient(lambda a: ops.edge_softmax(G, a, norm_by), [s], order=2)


def test_edge_softmax_sums_to_one_and_shifts_away():
    s = data(G.num_edges, 3)
    alpha = ops.edge_softmax(G, s)
    np.testing.assert_allclose(ops.copy_e_sum(G, alpha)[np.unique(G.dst)], 1, rtol=1e-12)
    np.testing.assert_allclose(ops.edge_softmax(G, s + 1e4), alpha, rtol=1e-9)


def test_edge_softmax_of_infinities():
    s = np.array([0.0, -np.inf, -np.inf, -np.inf, 1.0, 2.0, 3.0, -np.inf])
    alpha = ops.edge_softmax(G, s)
    np.testing.assert_array_equal(alpha[[0, 3, 1, 4]], [1, 0, 0, 1])
    assert np.isnan(alpha[[2, 7]]).all()  # every score of v = 1 is −inf


def test_edge_softmax_dtypes():
    s = data(G.num_edges, 2) * 5
    for dtype, rtol in ((np.float32, 1e-5), (np.float16, 2e-3)):
        got = ops.edge_softmax(G, s.astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(
            got.astype(np.float64),
            oracle.edge_softmax(G, s.astype(dtype).astype(np.float64)),
            rtol=rtol,
            atol=rtol,
        )
    whole = np.arange(G.num_edges)
    assert_same(ops.edge_softmax(G, whole), oracle.edge_softmax(G, whole.astype(np.float64)))
    check_float32(lambda a: ops.edge_softmax(G, a), [s])


# --- segments -----------------------------------------------------------------------------------------------

OFFSETS = np.array([0, 3, 3, 4, 9, 9])


@pytest.mark.parametrize("reduce", REDUCES)
def test_segment_reduce(reduce):
    for x in (data(9), data(9, 3), data(9, 2, 3)):
        assert_same(ops.segment_reduce(OFFSETS, x, reduce), oracle.segment_reduce(OFFSETS, x, reduce))
    check_gradient(lambda a: ops.segment_reduce(OFFSETS, a, reduce), [data(9, 3)])


def test_segment_softmax():
    for x in (data(9), data(9, 2, 1)):
        assert_same(ops.segment_softmax(OFFSETS, x), oracle.segment_softmax(OFFSETS, x))
    check_gradient(lambda a: ops.segment_softmax(OFFSETS, a), [data(9)], order=2)


def test_no_segments_and_no_rows():
    assert ops.segment_reduce([0], np.zeros((0, 3))).shape == (0, 3)
    np.testing.assert_array_equal(ops.segment_reduce([0, 0, 0], np.zeros((0, 2)), "max"), np.zeros((2, 2)))
    assert ops.segment_softmax([0, 0], np.zeros((0, 3))).shape == (0, 3)
    assert ops.segment_mm(np.zeros((0, 2)), np.zeros((0, 2, 3)), [0]).shape == (0, 3)
    assert ops.gather_mm(np.zeros((0, 2)), np.zeros((4, 2, 3)), np.zeros(0, int)).shape == (0, 3)


def test_segment_mm_takes_offsets_or_lengths():
    a, b = data(9, 2), data(5, 2, 4, seed=3)
    want = oracle.gather_mm(a, b, np.repeat(np.arange(5), np.diff(OFFSETS)))
    assert_same(ops.segment_mm(a, b, OFFSETS), want)
    assert_same(ops.segment_mm(a, b, np.diff(OFFSETS)), want)
    check_gradient(lambda a, b: ops.segment_mm(a, b, OFFSETS), [a, b], order=2)


@pytest.mark.parametrize("ids", [[2, 0, 0, 3, 2, 0, 3], [0, 0, 1, 2, 2, 3, 3]], ids=["mixed", "sorted"])
def test_gather_mm(ids):
    a, b = data(7, 2), data(4, 2, 3, seed=3)
    assert_same(ops.gather_mm(a, b, np.array(ids)), oracle.gather_mm(a, b, ids))
    assert_same(ops.gather_mm(a, b, idx_b=ids), oracle.gather_mm(a, b, ids))
    check_gradient(lambda a, b: ops.gather_mm(a, b, ids), [a, b], order=2)
    check_float32(lambda a, b: ops.gather_mm(a, b, ids), [a, b])


def test_strided_and_read_only_operands():
    wide = data(18, 6)
    wide.flags.writeable = False
    x = wide[::2, ::2]
    assert_same(ops.segment_reduce(OFFSETS, x, "sum"), oracle.segment_reduce(OFFSETS, x.copy(), "sum"))
    u, w = np.asfortranarray(data(5, 3)), data(8, 3)[::-1]
    assert_same(ops.u_mul_e_sum(G, u, w), oracle.gspmm(G, "mul", "sum", u, w))


@pytest.mark.parametrize("name", ["u_mul_e_max", "u_dot_v", "edge_softmax", "gather_mm"])
def test_with_and_without_the_tape_the_bits_are_the_same(name):
    arrays = {
        "u_mul_e_max": [data(5, 3), data(8, 3)],
        "u_dot_v": [data(5, 2, 3), data(6, 2, 3)],
        "edge_softmax": [data(8)],
        "gather_mm": [data(7, 2), data(4, 2, 3)],
    }[name]
    rest = ([2, 0, 0, 3, 2, 0, 3],) if name == "gather_mm" else ()
    front = () if name == "gather_mm" else (G,)
    plain = getattr(ops, name)(*front, *arrays, *rest)
    with ng.Tape() as tape:
        taped = getattr(ops, name)(*front, *[tape.watch(a) for a in arrays], *rest)
    assert isinstance(taped, ng.Tensor)
    assert plain.tobytes() == taped.data.tobytes()


# --- errors -------------------------------------------------------------------------------------------------

X, W, Y = data(5, 3), data(8, 3), data(6, 3)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: ops.gspmm(G, "plus", "sum", X, W),
            ValueError,
            "gspmm: unknown op 'plus'; choose from 'add', 'sub', 'mul', 'div', 'copy_lhs'",
        ),
        (
            lambda: ops.gspmm(G, "mul", "median", X, W),
            ValueError,
            "gspmm: unknown reduce 'median'; choose from 'sum', 'mean', 'max', 'min', 'prod'",
        ),
        (lambda: ops.gspmm("g", "mul", "sum", X, W), TypeError, "gspmm: g is a str; pass a numgraph.Graph"),
        (
            lambda: ops.gspmm(G, "mul", "sum", X, None),
            TypeError,
            r"gspmm: rhs is None; this op reads rhs: pass an array \[num_edges, …\]",
        ),
        (
            lambda: ops.u_mul_e_sum(G, Y, W),
            ValueError,
            r"u_mul_e_sum: lhs has shape \[6, 3\], the graph's num_src is 5; the first axis of lhs must",
        ),
        (
            lambda: ops.u_mul_e_sum(G, X, X),
            ValueError,
            r"u_mul_e_sum: rhs has shape \[5, 3\], the graph's num_edges is 8; the first axis",
        ),
        (
            lambda: ops.u_mul_e_sum(G, X, np.float64(2)),
            ValueError,
            r"rhs has shape \[\], the graph's num_edges is 8",
        ),
        (
            lambda: ops.copy_u_sum(G, W),
            ValueError,
            r"copy_u_sum: lhs has shape \[8, 3\], the graph's num_src is 5",
        ),
        (
            lambda: ops.u_add_e_max(G, X, W[:, :2]),
            ValueError,
            r"u_add_e_max: the feature axes of lhs \[5, 3\] and rhs \[8, 2\] do not broadcast; align",
        ),
        (
            lambda: ops.u_mul_e_sum(G, X.astype(object), W),
            TypeError,
            "u_mul_e_sum: lhs has dtype object; use bool, an integer \\(uint64 as int64\\), float16",
        ),
        (lambda: ops.u_mul_e_sum(G, X, W * 1j), TypeError, "u_mul_e_sum: rhs has dtype complex128"),
        (
            lambda: ops.gsddmm(G, "cross", X, Y),
            ValueError,
            "gsddmm: unknown op 'cross'; choose from 'add', 'sub', 'mul', 'div', 'dot'",
        ),
        (
            lambda: ops.gsddmm(G, "mul", X, Y, "u", "w"),
            ValueError,
            "gsddmm: unknown rhs_target 'w'; choose from 'u', 'v', 'e'",
        ),
        (
            lambda: ops.gsddmm(G, "mul", X, Y, 0, "v"),
            ValueError,
            "gsddmm: unknown lhs_target 0; choose from 'u', 'v', 'e'",
        ),
        (
            lambda: ops.u_dot_v(G, X, Y[:, :1]),
            ValueError,
            r"u_dot_v: dot of lhs \[5, 3\] and rhs \[6, 1\]: the last axes differ; dot sums over",
        ),
        (
            lambda: ops.v_add_u(G, X, Y),
            ValueError,
            r"v_add_u: lhs has shape \[5, 3\], the graph's num_dst is 6",
        ),
        (
            lambda: ops.edge_softmax(G, X),
            ValueError,
            r"edge_softmax: scores has shape \[5, 3\], the graph's num_edges is 8",
        ),
        (
            lambda: ops.edge_softmax(G, W, "both"),
            ValueError,
            "edge_softmax: unknown norm_by 'both'; choose from 'dst', 'src'",
        ),
        (
            lambda: ops.segment_reduce([0, 5], W, "median"),
            ValueError,
            "segment_reduce: unknown reduce 'median'; choose from",
        ),
        (
            lambda: ops.segment_reduce([3, 5], W),
            ValueError,
            r"segment_reduce: offsets\[0\] is 3; it must be 0, .*np.cumsum\(lengths\)",
        ),
        (
            lambda: ops.segment_reduce([0, 6, 5, 8], W),
            ValueError,
            r"offsets\[2\] is 5, less than offsets\[1\], 6; the start of a segment",
        ),
        (
            lambda: ops.segment_reduce([0, 5], W),
            ValueError,
            r"offsets\[1\], the last, is 5 and there are 8 rows; the last entry must be",
        ),
        (
            lambda: ops.segment_reduce([], W),
            ValueError,
            r"offsets has shape \[0\]; give one axis \[segments \+ 1\]",
        ),
        (lambda: ops.segment_reduce([[0, 8]], W), ValueError, r"offsets has shape \[1, 2\]"),
        (
            lambda: ops.segment_softmax([0.0, 8.0], W),
            TypeError,
            "segment_softmax: offsets is float64, offsets must be integers; cast it",
        ),
        (
            lambda: ops.segment_reduce([0, 1], np.float64(1)),
            ValueError,
            r"segment_reduce: x has shape \[\]; give rows, \[N, …\]",
        ),
        (
            lambda: ops.segment_mm(X, data(2, 4, 2), [0, 2, 5]),
            ValueError,
            r"segment_mm: a has shape \[5, 3\] and b \[2, 4, 2\]; they must be \[N, in\]",
        ),
        (
            lambda: ops.segment_mm(X, data(2, 3, 2), [0, 2, 4, 5]),
            ValueError,
            r"segment_mm: offsets has shape \[4\], b has shape \[2, 3, 2\]; give",
        ),
        (
            lambda: ops.segment_mm(X, data(2, 3, 2), [2, 2]),
            ValueError,
            r"segment_mm: offsets\[2\], the last, is 4 and there are 5 rows",
        ),
        (
            lambda: ops.gather_mm(X, data(2, 3, 2), [0, 1]),
            ValueError,
            r"gather_mm: idx_b has 2 entries, a has shape \[5, 3\]",
        ),
        (
            lambda: ops.gather_mm(X, data(2, 3, 2), [0, 1, 2, 0, 0]),
            IndexError,
            r"gather_mm: idx_b\[2\] is 2, the number of matrices is 2, ids run from",
        ),
        (
            lambda: ops.gather_mm(X, data(2, 3, 2), [0, 1, -1, 0, 0]),
            IndexError,
            r"gather_mm: idx_b\[2\] is -1",
        ),
        (
            lambda: ops.gather_mm(X, data(2, 3, 2), [0.0] * 5),
            TypeError,
            "gather_mm: idx_b is float64, ids must be integers",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
