"""`python -m jobs.same_text VERB`: documents of one text: route, match, mark -> `meta/same_text`. Rules in ccpipe/exact/."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="same_text"))
