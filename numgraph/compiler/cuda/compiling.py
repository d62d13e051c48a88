"""From a kernel's text to code for a device: PTX by numba-cuda's compiler, a cubin by nvJitLink. Neither
needs a device.

A cubin is kept in the cache folder beside its text, so a process compiles only what none did before on this
machine. The driver need not know the compiler's version of PTX, which may be newer.
"""

from __future__ import annotations

import re
from typing import Any

import numba

from numgraph.compiler import sources
from numgraph.runtime import caches
from numgraph.runtime.compiling import undisturbed

ENTRY = "numgraph_body"


def ptx_of(text: str, words: int, capability: tuple[int, int]) -> str:
    """The PTX of a kernel's text. words: length of its argument block. capability: of the device, as (9,
    0).
    """
    from numba import cuda, types

    body = sources.load(text).body
    ptx, _ = cuda.compile_ptx(body, types.void(types.UniTuple(types.int64, words)), cc=capability)
    found = re.search(r"\.entry\s+([^\s(]+)", ptx)
    assert found is not None
    made: str = ptx.replace(found[1], ENTRY)
    return made


def cubin_of(text: str, words: int, capability: tuple[int, int]) -> bytes:
    """Machine code for a device, from the cache folder or compiled now; PTX, which the driver compiles, where
    there is no nvJitLink.
    """
    name = f"{sources.name_of(text)}.sm_{capability[0]}{capability[1]}.cubin"
    path, purpose = caches.folder() / name, f"{numba.__version__} {words} {text}".encode()
    try:
        return caches.kept(path, purpose)
    except OSError:
        pass
    with undisturbed():
        ptx = ptx_of(text, words, capability)
        try:
            code, _ = linked(ptx, capability)
        except (ImportError, OSError, RuntimeError):  # no nvJitLink here
            return ptx.encode() + b"\0"
    caches.keep(path, code, purpose)
    return code


def linked(ptx: str, capability: tuple[int, int]) -> tuple[bytes, str]:
    """PTX compiled to machine code, and what the assembler says of its registers."""
    from cuda.bindings import nvjitlink

    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"]
    linker = nvjitlink.create(len(options), options)
    try:
        data = ptx.encode()
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, data, len(data), ENTRY)
        nvjitlink.complete(linker)
        code = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, code)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    finally:
        nvjitlink.destroy(linker)
    return bytes(code), log.decode(errors="replace")


def simulated(text: str) -> Any:
    """The kernel in Numba's simulator."""
    from numba import cuda

    return cuda.jit(sources.load(text).body)
