"""`python -m jobs.classify VERB`: quality classifiers, one stage for each `[stage.classify.NAME]`. Rules in ccpipe/classify.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="classify"))
