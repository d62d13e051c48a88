"""DistGraph: a graph whose nodes are owned by processes, each with the edges into its own."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from numgraph.arrays.inputs import given, is_sparse
from numgraph.arrays.typed import Array
from numgraph.autodiff.deferred import Deferred
from numgraph.autodiff.tape import record, unwrap
from numgraph.autodiff.typed import of_array_in_class
from numgraph.distributed.halo import Halo, Meter, Pending
from numgraph.distributed.processes import agreed, communicator, from_first, share_cores, together
from numgraph.distributed.shards import ABOUT_ALL, CHUNK, OF_GRAPH, read_shard
from numgraph.distributed.shared import allreduce, replicate
from numgraph.errors import bad_type, bad_value, check_name, no_attribute, shown
from numgraph.graph import Adjacency, Graph, Shard, Spread, check_graph
from numgraph.graph.edges import Edges
from numgraph.graph.partition import partition
from numgraph.graph.sorting import Ids, frozen, group, ids_dtype


class DistGraph(Spread):
    """A graph that the processes of a communicator share: each owns some nodes, and has all edges into them.

    Layers and models take it in place of a Graph, with the owned nodes' rows: ``model(d, x[d.owned])``.
    Messages of your own take ``d.graph`` and what ``d.exchange`` gives. Every process makes the same calls in
    the same order; each one's loss is its part, and ``tape.gradient`` gives the gradient of their sum.

    Attributes
    ----------
    graph : Shard, (owned + ghosts) → owned: this process's edges between the sources,
        numbered from 0 (the owned nodes, then the ghosts: nodes of others with an edge into an owned one) and
        the owned nodes; a node's in-edges are in the order of their ids
    owned : [own] ids of the owned nodes in the whole graph: first those without ghosts among their sources
    ghosts : ids of the ghosts there
    edge_ids : [num_edges] ids of ``graph``'s edges there: ``w[d.edge_ids]`` are their data
    comm : mpi4py's communicator
    meter : bytes of rows that this process has sent, and seconds that it has waited for rows, since the start
    threads : that this process computes with, see ``share_cores``
    num_nodes, num_edges : of the whole graph

    Examples
    --------
    ``mpiexec -n 4 python -m mpi4py program.py`` of this program::

        comm = MPI.COMM_WORLD
        d = ng.distributed.DistGraph.from_graph(g, comm)
        with ng.Tape() as tape:
            logits = model(d, x[d.owned])
            loss = ng.cross_entropy(logits, y[d.owned], reduction="sum") / g.num_nodes
        optimizer.step(tape.gradient(loss, optimizer.parameters))
    """

    def __init__(
        self,
        op: str,
        comm: Any,
        owned: Any,
        ghosts: Any,
        owners: Any,
        edges: Edges,
        edge_ids: Ids,
        totals: tuple[int, int],
    ) -> None:
        """edges: between the numbers of owned and ghosts, and those of owned; totals: nodes and edges of the
        whole graph.
        """
        self.comm, self.owned, self.ghosts, self.edge_ids = (
            comm,
            frozen(owned),
            frozen(ghosts),
            frozen(edge_ids),
        )
        self.num_nodes, self.num_edges = totals
        self.threads = share_cores(comm)
        self._halo = Halo(op, comm, owned, ghosts, owners)
        self.graph = Shard.whole_rows(self, frozen(np.concatenate([owned, ghosts])), edges, self.edge_ids)
        rows = self.graph.in_edges
        crossing = np.flatnonzero(rows.indices >= len(owned))
        self.interior = (
            int(np.searchsorted(rows.indptr, crossing[0], side="right")) - 1 if len(crossing) else len(owned)
        )
        self.in_flight: dict[int, Any] = {}
        self.about: Mapping[str, Any] = {}
        self.arrays: Mapping[str, Any] = {}

    @classmethod
    def from_graph(
        cls, g: Graph, comm: Any, *, method: Any = "metis", objective: str = "cut", seed: int = 0
    ) -> DistGraph:
        """Every process has the whole graph and keeps its part.

        Parameters
        ----------
        g : Graph of one set of nodes, the same on all processes
        comm : mpi4py's communicator; process r owns part r
        method, objective, seed : ``partition``'s; method may be the owner of each node

        Returns
        -------
        DistGraph

        Raises
        ------
        ValueError, TypeError : on all processes, where one has the reason
        """
        op = "DistGraph.from_graph"
        comm = communicator(op, comm)

        def checked() -> None:
            check_graph(op, "g", g)
            _ = g.num_nodes

        together(comm, checked)
        part = from_first(
            comm, lambda: partition(g, comm.size, method=method, objective=objective, seed=seed)
        )
        counts = g.num_nodes, g.num_edges
        src, dst = together(comm, lambda: (g.src, g.dst))
        what = (
            f"graph of {counts[0]} nodes and {counts[1]} edges, with the checksum {_checksum(src, dst):08x}"
        )
        agreed(op, "g", comm, what, "give all processes the same graph")
        edge_ids = np.flatnonzero(part[dst] == comm.rank)
        src, dst = src[edge_ids], dst[edge_ids]
        crossing = np.zeros(g.num_nodes, bool)
        crossing[dst[part[src] != comm.rank]] = True
        owned, ghosts, owners, place = numbering(part, comm.rank, src, crossing)
        sides = len(owned) + len(ghosts), len(owned)
        sources, into = (frozen(place[ends].astype(ids_dtype(*sides, len(src)))) for ends in (src, dst))
        rows = group(into, sources, len(owned))
        edges = Edges(
            sides, [rows.indices, None], [None, Adjacency(rows.indptr, rows.indices, ordered=True)], True
        )
        return cls(op, comm, owned, ghosts, owners, edges, edge_ids[rows.edge_ids], counts)

    @classmethod
    def load(cls, path: str | os.PathLike[str], comm: Any, *, verify: str = "full") -> DistGraph:
        """Process r opens part r of a folder that ``numgraph partition`` wrote, and nothing else.

        ``d.arrays`` has what is stored beside the edges: features (mapped), labels and masks of the owned
        nodes, ``edge_weight`` if there; ``d.about`` the dataset's name, task and classes.

        Parameters
        ----------
        path : the folder
        comm : mpi4py's communicator, of as many processes as there are parts
        verify : "full" compares the content of every file with what was written,
            "sizes" dtypes and shapes alone

        Returns
        -------
        DistGraph

        Raises
        ------
        ValueError, OSError : on all processes: a shard that is damaged, of another format or partition,
            or not there
        """
        op = "DistGraph.load"
        check_name(op, "verify", verify, ("full", "sizes"))
        comm = communicator(op, comm)
        about, arrays = together(comm, lambda: read_shard(path, comm.rank, comm.size, verify))
        first = comm.bcast({key: about[key] for key in ("partition", *ABOUT_ALL)})

        def check() -> Graph:
            for key, value in first.items():
                if about[key] != value:
                    problem = f"{key} of part {comm.rank} is {about[key]!r}, of part 0 {value!r}"
                    raise bad_value(
                        op,
                        problem,
                        "the parts are of different partitions: copy all of one run of numgraph partition",
                    )
            count = len(arrays["owned"]) + len(arrays["ghosts"])
            return Graph.from_csc(
                arrays["indptr"], arrays["indices"], num_src=count, num_dst=len(arrays["owned"])
            )

        edges = together(comm, check)._edges
        totals = about["num_nodes"], about["num_edges"]
        d = cls(
            op,
            comm,
            arrays["owned"],
            arrays["ghosts"],
            arrays["owners"],
            cast(Edges, edges),
            arrays["edge_ids"],
            totals,
        )
        d.about, d.arrays = about, {name: array for name, array in arrays.items() if name not in OF_GRAPH}
        return d

    @property
    def meter(self) -> Meter:
        """Bytes of rows that this process has sent, and seconds that it has waited for rows, since the
        start.
        """
        return self._halo.meter

    @of_array_in_class
    def exchange(self, x: Any) -> Any:
        """The rows of ``graph``'s sources: those of the owned nodes, then those that their owners send. The
        adjoint of ``collect``.

        Parameters
        ----------
        x : array or Tensor [owned, …], of the same dtype and features on all processes,
            or a constant SciPy sparse matrix

        Returns
        -------
        [owned + ghosts, …]

        Raises
        ------
        ValueError : another number of rows
        """
        if is_sparse(x):
            if x.shape[0] != len(self.owned):
                raise bad_value(
                    "DistGraph.exchange",
                    f"x has shape {list(x.shape)}",
                    f"give a row for each of {len(self.owned)} nodes",
                )
            return self._halo.sparse(x)
        return self._exchanged(x, lambda pending: pending.wait())

    @of_array_in_class
    def exchange_ahead(self, x: Any) -> Any:
        """``exchange`` for a layer whose next walk over ``graph`` reads the result: it begins with the
        interior, destinations without ghosts, while rows are on their way. Nothing else may read the result
        before that walk.

        Parameters
        ----------
        x : as of ``exchange``

        Returns
        -------
        [owned + ghosts, …]
        """

        if is_sparse(x):
            return self.exchange(x)

        def later(pending: Pending) -> Any:
            self.in_flight[id(pending.result)] = pending
            return pending.result

        return self._exchanged(x, later)

    def _exchanged(self, x: Any, result: Callable[[Pending], Any]) -> Any:
        x = self._rows("exchange", "x", x, len(self.owned))

        def vjp(g: Any, *_: Any) -> tuple[Any]:
            if isinstance(g, Deferred):  # its ghosts' rows are sent before the others are computed
                return (self._halo.back(g.work.of_ghosts()[g.place], g.work.rest),)
            return (self.collect(g),)

        made = result(self._halo.start(unwrap(x)))
        return record(
            "exchange", (x,), made, vjp, self._explain("collect"), collective=True, takes_deferred=True
        )

    @of_array_in_class
    def collect(self, y: Any) -> Any:
        """To each owned node's row the owner adds the rows that other processes have for it as a ghost. The
        adjoint of ``exchange``.

        Parameters
        ----------
        y : array or Tensor [owned + ghosts, …]

        Returns
        -------
        [owned, …]
        """
        y = self._rows("collect", "y", y, self.graph.num_src)

        def vjp(g: Any, *_: Any) -> tuple[Any]:
            return (self.exchange(g),)

        return record(
            "collect", (y,), self._halo.back(unwrap(y)), vjp, self._explain("exchange"), collective=True
        )

    def _rows(self, op: str, name: str, x: Any, rows: int) -> Any:
        x = given(f"DistGraph.{op}", name, x)
        if not x.ndim or x.shape[0] != rows:
            needed = (
                f"[{len(self.owned)} owned"
                + (f" + {len(self.ghosts)} ghosts" if op == "collect" else "")
                + ", …]"
            )
            raise bad_value(
                f"DistGraph.{op}", f"{name} has shape {list(x.shape)}", f"give a row for each node, {needed}"
            )
        if x.dtype.hasobject:
            raise bad_type(f"DistGraph.{op}", f"{name} has dtype {x.dtype}", "give numbers")
        return x

    def _explain(self, adjoint: str) -> Callable[[Sequence[bool]], list[str]]:
        line = f"replayed as {adjoint}: {len(self._halo.rows)} rows sent, {self._halo.num_ghosts} received"
        return lambda needs: [line]

    def replicate(self, values: list[Any]) -> list[Any]:
        """Shared values as this process's own, see ``numgraph.distributed.replicate``.

        Parameters
        ----------
        values : list of arrays, Tensors or Parameters

        Returns
        -------
        list
        """
        found: list[Any] = replicate(values, self.comm)
        return found

    @of_array_in_class
    def total(self, x: Any) -> Any:
        """Σ of x over the processes, as this process's own: the gradients that arrive at it on all processes
        are summed.

        Parameters
        ----------
        x : array, Tensor or number, of the same shape and dtype on all processes

        Returns
        -------
        of x's shape
        """
        return replicate(allreduce(x, self.comm), self.comm)

    def close(self) -> None:
        """Give MPI's objects back, on all processes together. A program that makes thousands of DistGraphs
        needs that.
        """
        self._halo.close()

    def gather(self, x: Any, root: int = 0) -> Array | None:
        """The rows of all nodes in the order of their ids, on one process.

        Parameters
        ----------
        x : array or Tensor [owned, …]
        root : the number of the process

        Returns
        -------
        [num_nodes, …] a plain array on that process, None on the others

        Raises
        ------
        ValueError : another number of rows; a process that is not there; features or dtypes that differ
        """
        array = np.asarray(unwrap(self._rows("gather", "x", x, len(self.owned))))
        if root not in range(self.comm.size):
            raise bad_value(
                "DistGraph.gather",
                f"root is {shown(root)}",
                f"processes are numbered from 0 to {self.comm.size - 1}",
            )
        same = "give the same features and dtype on all processes"
        agreed("DistGraph.gather", "x", self.comm, (array.dtype.name, array.shape[1:]), same)
        parts = self.comm.gather((self.owned, array), root=root)
        if parts is None:
            return None
        whole = np.empty((self.num_nodes, *array.shape[1:]), array.dtype)
        for ids, rows in parts:
            whole[ids] = rows
        return whole

    if not TYPE_CHECKING:  # a checker knows the names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name in vars(type(self)):
                raise AttributeError(name)
            raise no_attribute(
                "a DistGraph", name, [one for one in (*vars(self), *dir(type(self))) if one[0] != "_"]
            )

    def __repr__(self) -> str:
        return (
            f"DistGraph(process {self.comm.rank} of {self.comm.size}: {len(self.owned)} of {self.num_nodes} "
            "nodes, "
            f"{len(self.edge_ids)} of {self.num_edges} edges, {len(self.ghosts)} ghosts)"
        )


def _checksum(*arrays: NDArray[Any]) -> int:
    """The same for equal whole numbers, whatever their dtype."""
    made = 0
    for array in arrays:
        for start in range(0, len(array), CHUNK):
            made = zlib.crc32(np.ascontiguousarray(array[start : start + CHUNK], "<i8").data, made)
    return made


def numbering(
    part: NDArray[Any], rank: int, src: NDArray[Any], crossing: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of a part whose edges have the sources src: its nodes, those crossing (with in-edges from other parts)
    after the others, its ghosts grouped by owner, their owners, and the number of every node of both (of
    others nothing)."""
    owned = np.flatnonzero(part == rank)
    owned = np.concatenate([owned[~crossing[owned]], owned[crossing[owned]]])
    touched = np.zeros(len(part), bool)
    touched[src] = True
    touched[owned] = False
    ghosts = np.flatnonzero(touched)
    owners = part[ghosts]
    order = np.argsort(owners, kind="stable")
    ghosts, owners = ghosts[order], owners[order]
    place = np.empty(len(part), np.int64)
    place[owned] = np.arange(len(owned))
    place[ghosts] = np.arange(len(owned), len(owned) + len(ghosts))
    return owned, ghosts, owners, place
