"""The inflater: ISA-L where its wheel exists (x86-64, AArch64), zlib elsewhere.

Both check lengths and CRC-32 of gzip members, so they agree on what is damaged. How much they give of a member before the
damage differs, so whatever looks at damaged bytes takes `zlib` itself (`MemberReader._salvage`).
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any

_fast: Any = zlib
with suppress(ImportError):
    from isal import isal_zlib

    _fast = isal_zlib

INFLATE_ERRORS: tuple[type[Exception], ...] = (_fast.error, zlib.error)

GZIP, ZLIB, RAW = 31, 15, -15
"""Window bits, as zlib means them."""


def inflater(wbits: int = GZIP) -> Any:
    """A `zlib.decompressobj`, or ISA-L's object of the same shape; raises one of `INFLATE_ERRORS`."""
    return _fast.decompressobj(wbits)


def decompress(data: bytes | memoryview, wbits: int = GZIP) -> bytes:
    """The content of one whole stream; raises one of `INFLATE_ERRORS`."""
    content: bytes = _fast.decompress(data, wbits)
    return content
