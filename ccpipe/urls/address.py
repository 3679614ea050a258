"""One spelling for each address: scheme, credentials and port gone, host in punycode or as an IP address, path without dots.

In: a URL, or the part of one that a block list holds. Out: `Address`, and the keys under which it may be listed.
Follows the URL Standard of WHATWG for what browsers fetch (tabs, backslashes, IPv4 in octal and hex, UTS 46 without transitional
mapping) and RFC 3986, section 6.2.2, for percent-encoding. `ccpipe/urls/kernels.py` does the same for common spellings.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

SPECIAL = ("http", "https", "ftp", "ws", "wss")
"""Schemes whose host follows any number of slashes, also backslashes, also none (URL Standard, section 4.4)."""
KEPT_ENCODED = b":/?#[]@!$&'()*+,;=%\\"
"""Bytes that mean something else when they are not percent-encoded: the reserved ones of RFC 3986, section 2.2, percent and backslash."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_PORT_ONLY = re.compile(r"[0-9]+(?=$|[/\\?#])")
_REST = re.compile(r"[/\\?#]")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_EDGES = "".join(map(chr, range(0x21)))
_NO_TABS = dict.fromkeys(map(ord, "\t\n\r"))


class Address(NamedTuple):
    """`host`: ASCII, an IP address in its shortest form without brackets; `path` and `query`: bytes, without the last slashes."""

    host: str
    path: bytes
    query: bytes

    @property
    def site(self) -> str:
        """The host without `www.`: under it pages are listed."""
        return self.host.removeprefix("www.")


def parse_address(url: str) -> Address:
    """
    >>> parse_address("https://me:pw@WWW.Bücher.example.:8080/a/./%7euser/?q=1#top")
    Address(host='www.xn--bcher-kva.example', path=b'/a/~user', query=b'q=1')
    >>> parse_address("http:\\\\\\\\0x7f.1").host, parse_address("mailto:me@example.org").host
    ('127.0.0.1', '')
    """
    authority, rest = split_authority(tidy(url))
    path, _, query = rest.partition("#")[0].partition("?")
    return Address(clean_host(authority), clean_path(path), unescape(query.encode("utf-8", "surrogatepass")))


def host_of(url: str) -> str:
    """The host for the meta; empty for addresses without one (`dns:`, `urn:`).

    >>> host_of("http://Example.org.:80/"), host_of("urn:uuid:1")
    ('example.org', '')
    """
    return clean_host(split_authority(tidy(url))[0])


def address_keys(address: Address) -> list[tuple[str, bytes]]:
    """Host and tail of what may be listed to block it, the most specific first: this page alone, this page and pages above it with
    all below them, its host, domains above that.

    >>> [host + tail.decode() for host, tail in address_keys(parse_address("http://www.a.example/b/c?d"))]
    ['a.example/b/c?d', 'a.example/b/c', 'a.example/b', 'www.a.example', 'a.example', 'example']
    """
    if not address.host:
        return []
    path = address.path
    ends = [at for at in range(1, len(path)) if path[at] == ord("/")] + [len(path)] * bool(path)
    tails = [path + b"?" + address.query, *(path[:end] for end in reversed(ends))]
    return [*((address.site, tail) for tail in tails), *((name, b"") for name in domains(address.host))]


def domains(host: str) -> list[str]:
    """The host and the domains above it; an IP address has none above it."""
    if is_ip(host):
        return [host]
    labels = host.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


def is_ip(host: str) -> bool:
    """Of a clean host: digits after the last dot are an IPv4 address, since no top-level domain is a number."""
    return ":" in host or bool(re.fullmatch("[0-9]+", host[host.rfind(".") + 1 :]))


def tidy(url: str) -> str:
    """Without control characters and spaces at the ends, nor tabs and line ends anywhere (URL Standard, section 4.4)."""
    return url.strip(_EDGES).translate(_NO_TABS)


def split_authority(url: str) -> tuple[str, str]:
    """`user:password@host:port`, and what follows it. Both empty where the address has no host.

    >>> split_authority("http://a.example:80/b"), split_authority("a.example:80/b"), split_authority("dns:a.example")
    (('a.example:80', '/b'), ('a.example:80', '/b'), ('', ''))
    """
    start = authority_start(url)
    if start < 0:
        return "", ""
    end = _REST.search(url, start)
    return (url[start : end.start()], url[end.start() :]) if end else (url[start:], "")


def authority_start(url: str) -> int:
    """Where the host, with user and port, begins in a tidy URL; -1: it has none. A scheme may be missing, as in block lists."""
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() in SPECIAL:
        return _after_slashes(url, scheme.end())
    if scheme and url.startswith("//", scheme.end()):
        return scheme.end() + 2
    if scheme:
        return 0 if _PORT_ONLY.match(url, scheme.end()) else -1
    start = _after_slashes(url, 0)
    return -1 if start == 1 else start


def _after_slashes(url: str, at: int) -> int:
    while url[at : at + 1] in ("/", "\\"):
        at += 1
    return at


def clean_host(authority: str) -> str:
    """Host out of `user:password@host:port`: lower case, punycode, no trailing dots. Empty for an impossible IP address.

    >>> [clean_host(text) for text in ("ＥＸ%41mple。COM", "faß.de", "0300.0250.257", "[::FFFF:1.2.3.4]", "[2001:DB8::1]:80", "1.2.3.999")]
    ['example.com', 'xn--fa-hia.de', '192.168.1.1', '1.2.3.4', '2001:db8::1', '']
    """
    host = authority.rpartition("@")[2]
    if host.startswith("["):
        return _clean_ipv6(host[1:].partition("]")[0])
    host = host.partition(":")[0]
    if "%" in host:
        host = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), host.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    if not host.isascii():
        host = _to_punycode(host)
    host = host.lower().rstrip(".")
    return _clean_ipv4(host) if _ends_in_number(host) else host


def _to_punycode(host: str) -> str:
    """UTS 46 as browsers do it; a host with characters that it forbids stays as it is, and is listed nowhere."""
    import idna

    try:
        labels = idna.uts46_remap(host, std3_rules=False, transitional=False).split(".")
        return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)
    except UnicodeError:
        return host


