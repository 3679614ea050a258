"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# doctests are looked for in every module; conftest.py of several folders would be one module of that name, and benchmarks are none
collect_ignore_glob = ["*conftest.py", "bench/*"]

# speed is judged by benchmarks: a slow machine must not fail a property
settings.register_profile("ccpipe", deadline=None)
settings.load_profile("ccpipe")

# run by `make test args=...`, the tests must not hand these on to the makes that they run themselves
for name in [name for name in os.environ if name.startswith("MAKE") or name in ("MFLAGS", "args", "stage", "config", "data")]:
    del os.environ[name]

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real WARCs, texts and labels, beside the checkout or named by CCPIPE_SHARED; the test is skipped without."""
    folder = Path(os.environ.get("CCPIPE_SHARED") or REPO.parent / "shared", "data")
    if not folder.is_dir():
        pytest.skip("no real data beside the checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder of the demo's small models; made now where `make models` has not."""
    from jobs.demo.models import build_models

    folder = REPO / ".cache" / "models"
    build_models(folder)
    return folder
