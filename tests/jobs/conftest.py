"""Inputs that many tests of jobs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.demo import pages


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the demo's pages in nine WARC files, and its block list; read only."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "N_WARCS", 9)
        pages.write_demo(folder)
    return folder
