"""Canonical URLs: different spellings of one address become one string.

In order: white space around is cut; the scheme goes (http and https are one); the host in lower case, without user, default port,
final dot and a first label `www`; percent escapes of letters, digits and `-._~` decoded, others with capital digits (RFC 3986,
section 6.2.2); `;jsessionid` and the slash at the end of the path go; parameters of the query sorted, those that only count visits
(`TRACKING`) and empty ones left out; the fragment goes unless it begins with `!` (which addressed pages of scripts). The case of
path and query stays.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

TRACKING = re.compile(
    r"utm_\w+|fbclid|gclid|dclid|gbraid|wbraid|msclkid|yclid|twclid|igshid|mc_[ce]id|_ga|_gl|_hs(enc|mi)|mkt_tok|oly_(anon|enc)_id|vero_id"
)
"""Parameters that analytics and advertising services add to links."""

SESSION = re.compile(r";jsessionid=[^/?#]*", re.IGNORECASE)
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_url(url: str) -> str:
    """The canonical form; what is no URL with a host stays as it is.

    >>> canonical_url("HTTPS://www.Example.com:443/a/%7Eb/?utm_source=x&b=2&a=1#top")
    'example.com/a/~b?a=1&b=2'
    >>> canonical_url("http://example.com/") == canonical_url("https://example.com")
    True
    >>> canonical_url("http://example.com/?p=1") == canonical_url("http://example.com/?p=2")
    False
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError:
        return url
    if not host:
        return url
    host = host.rstrip(".").removeprefix("www.")
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme.lower()):
        host += f":{port}"
    path = SESSION.sub("", _unescape(parts.path)).rstrip("/")
    query = "&".join(sorted(pair for pair in _unescape(parts.query).split("&") if pair and not TRACKING.fullmatch(pair.partition("=")[0])))
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    return host + path + (f"?{query}" if query else "") + fragment


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if char in UNRESERVED else match[0].upper()

    return ESCAPE.sub(one, text)
