"""`python -m jobs.bucket VERB`: exact global quantiles -> `meta/bucket`, in two phases: cuts, assign. Rules in ccpipe/bucket.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="bucket"))
