"""Import paths in the config: "package.module:Class" -> the class."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from ccpipe.stage import Stage


class UseError(Exception):
    """A `use` that does not lead to a stage class."""


def import_stage(use: str, base_dir: Path | None = None) -> type[Stage]:
    """The stage class named by `use`. Modules beside the run.toml can be imported too. Raises `UseError`."""
    module_name, colon, class_name = use.partition(":")
    if not (colon and module_name and class_name):
        raise UseError(f'use = "{use}": expected "package.module:Class", such as "ccpipe.lid:FastTextLid"')
    if base_dir is not None and str(base_dir) not in sys.path:
        sys.path.append(str(base_dir))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UseError(f'use = "{use}": cannot import {module_name!r} ({error}); install it or put it beside the run.toml') from error
    except Exception as error:
        raise UseError(f'use = "{use}": importing {module_name!r} fails: {type(error).__name__}: {error}') from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, Stage) and not inspect.isabstract(found)):
        offered = sorted(name for name, value in vars(module).items() if _is_offered(value, module_name))
        raise UseError(f'use = "{use}": {module_name} has no stage class {class_name!r}; it has: {", ".join(offered) or "none"}')
    return found


def _is_offered(value: object, module_name: str) -> bool:
    return inspect.isclass(value) and issubclass(value, Stage) and value.__module__ == module_name and not inspect.isabstract(value)
