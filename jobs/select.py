"""`python -m jobs.select VERB`: the predicate that decides what is exported -> `meta/select`. Rules in ccpipe/select.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="select"))
