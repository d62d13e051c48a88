"""Scores of the triples of a knowledge graph, (head, relation, tail), from a row of numbers for each entity
and each relation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.arrays.devices import device_of, moved
from numgraph.arrays.inputs import as_array, generator
from numgraph.autodiff.tensor import unwrap
from numgraph.autodiff.typed import Result
from numgraph.dense import gather, matmul
from numgraph.errors import bad_index, bad_type, bad_value
from numgraph.graph import Graph
from numgraph.message import apply_edges
from numgraph.nn import init
from numgraph.nn.module import Module, check_size


class Scorer(Module):
    """What DistMult, ComplEx and TransE share: tables of entities and relations, and ids that are checked.

    Triples are edges of a graph from heads to tails, and a score is a message; what all tails are compared
    with, a query, is a message along edges from heads to relations. So no array of rows is gathered, and
    gradients are sums over edges."""

    parts = 0
    """How many rows of dim numbers an entity has; 0 for one without an axis for it."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int = 100,
        *,
        reciprocal: bool = False,
        scale: float = 0.1,
        rng: init.Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        check_size(type(self).__name__, num_entities=num_entities, num_relations=num_relations, dim=dim)
        self.num_entities, self.num_relations, self.dim, self.reciprocal = (
            num_entities,
            num_relations,
            dim,
            bool(reciprocal),
        )
        rng, shape = generator(type(self).__name__, rng), (self.parts, dim) if self.parts else (dim,)
        self.entities = init.Parameter((scale * rng.standard_normal((num_entities, *shape))).astype(dtype))
        self.relations = init.Parameter(
            (scale * rng.standard_normal((num_relations * (1 + self.reciprocal), *shape))).astype(dtype)
        )

    def forward(self, h: Any, r: Any, t: Any) -> Result:
        """[n] the scores of triples."""
        h, r, t = self._ids(h=h, r=r, t=t)
        g = self._there(Graph(h, t, num_src=self.num_entities, num_dst=self.num_entities))
        found: Result = apply_edges(
            g,
            self._score,
            u={"x": self.entities},
            v={"x": self.entities},
            e={"w": self._rows(self.relations, r)},
        )
        return found

    def score(self, h: Any, r: Any, t: Any) -> Result:
        """[n] the scores of triples."""
        return self(h, r, t)

    def score_tails(self, h: Any, r: Any) -> Result:
        """[n, num_entities] the scores of (h, r, every entity)."""
        h, r = self._ids(h=h, r=r)
        found: Result = self._with_all(self._queries(self._of_head, h, r))
        return found

    def score_heads(self, r: Any, t: Any) -> Result:
        """[n, num_entities] the scores of (every entity, r, t)."""
        r, t = self._ids(r=r, t=t)
        if self.reciprocal:
            found: Result = self._with_all(self._queries(self._of_head, t, r + self.num_relations))
            return found
        found = self._with_all(self._queries(self._of_tail, t, r))
        return found

    def score_both(self, h: Any, r: Any, t: Any) -> Result:
        """[2n, num_entities] the scores of all tails of (h, r), then of all heads of (r, t)."""
        h, r, t = self._ids(h=h, r=r, t=t)
        if self.reciprocal:
            queries = self._queries(
                self._of_head, np.concatenate([h, t]), np.concatenate([r, r + self.num_relations])
            )
        else:
            queries = np.concatenate([self._queries(self._of_head, h, r), self._queries(self._of_tail, t, r)])
        found: Result = self._with_all(queries)
        return found

    def penalty(self, h: Any, r: Any, t: Any) -> Any:
        """Mean over triples of Σ |x|³ over the rows of head, relation and tail, of a reciprocal relation half
        of each way's: the N3 of Lacroix et al. (2018), which a training may add to its loss."""
        h, r, t = self._ids(h=h, r=r, t=t)
        ends, ways = (
            np.concatenate([h, t]),
            np.concatenate([r, r + self.num_relations if self.reciprocal else r]),
        )
        return self._queries(self._cubes, ends, ways).sum() / len(h)

    @property
    def _device(self) -> str:
        return device_of(self.entities.data)

    @staticmethod
    def _cubes(u: Any, v: Any) -> Any:
        """Σ |x|³ of an end, and half of a relation's, which has two ends."""
        return _cubed(u.x * u.x) + 0.5 * _cubed(v.w * v.w)

    def _there(self, g: Graph) -> Graph:
        """A graph where the parameters are."""
        return g.to(self._device)

    def _rows(self, table: Any, ids: Any) -> Any:
        return gather(table, moved(ids, self._device))

    def _ids(self, **given: Any) -> tuple[Any, ...]:
        """Ids as arrays of one length, in range."""
        op, found, length = type(self).__name__, [], None
        for name, value in given.items():
            ids = np.atleast_1d(as_array(op, name, unwrap(value)))
            if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
                raise bad_type(
                    op, f"{name} has dtype {ids.dtype} and shape {list(ids.shape)}", "give ids, integers [n]"
                )
            what, count = (
                ("relations", self.num_relations) if name == "r" else ("entities", self.num_entities)
            )
            wrong = (ids < 0) | (ids >= count)
            if wrong.any():
                at = int(np.argmax(wrong))
                raise bad_index(op, f"{name}[{at}] is {ids[at]}", f"{what} run from 0 to {count - 1}")
            if length is not None and len(ids) != length:
                raise bad_value(
                    op,
                    f"{name} has {len(ids)} ids, others have {length}",
                    "give one of each for every triple",
                )
            length = len(ids)
            found.append(ids.astype(np.int64))
        return tuple(found)

    def _queries(self, message: Callable[..., Any], ends: Any, relations: Any) -> Any:
        """[n, …] what all entities are compared with."""
        g = self._there(Graph(ends, relations, num_src=self.num_entities, num_dst=self.relations.shape[0]))
        return apply_edges(g, message, u={"x": self.entities}, v={"w": self.relations})

    def _with_all(self, queries: Any) -> Any:
        """[n, num_entities] the inner products of queries with the entities' rows."""
        table = self.entities.reshape(self.num_entities, -1)
        return matmul(queries.reshape(queries.shape[0], table.shape[1]), table.T)

    @staticmethod
    def _score(u: Any, v: Any, e: Any) -> Any:
        raise NotImplementedError

    @staticmethod
    def _of_head(u: Any, v: Any) -> Any:
        """What tails are compared with, of a head u.x and a relation v.w."""
        raise NotImplementedError

    @staticmethod
    def _of_tail(u: Any, v: Any) -> Any:
        """What heads are compared with, of a tail u.x and a relation v.w."""
        raise NotImplementedError


