"""`python -m hpc VERB`: see hpc/cli.py."""

import sys

from hpc.cli import main

if __name__ == "__main__":
    sys.exit(main())
