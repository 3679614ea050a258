"""The toy stages are importable by the tests of hpc."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
