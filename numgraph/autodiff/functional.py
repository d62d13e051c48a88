"""Derivatives of functions: ``grad``, ``value_and_grad``, ``jacobian``; and what has none: ``no_grad``,
``detach``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import Token
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

import numpy as np

from numgraph.arrays.inputs import as_array, kind_of
from numgraph.arrays.typed import Array
from numgraph.autodiff.tape import Tape
from numgraph.autodiff.tensor import TAPES, Off, Parameter, Tensor, unwrap
from numgraph.autodiff.typed import Gradient, ValueAndGradient
from numgraph.errors import bad_type, bad_value, shown
from numgraph.expressions.elementary import detached
from numgraph.expressions.expr import is_float

Function = Callable[..., Any]
P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Function)


@overload
def grad(
    function: Callable[Concatenate[Any, P], Any], argnums: Literal[0] = ..., has_aux: Literal[False] = ...
) -> Gradient[P]: ...
@overload
def grad(function: Function, argnums: int, has_aux: Literal[False] = ...) -> Gradient[...]: ...
@overload
def grad(
    function: Function, argnums: Sequence[int], has_aux: Literal[False] = ...
) -> Callable[..., tuple[Array, ...]]: ...
@overload
def grad(
    function: Callable[Concatenate[Any, P], tuple[Any, T]],
    argnums: Literal[0] = ...,
    *,
    has_aux: Literal[True],
) -> Callable[Concatenate[Any, P], tuple[Array, T]]: ...
@overload
def grad(
    function: Callable[..., tuple[Any, T]], argnums: int, has_aux: Literal[True]
) -> Callable[..., tuple[Array, T]]: ...
@overload
def grad(
    function: Callable[..., tuple[Any, T]], argnums: Sequence[int], has_aux: Literal[True]
) -> Callable[..., tuple[tuple[Array, ...], T]]: ...
def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a function whose value is a scalar, as a function of the same arguments.

    Parameters
    ----------
    function : of arrays, or of lists, tuples and dicts of them, in any depth;
        or of a Module, whose parameters are meant.
    argnums : which argument the gradient is by; a tuple of several gives a tuple.
    has_aux : the function returns (value, anything else); then the gradient comes with the latter.

    Returns
    -------
    A function whose value has the form of the argument: an array for an array, a dict for a dict; for a
    Module a dict of the arrays by the parameters' names. Zeros for what the value does not depend on. Inside
    of another ``grad`` or a tape its values are Tensors, which are recorded there.

    Raises
    ------
    ValueError : the value is no scalar (``jacobian`` takes those)
    TypeError : the argument is not of floating-point numbers

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> ng.grad(ng.grad(lambda x: x**3))(2.0)
    array(12.)
    >>> ng.grad(lambda p, x: np.sum(p["w"] * x) + p["b"])({"w": np.ones(2), "b": 0.0}, np.array([3.0, 4.0]))
    {'w': array([3., 4.]), 'b': array(1.)}
    """
    both = _of_both("grad", function, argnums, has_aux)

    @functools.wraps(function, updated=())
    def gradient(*args: Any, **options: Any) -> Any:
        value, gradients = both(*args, **options)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


