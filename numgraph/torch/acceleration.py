"""``accelerate``: PyG's layers in a model, swapped in place for ones that run on numgraph."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, TypeVar, overload
from typing import Literal as Is

import torch

from numgraph.arrays.inputs import kind_of
from numgraph.errors import bad_type, missing

Model = TypeVar("Model", bound=torch.nn.Module)
_log = logging.getLogger("numgraph.torch")


class Report(NamedTuple):
    """What ``accelerate`` did: names of layers and their classes, and of those that stay PyG's the
    reasons.
    """

    accelerated: dict[str, str]
    left: dict[str, str]


@overload
def accelerate(model: Model, *, report: Is[False] = False) -> Model: ...
@overload
def accelerate(model: Model, *, report: Is[True]) -> tuple[Model, Report]: ...
def accelerate(model: Any, *, report: bool = False) -> Any:
    """A PyG model whose ``GCNConv``, ``SAGEConv``, ``GATConv``, ``GATv2Conv`` and ``GINConv`` run on numgraph
    from now on.

    The layers stay the objects that they are: parameters, buffers, names in ``state_dict``, hooks, optimisers
    and ``isinstance`` with PyG's class are as before, and so are results, gradients and masks of dropout.
    What numgraph does not take stays PyG's: other layers, classes derived from these,
    ``flow="target_to_source"``, aggregations other than sums, means, extremes and products; a warning of the
    logger "numgraph.torch" names it. Sparse matrices in place of an edge_index, and arrays on a device, go to
    PyG's code call by call.

    Parameters
    ----------
    model : a torch Module that holds PyG's layers, or one of them; it is changed in place
    report : return what was done, too, in place of the warning

    Returns
    -------
    The model; with ``report`` it and a ``Report``.

    Notes
    -----
    The graph of an edge_index is made at its first use and serves as long as the tensor lives and is not
    changed in place: pass the same tensor at every step. Changes behind torch's back (by ``.numpy()`` or
    ``.data``) are not seen. ``restore`` takes it back.

    Raises
    ------
    TypeError : model is no torch Module
    ModuleNotFoundError : PyG is not installed

    Examples
    --------
    >>> import torch, numgraph.torch
    >>> from torch_geometric.nn import GCN
    >>> model = numgraph.torch.accelerate(GCN(16, 32, num_layers=2, out_channels=4))
    >>> model(torch.ones(3, 16), torch.tensor([[0, 1], [1, 2]])).shape
    torch.Size([3, 4])
    """
    pyg = _pyg("accelerate", model)
    found = Report({}, {})
    for name, layer in model.named_modules():
        if not isinstance(layer, pyg.pyg.MessagePassing):
            continue
        reason = pyg.refused(layer)
        if reason is None:
            layer.__class__ = pyg.CLASSES.get(type(layer), type(layer))
            found.accelerated[name] = type(layer).__name__
        else:
            found.left[name] = f"{type(layer).__name__}: {reason}"
    if report:
        return model, found
    if found.left:
        lines = [f"{name or 'the model'} ({reason})" for name, reason in found.left.items()]
        _log.warning("accelerate: these layers stay PyG's: %s", "; ".join(lines))
    return model


def restore(model: Model) -> Model:
    """The model with PyG's own layers again: takes ``accelerate`` back, in place."""
    pyg = _pyg("restore", model)
    own = {ours: theirs for theirs, ours in pyg.CLASSES.items()}
    for layer in model.modules():
        if type(layer) in own:
            layer.__class__ = own[type(layer)]
    return model


def _pyg(op: str, model: Any) -> Any:
    """The module of swapped classes."""
    if not isinstance(model, torch.nn.Module):
        raise bad_type(op, f"model is {kind_of(model)}", "pass a torch.nn.Module that holds PyG's layers")
    try:
        from numgraph.torch import pyg
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch_geometric":
            raise
        raise missing(op, "PyG is not installed", "pip install torch-geometric") from error
    return pyg
