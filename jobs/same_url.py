"""`python -m jobs.same_url VERB`: documents of one URL: route, match, mark -> `meta/same_url`. Rules in ccpipe/exact/."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="same_url"))
