"""Main text of HTML pages, by itself: `from ccpipe.html import extract`. See docs/extraction.md.

Of the project it loads `ccpipe.kernels` alone (the decorator of compiled functions); besides numpy, numba, selectolax and resiliparse.
"""

from ccpipe.html.extraction import Extracted, NotExtracted, clean, extract, extract_text
from ccpipe.html.maintext import Mode

__all__ = ["Extracted", "Mode", "NotExtracted", "clean", "extract", "extract_text"]
