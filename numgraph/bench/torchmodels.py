"""The models of the epochs' table in DGL and in PyG, with numgraph's initial parameters: their own layers,
Adam fused where torch has it.

A formulation takes (row, task, dropout, start, lr, weight_decay) and gives a step; start is the state of
numgraph's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Formulation = Callable[..., Callable[[], float]]


def _training(
    task: Any, layers: Sequence[Any], forward: Callable[[Any], Any], lr: float, weight_decay: float
) -> Callable[[], float]:
    import torch

    x, labels, rows = (
        _tensor(task, array) for array in (task.features, np.asarray(task.labels), np.flatnonzero(task.mask))
    )
    targets = labels[rows]
    parameters = [parameter for layer in layers for parameter in layer.to(task.device).parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(x)[rows], targets)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _tensor(task: Any, array: np.ndarray) -> Any:
    """On the device that the task is measured on."""
    import torch

    return torch.from_numpy(array).to(task.device)


def _set(parameter: Any, value: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(parameter.shape))


def _stack(
    layers: Sequence[Callable[[Any], Any]], activation: Callable[[Any], Any], dropout: float
) -> Callable[[Any], Any]:
    """numgraph's stack: dropout before every layer, the activation between."""
    import torch

    def forward(x: Any) -> Any:
        for i, layer in enumerate(layers):
            x = x if i == 0 else activation(x)
            x = layer(torch.nn.functional.dropout(x, dropout) if dropout else x)
        return x

    return forward


def _widths(row: Any, task: Any) -> list[tuple[int, int]]:
    inner = row.hidden * row.heads
    return [(task.features.shape[1], row.hidden), (inner, task.classes)]


# DGL


def _dgl_graph(task: Any) -> Any:
    from numgraph.bench.peers import DGL

    return DGL().prepare(task.graph)


def _dgl_gcn(
    row: Any, task: Any, dropout: float, start: Mapping[str, np.ndarray], lr: float, weight_decay: float
) -> Callable[[], float]:
    import torch
    from dgl.nn import GraphConv

    graph = _dgl_graph(task)
    layers = [GraphConv(*pair, norm="both") for pair in _widths(row, task)]
    for i, layer in enumerate(layers):
        _set(layer.weight, start[f"layers.{i}.weight"])
        _set(layer.bias, start[f"layers.{i}.bias"])
    calls = [lambda x, layer=layer: layer(graph, x) for layer in layers]
    return _training(task, layers, _stack(calls, torch.relu, dropout), lr, weight_decay)


def _dgl_gat(
    row: Any, task: Any, dropout: float, start: Mapping[str, np.ndarray], lr: float, weight_decay: float
) -> Callable[[], float]:
    import torch
    from dgl.nn import GATConv

    graph = _dgl_graph(task)
    layers = []
    for i, (pair, heads) in enumerate(zip(_widths(row, task), (row.heads, row.out_heads))):
        layer = GATConv(*pair, heads, attn_drop=dropout, bias=True)
        _set(layer.fc.weight, start[f"layers.{i}.weight"].T)
        _set(layer.attn_l, start[f"layers.{i}.attention_src"])
        _set(layer.attn_r, start[f"layers.{i}.attention_dst"])
        bias = start[f"layers.{i}.bias"]
        _set(layer.bias, np.tile(bias, layer.bias.numel() // bias.size))
        layers.append(layer)
    calls = [lambda x: layers[0](graph, x).flatten(1), lambda x: layers[1](graph, x).mean(1)]
    return _training(task, layers, _stack(calls, torch.nn.functional.elu, dropout), lr, weight_decay)


# PyG


def _norms(task: Any) -> np.ndarray:
    """[num_edges] (d_u d_v)^-½: computed once, as PyG's ``cached=True`` does."""
    g = task.graph
    found: np.ndarray = (
        1 / np.sqrt(g.out_degrees()[g.src] * g.in_degrees()[g.dst].astype(np.float64))
    ).astype(np.float32)
    return found


def _pyg_gcn(edges: Callable[[Any], tuple[Any, Any]]) -> Formulation:
    def make(
        row: Any, task: Any, dropout: float, start: Mapping[str, np.ndarray], lr: float, weight_decay: float
    ) -> Callable[[], float]:
        import torch
        from torch_geometric.nn import GCNConv

        index, weight = edges(task)
        layers = [GCNConv(*pair, normalize=False, add_self_loops=False) for pair in _widths(row, task)]
        for i, layer in enumerate(layers):
            _set(layer.lin.weight, start[f"layers.{i}.weight"].T)
            _set(layer.bias, start[f"layers.{i}.bias"])
        calls = [lambda x, layer=layer: layer(x, index, weight) for layer in layers]
        return _training(task, layers, _stack(calls, torch.relu, dropout), lr, weight_decay)

    return make


def _edge_index(task: Any) -> tuple[Any, Any]:
    ids = np.stack([np.asarray(task.graph.src, np.int64), np.asarray(task.graph.dst, np.int64)])
    return _tensor(task, ids), _tensor(task, _norms(task))


def _adjacency(task: Any) -> tuple[Any, Any]:
    """The transposed adjacency as torch CSR matrix with the norms inside, which PyG's layers take in place of
    an edge index.
    """
    from numgraph.bench.peers import TorchCSR

    g, rows = task.graph, task.graph.in_edges
    return TorchCSR().matrix(rows, _norms(task)[np.asarray(rows.edge_ids)], (g.num_nodes, g.num_nodes)).to(
        task.device
    ), None


def _pyg_gat(
    row: Any, task: Any, dropout: float, start: Mapping[str, np.ndarray], lr: float, weight_decay: float
) -> Callable[[], float]:
    import torch
    from torch_geometric.nn import GATConv

    index, _ = _edge_index(task)
    layers = []
    for i, (pair, heads) in enumerate(zip(_widths(row, task), (row.heads, row.out_heads))):
        layer = GATConv(*pair, heads, concat=i == 0, dropout=dropout, add_self_loops=False)
        _set(layer.lin.weight, start[f"layers.{i}.weight"].T)
        _set(layer.att_src, start[f"layers.{i}.attention_src"])
        _set(layer.att_dst, start[f"layers.{i}.attention_dst"])
        _set(layer.bias, start[f"layers.{i}.bias"])
        layers.append(layer)
    calls = [lambda x, layer=layer: layer(x, index) for layer in layers]
    return _training(task, layers, _stack(calls, torch.nn.functional.elu, dropout), lr, weight_decay)


FORMULATIONS: dict[tuple[str, str], dict[str, Formulation]] = {
    ("dgl", "gcn"): {"GraphConv": _dgl_gcn},
    ("dgl", "gat"): {"GATConv": _dgl_gat},
    ("pyg", "gcn"): {
        "GCNConv, edge index": _pyg_gcn(_edge_index),
        "GCNConv, torch CSR": _pyg_gcn(_adjacency),
    },
    ("pyg", "gat"): {"GATConv, edge index": _pyg_gat},
}
"""(peer, model) → name → formulation."""