def _cubed(squares: Any) -> Any:
    """Σ |x|³ of the squares of absolute values."""
    return (squares * np.sqrt(np.maximum(squares, 1e-24))).sum(-1)


class DistMult(Scorer):
    """Score Σ e_h · w_r · e_t (Yang et al., Embedding Entities and Relations for Learning and Inference in
    Knowledge Bases, ICLR 2015).

    Parameters
    ----------
    num_entities, num_relations : how many there are
    dim : width of the rows of entities and relations
    reciprocal : relations have other rows for the way back, from tails to heads:
        score_heads(r, t) is score_tails(t, r⁻¹) (Lacroix et al., Canonical Tensor Decomposition for Knowledge
        Base Completion, ICML 2018)
    scale, rng, dtype : of the parameters' first values, normal with deviation `scale`

    Notes
    -----
    h, r and t are ids, [n] integers. ``model(h, r, t)`` and ``model.score(h, r, t)`` are [n] scores, higher
    for what is held to be true; ``score_tails(h, r)`` and ``score_heads(r, t)`` are those of all entities in
    place of the one that is left out, [n, num_entities], and ``score_both(h, r, t)`` has both, [2n,
    num_entities]. ``penalty(h, r, t)`` is what a training may add to its loss. The score is the same for (h,
    r, t) and (t, r, h), so relations that hold one way only are not told from their reverses.

    Examples
    --------
    >>> import numgraph as ng
    >>> model = ng.nn.DistMult(5, 2, 8, rng=0)
    >>> model.score([0, 1], [1, 1], [3, 4]).shape, model.score_tails([0, 1], [1, 1]).shape
    ((2,), (2, 5))
    """

    @staticmethod
    def _score(u: Any, v: Any, e: Any) -> Any:
        return (u.x * e.w * v.x).sum(-1)

    @staticmethod
    def _of_head(u: Any, v: Any) -> Any:
        return u.x * v.w

    _of_tail = _of_head


