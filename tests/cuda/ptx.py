"""A machine that runs the PTX of a kernel on memory of the host, warp by warp: what a driver would be given,
without a GPU.

It is slow and strict. Threads of a warp run apart where they branch, and meet again where they reach the same
instruction; the threads at the lowest one go first. Errors are

* an access outside of the arrays that the launch was given, or not at a multiple of its size, or of memory of
  a constant to write,
* two threads of a launch that write one byte,
* a shuffle that waits for threads which never come, on a device a hang,
* an instruction that this machine does not know.

In which order threads run is not defined, so what a thread reads where another one writes is garbage here:
lanes that are off may read anything, but nothing may use it.

Types, address arithmetic, divergence and masks of shuffles are therefore tested as they are compiled. What it
cannot show: the assembler's work after PTX, the order of memory accesses, speed. Semantics are those of
NVIDIA's PTX ISA, chapter 9; approximate instructions (ex2.approx, rcp.approx, …) are computed exactly, and
fused operations of float32 in float64."""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ptx_instructions import EXECUTE, NUMPY, Stuck

WARP = 32
SECTOR = 32
"""Bytes that memory moves at once, for all threads of a warp together."""
Traffic = dict[str, tuple[int, int]]
"""By the text of a load or store: bytes that warps asked for, and bytes in the sectors in which these are."""
DONE = np.iinfo(np.int64).max
GARBAGE = 0xA5


@dataclass
class Instruction:
    """``@guard name.modifiers operands``; kind: the type that the name ends with."""

    text: str
    name: str
    modifiers: list[str]
    operands: list[str]
    guard: str = ""
    unless: bool = False

    @property
    def kind(self) -> str:
        return self.modifiers[-1]


@dataclass
class Program:
    """A kernel as a list of instructions, in which calls have become copies of what they call."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)  # type by name, or by the name without its number
    local: dict[str, int] = field(default_factory=dict)  # where in a thread's own memory
    local_size: int = 0
    parameters: dict[str, int] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    leaders: list[int] = field(default_factory=list)

    _scalars: dict[Any, Any] = field(default_factory=dict)

    def constant(self, operand: str, dtype: Any) -> Any:
        """The value of an operand that is a number or the place of memory; None for a register."""
        if (operand, dtype) not in self._scalars:
            self._scalars[operand, dtype] = self._constant(operand, dtype)
        return self._scalars[operand, dtype]

    def _constant(self, operand: str, dtype: Any) -> Any:
        place = operand.rpartition("$")[2]
        if operand[:2] in ("0f", "0d"):
            return np.array(int(operand[2:], 16), "u4" if operand[1] == "f" else "u8").view(dtype)[()]
        if re.match(r"-?\d", operand):
            return np.array(int(operand, 0) % 2 ** (8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)[()]
        if place in self.constants or operand in self.local:
            found = self.constants[place].ctypes.data if place in self.constants else self.local[operand]
            return np.array(found).astype(dtype)[()]
        return None

    def append(self, statements: list[str], functions: dict[str, Any], prefix: str = "") -> None:
        for statement in statements:
            while found := re.match(r"\s*(?:[{}]|(\$?[A-Za-z_][\w$]*):)", statement):
                if found[1]:
                    self.labels[prefix + found[1]] = len(self.instructions)
                statement = statement[found.end() :]
            self._append(statement.strip(), functions, prefix)

    def _append(self, statement: str, functions: dict[str, Any], prefix: str) -> None:
        if found := re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement):
            for name in found[2].split(","):
                self.registers[prefix + re.sub(r"<\d+>", "", name).strip()] = found[1]
        elif found := re.match(r"\.local\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d+)\]", statement):
            self.local[prefix + found[2]] = start = -(-self.local_size // 16) * 16
            self.local_size = start + int(found[3])
        elif found := re.match(r"\.param\s+\.(\w+)\s+(\w+)", statement):
            self.registers[prefix + found[2]] = found[1]
        elif found := re.match(r"call(?:\.uni)?\s+\((\w+)\),\s*(\w+),\s*\(([^)]*)\)", statement):
            self._inline(
                found[1], found[2], [name.strip() for name in found[3].split(",")], functions, prefix
            )
        elif statement and not statement.startswith(".pragma"):
            self.instructions.append(_instruction(statement, prefix))

    def _inline(
        self, result: str, name: str, arguments: list[str], functions: dict[str, Any], prefix: str
    ) -> None:
        """The callee's statements under names of their own; its ``ret`` goes to their end."""
        made, parameters, statements = functions[name]
        inner = f"{prefix}call{len(self.instructions)}$"
        for kind, parameter in (made, *parameters):
            self.registers[inner + parameter] = kind
        for argument, (kind, parameter) in zip(arguments, parameters, strict=True):
            self.instructions.append(
                Instruction(f"argument of {name}", "mov", [kind], [inner + parameter, prefix + argument])
            )
        first = len(self.instructions)
        self.append(statements, functions, inner)
        for instruction in self.instructions[first:]:
            if instruction.name == "ret":
                instruction.name, instruction.operands = "bra", [inner + "end"]
        self.labels[inner + "end"] = len(self.instructions)
        self.instructions.append(
            Instruction(f"result of {name}", "mov", [made[0]], [prefix + result, inner + made[1]])
        )


