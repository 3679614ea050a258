"""What a bench ran on, in one line."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def hardware() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{time.strftime('%Y-%m-%d')}: {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {system}"
