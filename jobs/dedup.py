"""`python -m jobs.dedup VERB`: near-duplicates, in four phases: route, match, cluster, mark -> `meta/dedup`. Rules in ccpipe/dedup/."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="dedup"))
