"""What Tensor has from tables: its operators, and what its methods say of themselves. They are NumPy's, so
there is a sentence and an example of each, and their parameters, which many share.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from numgraph.autodiff.rules import RULES
from numgraph.expressions.operators import Operators

PLAIN = frozenset((np.ndarray, float, int, bool))
"""Types of operands that have nothing of their own to say about a Tensor."""
_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "pow": np.power,
    "matmul": np.matmul,
}
_COMPARISONS = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
_PARAMETERS = {
    "axis": "the axis, or a tuple of axes where there may be several; None: the whole array",
    "keepdims": "axes that are reduced stay, with length 1",
    "ddof": "what is taken off the number of values that is divided by",
    "dtype": "of the result; no gradient flows through integers and bools",
    "offset": "how far above the main diagonal",
    "axis1": "the first axis",
    "axis2": "the second axis",
    "min": "the lower bound, or None",
    "max": "the upper bound, or None",
    "other": "an array or Tensor",
    "shape": "the new lengths, one by one or as a tuple; one may be -1",
    "axes": "the new order, one by one or as a tuple; none: reversed",
    "indices": "integers, of any shape",
    "repeats": "how often each entry is there, a number or one for each",
    "kind": "the algorithm of np.sort",
    "v": "an array of what is looked for",
    "side": '"left" or "right" of equal entries',
    "decimals": "how many digits are kept",
    "index": "of the entry, where there are several",
}
_CONSTANT = "array, without a gradient"
_METHODS = {
    "all": ("Whether all entries are nonzero.", _CONSTANT, "bool(x.all())", "True"),
    "any": ("Whether any entry is nonzero.", _CONSTANT, "bool(x.any())", "True"),
    "argmax": ("Where the largest entry is.", _CONSTANT, "x.argmax(1)", "[1, 1]"),
    "argmin": ("Where the smallest entry is.", _CONSTANT, "x.argmin(1)", "[0, 0]"),
    "argsort": ("The order of the entries along an axis.", _CONSTANT, "(-x).argsort()", "[[1, 0], [1, 0]]"),
    "astype": ("The numbers in another dtype.", "Tensor", "x.astype(np.float32).dtype", "dtype('float32')"),
    "clip": ("The numbers within bounds.", "Tensor", "x.clip(2, 3)", "[[2.0, 2.0], [3.0, 3.0]]"),
    "copy": ("The numbers in an array of their own.", "Tensor", "x.copy().shape", "(2, 2)"),
    "cumprod": ("The products of the entries so far.", "Tensor", "x.cumprod(0)", "[[1.0, 2.0], [3.0, 8.0]]"),
    "cumsum": ("The sums of the entries so far.", "Tensor", "x.cumsum(0)", "[[1.0, 2.0], [4.0, 6.0]]"),
    "detach": (
        "The numbers as a constant to derivatives, without a copy, on every tape.",
        "Tensor",
        "ng.grad(lambda x: x * x.detach())(3.0)",
        "3.0",
    ),
    "diagonal": ("A diagonal.", "Tensor", "x.diagonal()", "[1.0, 4.0]"),
    "dot": ("The product of vectors and matrices.", "Tensor", "x.dot(np.ones(2))", "[3.0, 7.0]"),
    "flatten": ("All entries along one axis.", "Tensor", "x.flatten()", "[1.0, 2.0, 3.0, 4.0]"),
    "item": ("One entry as a number of Python's, detached.", "float", "x.item(1, 0)", "3.0"),
    "max": (
        "The largest entry; of several each has its share of the gradient.",
        "Tensor",
        "x.max(0)",
        "[3.0, 4.0]",
    ),
    "mean": ("The mean of the entries.", "Tensor", "x.mean(0)", "[2.0, 3.0]"),
    "min": (
        "The smallest entry; of several each has its share of the gradient.",
        "Tensor",
        "x.min(0)",
        "[1.0, 2.0]",
    ),
    "nonzero": (
        "Where entries are nonzero, an array for each axis.",
        "tuple of arrays",
        "len(x.nonzero())",
        "2",
    ),
    "numpy": ("The array itself, detached, on the host.", "array", "x.numpy()", "[[1.0, 2.0], [3.0, 4.0]]"),
    "prod": ("The product of the entries.", "Tensor", "x.prod(0)", "[3.0, 8.0]"),
    "ravel": ("All entries along one axis.", "Tensor", "x.ravel()", "[1.0, 2.0, 3.0, 4.0]"),
    "repeat": ("Each entry several times.", "Tensor", "x.repeat(2, 0).shape", "(4, 2)"),
    "reshape": ("The entries in another shape.", "Tensor", "x.reshape(-1)", "[1.0, 2.0, 3.0, 4.0]"),
    "round": (
        "The nearest numbers of so many digits; the gradient is 0.",
        "Tensor",
        "(x / 3).round(1)[0]",
        "[0.3, 0.7]",
    ),
    "searchsorted": (
        "Where entries would be put into a sorted Tensor.",
        _CONSTANT,
        "x[0].searchsorted([1.5])",
        "[1]",
    ),
    "squeeze": ("Without axes of length 1.", "Tensor", "x[None].squeeze(0).shape", "(2, 2)"),
    "std": ("The standard deviation of the entries.", "Tensor", "x.std(0)", "[1.0, 1.0]"),
    "sum": ("The sum of the entries.", "Tensor", "x.sum(0)", "[4.0, 6.0]"),
    "swapaxes": ("Two axes interchanged.", "Tensor", "x.swapaxes(0, 1)", "[[1.0, 3.0], [2.0, 4.0]]"),
    "take": ("Entries along an axis, by their places.", "Tensor", "x.take([1], 1)", "[[2.0], [4.0]]"),
    "tolist": (
        "The numbers in lists, detached.",
        "list, or one number",
        "x.tolist()",
        "[[1.0, 2.0], [3.0, 4.0]]",
    ),
    "trace": ("The sum of a diagonal.", "Tensor", "x.trace()", "5.0"),
    "transpose": ("The axes in another order.", "Tensor", "x.transpose()", "[[1.0, 3.0], [2.0, 4.0]]"),
    "var": ("The variance of the entries.", "Tensor", "x.var(0)", "[1.0, 1.0]"),
}
"""By name: what it gives, as what, and an example with its value."""
_PLAIN = ("True", "dtype(", "(")


def describe(kind: type) -> None:
    """Give the methods of Tensor, ``kind``, their docstrings."""
    for name, (sentence, returns, example, value) in _METHODS.items():
        method = getattr(kind, name)
        code = method.__code__  # inspect.signature would take a millisecond of the import
        names = code.co_varnames[1 : code.co_argcount + bool(code.co_flags & inspect.CO_VARARGS)]
        parameters = "\n".join(f"{one} : {_PARAMETERS[one]}" for one in names)
        taken = f"Parameters\n----------\n{parameters}\n\n" if names else ""
        listed = "" if value.startswith(_PLAIN) or name in ("item", "nonzero", "tolist") else ".tolist()"
        method.__doc__ = (
            f"{sentence}\n\n{taken}Returns\n-------\n{returns}\n\nExamples\n--------\n"
            ">>> import numpy as np, numgraph as ng\n>>> x = ng.Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]))\n"
            f">>> {example}{listed}\n{value}"
        )


def operate(kind: type) -> None:
    """Give Tensor, ``kind``, its operators."""
    for name, ufunc in _ARITHMETIC.items():
        for before in ("", "i", "r"):
            full = f"__{before}{name}__"
            setattr(kind, full, _operator(kind, full, ufunc, before == "r"))
    for name, ufunc in _COMPARISONS.items():
        setattr(kind, f"__{name}__", _operator(kind, f"__{name}__", ufunc))


def _operator(kind: type, name: str, ufunc: Any, reflected: bool = False) -> Callable[[Any, Any], Any]:
    """An operator between Tensors, arrays and numbers by its rule, past NumPy's dispatch, which looks after
    everything else.
    """
    general = getattr(Operators, name)

    def operate(self: Any, other: Any) -> Any:
        if type(other) in PLAIN or isinstance(other, kind):
            return RULES[ufunc](other, self) if reflected else RULES[ufunc](self, other)
        return general(self, other)

    return operate
