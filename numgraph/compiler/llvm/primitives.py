"""Functions of generated kernels, each told by its type and the instructions that it is compiled to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.extending import _Intrinsic
from numba.core.typing.templates import infer, infer_global, make_intrinsic_template


def primitive(definition: Callable[..., Any]) -> Any:
    """``numba.extending.intrinsic``: from (typing context, types) to a signature and what builds the
    instructions.

    Numba's own looks at every call that it types whether its targets define something new, which is a tenth
    of a kernel's compilation. Here only at the first one with operands of these types."""
    made = _Intrinsic(definition.__name__, definition)
    template = make_intrinsic_template(made, definition, definition.__name__)
    first = template.generic

    def generic(own: Any, args: Any, kws: Any) -> Any:
        known = own._impl_cache.get((own.context, args, tuple(kws.items())))
        return first(own, args, kws) if known is None else known

    template.generic = generic
    infer(template)
    infer_global(made, types.Function(template))
    return made
