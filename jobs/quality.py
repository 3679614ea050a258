"""`python -m jobs.quality VERB`: document and line rules -> `meta/quality`. Rules in ccpipe/quality.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="quality"))