class ComplEx(Scorer):
    """Score Re Σ e_h · w_r · ē_t with complex rows (Trouillon et al., Complex Embeddings for Simple Link
    Prediction, ICML 2016).

    Parameters
    ----------
    num_entities, num_relations, dim, reciprocal, scale, rng, dtype : as in ``DistMult``

    Notes
    -----
    Calls are those of ``DistMult``. A row has the real parts above the imaginary ones: [2, dim].

    Examples
    --------
    >>> import numgraph as ng
    >>> model = ng.nn.ComplEx(5, 2, 8, reciprocal=True, rng=0)
    >>> model.score_heads([1, 1], [3, 4]).shape
    (2, 5)
    """

    parts = 2

    @staticmethod
    def _score(u: Any, v: Any, e: Any) -> Any:
        real, imaginary = u.x[0] * e.w[0] - u.x[1] * e.w[1], u.x[0] * e.w[1] + u.x[1] * e.w[0]
        return (real * v.x[0] + imaginary * v.x[1]).sum(-1)

    @staticmethod
    def _of_head(u: Any, v: Any) -> Any:
        """Head times relation."""
        return np.stack([u.x[0] * v.w[0] - u.x[1] * v.w[1], u.x[0] * v.w[1] + u.x[1] * v.w[0]])

    @staticmethod
    def _of_tail(u: Any, v: Any) -> Any:
        """The relation's conjugate times the tail, as Re(h w t̄) = Re(h̄ · w̄ t)."""
        return np.stack([u.x[0] * v.w[0] + u.x[1] * v.w[1], u.x[1] * v.w[0] - u.x[0] * v.w[1]])

    @staticmethod
    def _cubes(u: Any, v: Any) -> Any:
        return _cubed(u.x[0] * u.x[0] + u.x[1] * u.x[1]) + 0.5 * _cubed(v.w[0] * v.w[0] + v.w[1] * v.w[1])


class TransE(Scorer):
    """Score −‖e_h + w_r − e_t‖ (Bordes et al., Translating Embeddings for Modeling Multi-relational Data,
    NIPS 2013).

    Parameters
    ----------
    num_entities, num_relations, dim : as in ``DistMult``
    norm : 1 or 2, which one it is
    options : reciprocal, scale, rng and dtype as in ``DistMult``

    Notes
    -----
    Calls are those of ``DistMult``.

    Examples
    --------
    >>> import numgraph as ng
    >>> model = ng.nn.TransE(5, 2, 8, norm=2, rng=0)
    >>> bool((model.score_tails([0, 1], [1, 1]) <= 0).all())
    True
    """

    def __init__(
        self, num_entities: int, num_relations: int, dim: int = 100, *, norm: int = 1, **options: Any
    ) -> None:
        if norm not in (1, 2):
            raise bad_value("TransE", f"norm is {norm!r}", "choose 1 or 2")
        super().__init__(num_entities, num_relations, dim, **options)
        self.norm = int(norm)
        self._score = _translated_1 if norm == 1 else _translated_2  # type: ignore[method-assign]

    @staticmethod
    def _of_head(u: Any, v: Any) -> Any:
        return u.x + v.w

    @staticmethod
    def _of_tail(u: Any, v: Any) -> Any:
        return u.x - v.w

    def _with_all(self, queries: Any) -> Any:
        """One edge from each entity to each query, so that no array has their differences."""
        count, message = queries.shape[0], _near_1 if self.norm == 1 else _near_2
        make = _complete if self.num_entities * count <= _KEPT else _complete.__wrapped__
        g = self._there(make(self.num_entities, count))
        return apply_edges(g, message, u={"x": self.entities}, v={"q": queries}).reshape(
            count, self.num_entities
        )


_KEPT = 2**20
"""Edges up to which graphs of all pairs are kept for the next step."""


@functools.lru_cache(maxsize=4)
def _complete(sources: int, destinations: int) -> Graph:
    """An edge from every source to every destination, destination by destination."""
    starts, indices = np.arange(destinations + 1) * sources, np.tile(np.arange(sources), destinations)
    return Graph.from_csc(starts, indices, num_src=sources, num_dst=destinations)


def _translated_1(u: Any, v: Any, e: Any) -> Any:
    return -np.abs(u.x + e.w - v.x).sum(-1)


def _translated_2(u: Any, v: Any, e: Any) -> Any:
    return -np.sqrt(np.maximum(np.square(u.x + e.w - v.x).sum(-1), 1e-24))


def _near_1(u: Any, v: Any) -> Any:
    return -np.abs(v.q - u.x).sum(-1)


def _near_2(u: Any, v: Any) -> Any:
    return -np.sqrt(np.maximum(np.square(v.q - u.x).sum(-1), 1e-24))
