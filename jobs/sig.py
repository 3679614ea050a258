"""`python -m jobs.sig VERB`: 128 64-bit MinHashes per document -> `sig/`. Rules in ccpipe/minhash.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="sig"))
