"""`python -m jobs.lid VERB`: language, top 3 labels -> `meta/lid`. Rules in ccpipe/lid.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="lid"))
