"""The decorator of compiled functions: numba, cached on disk, without the interpreter lock, types kept for the checker.

numba's cache looks at the file of the compiled function alone: a kernel that calls a kernel of another file is not
recompiled when that other file changes. So kernels call only kernels of their own file and `mix`, whose values are part of
the formats on disk and never change; files talk in arrays.
Where no folder takes the cache (the package read only and no usable HOME, as on many compute nodes) each process compiles for
itself; NUMBA_CACHE_DIR names a folder. A cache is a pickle: one in a folder that somebody else may write to is not read.
No `parallel=True`: the worker runs one process per core. No `fastmath`: results are equal on every machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

STEP = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
"""Increment and finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014; constants of Stafford's variant 13)."""

BASE = np.uint64(0xD1342543DE82EF95)
"""Odd multiplier of polynomials modulo 2^64 (from Steele and Vigna 2022, multipliers of 64-bit congruential generators)."""

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile at the first call, read from the cache afterwards.

    >>> @kernel
    ... def double(x: int) -> int:
    ...     return x + x
    >>> double(4)
    8
    """
    try:
        return cast(Function, njit(nogil=True, cache=_has_file(function) and _is_private_cache())(function))
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return cast(Function, njit(nogil=True)(function))


def _has_file(function: Callable[..., Any]) -> bool:
    """Functions typed into a prompt cannot be cached."""
    return not function.__code__.co_filename.startswith("<")


def _is_private_cache() -> bool:
    """Whether NUMBA_CACHE_DIR, where it is set and exists, can be written by ourselves and root alone."""
    try:
        found = Path(os.environ.get("NUMBA_CACHE_DIR") or "/nonexistent").stat()
    except OSError:
        return True
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@kernel
def mix(value: np.uint64) -> np.uint64:
    """A bijection of 64-bit words whose every output bit depends on every input bit.

    >>> hex(mix(np.uint64(0) + STEP))  # the first output of SplitMix64 with seed 0
    '0xe220a8397b1dcdaf'
    """
    value = (value ^ (value >> np.uint64(30))) * MIX_1
    value = (value ^ (value >> np.uint64(27))) * MIX_2
    return value ^ (value >> np.uint64(31))


def cache_folder() -> str | None:
    """Where this module's compiled code is kept; None where no folder can be written."""
    folder: str | None = mix.stats.cache_path  # type: ignore[attr-defined]  # what the decorator returns is a dispatcher
    return folder