def _ends_in_number(host: str) -> bool:
    last = host[host.rfind(".") + 1 :]
    return last.isascii() and (last.isdigit() or bool(re.fullmatch(r"0x[0-9a-f]*", last)))


def _clean_ipv4(host: str) -> str:
    """The IPv4 parser of the URL Standard, section 3.5: one to four numbers, decimal, octal (0...) or hex (0x...)."""
    try:
        numbers = [_ipv4_number(part) for part in host.split(".")]
    except ValueError:
        return ""
    *firsts, last = numbers
    if len(numbers) > 4 or any(number > 255 for number in firsts) or last >= 256 ** (5 - len(numbers)):
        return ""
    return str(ipaddress.IPv4Address(sum(number << (24 - 8 * at) for at, number in enumerate(firsts)) + last))


def _ipv4_number(part: str) -> int:
    if not part.isascii() or not part.isalnum() or len(part) > 64:
        raise ValueError(part)
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") else 10)


def _clean_ipv6(text: str) -> str:
    """RFC 5952; an IPv4 address inside IPv6 (RFC 4291, section 2.5.5.2) is that IPv4 address."""
    try:
        found = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    return "" if found.scope_id else str(found.ipv4_mapped or found)


def clean_path(path: str) -> bytes:
    """Unescaped, slashes forward, `.` and `..` resolved, without the last slashes.

    >>> clean_path("/a/%2E%2e/b\\\\c//"), clean_path("/%2fx/..")
    (b'/b/c', b'')
    """
    kept: list[bytes] = []
    for segment in unescape(path.replace("\\", "/").encode("utf-8", "surrogatepass")).split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"".join(b"/" + segment for segment in kept).rstrip(b"/")


def unescape(text: bytes) -> bytes:
    """Percent-encoding once undone, except for bytes that would mean something else; those in upper case.

    >>> unescape(b"%7e%E4%bd%A0 %2f%3d%zz%2541")
    b'~\\xe4\\xbd\\xa0 %2F%3D%zz%2541'
    """
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(found: re.Match[bytes]) -> bytes:
    byte = int(found[1], 16)
    return found[0].upper() if byte in KEPT_ENCODED else bytes([byte])