def _instruction(statement: str, prefix: str) -> Instruction:
    found = re.match(r"(?:@(!?)(\S+)\s+)?([a-z0-9_.]+)\s*(.*)", statement, re.S)
    assert found, statement
    name, *modifiers = found[3].split(".")
    operands = [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", found[4]) if part.strip()]
    if prefix:
        operands = [
            re.sub(r"(?<![\w%$.])(?=[%$A-Za-z_])(?!%(?:tid|ntid|ctaid)\.)", prefix, operand)
            for operand in operands
        ]
    return Instruction(
        statement, name, modifiers, operands, prefix + found[2] if found[2] else "", found[1] == "!"
    )


@functools.cache
def parsed(ptx: str) -> Program:
    """The program of the one entry of a module."""
    ptx = re.sub(r"//[^\n]*", "", ptx)
    program, functions = Program(), {}
    for align, name, numbers in re.findall(
        r"^\.global \.align (\d+) \.b8 (\w+)\[\d+\] = \{([^}]*)\};", ptx, re.M
    ):
        values = np.array([int(number) for number in numbers.split(",")], np.uint8)
        room = np.zeros(len(values) + int(align), np.uint8)
        start = -room.ctypes.data % int(align)
        room[start : start + len(values)] = values
        program.constants[name] = room[start : start + len(values)]
    parameter = re.compile(r"\.param\s+\.(\w+)\s+(\w+)")
    for made, name, parameters, body in re.findall(
        r"^\.func\s+\(([^)]*)\)\s*(\w+)\(([^)]*)\)\s*^\{(.*?)^\}", ptx, re.M | re.S
    ):
        functions[name] = parameter.findall(made)[0], parameter.findall(parameters), body.split(";")
    ((parameters, body),) = re.findall(r"^\.visible \.entry \w+\(([^)]*)\)\s*^\{(.*?)^\}", ptx, re.M | re.S)
    for number, (kind, name) in enumerate(parameter.findall(parameters)):
        assert kind in ("u64", "b64"), f"a parameter of type {kind}"
        program.parameters[name] = number
    program.append(body.split(";"), functions)
    leaders = {0, *program.labels.values()}
    for place, instruction in enumerate(program.instructions):
        leaders |= {"bra": {place + 1}, "ret": {place + 1}, "shfl": {place, place + 1}}.get(
            instruction.name, set()
        )
    program.leaders = sorted(leaders | {len(program.instructions)})
    return program


class Memory:
    """The bytes that a launch may touch, and for each the thread, from 1, that reads or writes it: 0 none, -1
    several, -2 atomically.
    """

    def __init__(
        self, ranges: list[tuple[int, int]], fixed: list[np.ndarray], traffic: Traffic | None = None
    ) -> None:
        self.traffic = traffic
        merged: list[list[int]] = []
        for low, high in sorted(ranges):
            if merged and low < merged[-1][1]:
                merged[-1][1] = max(high, merged[-1][1])
            elif high > low:
                merged.append([low, high])
        parts = [(low, high, (ctypes.c_uint8 * (high - low)).from_address(low), True) for low, high in merged]
        parts += [(x.ctypes.data, x.ctypes.data + x.nbytes, x, False) for x in fixed]
        parts.sort(key=lambda part: part[0])
        self.lows, self.highs = np.array([part[0] for part in parts]), np.array([part[1] for part in parts])
        self.bytes = [np.asarray(part[2]) for part in parts]
        self.open = [part[3] for part in parts]
        self.writers = [np.zeros(len(part), np.int32) for part in self.bytes]
        self.readers = [np.zeros(len(part), np.int32) for part in self.bytes]
        self.shared = False
        self.garbage: list[np.ndarray] | None = None
        self._before = [
            part.copy() if free else None for part, free in zip(self.bytes, self.open, strict=True)
        ]

    def again(self) -> None:
        """Everything as before the launch, for one where only the thread that writes a byte reads it."""
        self.garbage, self.writers = self.writers, [np.zeros_like(part) for part in self.writers]
        for part, before in zip(self.bytes, self._before, strict=True):
            if before is not None:
                part[...] = before

    def parts(self, addresses: Any, size: int, threads: Any, what: str) -> Any:
        """For every array that is accessed: its number, who accesses it, and the positions of the bytes."""
        place = np.searchsorted(self.lows, addresses, "right") - 1
        wrong = (place < 0) | (addresses + size > self.highs[place]) | (addresses % size != 0)
        if wrong.any():
            address = int(addresses[wrong][0])
            why = f"is no multiple of {size}" if address % size else "is outside of all arrays"
            near = ", ".join(f"[{low}, {high})" for low, high in zip(self.lows, self.highs, strict=True))
            raise Stuck(f"{what}: address {address} {why}: {near}")
        if self.traffic is not None:
            warps = threads // WARP << 47
            asked, moved = (np.unique(warps | addresses // unit).size * unit for unit in (size, SECTOR))
            before = self.traffic.get(what, (0, 0))
            self.traffic[what] = before[0] + asked, before[1] + moved
        for part in np.unique(place):
            who = np.flatnonzero(place == part)
            yield part, who, (addresses[who] - self.lows[part])[:, None] + np.arange(size)

    def load(self, addresses: Any, size: int, threads: Any, what: str) -> Any:
        found = np.empty((len(addresses), size), np.uint8)
        for part, who, at in self.parts(addresses, size, threads, what):
            mine = (threads[who] + 1)[:, None]
            found[who] = self.bytes[part][at]
            if self.garbage is not None:
                other = (self.garbage[part][at] != 0) & (self.garbage[part][at] != mine)
                found[who] = np.where(other, GARBAGE, found[who])
                continue
            readers, writers = self.readers[part], self.writers[part][at]
            self.shared |= bool(((writers != 0) & (writers != mine)).any())
            before = readers[at]
            readers[at] = mine
            readers[at] = np.where((readers[at] != mine) | ((before != 0) & (before != mine)), -1, mine)
        return found

    def store(self, addresses: Any, data: Any, threads: Any, what: str) -> None:
        for part, who, at in self.parts(addresses, data.shape[1], threads, what):
            if not self.open[part]:
                raise Stuck(f"{what}: writes to a constant")
            mine = (threads[who] + 1)[:, None]
            self._claim(part, at, mine, what)
            self.bytes[part][at] = data[who]

    def add(self, addresses: Any, values: Any, threads: Any, what: str) -> None:
        """Atomically, here in the order of threads."""
        for part, who, at in self.parts(addresses, values.itemsize, threads, what):
            self._claim(part, at, np.int32(-2), what)
            for i, bytes_ in zip(who, at, strict=True):
                one = self.bytes[part][bytes_].view(values.dtype) + values[i]
                self.bytes[part][bytes_] = one.view(np.uint8)

    def _claim(self, part: int, at: Any, mine: Any, what: str) -> None:
        writers, readers = self.writers[part], self.readers[part][at]
        before = writers[at]
        writers[at] = mine
        if ((before != 0) & (before != mine)).any() or (writers[at] != mine).any():
            raise Stuck(f"{what}: two threads write one place")
        self.shared |= bool(((readers != 0) & (readers != mine)).any())


class Machine:
    """One launch: every thread's registers, and the instruction that it is at."""

    def __init__(self, program: Program, blocks: int, threads: int, words: list[int], memory: Memory) -> None:
        self.program, self.words, self.memory = program, words, memory
        count = blocks * threads
        self.special = {
            "%tid.x": np.arange(count) % threads,
            "%ctaid.x": np.arange(count) // threads,
            "%ntid.x": np.full(count, threads),
        }
        self.registers: dict[str, np.ndarray] = {}
        self.local = np.zeros((count, program.local_size), np.uint8)
        self.carry = np.zeros(count, np.int64)
        self.at = np.zeros(count, np.int64)

    def register(self, name: str) -> Any:
        if name not in self.registers:
            kinds = self.program.registers
            kind = kinds.get(name) or kinds[re.sub(r"\d+$", "", name)]
            self.registers[name] = np.zeros(len(self.at), NUMPY[kind.replace("f16", "b16")])
        return self.registers[name]

    def read(self, operand: str, kind: str, threads: Any) -> Any:
        """The values of a register or a constant, in these threads, seen as of a type."""
        dtype = np.dtype(NUMPY[kind])
        if operand in self.special:
            return self.special[operand][threads].astype(dtype)
        constant = self.program.constant(operand, dtype)
        if constant is not None:
            return np.full(len(threads), constant)
        value = self.register(operand)[threads]
        if value.itemsize > dtype.itemsize:
            value = value.view(f"u{value.itemsize}").astype(f"u{dtype.itemsize}")
        return value if value.dtype == dtype else value.view(dtype)

    def write(self, name: str, value: Any, threads: Any) -> None:
        register = self.register(name)
        if value.shape != threads.shape:
            value = np.full(threads.shape, value)
        if value.itemsize < register.itemsize:
            value = value.astype(f"{value.dtype.kind}{register.itemsize}")
        register[threads] = (
            value if value.dtype == register.dtype else np.ascontiguousarray(value).view(register.dtype)
        )

    def address(self, operand: str, threads: Any) -> Any:
        base, _, offset = operand.strip("[]").partition("+")
        return self.read(base.strip(), "s64", threads) + int(offset or 0)

    def run(self) -> None:
        """Every thread, to its end."""
        waiting = np.zeros(len(self.at), bool)
        with np.errstate(all="ignore"):
            while True:
                free = np.where(waiting, DONE, self.at)
                place = free.min(initial=DONE)
                if place == DONE:
                    break
                threads = np.flatnonzero(free == place)
                going = self._arrived(place, threads)
                waiting[threads] = True
                if len(going):
                    self._straight(int(place), going)
                    waiting[:] = False
        if waiting.any():
            text = self.program.instructions[int(self.at[waiting].min())].text
            raise Stuck(
                f"{text}: {waiting.sum()} threads wait for others of their warp, which are elsewhere or have "
                "ended"
            )

    def _arrived(self, place: int, threads: Any) -> Any:
        """Those threads that can go on: at a shuffle, where every thread of its mask is there with the same
        mask.
        """
        instruction = self.program.instructions[place]
        if instruction.name != "shfl":
            return threads
        masks = self.read(instruction.operands[-1], "u32", threads)
        here = np.zeros(len(self.at) // WARP, np.uint32)
        np.bitwise_or.at(here, threads // WARP, np.uint32(1) << (threads % WARP).astype(np.uint32))
        if ((masks >> (threads % WARP).astype(np.uint32)) & 1 == 0).any():
            raise Stuck(f"{instruction.text}: a thread is not in its own mask")
        return threads[masks & here[threads // WARP] == masks]

    def _straight(self, place: int, threads: Any) -> None:
        """The instructions up to the next one where threads may part or meet."""
        program = self.program
        end = program.leaders[np.searchsorted(program.leaders, place, "right")]
        following = np.full(len(threads), DONE if end == len(program.instructions) else end)
        for instruction in program.instructions[place:end]:
            on = np.ones(len(threads), bool)
            if instruction.guard:
                on = self.read(instruction.guard, "pred", threads) != instruction.unless
            if instruction.name == "bra":
                following[on] = program.labels[instruction.operands[0]]
            elif instruction.name == "ret":
                following[on] = DONE
            elif on.any():
                try:
                    EXECUTE[instruction.name](self, instruction, threads[on])
                except (KeyError, TypeError) as error:
                    raise Stuck(f"{instruction.text}: not known to this machine ({error!r})") from error
        self.at[threads] = following


def launch(
    ptx: str,
    blocks: int,
    threads: int,
    words: list[int],
    ranges: list[tuple[int, int]],
    traffic: Traffic | None = None,
) -> None:
    """Run a kernel. words: its parameters, 64 bits each. ranges: [start, end) of the memory that it may
    touch. traffic: filled.
    """
    assert threads % WARP == 0
    program = parsed(ptx)
    memory = Memory(ranges, list(program.constants.values()), traffic)
    Machine(program, blocks, threads, words, memory).run()
    if memory.shared:
        memory.again()
        Machine(program, blocks, threads, words, memory).run()
