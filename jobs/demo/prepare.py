"""Everything that `run.toml` of the demo needs, in two folders.

In: a folder for the demo and one for the models. Out: `OUT/input/*.warc.gz`, `OUT/blocklist/`, `OUT/pages.jsonl` and
`OUT/run.toml` with the paths of this machine; the models in their folder. What is there already stays as it is.

    python -m jobs.demo.prepare OUT [MODELS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from string import Template

from jobs.demo.fetch import FetchError
from jobs.demo.models import DEFAULT_FOLDER, build_models
from jobs.demo.pages import write_demo

USAGE = "usage: python -m jobs.demo.prepare OUT [MODELS]"


def prepare(out: Path, models: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """Write pages and block list, make the missing models; returns the path of the run.toml. Raises `FetchError` offline."""
    expected = write_demo(out)
    say(f"{len(expected)} pages in {out / 'input'}")
    build_models(models, say)
    config = out / "run.toml"
    template = files("jobs.demo").joinpath("run.toml").read_text(encoding="utf-8")
    config.write_text(fill_template(template, out, models), encoding="utf-8")
    return config


def fill_template(template: str, out: Path, models: Path) -> str:
    """The flow with absolute paths in place of `${DEMO}` and `${MODELS}`."""
    first, rest = template.split("[run]", 1)
    filled = Template(rest).substitute(DEMO=_toml(out), MODELS=_toml(models))
    return first.replace("# ${DEMO} and ${MODELS} are filled in by", "# The paths were filled in by") + "[run]" + filled


def _toml(path: Path) -> str:
    """An absolute path as the inside of a TOML basic string."""
    return str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"')


def main(argv: list[str]) -> None:
    if len(argv) not in (1, 2):
        raise SystemExit(USAGE)
    try:
        print(prepare(Path(argv[0]), Path(argv[1]) if len(argv) > 1 else DEFAULT_FOLDER, print))
    except FetchError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
