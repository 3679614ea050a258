"""Nothing is loaded that runs somebody's code: read from the source of every module, and tried with real models made evil.

Not covered: native parsers (fastText, KenLM, SentencePiece, Parquet) get files that the config names and are as memory-safe as
they are; numba's cache is a pickle in the package's folder, in HOME or in NUMBA_CACHE_DIR (docs/sites.md: who may write there).
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SOURCES = [path for package in ("hpc", "ccpipe", "jobs") for path in sorted((REPO / package).rglob("*.py"))]

UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "jsonpickle", "shelve", "marshal", "yaml", "pandas"}
SERVERS = {"multiprocessing.managers", "multiprocessing.connection", "xmlrpc", "socketserver", "http.server"}
"""They unpickle, or run, what comes over a socket."""
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "numpy.fromregex"),
}
MODES = {"chmod", "fchmod", "lchmod", "umask"}
MAY_CHANGE_MODES = {"jobs/demo/classifiers.py"}
"""The demo's own model files."""
MAY_IMPORT_BY_NAME = {"hpc/state/work.py", "hpc/cli.py", "jobs/loading.py"}
"""The user's own stages, named in the user's config or in a launch of a private run directory."""
SUBMITIT_PICKLES = {"submit", "map_array", "batch", "result", "results", "wait"}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute; the part after a call or index otherwise."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def named_values(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Keywords of calls and constant keys of dicts (which may become keywords), with their values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ((word.arg, word.value) for word in node.keywords if word.arg)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from ((key.value, value) for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str))


def dangers(source: str, path: str) -> list[str]:
    """What a source does that it must not do."""
    tree = ast.parse(source)
    found = [f"{name}= is not False" for name, value in named_values(tree) if name in NEVER_TRUE and not is_false(value)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [str(node.module), *(f"{node.module}.{name}" for name in names)]
            found += [f"imports {name}" for name in modules if name.partition(".")[0] in UNPICKLING or name in SERVERS]
        elif isinstance(node, ast.Call):
            found += _calls(node, path)
    return found


NEVER_TRUE = ("trust_remote_code", "allow_pickle", "shell")


def _calls(node: ast.Call, path: str) -> Iterator[str]:
    name = dotted(node.func)
    last = name.rpartition(".")[2]
    given = {word.arg for word in node.keywords}
    if name.removeprefix("self._").removeprefix("builtins.") in CALLS:
        yield f"calls {name}"
    if last in MODES and path not in MAY_CHANGE_MODES:
        yield f"changes modes: {name}"
    if last == "import_module" and path not in MAY_IMPORT_BY_NAME:
        yield f"imports by name: {name}"
    if last == "from_pretrained" and None not in given and not {"trust_remote_code", "local_files_only"} <= given:
        yield f"{name} without trust_remote_code=False and local_files_only"
    if last == "from_pretrained" and "Model" in name and "use_safetensors" not in given:
        yield f"{name} without use_safetensors"
    if path == "hpc/dispatch/slurm.py" and isinstance(node.func, ast.Attribute) and last in SUBMITIT_PICKLES:
        yield f"has submitit write or read a pickle: {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_a_module_loads_nothing_that_could_run_code(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8"), str(path.relative_to(REPO))) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import pickle", "imports pickle"),
        ("from cloudpickle import loads", "imports cloudpickle"),
        ("import yaml", "imports yaml"),
        ("from multiprocessing import managers", "imports multiprocessing.managers"),
        ("x = eval(text)", "calls eval"),
        ("import os; os.system(text)", "calls os.system"),
        ("self._torch.load(path)", "calls self._torch.load"),
        ("subprocess.run(text, shell=True)", "shell= is not False"),
        ("subprocess.run(text, shell=wanted)", "shell= is not False"),
        ("np.load(path, allow_pickle=True)", "allow_pickle= is not False"),
        ("AutoTokenizer.from_pretrained(folder)", "AutoTokenizer.from_pretrained without trust_remote_code"),
        ("more = {'trust_remote_code': True}", "trust_remote_code= is not False"),
        ("AutoModel.from_pretrained(folder, **more)", "AutoModel.from_pretrained without use_safetensors"),
        ("importlib.import_module(name)", "imports by name"),
        ("path.chmod(0o777)", "changes modes"),
        ("os.umask(0)", "changes modes"),
    ],
)
def test_the_walk_sees_what_it_looks_for(source: str, says: str) -> None:
    assert any(line.startswith(says) for line in dangers(source, "hpc/any.py")), dangers(source, "hpc/any.py")


