"""The decorator of compiled functions: numba, cached on disk, without the interpreter lock, types kept for the checker.

numba's cache looks at the file of the compiled function alone: a kernel that calls a kernel of another file is not
recompiled when that other file changes. So kernels call only kernels of their own file; files talk in arrays.
No `parallel=True`: the worker runs one process per core. No `fastmath`: results are equal on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile at the first call, read from the cache afterwards.

    >>> @kernel
    ... def double(x: int) -> int:
    ...     return x + x
    >>> double(4)
    8
    """
    return cast(Function, njit(nogil=True, cache=_has_file(function))(function))


def _has_file(function: Callable[..., Any]) -> bool:
    """Functions typed into a prompt cannot be cached."""
    return not function.__code__.co_filename.startswith("<")
