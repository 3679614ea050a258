"""`python -m jobs.perplexity VERB`: SentencePiece + KenLM -> `meta/perplexity`. Rules in ccpipe/perplexity.py."""

import sys

from jobs.cli import main

if __name__ == "__main__":
    sys.exit(main(stage="perplexity"))
