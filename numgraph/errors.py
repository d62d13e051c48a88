"""One wording for every error: the operation, what is wrong with which value, and what to do about it.

Each function builds an exception for the caller to raise, so that the traceback ends in the caller's line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def _text(op: str, problem: str, fix: str) -> str:
    return f"{op}: {problem}; {fix}" if fix else f"{op}: {problem}"


def bad_value(op: str, problem: str, fix: str = "") -> ValueError:
    """A value or shape that the operation cannot take: ``bad_value("Graph", "src[3] is 7, num_src is 5", "ids run from 0 to 4")``."""
    return ValueError(_text(op, problem, fix))


def bad_type(op: str, problem: str, fix: str = "") -> TypeError:
    """A type or dtype that the operation cannot take."""
    return TypeError(_text(op, problem, fix))


def bad_index(op: str, problem: str, fix: str = "") -> IndexError:
    """An id outside its range."""
    return IndexError(_text(op, problem, fix))


def unknown(op: str, what: str, name: object, known: Iterable[object]) -> ValueError:
    """A name that is not in a table: says which names are, and which one is near."""
    known = list(known)
    return ValueError(_text(op, f"unknown {what} {name!r}", f"choose from {', '.join(map(repr, known))}{did_you_mean(name, known)}"))


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """A question with the name that is near to one that is unknown; nothing where none is."""
    names = {str(one).lower(): str(one) for one in known}
    near = difflib.get_close_matches(str(getattr(name, "__name__", name)).lower(), names, 1)
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


def unsound(op: str, problem: str) -> RuntimeError:
    """What must never happen: a kernel or an array that would make a walk leave its memory. Nothing has been run."""
    return RuntimeError(_text(op, problem, "nothing was computed; this is a fault of numgraph: please report the message with its shapes"))
