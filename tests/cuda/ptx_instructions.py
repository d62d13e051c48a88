"""What the instructions of PTX do to registers and memory (see ptx.py). Each is a row of EXECUTE, by the name
before the first dot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

NUMPY = {
    f"{letter}{bits}": f"{'u' if letter == 'b' else 'i' if letter == 's' else letter}{bits // 8}"
    for letter in "bus"
    for bits in (8, 16, 32, 64)
}
NUMPY |= {"pred": "?", "f16": "f2", "f32": "f4", "f64": "f8"}
"""NumPy's type for PTX's."""


class Stuck(Exception):
    """What a device would do wrong, or not at all."""


def _plain(compute: Callable[..., Any]) -> Callable[..., None]:
    """name.type d, a, b, …: all operands are of one type."""

    def execute(machine: Any, instruction: Any, threads: Any) -> None:
        kind = instruction.kind
        into, *sources = instruction.operands
        values = [machine.read(source, kind.replace("f16x2", "b32"), threads) for source in sources]
        if kind == "f16x2":
            values = [value[:, None].view(np.float16) for value in values]
        result = (
            compute(*values, modifiers=instruction.modifiers)
            if compute in KNOW_MODIFIERS
            else compute(*values)
        )
        result = np.asarray(result).astype(values[0].dtype, copy=False)
        machine.write(into, result.view(np.uint32)[:, 0] if kind == "f16x2" else result, threads)

    return execute


# --- floating point ---


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b and what rounding lost of it (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """a · b and what rounding lost of it (Dekker, with Veltkamp's splitting)."""

    def split(x: Any) -> tuple[Any, Any]:
        c = x * 134217729.0
        high = c - (c - x)
        return high, x - high

    p = a * b
    (a1, a2), (b1, b2) = split(a), split(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def _directed(s: Any, e: Any, modifiers: list[str]) -> Any:
    """s + e as float32, in the direction that the modifiers give."""
    near = s.astype(np.float32)
    above = (near.astype(np.float64) > s) | ((near.astype(np.float64) == s) & (e < 0))
    below = (near.astype(np.float64) < s) | ((near.astype(np.float64) == s) & (e > 0))
    down, up = np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))
    if "rm" in modifiers or "rz" in modifiers:
        near = np.where(above & (("rm" in modifiers) | (s > 0)), down, near)
    if "rp" in modifiers or "rz" in modifiers:
        near = np.where(below & (("rp" in modifiers) | (s < 0)), up, near)
    return near


def _fma(a: Any, b: Any, c: Any, modifiers: list[str]) -> Any:
    if a.dtype == np.float32:
        return _directed(*_two_sum(a.astype(np.float64) * b, c.astype(np.float64)), modifiers)
    if "rn" not in modifiers:
        raise KeyError("a directed rounding in float64")
    p, lost = _two_product(a, b)
    s, e = _two_sum(p, c)
    exact = s + (e + lost)
    exact = np.where((exact == 0) | ~np.isfinite(exact), s, exact)  # a zero has its sign from the sum
    tiny = np.abs(p) < 1e-280  # here the product's parts underflow
    return np.where(tiny, (a.astype(np.longdouble) * b + c).astype(np.float64), exact)


def _add(a: Any, b: Any, modifiers: list[str]) -> Any:
    if "cc" in modifiers:
        raise KeyError("cc")
    if a.dtype == np.float32 and {"rm", "rp", "rz"} & set(modifiers):
        return _directed(*_two_sum(a.astype(np.float64), b.astype(np.float64)), modifiers)
    return a + b


def _mul(a: Any, b: Any, modifiers: list[str]) -> Any:
    if a.dtype.kind == "f" or "lo" in modifiers:
        return a * b
    if "hi" not in modifiers or a.itemsize > 4:
        raise KeyError("mul")
    return (a.astype(f"{a.dtype.kind}8") * b) >> 32


def _div(a: Any, b: Any) -> Any:
    """That of integers is rounded towards zero."""
    if a.dtype.kind == "f":
        return np.true_divide(a, b)
    assert (b != 0).all(), "an integer is divided by zero"
    return a // b + ((a % b != 0) & ((a < 0) != (b < 0)))


