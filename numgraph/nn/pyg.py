"""Weights of PyG's layers and models in those of the same name here: which one is whose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from numgraph.arrays.inputs import kind_of
from numgraph.autodiff.tensor import Parameter
from numgraph.errors import bad_type, bad_value, shown
from numgraph.nn.edge import EdgeConv
from numgraph.nn.gat import GATConv, GATv2Conv
from numgraph.nn.gcn import GCNConv
from numgraph.nn.gin import GINConv, GINEConv
from numgraph.nn.hetero import HeteroConv, HGTConv
from numgraph.nn.linear import Linear, Sequential
from numgraph.nn.models import GAT, GCN, GIN, SAGE
from numgraph.nn.module import Module
from numgraph.nn.norm import BatchNorm, LayerNorm
from numgraph.nn.pna import PNAConv
from numgraph.nn.pooling import Set2Set
from numgraph.nn.propagation import SGConv
from numgraph.nn.rgcn import RGCNConv
from numgraph.nn.sage import SAGEConv
from numgraph.nn.transformer import TransformerConv


class Source(NamedTuple):
    """Where an array comes from: PyG's name of it (the first that is there), and a linear function of its
    elements.
    """

    names: tuple[str, ...]
    change: Callable[[np.ndarray], np.ndarray]


def load_pyg(module: Module, state: Mapping[str, Any]) -> Module:
    """Fill a layer or model, in place, from ``state_dict()`` of PyG's of the same name and options; returns
    it.

    Parameters
    ----------
    module : the layer or model, made with the options that docs/layers.md names beside PyG's
    state : names and tensors or arrays

    Returns
    -------
    the module

    Raises
    ------
    TypeError
        where the module is of a kind that PyG does not have
    ValueError
        where a name is missing or stands for nothing here, or a shape differs; nothing has changed then

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> conv = ng.nn.GCNConv(3, 2, norm="in", collapse_loops=True)
    >>> conv = ng.nn.load_pyg(conv, {"lin.weight": np.ones((2, 3)), "bias": np.zeros(2)})
    >>> conv.weight.shape
    (3, 2)
    """
    if not isinstance(state, Mapping):
        raise bad_type("load_pyg", f"the state is {kind_of(state)}", "pass what module.state_dict() gave")
    arrays = {name: _array(value) for name, value in state.items()}
    taken: set[str] = set()
    filled: dict[str, np.ndarray] = {}
    numbers: list[tuple[Any, str, float]] = []
    for name, owner, source in sources(module, arrays):
        theirs = next((one for one in source.names if one in arrays), None)
        if theirs is None:
            raise bad_value(
                "load_pyg",
                f"{source.names[0]} is not in the state, for {name}",
                "make the layer with PyG's options",
            )
        taken.add(theirs)
        changed = source.change(arrays[theirs])
        last = name.rpartition(".")[2]
        if last in _NUMBERS and not isinstance(getattr(owner, last), Parameter):
            numbers.append((owner, last, float(changed)))
        else:
            filled[name] = changed
    known = [arrays[name] for name in taken]
    over = [
        name
        for name in arrays
        if name not in taken and not name.endswith(_WITHOUT_PLACE) and "aggr_module." not in name
    ]
    extra = [name for name in over if not _is_one_of(arrays[name], known)]
    if extra:
        raise bad_value(
            "load_pyg",
            f"{', '.join(extra)} of the state stand for nothing here",
            "make the layer with PyG's options",
        )
    module.load_state_dict(filled)
    for owner, name, number in numbers:
        setattr(owner, name, number)
    return module


def sources(
    module: Module, theirs: Mapping[str, Any], ours: str = "", prefix: str = ""
) -> Iterator[tuple[str, Any, Source]]:
    """The name of each array of a module, what holds it, and its source. theirs: PyG's names; ours, prefix:
    what names begin with.
    """
    kind = next((one for one in type(module).__mro__ if one in _TABLES), None)
    if kind is None:
        raise bad_type(
            "load_pyg",
            f"module is {shown(module)}",
            f"PyG's names are known for {', '.join(k.__name__ for k in _TABLES)}",
        )
    for name, value in _TABLES[kind](module).items():
        if isinstance(value, _Inner):
            yield from _network(value.module, theirs, f"{ours}{name}.", f"{prefix}{value.name}.")
            continue
        names, change = value
        *path, last = name.split(".")
        owner: Any = module
        for step in path:
            owner = owner and _inside(owner, step)
        if owner and (last in _NUMBERS or _inside(owner, last) is not None):
            names = (names,) if isinstance(names, str) else names
            yield ours + name, owner, Source(tuple([prefix + one for one in names]), change)


def _inside(owner: Any, step: str) -> Any:
    if isinstance(owner, Mapping):
        return owner[step]
    return owner[int(step)] if step.isdigit() else getattr(owner, step)


_NUMBERS = ("eps", "delta", "mean_degree")
"""What a layer may hold as a number."""


class _Inner(NamedTuple):
    """A layer or network inside: the module here, and PyG's name of it."""

    module: Any
    name: str


