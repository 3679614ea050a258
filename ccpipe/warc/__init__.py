"""Reading of web archives: records of WARC and ARC files, sound and damaged, and the HTTP responses in them."""

from ccpipe.warc.readers import read_records
from ccpipe.warc.record import HEADER_BYTES, Place, Record

__all__ = ["HEADER_BYTES", "Place", "Record", "read_records"]
