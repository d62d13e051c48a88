"""A device without hardware: arrays that behave as CuPy's do towards NumPy, on memory of the host. Stricter
than CuPy where they differ.

``DeviceArray`` takes part in NumPy's two protocols as ``cupy.ndarray`` does (cupy/_core/core.pyx): a function
or ufunc is found by its name, among the names and with the parameters of cupy_api.txt, which was read from
CuPy 14.2.0 by introspection; what is not there is NotImplemented. Conversion to a NumPy array raises, and so
does any host array beside a device array. Where CuPy is known to differ:

* CuPy takes host arrays and lists as indices and copies them silently; here host arrays raise (lists, which
  are small, may be).
* CuPy wraps indices out of range round; here they raise IndexError as NumPy's do.
* CuPy's arrays are never read-only, so its ``flags`` have no ``writeable``; here there is none either, and
  writing into a broadcast raises.
* Reductions give arrays of no axes, never scalars; ``float``, ``int``, ``bool``, ``item``, ``tolist`` and
  ``get`` copy to the host explicitly, and are counted. There is no ``__index__``.
* ``ufunc.reduce`` is there for add and multiply alone. ``add.at`` takes no tuple of indices through NumPy's
  protocol, so here it is only a function of the library, and not for int64.
* The bits of ``cupy.random`` are others than those of NumPy's generators, here they are Philox's of NumPy.

What it cannot show: types that CuPy's kernels refuse, float atomics whose order changes the last bits,
streams, memory, speed. Therefore the same tests run on hardware: with NUMGRAPH_TEST_DEVICE=hardware
(`make test-gpu`) everything here is CuPy itself."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import driver
import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from numgraph.arrays import cupy as cupy_arrays
from numgraph.arrays import devices
from numgraph.arrays.lookup import CUPY
from numgraph.compiler import cuda
from numgraph.compiler.cpu import running as cpu
from numgraph.compiler.cuda import launching

HARDWARE = os.environ.get("NUMGRAPH_TEST_DEVICE") == "hardware"
double_only = pytest.mark.skipif(
    HARDWARE, reason="it tests the double of a device, and this run is on hardware"
)

_LINES = (Path(__file__).parent / "cupy_api.txt").read_text("utf-8").splitlines()
TITLE = _LINES[0]
UFUNCS = frozenset(_LINES[1].split()[1:])
FUNCTIONS: dict[str, inspect.Signature] = {}
for _line in _LINES[2:]:
    _scope: dict[str, Any] = {}
    exec(f"def {_line}: pass", _scope)
    FUNCTIONS[_line.partition("(")[0]] = inspect.signature(_scope[_line.partition("(")[0]])

FACTS = {
    "shape",
    "ndim",
    "size",
    "result_type",
    "iscomplexobj",
    "may_share_memory",
    "shares_memory",
    "array_repr",
    "array_str",
    "array2string",
}
"""Functions that give plain Python or text."""
REDUCIBLE = {"add", "multiply"}
ADDABLE = {"int32", "uint32", "uint64", "float16", "float32", "float64"}
SCALARS = (bool, int, float, complex, np.generic)

synchronised: list[str] = []
"""Every explicit copy to the host, by the name of what asked for it."""


def _refuse_host(value: Any, where: str) -> None:
    if isinstance(value, np.ndarray):
        raise TypeError(f"{where}: Unsupported type {type(value)}")
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_host(item, where)


def unwrapped(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, list | tuple):
        return type(value)(unwrapped(item) for item in value)
    return value


def wrapped(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, list | tuple):
        return (
            type(value)(wrapped(item) for item in value)
            if type(value) in (list, tuple)
            else tuple(wrapped(item) for item in value)
        )
    return value


class DeviceArray(NDArrayOperatorsMixin):
    """What cupy.ndarray is to NumPy."""

    __array_priority__ = 100

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise AssertionError("nobody may read this memory as a device's")

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
            "array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name, out = ufunc.__name__, options.get("out", ())
        if name not in UFUNCS or method not in ("__call__", "reduce"):
            return NotImplemented
        for x in (*inputs, *out):
            if (
                not isinstance(x, DeviceArray | np.ndarray)
                and type(x) not in SCALARS
                and not isinstance(x, np.generic)
            ):
                return NotImplemented
        _refuse_host((*inputs, *out), name)
        if method == "__call__" and set(options) - {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {options}")
        if method == "reduce" and name not in REDUCIBLE:
            raise NotImplementedError(f"`{name}.{method}` is not supported yet")
        if name == "erf" and inputs[0].dtype == np.float16:
            inputs = (inputs[0].astype(np.float64),)  # it has no kernel for float32 that takes these
        result = getattr(ufunc, method)(
            *unwrapped(inputs), **{key: unwrapped(value) for key, value in options.items()}
        )
        return out[0] if out else wrapped(result)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = function.__name__
        if name not in FUNCTIONS or any(not issubclass(kind, DeviceArray | np.ndarray) for kind in types):
            return NotImplemented
        FUNCTIONS[name].bind(*args, **options)
        if name != "einsum":  # which copies host arrays silently
            _refuse_host((*args, *options.values()), name)
        if name.endswith("_like") and options.get("shape") == ():
            options = {**options, "shape": None}  # CuPy takes no axes for no shape given
        if name == "where" and not isinstance(args[0], DeviceArray):
            raise AttributeError("cupy.where wants a condition that is an array")
        result = function(*unwrapped(args), **{key: unwrapped(value) for key, value in options.items()})
        return result if name in FACTS else wrapped(result)

    # What CuPy's arrays are

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    base = property(lambda self: None if self._host.base is None else self)
    T = property(lambda self: wrapped(self._host.T))
    data = property(lambda self: SimpleNamespace(ptr=driver.pointer_of(self._host)))

    @property
    def flags(self) -> Any:
        flags = self._host.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=self._host.base is None
        )

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(self._host)

    def __getitem__(self, index: Any) -> Any:
        _refuse_host(index, "getitem")
        return wrapped(self._host[unwrapped(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        _refuse_host((index, value), "setitem")
        if not isinstance(value, (DeviceArray, *SCALARS)):
            raise TypeError(f"setitem: Unsupported type {type(value)}")
        self._host[unwrapped(index)] = unwrapped(value)

    def get(self) -> np.ndarray:
        synchronised.append("get")
        return self._host.copy()


def _explicit(name: str, function: Any) -> Any:
    def convert(self: DeviceArray) -> Any:
        synchronised.append(name)
        return function(self._host)

    return convert


def _method(name: str) -> Any:
    def call(self: DeviceArray, *args: Any, **options: Any) -> Any:
        _refuse_host((*args, *options.values()), name)
        return wrapped(
            getattr(self._host, name)(
                *unwrapped(args), **{key: unwrapped(value) for key, value in options.items()}
            )
        )

    return call


for _name, _function in {
    "__float__": float,
    "__int__": int,
    "__bool__": bool,
    "item": np.ndarray.item,
    "tolist": np.ndarray.tolist,
}.items():
    setattr(DeviceArray, _name, _explicit(_name, _function))
for _name in (
    *(
        "all",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "astype",
        "clip",
        "copy",
        "cumsum",
        "dot",
        "fill",
        "flatten",
        "max",
        "mean",
        "min",
    ),
    *(
        "nonzero",
        "prod",
        "ravel",
        "repeat",
        "reshape",
        "round",
        "squeeze",
        "std",
        "sum",
        "swapaxes",
        "take",
        "transpose",
        "var",
        "view",
    ),
):
    setattr(DeviceArray, _name, _method(_name))


# The library


def asarray(value: Any, dtype: Any = None) -> DeviceArray:
    """A copy of a host array, as cupy.asarray makes it."""
    if isinstance(value, DeviceArray):
        return value if dtype is None else value.astype(dtype, copy=False)
    return DeviceArray(np.array(unwrapped(value), dtype))


def _maker(name: str) -> Any:
    def make(*args: Any, **options: Any) -> DeviceArray:
        _refuse_host((*args, *options.values()), name)
        made = getattr(np, name)(*args, **options)
        if name == "empty":
            made.reshape(-1).view(np.uint8)[...] = 0xA5  # what no kernel writes is no plausible result
        return DeviceArray(made)

    return make


def _generator(seed: int) -> Any:
    made = np.random.Generator(np.random.Philox(seed))
    return SimpleNamespace(
        random=lambda size=None, dtype=np.float64: DeviceArray(np.asarray(made.random(size, dtype)))
    )


def _add_at(a: DeviceArray, index: Any, b: Any) -> None:
    _refuse_host((a, index, b), "add.at")
    if a.dtype.name not in ADDABLE:
        raise TypeError(f"scatter_add only supports {', '.join(sorted(ADDABLE))} as data type")
    np.add.at(a._host, unwrapped(index), unwrapped(b))


def library() -> Any:
    """What stands for the module cupy."""
    return SimpleNamespace(
        ndarray=DeviceArray,
        asarray=asarray,
        **{name: _maker(name) for name in ("zeros", "ones", "empty", "full", "arange", "eye")},
        **{name: getattr(np, name) for name in ("float16", "float32", "float64", "int32", "int64", "bool_")},
        random=SimpleNamespace(Philox4x3210=lambda seed: seed, Generator=_generator),
        cuda=driver.cuda(),
        add=SimpleNamespace(at=_add_at),
    )


def execute(graph: Any, outputs: Any, fields: Any) -> list[Any]:
    """The walk of a graph on the device: computed by the kernels of the host, from and to arrays of the
    device alone.
    """
    assert graph.device == "cuda"
    for name, array in fields.items():
        assert isinstance(array, DeviceArray), f"field {name} is a {type(array)}"
    return wrapped(
        cpu.execute(graph.to("cpu"), outputs, {name: array._host for name, array in fields.items()})
    )


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """While a test runs, "cuda" can be used, and its library is this file's; on hardware it is CuPy."""
    if HARDWARE:
        return devices.cupy()
    made = library()
    monkeypatch.setattr(cupy_arrays, "module", lambda: made)
    monkeypatch.setattr(CUPY, "kinds", {DeviceArray})
    monkeypatch.setattr(devices, "_problem", lambda: None)
    if not launching.simulating():  # where the kernels are the device's own
        monkeypatch.setattr(cuda, "execute", execute)
    synchronised.clear()
    return made


