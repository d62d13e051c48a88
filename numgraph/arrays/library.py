"""What numgraph asks of a library of arrays. What stands in the class are NumPy's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Library:
    """A library of arrays: NumPy, and what others do differently. One with an autodiff of its own carries a
    walk by ``propagate``.
    """

    name = "NumPy"
    has_autodiff = False
    """Whether derivatives are the library's own; else numgraph's tape records."""

    moving = ""
    """What to do about arrays that are on another device than the graph, if it is said otherwise than for
    NumPy and CuPy.
    """

    fetching = "get()"
    """The method that copies an array of the device to the host."""

    structure = "make it outside of the function that is traced, which may close over it"
    dense = "use the library's own function of that kind"
    """What to do about an array that is traced and has no numbers yet, where one of the structure is read,
    and in a dense function.
    """

    def owns(self, kind: type) -> bool:
        """Whether arrays of a type are this library's."""
        return True

    def namespace(self, x: Any) -> Any:
        """The module, numpy or cupy, that makes arrays where x is."""
        return np

    def device(self, x: Any) -> str:
        """ "cpu" or "cuda": where an array is."""
        return "cpu" if self.namespace(x) is np else "cuda"

    def adopted(self, x: Any) -> Any:
        """The array as CuPy's, of the same memory, if it is on the device; else as it is."""
        return x

    def uniform(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """Random float32 numbers in [0, 1), where the library's arrays are."""
        return rng.random(shape, np.float32)

    def dtype(self, x: Any) -> np.dtype[Any]:
        """The dtype of an array as NumPy names it."""
        found: np.dtype[Any] = x.dtype
        return found

    def fits(self, x: Any, device: str) -> bool:
        """Whether an array is of the commonest kind, and on a device: ``taken`` would return it as it is."""
        return False

    def taken(self, op: str, what: str, x: Any) -> Any:
        """The array as a walk may read it, an array of NumPy too where others are the library's; or an error
        in the library's terms.
        """
        return x

    def settled(self, x: Any, dtypes: Sequence[np.dtype[Any]]) -> Any:
        """A captured array; where its dtype is one that gives way to others, in the dtype that it takes
        beside fields of these.
        """
        return x

    def plain(self, x: Any) -> Any:
        """NumPy's or CuPy's array of the same memory, detached; None where there are no numbers yet, as while
        a compiler traces.
        """
        return x

    def constant(self, array: Any) -> Any:
        """An array of NumPy or CuPy as one of the library, of the same memory where that is possible."""
        return array

    def detached(self, x: Any) -> Any:
        """The array without its derivative."""
        return x

    def cast(self, x: Any, dtype: Any) -> Any:
        """The array in a dtype that NumPy names; itself if it has it."""
        return x if x.dtype == dtype else x.astype(dtype)

    def sum(self, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
        """Σ over axes."""
        return x.sum(axis=axes, keepdims=keepdims)

    def take(self, x: Any, ids: np.ndarray) -> Any:
        """Rows of an array by ids that are in range."""
        return x[ids]

    def concatenated(self, parts: Sequence[Any], axis: int = 0) -> Any:
        """Arrays one after the other along an axis."""
        return np.concatenate(list(parts), axis)

    def entries(self, x: Any, index: tuple[Any, ...]) -> Any:
        """Entries of axes by slices and tuples of numbers, of which there is one at most."""
        return x[tuple([list(item) if isinstance(item, tuple) else item for item in index])]

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """x where the condition holds, else y."""
        return np.where(condition, x, y)

    def in_message(self, function: Any, operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What a function of the library is in a message, where one of its operands is a symbol."""
        raise NotImplementedError

    def method(self, symbol: Any, name: str) -> Any:
        """A method that arrays of the library have, of a message's symbol among them; None if it has no
        such.
        """
        return None

    def kept(
        self, op: str, rng: Any, shape: tuple[int, ...], p: float, like: Any, fill: Callable[..., Any]
    ) -> Any:
        """A boolean array, True with probability 1 − p. ``fill(key, shape, p)`` makes NumPy's from a key of
        64 random bits.
        """
        raise NotImplementedError

    def propagate(self, walk: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run a walk (propagate.Walk) so that the library differentiates it by ``walk.gradients``."""
        raise NotImplementedError
