"""`python -m jobs.export VERB`: selected text -> JSONL.zst and token files, in two phases: shards, manifest. Rules in ccpipe/export.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="export"))
