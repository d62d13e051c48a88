"""One wording for every error: the operation, what is wrong with which value, and what to do about it.

Each function builds an exception for the caller to raise, so that the traceback ends in the caller's line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

_LONGEST = 1200
"""Characters of a problem; of longer ones the end says too little."""
_MOST = 40
"""Names that are listed."""


def _text(op: str, problem: str, fix: str) -> str:
    """One line, whatever is in the values."""
    if len(problem) > _LONGEST:
        problem = f"{problem[:_LONGEST]} … ({len(problem) - _LONGEST} more characters)"
    return re.sub(r"\s*\n\s*", " ", f"{op}: {problem}; {fix}" if fix else f"{op}: {problem}")


def shown(value: Any) -> str:
    """A value as a message shows it: as one writes it if that is short, else by its type and shape, or its
    beginning.
    """
    text = repr(value)
    if len(text) <= 80 and "\n" not in text:
        return text
    shape = getattr(value, "shape", None)
    what = f" of shape {list(shape)}" if isinstance(shape, tuple) else f" that begins with {text[:60]}"
    return f"{'an' if type(value).__name__[0].lower() in 'aeiou' else 'a'} {type(value).__name__}{what}"


def bad_value(op: str, problem: str, fix: str = "") -> ValueError:
    """A value or shape that the operation cannot take:
    ``bad_value("Graph", "src[3] is 7, num_src is 5", "ids run from 0 to 4")``.
    """
    return ValueError(_text(op, problem, fix))


def bad_type(op: str, problem: str, fix: str = "") -> TypeError:
    """A type or dtype that the operation cannot take."""
    return TypeError(_text(op, problem, fix))


def out_of_range(op: str, problem: str, fix: str = "") -> OverflowError:
    """A number that a dtype cannot hold."""
    return OverflowError(_text(op, problem, fix))


def bad_index(op: str, problem: str, fix: str = "") -> IndexError:
    """An id outside its range."""
    return IndexError(_text(op, problem, fix))


def unknown(op: str, what: str, name: object, known: Iterable[object]) -> ValueError:
    """A name that is not in a table: says which names are, and which one is near."""
    known = list(known)
    named = getattr(name, "__name__", f"of type {type(name).__name__}")
    given = shown(name) if isinstance(name, str | int | float | None) else f"{named}, which is no string"
    listed = ", ".join(map(repr, known[:_MOST])) + (
        f", … ({len(known) - _MOST} more)" if len(known) > _MOST else ""
    )
    return ValueError(
        _text(op, f"unknown {what} {given}", f"choose from {listed}{did_you_mean(name, known)}")
    )


def check_name(op: str, what: str, name: Any, known: Collection[object]) -> None:
    """An error if `name` is none of the known ones; of another type than a string as well."""
    if not isinstance(name, str) or name not in known:
        raise unknown(op, what, name, known)


_SYNONYMS = {
    "add": "sum",
    "avg": "mean",
    "average": "mean",
    "amax": "max",
    "amin": "min",
    "src": "u",
    "dst": "v",
    "edge": "e",
}
_SYNONYMS |= {
    "in": "dst",
    "out": "src",
    "v": "dst",
    "u": "src",
    "sym": "both",
    "left": "both",
    "gpu": "cuda",
    "multiply": "mul",
}
"""What other libraries call things, or what functions are called."""


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """A question with the name that is near to one that is unknown; nothing where none is."""
    names = {str(one).lower(): str(one) for one in known}
    asked = str(getattr(name, "__name__", name)).lower()
    near = [_SYNONYMS[asked]] if _SYNONYMS.get(asked) in names else difflib.get_close_matches(asked, names, 1)
    return f", did you mean {names[near[0]]!r}?" if near else ""


def no_memory(op: str, problem: str, fix: str) -> MemoryError:
    """A result that does not fit into memory."""
    return MemoryError(_text(op, problem, fix))


def missing(op: str, what: str, fix: str) -> ModuleNotFoundError:
    """An optional dependency or a file that is not here."""
    return ModuleNotFoundError(_text(op, what, fix))


def no_device(op: str, what: str, fix: str) -> OSError:
    """A device that is not here, or that the system gives no access to."""
    return OSError(_text(op, what, fix))


def not_possible(op: str, problem: str, fix: str) -> NotImplementedError:
    """What another library can do and numgraph's part in it cannot."""
    return NotImplementedError(_text(op, problem, fix))


