"""`python -m jobs.extract VERB`: WARC -> URL filter -> main text -> `wet/` and `meta/base`. Rules in ccpipe/extract.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="extract"))
