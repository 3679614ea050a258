"""`python -m jobs.substrings VERB`: long runs of tokens that were there before: find, mark -> `meta/substrings`. Rules in ccpipe/exact/."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="substrings"))