def _network(f: Any, theirs: Mapping[str, Any], ours: str, prefix: str) -> Iterator[tuple[str, Any, Source]]:
    """A Linear or Sequential, beside torch's of the same steps or PyG's MLP, whose linear layers and norms
    are numbered each for itself.
    """
    if not isinstance(f, Sequential):
        if isinstance(f, Module):
            yield from sources(f, theirs, ours, prefix)
        return
    of_mlp = any(name.startswith(f"{prefix}lins.") for name in theirs)
    counts = {"lins": 0, "norms": 0}
    for i, step in enumerate(f.steps):
        if not isinstance(step, Module):
            continue
        place = f"{prefix}{i}."
        if of_mlp:
            group = "lins" if isinstance(step, Linear) else "norms"
            place = f"{prefix}{group}.{counts[group]}."
            counts[group] += 1
        yield from _network(step, theirs, f"{ours}steps.{i}.", place)


_WITHOUT_PLACE = ("num_batches_tracked", "lin_skip.weight", "lin_skip.bias")
"""What may be over, beside constants of aggregations: PyG counts batches, and keeps lin_skip without
root_weight.
"""


def _is_one_of(array: np.ndarray, known: list[np.ndarray]) -> bool:
    """Whether an array is there under another name: shared weights."""
    return any(np.array_equal(array, one) for one in known)


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _same(w: np.ndarray) -> np.ndarray:
    return w


def _turned(w: np.ndarray) -> np.ndarray:
    return w.T


def _first(w: np.ndarray) -> np.ndarray:
    found: np.ndarray = w[0]
    return found


def _linear(layer: Any) -> dict[str, Any]:
    return {"weight": ("weight", _turned), "bias": ("bias", _same)}


def _normalisation(layer: Any) -> dict[str, Any]:
    names = ("weight", "bias", *type(layer).buffers)
    return {name: ((f"module.{name}", name), _same) for name in names}


def _gcn(layer: Any) -> dict[str, Any]:
    return {"weight": ("lin.weight", _turned), "bias": ("bias", _same)}


def _sgc(layer: Any) -> dict[str, Any]:
    return {"weight": ("lin.weight", _turned), "bias": ("lin.bias", _same)}


def _sage(layer: Any) -> dict[str, Any]:
    return {
        "weight": (("lin_l.weight", "lin_rel.weight"), _turned),
        "weight_self": (("lin_r.weight", "lin_root.weight"), _turned),
        "bias": (("lin_l.bias", "lin_rel.bias"), _same),
        "pool.weight": ("lin.weight", _turned),
        "pool.bias": ("lin.bias", _same),
    }


def _attention(layer: Any) -> dict[str, Any]:
    return {
        "weight_edge": ("lin_edge.weight", _turned),
        "residual.weight": ("res.weight", _turned),
        "bias": ("bias", _same),
    }


def _gat(layer: Any) -> dict[str, Any]:
    vectors = {f"attention_{end}": (f"att_{end}", _first) for end in ("src", "dst", "edge")}
    weights = {
        "weight": (("lin.weight", "lin_src.weight"), _turned),
        "weight_dst": ("lin_dst.weight", _turned),
    }
    return weights | vectors | _attention(layer)


def _gatv2(layer: Any) -> dict[str, Any]:
    found = {"attention": ("att", _first)}
    for end, side in (("src", "l"), ("dst", "r")):
        found["weight" if end == "src" else "weight_dst"] = (f"lin_{side}.weight", _turned)
        found[f"bias_{end}"] = (f"lin_{side}.bias", _same)
    return found | _attention(layer)


