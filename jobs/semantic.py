"""`python -m jobs.semantic VERB`: duplicates by meaning: centroids, assign, match, mark -> `meta/semantic`. Rules in ccpipe/semantic/."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="semantic"))