def _shift(machine: Any, instruction: Any, threads: Any) -> None:
    """shl and shr: the distance is a u32, and all bits go where it is long."""
    into, source, distance = instruction.operands
    a, by = machine.read(source, instruction.kind, threads), machine.read(distance, "u32", threads)
    width = 8 * a.itemsize
    if instruction.name == "shl":
        result = np.where(by < width, a << np.minimum(by, width - 1).astype(a.dtype), 0)
    else:
        result = a >> np.minimum(by, width - 1).astype(a.dtype)
        result = result if a.dtype.kind == "i" else np.where(by < width, result, 0)
    machine.write(into, result.astype(a.dtype), threads)


def _reciprocal(a: Any) -> Any:
    return 1 / a


def _copysign(a: Any, b: Any) -> Any:
    """copysign d, a, b: the sign of a, the size of b."""
    return np.copysign(b, a)


KNOW_MODIFIERS = {_fma, _add, _mul}


# --- comparisons and selections ---

COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
COMPARE |= {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}


def _setp(machine: Any, instruction: Any, threads: Any) -> None:
    into, a, b = instruction.operands
    x, y = machine.read(a, instruction.kind, threads), machine.read(b, instruction.kind, threads)
    name = instruction.modifiers[0]
    unordered = (x != x) | (y != y)
    if name in ("num", "nan"):
        result = unordered if name == "nan" else ~unordered
    elif name in COMPARE:
        result = COMPARE[name](x, y) & ~unordered if x.dtype.kind == "f" else COMPARE[name](x, y)
    else:
        result = COMPARE[name.removesuffix("u")](x, y) | unordered
    machine.write(into, result, threads)


def _selp(machine: Any, instruction: Any, threads: Any) -> None:
    into, a, b, condition = instruction.operands
    x, y = machine.read(a, instruction.kind, threads), machine.read(b, instruction.kind, threads)
    machine.write(into, np.where(machine.read(condition, "pred", threads), x, y), threads)


def _not(a: Any) -> Any:
    return ~a


# --- moves and conversions ---


def _names(operand: str) -> list[str]:
    return [name.strip() for name in operand.strip("{}").split(",")]


def _mov(machine: Any, instruction: Any, threads: Any) -> None:
    """mov d, a; with a vector on one side its parts are the bits of the other, lowest first."""
    into, source = instruction.operands
    kind = instruction.kind
    if source.startswith("{"):
        part = f"b{int(kind[1:]) // len(_names(source))}"
        value = np.stack([machine.read(name, part, threads) for name in _names(source)], axis=1).view(
            NUMPY[kind]
        )[:, 0]
        machine.write(into, value, threads)
    elif into.startswith("{"):
        value = machine.read(source, kind, threads)[:, None].view(
            NUMPY[f"b{int(kind[1:]) // len(_names(into))}"]
        )
        for number, name in enumerate(_names(into)):
            machine.write(name, np.ascontiguousarray(value[:, number]), threads)
    else:
        machine.write(into, machine.read(source, kind, threads), threads)


WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _cvt(machine: Any, instruction: Any, threads: Any) -> None:
    into, source = instruction.operands
    *modifiers, to, of = instruction.modifiers
    value, target = machine.read(source, of, threads), np.dtype(NUMPY[to])
    rounding = next((WHOLE[name] for name in modifiers if name in WHOLE), None)
    if rounding is not None:
        value = rounding(value)
    if target.kind == "f":
        result = value.astype(target)
        if "sat" in modifiers:
            result = np.where(result == result, np.clip(result, 0, 1), 0).astype(target)
    elif value.dtype.kind == "f":
        limits = np.iinfo(target)
        inside = np.clip(np.where(value == value, value, 0).astype(np.longdouble), limits.min, limits.max)
        result = inside.astype(target)
    else:
        result = value.astype(target)
    machine.write(into, result, threads)


def _mul_wide(machine: Any, instruction: Any, threads: Any) -> None:
    if "wide" not in instruction.modifiers:
        _plain(_mul)(machine, instruction, threads)
        return
    into, *sources = instruction.operands
    wide = f"{instruction.kind[0].replace('s', 'i')}{int(instruction.kind[1:]) // 4}"  # twice the bits
    a, b = (machine.read(source, instruction.kind, threads).astype(wide) for source in sources)
    machine.write(into, a * b, threads)


# --- whole numbers of several words: the carry is a thread's own ---