@overload
def value_and_grad(
    function: Callable[Concatenate[Any, P], Any], argnums: Literal[0] = ..., has_aux: Literal[False] = ...
) -> ValueAndGradient[P]: ...
@overload
def value_and_grad(
    function: Function, argnums: int, has_aux: Literal[False] = ...
) -> ValueAndGradient[...]: ...
@overload
def value_and_grad(
    function: Function, argnums: Sequence[int], has_aux: Literal[False] = ...
) -> Callable[..., tuple[Array, tuple[Array, ...]]]: ...
@overload
def value_and_grad(
    function: Callable[Concatenate[Any, P], tuple[Any, T]],
    argnums: Literal[0] = ...,
    *,
    has_aux: Literal[True],
) -> Callable[Concatenate[Any, P], tuple[tuple[Array, T], Array]]: ...
@overload
def value_and_grad(
    function: Callable[..., tuple[Any, T]], argnums: int, has_aux: Literal[True]
) -> Callable[..., tuple[tuple[Array, T], Array]]: ...
@overload
def value_and_grad(
    function: Callable[..., tuple[Any, T]], argnums: Sequence[int], has_aux: Literal[True]
) -> Callable[..., tuple[tuple[Array, T], tuple[Array, ...]]]: ...
def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The value and the gradient of a function whose value is a scalar, as a function of the same arguments.

    Parameters
    ----------
    function, argnums, has_aux : as of ``grad``

    Returns
    -------
    A function that returns (value, gradient), with ``has_aux`` ((value, anything else), gradient).

    Raises
    ------
    ValueError, TypeError : as of ``grad``

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> dot = ng.value_and_grad(lambda x, y: np.sum(x * y), argnums=(0, 1))
    >>> dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (array(11.), (array([3., 4.]), array([1., 2.])))
    """
    return _of_both("value_and_grad", function, argnums, has_aux)


def _of_both(
    op: str, function: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool
) -> Callable[..., Any]:
    """``value_and_grad`` under the name that errors have."""

    @functools.wraps(function, updated=())
    def evaluated(*args: Any, **options: Any) -> Any:
        tape, places, y, aux = _recorded(op, function, argnums, has_aux, args, options)
        y = _value(op, y)
        if np.shape(y) != ():
            problem = f"the function's value has shape {list(np.shape(y))}"
            raise bad_value(op, problem, "reduce it with .sum() or .mean(), or take ng.jacobian")
        gradients = _gradients(tape, y, places.watched, None)
        value = (_released(y), _released(aux)) if has_aux else _released(y)
        return value, places.filled(gradients)

    return evaluated


@overload
def jacobian(
    function: Callable[Concatenate[Any, P], Any], argnums: Literal[0] = ..., has_aux: Literal[False] = ...
) -> Gradient[P]: ...
@overload
def jacobian(function: Function, argnums: int, has_aux: Literal[False] = ...) -> Gradient[...]: ...
@overload
def jacobian(
    function: Function, argnums: Sequence[int], has_aux: Literal[False] = ...
) -> Callable[..., tuple[Array, ...]]: ...
@overload
def jacobian(
    function: Callable[Concatenate[Any, P], tuple[Any, T]],
    argnums: Literal[0] = ...,
    *,
    has_aux: Literal[True],
) -> Callable[Concatenate[Any, P], tuple[Array, T]]: ...
@overload
def jacobian(
    function: Callable[..., tuple[Any, T]], argnums: int, has_aux: Literal[True]
) -> Callable[..., tuple[Array, T]]: ...
@overload
def jacobian(
    function: Callable[..., tuple[Any, T]], argnums: Sequence[int], has_aux: Literal[True]
) -> Callable[..., tuple[tuple[Array, ...], T]]: ...
def jacobian(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The Jacobian of a function of arrays, row by row of its value, as a function of the same arguments.

    Parameters
    ----------
    function, argnums, has_aux : as of ``grad``, of a value of any shape

    Returns
    -------
    A function whose value has the form of the argument, with arrays [*shape of the value, *shape of the
    array]. It costs a replay for each number of the value. ``ng.jacobian(ng.grad(f))`` is the Hessian.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.jacobian(lambda x: x**2)(np.array([1.0, 3.0]))
    array([[2., 0.],
           [0., 6.]])
    """

    @functools.wraps(function, updated=())
    def evaluated(*args: Any, **options: Any) -> Any:
        tape, places, y, aux = _recorded("jacobian", function, argnums, has_aux, args, options)
        y = _value("jacobian", y)
        shape, rows = np.shape(y), []
        for place in range(int(np.prod(shape))):
            seed = np.zeros(shape, y.dtype)
            seed.reshape(-1)[place] = 1
            rows.append(_gradients(tape, y, places.watched, seed))
        found = []
        for i, x in enumerate(places.watched):
            parts = [row[i] for row in rows]
            stacked = np.stack(parts) if parts else np.zeros((0, *x.shape), x.dtype)
            found.append(np.reshape(stacked, (*shape, *x.shape)))
        return (places.filled(found), _released(aux)) if has_aux else places.filled(found)

    return evaluated