def _transformer(layer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("query", "key", "value", "skip", "edge"):
        found |= {
            f"{name}.weight": (f"lin_{name}.weight", _turned),
            f"{name}.bias": (f"lin_{name}.bias", _same),
        }
    return found | {"gate.weight": ("lin_beta.weight", _turned)}


def _gin(layer: Any) -> dict[str, Any]:
    return {"f": _Inner(layer.f, "nn"), "eps": ("eps", _number)}


def _gine(layer: Any) -> dict[str, Any]:
    return _gin(layer) | {"edge.weight": ("lin.weight", _turned), "edge.bias": ("lin.bias", _same)}


def _rgcn(layer: Any) -> dict[str, Any]:
    named = {"bases": "weight", "coefficients": "comp", "weight_self": "root", "bias": "bias"}
    return {ours: (theirs, _same) for ours, theirs in named.items()}


def _edge(layer: Any) -> dict[str, Any]:
    if layer.f is not None:
        return {"f": _Inner(layer.f, "nn")}
    width = layer.theta.shape[0]
    parts = {"phi": slice(None, width), "theta": slice(width, None)}
    return {name: ("nn.0.weight", _columns(part)) for name, part in parts.items()} | {
        "bias": ("nn.0.bias", _same)
    }


def _columns(part: slice) -> Callable[[np.ndarray], np.ndarray]:
    return lambda w: w[:, part].T


def _pna(layer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "mix.weight": ("lin.weight", _turned),
        "mix.bias": ("lin.bias", _same),
        "delta": (f"{_MEANS}_log", _number),
    }
    found["mean_degree"] = (f"{_MEANS}_lin", _number)
    found |= {"edge.weight": ("edge_encoder.weight", _turned), "edge.bias": ("edge_encoder.bias", _same)}
    for i, tower in enumerate(layer.towers):
        width, before, after = tower.theta.shape[0], f"pre_nns.{i}.0", f"post_nns.{i}.0"
        for name, place, part in (
            ("phi.weight", before, slice(None, width)),
            ("theta", before, slice(width, 2 * width)),
            ("psi", before, slice(2 * width, None)),
            ("self_update", after, slice(None, width)),
            ("update.weight", after, slice(width, None)),
        ):
            found[f"towers.{i}.{name}"] = (f"{place}.weight", _columns(part))
        found |= {
            f"towers.{i}.phi.bias": (f"{before}.bias", _same),
            f"towers.{i}.update.bias": (f"{after}.bias", _same),
        }
    return found


def _hetero(layer: Any) -> dict[str, Any]:
    """PyG names relations by triples."""
    names = {
        key: relation if isinstance(relation, str) else "___".join(relation)
        for key, relation in zip(layer.convs, layer.relations)
    }
    return {f"convs.{key}": _Inner(conv, f"convs.<{names[key]}>") for key, conv in layer.convs.items()}


def _hgt(layer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in layer.in_features:
        for i, name in enumerate(("key", "query", "value")):
            rows = slice(i * layer.out_features, (i + 1) * layer.out_features)
            found[f"{name}.{kind}.weight"] = (f"kqv_lin.lins.{kind}.weight", _rows(rows, _turned))
            found[f"{name}.{kind}.bias"] = (f"kqv_lin.lins.{kind}.bias", _rows(rows, _same))
        found |= {
            f"out.{kind}.weight": (f"out_lin.lins.{kind}.weight", _turned),
            f"out.{kind}.bias": (f"out_lin.lins.{kind}.bias", _same),
        }
        found[f"skip.{kind}"] = (f"skip.{kind}", _same)
    for r, relation in enumerate(layer.edge_types):
        key = "__".join(relation)
        matrices = _of_relation(r, layer.heads, len(layer.edge_types))
        found |= {
            f"attention.{key}": ("k_rel.weight", matrices),
            f"message.{key}": ("v_rel.weight", matrices),
        }
        found[f"prior.{key}"] = (f"p_rel.{key}", _first)
    return found


def _rows(part: slice, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda w: change(w[part])


def _of_relation(r: int, heads: int, relations: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda w: w.reshape(heads, relations, *w.shape[1:])[:, r]


_MEANS = "aggr_module.avg_deg"


def _number(w: np.ndarray) -> np.ndarray:
    return w.reshape(())


def _set2set(layer: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for ours, theirs in (("of_query", "ih"), ("of_state", "hh")):
        found |= {
            f"{ours}.weight": (f"lstm.weight_{theirs}_l0", _turned),
            f"{ours}.bias": (f"lstm.bias_{theirs}_l0", _same),
        }
    return found


def _model(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"layers.{i}": _Inner(layer, f"convs.{i}") for i, layer in enumerate(model.layers)
    }
    found |= {f"norms.{i}": _Inner(norm, f"norms.{i}") for i, norm in enumerate(model.norms)}
    return found | ({} if model.out is None else {"out": _Inner(model.out, "lin")})


_TABLES: dict[type, Callable[[Any], dict[str, Any]]] = {
    Linear: _linear,
    BatchNorm: _normalisation,
    LayerNorm: _normalisation,
    GCNConv: _gcn,
    SGConv: _sgc,
    SAGEConv: _sage,
    GATConv: _gat,
    GATv2Conv: _gatv2,
    TransformerConv: _transformer,
    GINConv: _gin,
    GINEConv: _gine,
    RGCNConv: _rgcn,
    EdgeConv: _edge,
    PNAConv: _pna,
    HGTConv: _hgt,
    HeteroConv: _hetero,
    Set2Set: _set2set,
    **dict.fromkeys((GCN, SAGE, GAT, GIN), _model),
}
"""By kind of layer: the names of its arrays, and PyG's with the change; or a network inside."""