def unsound(op: str, problem: str) -> RuntimeError:
    """What must never happen: a kernel or an array that would make a walk leave its memory. Nothing has been
    run.
    """
    return RuntimeError(
        _text(
            op,
            problem,
            "nothing was computed; this is a fault of numgraph: please report the message with its shapes",
        )
    )


def not_finite(op: str, problem: str, found: str) -> FloatingPointError:
    """A number that is NaN or infinite where a check looks."""
    return FloatingPointError(_text(op, problem, found))


FOREIGN = {
    "ndata": "fields are passed to the call: update_all(g, message, reduce, u={'x': x})",
    "edata": "fields are passed to the call: update_all(g, message, reduce, e={'w': w})",
    "srcdata": "fields are passed to the call, as u={'x': x}",
    "dstdata": "fields are passed to the call, as v={'x': x}",
    "x": "features are passed to the call, as u={'x': x}; a Dataset has them as .features",
    "y": "labels are arrays of their own; a Dataset and a batch have them as .labels",
    "edge_attr": "features of edges are passed to the call, as e={'w': w}",
    "edge_index": "its rows are .src and .dst of the Graph",
    "update_all": "write numgraph.update_all(g, message, reduce, u={'x': x})",
    "apply_edges": "write numgraph.apply_edges(g, message, u={'x': x})",
    "attend": "write numgraph.attend(g, score, value, u={'x': x})",
    "edges": "their ends are .src and .dst",
    "nodes": "there are .num_nodes of them, numbered from 0",
    "number_of_nodes": "it is the property .num_nodes",
    "number_of_edges": "it is the property .num_edges",
    "num_edges": "they are its graph's, .graph.num_edges",
    "num_vertices": "it is the property .num_nodes",
    "adj": "rows of out-edges are .out_edges, of in-edges .in_edges",
    "adjacency_matrix": "rows of out-edges are .out_edges, of in-edges .in_edges",
    "cuda": "write .to('cuda')",
    "cpu": "write .to('cpu')",
    "local_scope": "a graph keeps no fields, so nothing is left behind",
    "fn": "a message is a function: lambda u, e: u.x * e.w",
    "function": "a message is a function: lambda u, e: u.x * e.w",
    "fit": "write numgraph.fit(model, dataset, optimizer, epochs=200)",
    "zero_grad": "there is nothing to clear: tape.gradient(loss, parameters) returns new gradients",
    "backward": "write tape.gradient(loss, parameters)",
    "grad": "tape.gradient(loss, inputs) returns the gradients",
    "requires_grad": "write tape.watch(array)",
    "requires_grad_": "write tape.watch(array)",
    "detach": "write ng.detach(x); the array without the tape is .data",
    "numpy": "the array is .data",
    "view": "write .reshape(shape)",
    "dim": "it is the property .ndim",
    "t": "it is the property .T",
    "unsqueeze": "write x[..., None] or np.expand_dims",
    "float": "write .astype(np.float32)",
    "double": "write .astype(np.float64)",
    "batch": "the number of each node's graph is .graph_ids of what numgraph.batch(graphs) returns",
    "ptr": "it is .node_offsets of what numgraph.batch(graphs) returns",
    "n_id": "the ids of its nodes are .nodes",
    "GraphConv": "DGL's is GCNConv(…, add_self_loops=False), PyG's SAGEConv(…, aggr='sum')",
    "MessagePassing": "a layer is a Module that calls numgraph.update_all(g, message, reduce, u={'x': x})",
    "ReLU": "it is a function, numgraph.relu(x)",
    "CrossEntropyLoss": "it is a function, numgraph.cross_entropy(logits, labels)",
    "global_add_pool": "write numgraph.readout(batch, x, 'sum')",
    "global_mean_pool": "write numgraph.readout(batch, x, 'mean')",
    "global_max_pool": "write numgraph.readout(batch, x, 'max')",
    "tensor": "arrays are NumPy's; tape.watch(array) returns one whose gradient is wanted",
    "from_networkx": "write numgraph.Graph.from_networkx(G)",
    "train_idx": "its masks are .train_mask, .val_mask and .test_mask",
}
"""Names that other libraries' objects have, and what is written here instead."""


def no_attribute(owner: str, name: str, known: Iterable[str] = ()) -> AttributeError:
    """A name that an object or module does not have: what to write instead, or the name that is near; private
    names have neither.
    """
    fix = (
        "" if name.startswith("_") else f"; {FOREIGN[name]}" if name in FOREIGN else did_you_mean(name, known)
    )
    return AttributeError(f"{owner} has no {name!r}{fix}")
