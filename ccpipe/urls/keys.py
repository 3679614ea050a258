"""Keys of entries, made in Python: bytes in, the compiled hash out."""

from __future__ import annotations

import numpy as np

from ccpipe.urls.kernels import hash_key


def as_bytes(text: str) -> bytes:
    """UTF-8, also of half a surrogate pair, which no address can hold and any string can."""
    return text.encode("utf-8", "surrogatepass")


def as_array(data: bytes) -> np.ndarray:
    """uint8, read only, without a copy."""
    return np.frombuffer(data + b"\0", np.uint8)[:-1]  # frombuffer refuses to read nothing


def key_of(host: str, tail: bytes = b"") -> int:
    """Key of a domain, or of a page where there is a tail."""
    return int(hash_key(as_array(as_bytes(host)), as_array(tail)))