def _with_carry(machine: Any, instruction: Any, threads: Any) -> None:
    """add, sub and mad with .cc (sets the carry), addc, subc and madc (use it)."""
    into, *sources = instruction.operands
    kind, modifiers = instruction.kind, instruction.modifiers
    assert kind in ("u32", "s32"), instruction.text
    words = [machine.read(source, "u32", threads).astype(np.uint64) for source in sources]
    name, carry = instruction.name, machine.carry[threads].astype(np.uint64)
    if name.startswith("mad"):
        product = words[0] * words[1]
        words = [product >> np.uint64(32) if "hi" in modifiers else product & np.uint64(0xFFFFFFFF), words[2]]
        name = name.replace("mad", "add")
    used = carry if name.endswith("c") else np.uint64(0)
    total = words[0] + words[1] + used if name.startswith("add") else words[0] - words[1] - used
    if "cc" in modifiers:
        machine.carry[threads] = (total >> np.uint64(32)) & np.uint64(1)
    machine.write(into, (total & np.uint64(0xFFFFFFFF)).astype(np.uint32), threads)


def _or_with_carry(compute: Callable[..., Any]) -> Callable[..., None]:
    plain = _plain(compute)
    return lambda machine, instruction, threads: (_with_carry if "cc" in instruction.modifiers else plain)(
        machine, instruction, threads
    )


def _mad(machine: Any, instruction: Any, threads: Any) -> None:
    if instruction.kind in ("u32", "s32") and "wide" not in instruction.modifiers:
        _with_carry(machine, instruction, threads)
        return
    into, a, b, c = instruction.operands
    kind = instruction.kind
    wide = f"{kind[0]}64"
    if "lo" in instruction.modifiers and kind[1:] == "64":
        product = machine.read(a, kind, threads) * machine.read(b, kind, threads)
    elif "wide" in instruction.modifiers:
        product = machine.read(a, kind, threads).astype(NUMPY[wide]) * machine.read(b, kind, threads)
    else:
        raise KeyError(instruction.text)
    machine.write(into, product + machine.read(c, wide, threads), threads)


def _prmt(machine: Any, instruction: Any, threads: Any) -> None:
    """Four bytes of the eight of a and b, each by a number of the selector, or its sign bit over and over."""
    into, *sources = instruction.operands
    a, b, chosen = (machine.read(source, "u32", threads) for source in sources)
    eight = np.stack([a, b], axis=1).view(np.uint8)
    result = np.empty((len(threads), 4), np.uint8)
    for i in range(4):
        number = (chosen >> np.uint32(4 * i)) & 15
        byte = eight[np.arange(len(threads)), number & 7]
        result[:, i] = np.where(number & 8, np.where(byte & 0x80, 0xFF, 0), byte)
    machine.write(into, result.view(np.uint32)[:, 0], threads)


def _bfi(machine: Any, instruction: Any, threads: Any) -> None:
    """bfi d, a, b, c, l: b with l bits of a from bit c on."""
    into, a, b, first, length = instruction.operands
    x, y = machine.read(a, instruction.kind, threads), machine.read(b, instruction.kind, threads)
    c, n = (machine.read(number, "u32", threads).astype(x.dtype) for number in (first, length))
    one = x.dtype.type(1)
    mask = np.where(n >= 8 * x.itemsize, ~x.dtype.type(0), (one << n) - one) << c
    machine.write(into, (y & ~mask) | ((x << c) & mask), threads)


def _clz(machine: Any, instruction: Any, threads: Any) -> None:
    into, source = instruction.operands
    x = machine.read(source, instruction.kind, threads)
    width = 8 * x.itemsize
    machine.write(into, np.array([width - int(value).bit_length() for value in x], np.uint32), threads)


# --- memory ---


def _where(instruction: Any) -> str:
    return next((name for name in ("global", "local", "param") if name in instruction.modifiers), "generic")


def _vector(operand: str) -> list[str]:
    return _names(operand) if operand.startswith("{") else [operand]