def test_the_walk_lets_the_safe_ways_pass() -> None:
    source = "np.load(path, mmap_mode='r', allow_pickle=False); json.loads(text); re.compile(text); subprocess.run(['ls'], shell=False)"
    assert dangers(source, "hpc/any.py") == []
    assert dangers("executor.map_array(f, x)", "hpc/dispatch/slurm.py") == ["has submitit write or read a pickle: executor.map_array"]


# ---- a real model of the demo, made evil: its code would make the file `owned`


def _edit(path: Path, **more: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def _author_code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'owned')!r}, 'w')\nclass Evil: pass\n")
    _edit(folder / "config.json", auto_map=dict.fromkeys(("AutoConfig", "AutoModelForSequenceClassification"), "evil.Evil"))


def _author_code_and_kind(folder: Path) -> None:
    _author_code(folder)
    _edit(folder / "config.json", model_type="evilbert")


def _tokenizer_code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'owned')!r}, 'w')\nclass Evil: pass\n")
    _edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}, tokenizer_class="Evil")


def _pickled_weights(folder: Path) -> None:
    import torch

    class Owner:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(folder / "owned"), "w"))

    torch.save({"weight": Owner()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.fixture(scope="session")
def folder_of(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(models / "edu", tmp_path_factory.mktemp("evil") / "edu"))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (_author_code, ValueError, r"config.json has `auto_map`: .* expected a model that transformers knows .*Choose another"),
        (_author_code_and_kind, ValueError, r"config.json has `auto_map`"),
        (_tokenizer_code, ValueError, r"tokenizer_config.json has `auto_map`"),
        (_pickled_weights, FileNotFoundError, r"no \*.safetensors in .* has \['pytorch_model.bin'\]; expected safetensors.*convert it"),
        (_no_weights, FileNotFoundError, r"which has no weights; expected safetensors"),
    ],
)
def test_a_model_that_would_run_code_is_refused(
    folder_of: Callable[[], Path], make: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    pytest.importorskip("transformers")
    from ccpipe.transformer import SequenceClassifier

    folder = folder_of()
    make(folder)
    with pytest.raises(error, match=message):
        SequenceClassifier(str(folder), None, 128, 1024, "auto")
    assert not (folder / "owned").exists()


@pytest.mark.parametrize("make", [_author_code, _author_code_and_kind, _tokenizer_code, _pickled_weights])
def test_without_our_refusal_transformers_runs_no_code_either(
    folder_of: Callable[[], Path], make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two walls: the message above, and the options with which the model is loaded."""
    pytest.importorskip("transformers")
    from ccpipe import transformer

    folder = folder_of()
    make(folder)
    monkeypatch.setattr(transformer, "check_folder", lambda folder: None)
    with contextlib.suppress(OSError, ValueError):
        transformer.SequenceClassifier(str(folder), None, 128, 1024, "auto")
    assert not (folder / "owned").exists()


def test_the_evil_models_are_evil(folder_of: Callable[[], Path], tmp_path: Path) -> None:
    """Loaded the trusting way, each of them makes its file."""
    torch = pytest.importorskip("torch")
    pickled, coded = folder_of(), folder_of()
    _pickled_weights(pickled)
    torch.load(pickled / "pytorch_model.bin", weights_only=False)
    assert (pickled / "owned").exists()
    _author_code_and_kind(coded)
    trusting = "import sys; from transformers import AutoModel as M; M.from_pretrained(sys.argv[1], trust_remote_code=True)"
    subprocess.run([sys.executable, "-c", trusting, coded], env={**os.environ, "HF_HOME": str(tmp_path)}, capture_output=True)
    assert (coded / "owned").exists()


def test_a_model_of_the_demo_loads(folder_of: Callable[[], Path]) -> None:
    pytest.importorskip("transformers")
    from ccpipe.transformer import SequenceClassifier

    [score] = SequenceClassifier(str(folder_of()), None, 128, 1024, "auto").scores(["The committee published a careful report."])
    assert score is not None and -10 < score < 10