class no_grad:
    """Within it nothing is recorded: ``with ng.no_grad():``, or ``@ng.no_grad()`` before a function. It holds
    for the calling thread.

    What is computed there is a constant to every tape, and what is computed from Parameters is plain arrays,
    as without a tape.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> with ng.Tape() as tape:
    ...     x = tape.watch(np.array([1.0, 2.0]))
    ...     with ng.no_grad():
    ...         scale = np.max(x)
    ...     loss = np.sum(x / scale)
    >>> tape.gradient(loss, x)
    array([0.5, 0.5])
    """

    def __init__(self) -> None:
        self._tokens: list[Token[tuple[Any, ...]]] = []

    def __enter__(self) -> None:
        self._tokens.append(TAPES.set(Off()))

    def __exit__(self, *error: object) -> None:
        TAPES.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            problem = (
                f"{function.__name__} is a generator, whose body runs when it is gone over, not when it is "
                "called"
            )
            raise bad_type(
                "no_grad",
                problem,
                "write `with ng.no_grad():` in it, around what is computed between two yields",
            )

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            with no_grad():
                return function(*args, **options)

        @functools.wraps(function)
        async def wait(*args: Any, **options: Any) -> Any:
            with no_grad():
                return await function(*args, **options)

        return cast(F, wait if inspect.iscoroutinefunction(function) else call)


@overload
def detach(x: Tensor) -> Tensor: ...
@overload
def detach(x: T) -> T: ...
def detach(x: Any) -> Any:
    """The same numbers as a constant to derivatives, without a copy.

    Parameters
    ----------
    x : a Tensor; an array, which is returned as it is; lists, tuples and dicts of such;
        or in a message a field: ``lambda u: u.x * ng.detach(u.x)``

    Returns
    -------
    The same in the same form.

    Examples
    --------
    >>> import numpy as np, numgraph as ng
    >>> ng.grad(lambda x: np.sum(x * ng.detach(x)))(np.array([1.0, 2.0]))
    array([1., 2.])
    """
    if isinstance(x, Mapping | list | tuple):
        return _mapped(detach, x)
    if isinstance(x, Tensor):
        return x.detach()
    return detached(x) if hasattr(type(x), "__elementary__") else x


# --- arguments and their arrays -----------------------------------------------------------------------------


