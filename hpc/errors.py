"""What was asked for and cannot be done."""

from __future__ import annotations


class UsageError(Exception):
    """Something was asked for that cannot be done. The message: what was seen, what was expected, what to type next."""
