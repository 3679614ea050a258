"""URL filter: block lists compiled into one memory-mapped file, and addresses in one spelling. See docs/urls.md."""

from ccpipe.urls.address import host_of
from ccpipe.urls.blocklist import Blocklist, build_blocklist, check_blocklist, compile_blocklist
from ccpipe.urls.build import Source, Summary
from ccpipe.urls.sources import NotABlocklist
from ccpipe.urls.words import WordLists, clean_words

__all__ = [
    "Blocklist",
    "NotABlocklist",
    "Source",
    "Summary",
    "WordLists",
    "build_blocklist",
    "check_blocklist",
    "clean_words",
    "compile_blocklist",
    "host_of",
]
