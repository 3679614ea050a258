"""`python -m jobs.paragraphs VERB`: lines that were there before: route, match, mark -> `meta/paragraphs`. Rules in ccpipe/exact/."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="paragraphs"))
