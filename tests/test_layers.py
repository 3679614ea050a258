"""Who may import whom, read from the source: hpc knows no text, ccpipe knows no scheduler, stages talk through files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ("hpc", "ccpipe", "jobs")
SOURCES = {path.relative_to(REPO): path for package in PACKAGES for path in sorted((REPO / package).rglob("*.py"))}

HEAVY = {"torch", "transformers", "fasttext", "kenlm", "sentencepiece", "tokenizers"}
STAGE_BASES = {Path("ccpipe/stage.py"), Path("ccpipe/annotate.py"), Path("ccpipe/dedup/__init__.py")}
"""They define what a stage is, and are no stages."""


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` gives both "a" and "a.b"."""
    tree = ast.parse((REPO / path).read_text(encoding="utf-8"))
    for node in _at_top(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; the repository imports by full names"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _at_top(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that runs when a module is imported: not the bodies of functions, not `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _at_top(child)


def importers(package: str, inside: str) -> set[str]:
    """Files of `inside` that import `package`."""
    return {
        str(path)
        for path in SOURCES
        if path.parts[0] == inside and any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }


@pytest.mark.parametrize(
    ("inside", "forbidden"),
    [("hpc", "ccpipe"), ("hpc", "jobs"), ("ccpipe", "hpc"), ("ccpipe", "jobs"), ("ccpipe", "submitit"), ("jobs", "submitit")],
)
def test_a_layer_does_not_import(inside: str, forbidden: str) -> None:
    assert importers(forbidden, inside) == set()


def test_one_module_of_hpc_imports_submitit() -> None:
    assert importers("submitit", "hpc") == {"hpc/dispatch/slurm.py"}


def test_importing_the_launching_module_alone_loads_submitit() -> None:
    """A worker on a compute node must not pay for it, nor need it."""
    found = {str(path) for path in SOURCES if "submitit" in {name.partition(".")[0] for name in imports(path, top_level_only=True)}}
    assert found == {"hpc/dispatch/slurm.py"}
    assert not [
        str(p) for p in SOURCES if p != Path("hpc/dispatch/slurm.py") and "hpc.dispatch.slurm" in set(imports(p, top_level_only=True))
    ]


def test_ccpipe_reads_no_scheduler_variable() -> None:
    mentions = [
        str(path) for path in SOURCES if path.parts[0] == "ccpipe" and re.search(r"\bSLURM_|\bSBATCH_|\bsrun\b", SOURCES[path].read_text())
    ]
    assert mentions == []


def test_nothing_but_tests_and_jobs_itself_imports_jobs() -> None:
    assert importers("jobs", "hpc") | importers("jobs", "ccpipe") == set()


def stage_modules() -> dict[str, Path]:
    """Modules that define a stage class: one whose bases lead to Stage, followed by name across files."""
    bases: dict[str, set[str]] = {}
    where: dict[str, Path] = {}
    for path in SOURCES:
        if path.parts[0] == "ccpipe":
            for node in ast.walk(ast.parse(SOURCES[path].read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    bases[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
                    where[node.name] = path
    found = {"Stage"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return {module_name(where[name]): where[name] for name in sorted(found) if where[name] not in STAGE_BASES}


def test_stages_do_not_import_each_other() -> None:
    stages = stage_modules()
    assert {"ccpipe.extract", "ccpipe.sig", "ccpipe.lid", "ccpipe.dedup.match", "ccpipe.select", "ccpipe.export"} <= set(stages)
    wrong = {name: sorted(set(imports(path)) & (set(stages) - {name})) for name, path in stages.items()}
    assert {name: others for name, others in wrong.items() if others} == {}


@pytest.mark.parametrize("path", list(SOURCES), ids=str)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    heavy = HEAVY & {name.partition(".")[0] for name in imports(path, top_level_only=True)}
    assert not heavy, f"{path} imports {sorted(heavy)} at its top; import inside the method that needs it"


def test_planning_a_flow_loads_no_heavy_library() -> None:
    """What the walk above cannot see: a library that another one pulls in."""
    code = "import sys, jobs.cli, hpc.dispatch.launching, hpc.entry, hpc.dispatch.local, hpc.dispatch.rounds; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO).stdout
    assert not HEAVY & set(loaded.split())


MACHINE_PATHS = re.compile(r"(?<![\w.$}{/-])/(?:root|work|home/\w+|Users/\w+)(?=/|\b(?![\w-]))")


def test_tracked_files_name_no_path_of_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = REPO / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" in data or path == Path(__file__).resolve():
            continue
        lines = data.decode("utf-8", "replace").splitlines()
        found += [f"{name}:{number}: {line.strip()[:100]}" for number, line in enumerate(lines, 1) if MACHINE_PATHS.search(line)]
    assert found == []