def _ld(machine: Any, instruction: Any, threads: Any) -> None:
    into, address = instruction.operands
    names, dtype, space = _vector(into), np.dtype(NUMPY[instruction.kind]), _where(instruction)
    if space == "param":
        place = address.strip("[]").partition("+")[0]
        number = machine.program.parameters.get(place)
        value = (
            machine.read(place, instruction.kind, threads)
            if number is None
            else np.full(len(threads), machine.words[number]).view(dtype)
        )
        machine.write(into, value, threads)
        return
    size, at = len(names) * dtype.itemsize, machine.address(address, threads)
    if space == "local":
        found = machine.local[threads[:, None], _own(machine, at, size, instruction)]
    elif space == "global":
        found = machine.memory.load(at, size, threads, instruction.text)
    else:
        raise KeyError(f"address space {space}")
    values = found.view(dtype)
    for number, name in enumerate(names):
        machine.write(name, np.ascontiguousarray(values[:, number]), threads)


def _own(machine: Any, at: Any, size: int, instruction: Any) -> Any:
    if (at < 0).any() or (at + size > machine.program.local_size).any() or (at % size).any():
        raise Stuck(f"{instruction.text}: outside of a thread's own memory")
    return at[:, None] + np.arange(size)


def _st(machine: Any, instruction: Any, threads: Any) -> None:
    address, source = instruction.operands
    names, space, kind = _vector(source), _where(instruction), instruction.kind
    if space == "param":
        machine.write(address.strip("[]").partition("+")[0], machine.read(source, kind, threads), threads)
        return
    data = np.stack([machine.read(name, kind, threads) for name in names], axis=1).view(np.uint8)
    at = machine.address(address, threads)
    if space == "local":
        machine.local[threads[:, None], _own(machine, at, data.shape[1], instruction)] = data
    elif space == "global":
        machine.memory.store(at, data, threads, instruction.text)
    else:
        raise KeyError(f"address space {space}")


def _red(machine: Any, instruction: Any, threads: Any) -> None:
    """red.global.add: memory += value, as one operation. atom gives what was there too, which no kernel here
    asks for.
    """
    if "add" not in instruction.modifiers or "global" not in instruction.modifiers:
        raise KeyError(instruction.text)
    address, source = instruction.operands[-2:]
    machine.memory.add(
        machine.address(address, threads),
        machine.read(source, instruction.kind, threads),
        threads,
        instruction.text,
    )


def _shfl(machine: Any, instruction: Any, threads: Any) -> None:
    """shfl.sync.bfly.b32 d|p, a, distance, clamp, mask: the value of the thread whose number differs in the
    bits of ``distance``.
    """
    into, source, distance, clamp, mask = instruction.operands
    if "bfly" not in instruction.modifiers or (machine.read(clamp, "u32", threads) != 31).any():
        raise KeyError("a shuffle of another kind")
    value = np.zeros(len(machine.at), np.uint32)
    value[threads] = machine.read(source, "u32", threads)
    partner = threads ^ machine.read(distance, "u32", threads).astype(np.int64)
    if not (machine.read(mask, "u32", threads) >> (partner % 32).astype(np.uint32) & 1).all():
        raise Stuck(f"{instruction.text}: the partner is not in the mask")
    name, _, valid = into.partition("|")
    machine.write(name, value[partner], threads)
    if valid:
        machine.write(valid, np.ones(len(threads), bool), threads)


EXECUTE: dict[str, Callable[..., None]] = {
    **{
        name: _plain(function)
        for name, function in {"abs": np.abs, "neg": np.negative, "sqrt": np.sqrt, "fma": _fma}.items()
    },
    **{
        name: _plain(function)
        for name, function in {
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "xor": np.bitwise_xor,
            "not": _not,
        }.items()
    },
    **{
        name: _plain(function)
        for name, function in {
            "div": _div,
            "rem": np.fmod,
            "rcp": _reciprocal,
            "ex2": np.exp2,
            "lg2": np.log2,
        }.items()
    },
    **{
        name: _plain(function)
        for name, function in {"max": np.fmax, "min": np.fmin, "copysign": _copysign}.items()
    },
    "add": _or_with_carry(_add),
    "sub": _or_with_carry(np.subtract),
    **dict.fromkeys(("addc", "subc", "madc"), _with_carry),
    "mul": _mul_wide,
    "mad": _mad,
    "shl": _shift,
    "shr": _shift,
    "prmt": _prmt,
    "bfi": _bfi,
    "clz": _clz,
    "setp": _setp,
    "selp": _selp,
    "mov": _mov,
    "cvt": _cvt,
    "ld": _ld,
    "st": _st,
    "red": _red,
    "atom": _red,
    "shfl": _shfl,
}