if HARDWARE:
    _cupy = devices.cupy()
    DeviceArray, asarray = _cupy.ndarray, _cupy.asarray  # type: ignore[misc]


class _There:
    """numpy for code of a test that runs on the device: what makes an array from numbers makes it there, as
    with ``import cupy as np``.
    """

    def __getattr__(self, name: str) -> Any:
        return (getattr(_cupy, name) if HARDWARE and name in _MAKERS else _MAKERS.get(name)) or getattr(
            np, name
        )


_MAKERS = {name: _maker(name) for name in ("zeros", "ones", "empty", "full", "arange", "eye")} | {
    "array": asarray,
    "asarray": asarray,
}


def there(value: Any) -> Any:
    """Host arrays, also inside lists, tuples and dicts, as device arrays; a function with its constants and
    its ``np`` on the device.
    """
    if isinstance(value, np.ndarray):
        return asarray(value)
    if isinstance(value, list | tuple):
        return type(value)(there(item) for item in value)
    if isinstance(value, dict):
        return {key: there(item) for key, item in value.items()}
    if isinstance(value, FunctionType) and value.__module__.startswith("test_"):
        globals_ = {name: _There() if item is np else item for name, item in value.__globals__.items()}
        used = {
            name: there(globals_[name])
            for name in value.__code__.co_names
            if isinstance(globals_.get(name), np.ndarray)
        }
        closure = tuple(CellType(there(cell.cell_contents)) for cell in value.__closure__ or ())
        return FunctionType(
            value.__code__, globals_ | used, value.__name__, there(value.__defaults__), closure
        )
    return value


def back(value: Any) -> Any:
    """Device arrays, also inside lists and tuples, as host arrays; anything else must not be an array of the
    host.
    """
    if isinstance(value, list | tuple):
        return [back(item) for item in value]
    assert isinstance(value, DeviceArray), f"a {type(value)} came back from the device"
    return value.get() if HARDWARE else value._host