def _mapped(f: Callable[[Any], Any], tree: Any) -> Any:
    """f of each leaf of lists, tuples (named ones too) and dicts."""
    if isinstance(tree, Mapping):
        return {key: f(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(f, tree))
    return type(tree)(map(f, tree)) if isinstance(tree, list | tuple) else f(tree)


class _Places:
    """The arrays of the arguments that are differentiated, as Tensors that a tape watches."""

    def __init__(self, op: str, tape: Tape, argnums: int | Sequence[int], count: int) -> None:
        self.op, self.tape, self.several = op, tape, np.ndim(argnums) > 0
        self.watched: list[Tensor] = []
        self.numbers = []
        for number in argnums if self.several else [argnums]:  # type: ignore[union-attr]
            if (
                not isinstance(number, int | np.integer)
                or isinstance(number, bool)
                or not -count <= number < count
            ):
                problem = f"argnums is {shown(argnums)}, and {count} arguments are given by position"
                raise bad_value(op, problem, "name positions from 0; what is given by its name is a constant")
            self.numbers.append(int(number) % count)
        if len(set(self.numbers)) < len(self.numbers):
            raise bad_value(op, f"argnums is {shown(argnums)}", "name each position once")
        self.forms: list[Any] = []

    def take(self, args: Sequence[Any]) -> list[Any]:
        """The arguments to call the function with."""
        given = list(args)
        for number in self.numbers:
            given[number], form = self._leaf(given[number], f"argument {number}")
            self.forms.append(form)
        return given

    def _leaf(self, x: Any, name: str) -> tuple[Any, Any]:
        """What stands for x in the call, and its form with numbers of Tensors in place of arrays."""
        if callable(getattr(x, "named_parameters", None)):
            return x, {key: self._watch(parameter) for key, parameter in x.named_parameters()}
        if isinstance(x, Mapping | list | tuple):
            items = x.items() if isinstance(x, Mapping) else enumerate(x)
            pairs = [self._leaf(value, f"{name}[{key!r}]") for key, value in items]
            made, forms = iter([one for one, _ in pairs]), iter([form for _, form in pairs])
            return _mapped(lambda _: next(made), x), _mapped(lambda _: next(forms), x)
        if isinstance(x, Parameter):
            return x, self._watch(x)
        tensor: Any = (
            np.reshape(x, x.shape) if isinstance(x, Tensor) else Tensor(as_array(self.op, name, x).view())
        )
        if tensor.dtype.kind in "biuc":
            raise bad_type(
                self.op,
                f"{name} has dtype {tensor.dtype}, which has no gradient",
                "give floats, as in 2.0 or x.astype(np.float64)",
            )
        return tensor, self._watch(tensor)

    def _watch(self, tensor: Tensor) -> int:
        self.watched.append(self.tape.watch(tensor))
        return len(self.watched) - 1

    def filled(self, gradients: Sequence[Any]) -> Any:
        """The gradients in the form of the arguments."""

        def fill(form: Any) -> Any:
            return gradients[form] if isinstance(form, int) else _mapped(fill, form)

        found = tuple(map(fill, self.forms))
        return found if self.several else found[0]


def _recorded(
    op: str,
    function: Callable[..., Any],
    argnums: int | Sequence[int],
    has_aux: bool,
    args: Sequence[Any],
    options: Mapping[str, Any],
) -> tuple[Tape, _Places, Any, Any]:
    tape = Tape(persistent=op == "jacobian")
    places = _Places(op, tape, argnums, len(args))
    given = places.take(args)
    with tape:
        y = function(*given, **options)
    if not has_aux:
        return tape, places, y, None
    if not isinstance(y, tuple) or len(y) != 2:
        raise bad_type(
            op,
            f"the function's value is {kind_of(y)}",
            "with has_aux=True return a pair, (value, anything else)",
        )
    return tape, places, *y


def _value(op: str, y: Any) -> Any:
    """The function's value as a Tensor or an array of real numbers: of anything else a gradient of zeros
    would say nothing.
    """
    if isinstance(y, Tensor):
        return y
    if y is None or isinstance(y, str | list | tuple | Mapping | Iterator | Awaitable):
        raise bad_type(
            op,
            f"the function's value is {kind_of(y)}",
            "return one array; has_aux=True takes (value, anything else)",
        )
    y = as_array(op, "the function's value", y)
    if y.dtype.kind not in "biu" and not is_float(y.dtype):
        raise bad_type(op, f"the function's value has dtype {y.dtype}", "return real numbers")
    return y


def _gradients(tape: Tape, y: Any, watched: list[Tensor], seed: Any) -> list[Any]:
    """Zeros by what y was not computed from."""
    if not isinstance(y, Tensor) or not tape.reached(y):
        return [np.zeros_like(x.data) for x in watched]
    found: list[Any] = tape.gradient(y, watched, seed)
    return found


def _released(x: Any) -> Any:
    """Arrays where no tape is active that could go on with Tensors."""
    if TAPES.get():
        return x
    return _mapped(_released, x) if isinstance(x, Mapping | list | tuple) else unwrap(x)
