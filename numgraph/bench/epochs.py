"""The suite of epochs: whole training steps (forward, cross entropy, backward, Adam) beside DGL's and PyG's
layers.

Everybody starts from numgraph's initial parameters and trains on the same graph, which has its self loops
already. Without dropout the losses of the first steps must agree; then the time is taken with the row's
dropout. Where a library has several formulations of a model, its fastest is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from numgraph import data, nn, optim
from numgraph.arrays.devices import moved
from numgraph.autodiff.tape import Tape
from numgraph.bench import gpu, graphs, measure
from numgraph.bench.report import epoch_header, epoch_line
from numgraph.bench.session import Disagreement, Request, Session, against, difference
from numgraph.bench.torchmodels import FORMULATIONS
from numgraph.dense import cross_entropy
from numgraph.graph import Graph
from numgraph.nn.graphs import with_self_loops

LR, WEIGHT_DECAY = 0.01, 5e-4
CHECKED_STEPS = 3

Step = Callable[[], float]


@dataclass(frozen=True)
class Task:
    """What is learnt: a graph with self loops, features [nodes, F] as arrays and as numgraph reads them,
    labels and trained nodes.
    """

    graph: Graph
    features: np.ndarray
    read: Any  # the features, or a SciPy sparse matrix of them
    labels: np.ndarray
    mask: np.ndarray
    classes: int
    device: str = "cpu"  # where torch's models are trained

    def to(self, device: str) -> Task:
        """What numgraph trains on there: graph, dense features, labels and mask on the device."""
        arrays = {"read": self.features, "labels": np.asarray(self.labels), "mask": self.mask}
        return replace(
            self,
            graph=self.graph.to(device),
            **{name: moved(array, device) for name, array in arrays.items()},
        )


@dataclass(frozen=True)
class Row:
    """A model on a task. hidden: width, of one head for gat; goals: peer → ratio to reach; default: whether
    it runs unless named; too_large: formulations of peers that would take more memory than machines have."""

    name: str
    title: str
    task: Callable[[Request], Task]
    model: str
    hidden: int
    heads: int = 1
    out_heads: int = 1
    dropout: float = 0.0
    goals: Mapping[str, float] = field(default_factory=dict)
    default: bool = True
    too_large: tuple[str, ...] = ()


def _cora(request: Request, sparse: bool = True) -> Task:
    """Peers read the features as a dense array, as their examples do; numgraph as its `train` does, sparse
    (1.3 % are not 0).
    """
    dataset = data.load("cora", request.data_dir)
    read = dataset.sparse_features if sparse else dataset.features
    graph, _ = with_self_loops(dataset.graph)
    return Task(
        graphs.built(graph), dataset.features, read, dataset.labels, dataset.train_mask, dataset.num_classes
    )


def _cora_dense(request: Request) -> Task:
    return _cora(request, sparse=False)


def _random(graph: Graph, features: int, classes: int, seed: int) -> Task:
    """Random features and labels; every node is trained on."""
    graph, _ = with_self_loops(graph)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((graph.num_nodes, features), np.float32)
    labels = rng.integers(0, classes, graph.num_nodes)
    return Task(graphs.built(graph), x, x, labels, np.ones(graph.num_nodes, bool), classes)


def _rmat(request: Request) -> Task:
    graph = graphs.rmat(request.nodes_log2, request.edges, request.seed, request.edge_order)
    return _random(graph, 128, 40, request.seed)


def _reddit_size(request: Request) -> Task:
    """2^18 nodes and 115 M edges; Reddit itself has 233 k and 115 M (Hamilton, Ying and Leskovec, 2017)."""
    return _random(graphs.rmat(18, 114_615_892, request.seed, request.edge_order), 602, 41, request.seed)


ROWS = {
    row.name: row
    for row in (
        Row("cora_gcn", "Cora, GCN 16, dropout 0.5", _cora, "gcn", 16, dropout=0.5, goals={"pyg": 3}),
        Row("cora_gcn_dense", "the same, dense features for all", _cora_dense, "gcn", 16, dropout=0.5),
        Row("cora_gcn_plain", "Cora, GCN 16, no dropout", _cora, "gcn", 16, goals={"pyg": 3}),
        Row(
            "cora_gat",
            "Cora, GAT 8 heads × 16, dropout 0.6",
            _cora,
            "gat",
            16,
            8,
            1,
            dropout=0.6,
            goals={"dgl": 3},
        ),
        Row("cora_gat_plain", "the same, no dropout", _cora, "gat", 16, 8, 1, goals={"dgl": 3}),
        Row("cora_gat_heads", "Cora, GAT 8 heads × 8, 8 heads × 7 out", _cora, "gat", 8, 8, 8),
        Row("rmat_gcn", "R-MAT, GCN 128 → 128 → 40", _rmat, "gcn", 128, goals={"dgl": 2}),
        Row("rmat_gat", "R-MAT, GAT 128 → 8×16 → 40", _rmat, "gat", 16, 8, 1, goals={"dgl": 6}),
        Row(
            "reddit_size_gcn",
            "Reddit's size, GCN 602 → 128 → 41",
            _reddit_size,
            "gcn",
            128,
            default=False,
            too_large=("GCNConv, edge index",),
        ),
    )
}


def run(session: Session) -> list[dict[str, Any]]:
    """One result a row: median milliseconds an epoch, ratios, and the largest difference of the first steps'
    losses.
    """
    rows = session.chosen(ROWS)
    if not rows:
        return []
    session.say("\nepochs: forward, cross entropy, backward, Adam")
    trained = [name for name in session.peers if any(peer == name for peer, _ in FORMULATIONS | _ON_HOST)]
    session.say(epoch_header(trained))
    for row in rows:
        try:
            task = row.task(session.request)
        except (OSError, ImportError) as error:
            session.note(f"{row.name} is left out: {error}")
            continue
        try:
            result = _measure(session, row, replace(task, device=session.device))
        except Exception as error:
            session.failed(error, f"{row.name} is left out")
            continue
        session.say(epoch_line(result, trained))
        session.add("epochs", result)
    return session.results.get("epochs", [])


def _measure(session: Session, row: Row, task: Task) -> dict[str, Any]:
    there = task if session.device == "cpu" else task.to(session.device)
    step = _numgraph_step(row, there, 0.0)
    losses = [step() for _ in range(CHECKED_STEPS)]
    ours = _numgraph_step(row, there, row.dropout)
    ours()
    memory = (measure if session.device == "cpu" else gpu).peak_memory(ours)
    compared: dict[str, Any] = {}
    for name in session.peers:
        try:
            found = _fastest(session, name, row, task, losses)
        except Disagreement as error:
            session.wrong(error)
            continue
        except Exception as error:
            session.failed(error, f"{row.name}: {name} is left out")
            continue
        if found is not None:
            formulation, theirs, gap = found
            facts = session.pair(ours, theirs).facts()
            at_goal = session.device == "cpu" and (session.at_goal_size() or row.task is not _rmat)
            goal = row.goals.get(name) if at_goal else None
            compared[name] = (
                facts | {"difference": gap, "formulation": formulation} | against(facts["ratio"], goal)
            )
    ms = [one["numgraph_ms"] for one in compared.values()]
    milliseconds = float(np.median(ms)) if ms else 1e3 * session.alone(ours)
    return {
        "row": row.name,
        "title": row.title,
        "nodes": task.graph.num_nodes,
        "edges": task.graph.num_edges,
        "numgraph_ms": milliseconds,
        "losses": losses,
        "graph_bytes": _graph_bytes(task.graph),
        "features_bytes": task.features.nbytes,
        "step_bytes": memory,  # the highest growth during a numgraph step: activations, gradients, scratch
        "peers": compared,
    }


def _graph_bytes(g: Graph) -> int:
    arrays = [
        g.src,
        g.dst,
        *(
            getattr(rows, name)
            for rows in (g.in_edges, g.out_edges)
            for name in ("indptr", "indices", "edge_ids")
        ),
    ]
    return sum(array.nbytes for array in arrays)


def _fastest(
    session: Session, peer: str, row: Row, task: Task, losses: list[float]
) -> tuple[str, Step, float] | None:
    """Name, step and difference in loss of the peer's fastest formulation; None if it has no such model. All
    of them must agree.
    """
    best: tuple[float, str, Step, float] | None = None
    start = _model(row, task, row.dropout).state_dict()
    for formulation, make in (FORMULATIONS | _ON_HOST).get((peer, row.model), {}).items():
        if formulation in row.too_large:
            continue
        checked = make(row, task, 0.0, start, LR, WEIGHT_DECAY)
        theirs = [checked() for _ in range(CHECKED_STEPS)]
        gap = difference(row.name, f"{peer} ({formulation})", [np.array(losses)], [np.array(theirs)])
        step = make(row, task, row.dropout, start, LR, WEIGHT_DECAY)
        step()
        seconds = measure.median_time(step, 3, 1.0, session.timer)
        if best is None or seconds < best[0]:
            best = seconds, formulation, step, gap
    return best and best[1:]


def _model(row: Row, task: Task, dropout: float) -> Any:
    widths = task.features.shape[1], row.hidden, task.classes
    if row.model == "gcn":
        return nn.GCN(*widths, dropout=dropout, rng=0)
    return nn.GAT(*widths, heads=row.heads, out_heads=row.out_heads, dropout=dropout, rng=0)


def _numgraph_step(row: Row, task: Task, dropout: float) -> Step:
    model = _model(row, task, dropout).to(task.graph.device)
    optimizer = optim.Adam(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)

    def step() -> float:
        with Tape() as tape:
            loss = cross_entropy(model(task.graph, task.read), task.labels, task.mask)
        optimizer.step(tape.gradient(loss, optimizer.parameters))
        return float(loss)

    return step


_ON_HOST = {
    ("cpu", model): {
        "numgraph": lambda row, task, dropout, start, lr, weight_decay: _numgraph_step(row, task, dropout)
    }
    for model in ("gcn", "gat")
}
"""numgraph on the host beside the device: the task's own arrays are there."""
