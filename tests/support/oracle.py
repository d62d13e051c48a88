"""What ops and messages mean, in the most literal NumPy: a Python loop over edges, and a list of messages for
every node.

Nothing here knows numgraph but Graph's src, dst and counts. A message function is called once an edge, with
that edge's rows."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np


def call(function, u, v, e):
    code = function.__code__
    given = {"u": u, "v": v, "e": e}
    return np.asarray(
        function(**{name: given[name] for name in code.co_varnames[: code.co_argcount] if name in given})
    )


def messages(g, function, u=(), v=(), e=()):
    """The message of every edge, in edge-id order, and one of zeros for its shape and dtype."""
    u, v, e = dict(u), dict(v), dict(e)

    def at(fields, row):
        return SimpleNamespace(**{name: np.asarray(array)[row] for name, array in fields.items()})

    def ones(fields):
        return SimpleNamespace(
            **{
                name: np.ones(np.shape(array)[1:], np.asarray(array).dtype)[()]
                for name, array in fields.items()
            }
        )

    with np.errstate(all="ignore"):
        found = [call(function, at(u, g.src[k]), at(v, g.dst[k]), at(e, k)) for k in range(g.num_edges)]
        sample = call(function, ones(u), ones(v), ones(e))
    return found, sample


FUNCTIONS = {
    **{name: getattr(np, name) for name in ("sum", "mean", "max", "min", "prod", "var", "std")},
    "logsumexp": lambda m, axis: np.log(np.sum(np.exp(m), axis=axis)),
    "softmax": lambda m, axis: np.sum(np.exp(m) * m, axis=axis) / np.sum(np.exp(m), axis=axis),
}


def reduced(rows, sample, reduce):
    """[rows, …]: each row's messages reduced; 0 without any, 1 for prod, −inf for logsumexp."""
    function = FUNCTIONS[reduce]
    dtype = function(np.ones((1, *sample.shape), sample.dtype), axis=0).dtype
    out = np.full((len(rows), *sample.shape), {"prod": 1, "logsumexp": -np.inf}.get(reduce, 0), dtype)
    for r, row in enumerate(rows):
        if row:
            with np.errstate(all="ignore"):
                out[r] = function(np.stack(row), axis=0)
    return out


def update_all(g, function, reduce, u=(), v=(), e=()):
    found, sample = messages(g, function, u, v, e)
    rows = [[] for _ in range(g.num_dst)]
    for k, m in enumerate(found):
        rows[g.dst[k]].append(m)
    return reduced(rows, sample, reduce)


def apply_edges(g, function, u=(), v=(), e=()):
    found, sample = messages(g, function, u, v, e)
    return np.stack(found) if found else np.zeros((0, *sample.shape), sample.dtype)


def softmax(scores):
    """Over the first axis. NaN where all are −inf."""
    with np.errstate(all="ignore"):
        weights = np.exp(scores - np.max(scores, axis=0))
        return weights / np.sum(weights, axis=0)


def attend(g, score, value, u=(), v=(), e=()):
    scores, score_sample = messages(g, score, u, v, e)
    values, value_sample = messages(g, value, u, v, e)
    out = np.zeros(
        (g.num_dst, *np.broadcast_shapes(score_sample.shape, value_sample.shape)),
        np.result_type(score_sample, value_sample),
    )
    for row in range(g.num_dst):
        edges = [k for k in range(g.num_edges) if g.dst[k] == row]
        if edges:
            alpha = softmax(np.stack([scores[k] for k in edges]))
            for a, k in zip(alpha, edges):
                out[row] = out[row] + a * values[k]
    return out


OPERATORS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "dot": lambda a, b: np.sum(a * b, axis=-1, keepdims=True) if np.ndim(a) or np.ndim(b) else a * b,
    "copy_lhs": lambda a, b: a,
    "copy_rhs": lambda a, b: b,
}


def gspmm(g, op, reduce, lhs, rhs):
    pairs = [
        OPERATORS[op](None if lhs is None else lhs[g.src[k]], None if rhs is None else rhs[k])
        for k in range(g.num_edges)
    ]
    sample = OPERATORS[op](
        None if lhs is None else np.ones_like(lhs[:1])[0], None if rhs is None else np.ones_like(rhs[:1])[0]
    )
    rows = [[pairs[k] for k in range(g.num_edges) if g.dst[k] == row] for row in range(g.num_dst)]
    return reduced(rows, np.asarray(sample), reduce)


def gsddmm(g, op, lhs, rhs, lhs_target="u", rhs_target="v"):
    def read(array, target, k):
        return (
            None if array is None else array[{"u": g.src, "v": g.dst, "e": np.arange(g.num_edges)}[target][k]]
        )

    return np.stack(
        [OPERATORS[op](read(lhs, lhs_target, k), read(rhs, rhs_target, k)) for k in range(g.num_edges)]
    )


def edge_softmax(g, scores, norm_by="dst"):
    out = np.empty_like(scores)
    ends = g.dst if norm_by == "dst" else g.src
    for end in set(ends.tolist()):
        out[ends == end] = softmax(scores[ends == end])
    return out


def segment_reduce(offsets, x, reduce):
    rows = [list(x[start:stop]) for start, stop in itertools.pairwise(offsets)]
    return reduced(rows, np.ones(x.shape[1:], x.dtype), reduce)


def segment_softmax(offsets, x):
    out = np.empty_like(x)
    for start, stop in itertools.pairwise(offsets):
        if start < stop:
            out[start:stop] = softmax(x[start:stop])
    return out


def gather_mm(a, b, ids):
    return (
        np.stack([a[i] @ b[ids[i]] for i in range(len(a))])
        if len(a)
        else np.zeros((0, b.shape[2]), np.result_type(a, b))
    )


def matrix(g, weights):
    """A[u, v]: the dense matrix of a weighted graph; parallel edges add up."""
    A = np.zeros((g.num_src, g.num_dst), np.asarray(weights).dtype)
    for k in range(g.num_edges):
        A[g.src[k], g.dst[k]] += weights[k]
    return A


def splitmix64(seed: int, count: int) -> list[int]:
    """The first outputs of SplitMix64, by Python's whole numbers."""
    outputs = []
    for i in range(1, count + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        outputs.append(z ^ (z >> 31))
    return outputs


def kept(rng: np.random.Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    """The mask of dropout: a half of 64 bits each, the low one first, kept from p · 2³² on."""
    size = int(np.prod(shape))
    halves = [
        half
        for z in splitmix64(rng.bit_generator.random_raw(), size // 2 + 1)
        for half in (z % 2**32, z >> 32)
    ]
    return np.array([half >= round(p * 2**32) for half in halves[:size]], bool).reshape(shape)
