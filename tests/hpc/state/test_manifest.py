"""The manifest: every input in exactly one shard, shards balanced, written once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpc.state.manifest import (
    Changes,
    InputFile,
    Manifest,
    ManifestError,
    Seen,
    balance,
    expand_inputs,
    freeze,
    load_manifest,
    make_manifest,
    refreeze,
    take_in,
)

sizes = st.lists(st.integers(0, 1000), max_size=60)
shard_sizes = st.integers(1, 3000)
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda n: n not in (".", "..")
)


def write_inputs(folder: Path, sizes: Sequence[int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:03d}.warc.gz" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(b"x" * size)
    return paths


@given(sizes, shard_sizes)
def test_every_input_is_in_one_shard_and_no_shard_is_empty(sizes: list[int], shard_bytes: int) -> None:
    shards = balance(sizes, shard_bytes)
    assert len(shards) == len(sizes)
    assert set(shards) == set(range(len(set(shards))))


@given(sizes.filter(bool), shard_sizes)
def test_no_shard_is_heavier_than_the_mean_and_one_file(sizes: list[int], shard_bytes: int) -> None:
    shards = balance(sizes, shard_bytes)
    n_shards = len(set(shards))
    loads = [sum(size for size, shard in zip(sizes, shards, strict=True) if shard == s) for s in range(n_shards)]
    assert max(loads) <= sum(sizes) / n_shards + max(sizes)
    assert max(loads) - min(loads) <= max(sizes)
    # as few shards as hold shard_bytes on average, one file each at the most
    assert n_shards == min(len(sizes), max(1, -(-sum(sizes) // shard_bytes)))


@given(st.lists(names, unique=True, max_size=20), st.randoms())
@example(["line\u2028separator", "next\x85line", 'quote"', "new\nline"], random.Random(0))
def test_a_manifest_survives_any_file_name(names: list[str], choose: random.Random) -> None:
    """Line separators of Unicode, quotes and backslashes in a name do not break the file apart."""
    manifest = Manifest(tuple(InputFile(f"/data/{name}", choose.randrange(100), 0) for name in names))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest.jsonl")
        path.write_text(manifest.text(), encoding="utf-8")
        assert load_manifest(path) == manifest


def test_shards_do_not_depend_on_the_order_of_patterns_or_listing(tmp_path: Path) -> None:
    paths = write_inputs(tmp_path / "in", [5, 9, 1, 7, 3, 8, 2, 2])
    wanted = make_manifest(expand_inputs(["in/*.gz"], tmp_path), 12)
    shuffled = [str(path) for path in paths]
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        (tmp_path / "list").write_text("# a comment\n\n" + "\n".join(shuffled))
        for patterns in (shuffled, ["@list"], ["in/00[4-7]*", "in/*"], [*shuffled, "in/*"]):
            assert make_manifest(expand_inputs(patterns, tmp_path), 12) == wanted


def test_a_folder_and_a_file_with_brackets_in_their_names_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "crawl [2024]"
    folder.mkdir()
    (folder / "a[1].warc.gz").write_bytes(b"x")
    assert expand_inputs(["*.warc.gz"], folder) == [str(folder / "a[1].warc.gz")]
    assert expand_inputs(["a[1].warc.gz"], folder) == [str(folder / "a[1].warc.gz")]
    assert expand_inputs([str(folder / "a[1].warc.gz")], tmp_path) == [str(folder / "a[1].warc.gz")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nothing-*.gz", "'nothing-\\*.gz' match no file"),
        ("folder", "'folder' match no file"),
        ("@missing.txt", "input list .*missing.txt does not exist"),
        ("@stale.txt", "@stale.txt names 1 files that do not exist, the first is .*gone.warc.gz"),
        ("dangling.*", "names 1 files that do not exist, the first is .*dangling.warc.gz"),
        ("b*", "is not UTF-8"),
    ],
)
def test_inputs_that_cannot_be_are_named(tmp_path: Path, pattern: str, message: str) -> None:
    write_inputs(tmp_path / "folder", [1])
    (tmp_path / "stale.txt").write_text("folder/000.warc.gz\ngone.warc.gz\n")
    (tmp_path / "dangling.warc.gz").symlink_to("nowhere")
    (tmp_path / os.fsdecode(b"b\xff.gz")).touch()
    with pytest.raises(ManifestError, match=message):
        expand_inputs([pattern], tmp_path)


def test_frozen_new_and_missing_files_give_a_notice_and_change_nothing(tmp_path: Path) -> None:
    paths = write_inputs(tmp_path / "in", [5, 9, 1])
    first, notice = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    before = (tmp_path / "run/manifest.jsonl").read_bytes()
    assert notice is None and [len(s) for s in first.shards()] == [1, 2]
    (tmp_path / "in/new.gz").write_bytes(b"new")
    paths[0].unlink()
    again, notice = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    assert again == first and (tmp_path / "run/manifest.jsonl").read_bytes() == before
    assert notice is not None and "1 new (new.gz), 1 gone (000.warc.gz). They are not taken in" in notice
    assert "to do that, plan, run or submit with --take-inputs" in notice


def test_inputs_may_be_deleted_after_they_were_read(tmp_path: Path) -> None:
    for path in write_inputs(tmp_path / "in", [5, 9]):
        frozen, _ = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
        path.unlink()
    again, notice = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    assert again == frozen and notice is not None and "match no file" in notice and "is frozen" in notice


def test_another_shard_size_gives_a_notice(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in", [5, 9, 4])
    frozen, _ = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    again, notice = freeze(tmp_path / "run", ["in/*"], tmp_path, 800)
    assert again == frozen and notice is not None and "its 3 shards stay" in notice
    assert freeze(tmp_path / "run", ["in/*"], tmp_path, 8)[1] is None


def test_two_who_freeze_at_once_get_the_same_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first writer wins; the second takes what stands there."""
    import hpc.state.manifest as module

    write_inputs(tmp_path / "in", [5])
    publish = module.publish_text_once

    def overtaken(path: Path, text: str) -> bool:
        publish(path, make_manifest([str(tmp_path / "in/000.warc.gz")], 1).text())
        return publish(path, "another text\n")

    monkeypatch.setattr(module, "publish_text_once", overtaken)
    manifest, _ = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    assert [file.bytes for file in manifest.files] == [5]


# --- inputs of later ----------------------------------------------------------------------------------------------------


folders = st.dictionaries(st.sampled_from([f"/in/{name}" for name in "abcdefghijkl"]), st.tuples(st.integers(0, 9), st.integers(1, 3)))
"""What lies there at one time: path -> size and time of change."""

histories = st.lists(folders, min_size=1, max_size=6)


def seen(folder: dict[str, tuple[int, int]]) -> list[Seen]:
    return [Seen(path, size, mtime) for path, (size, mtime) in folder.items()]


def places(manifest: Manifest) -> dict[str, InputFile]:
    return {file.path: file for file in manifest.files}


def after(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> list[Manifest]:
    manifests = [Manifest(())]
    for folder in history:
        manifests.append(take_in(manifests[-1], seen(folder), shard_bytes)[0])
    return manifests[1:]


@given(histories, st.integers(1, 20))
def test_every_input_is_in_exactly_one_shard_whatever_happened_before(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> None:
    for folder, manifest in zip(history, after(history, shard_bytes), strict=True):
        assert sorted(file.path for shard in manifest.shards() for file in shard) == sorted(folder)
        assert {(file.path, file.bytes, file.mtime_ns) for file in manifest.files} == {(path, *stat) for path, stat in folder.items()}
        assert len(manifest.shards()) == manifest.n_shards
        assert not {file.path for file in manifest.gone} & folder.keys()


@given(histories, st.integers(1, 20))
def test_what_did_not_change_never_moves(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> None:
    """A file that was ever an input keeps its shard, an unaffected shard its number and all its files: no document id moves."""
    before = Manifest(())
    shard_of: dict[str, int] = {}
    for folder, manifest in zip(history, after(history, shard_bytes), strict=True):
        found, old = places(manifest), places(before)
        assert all(found[path].shard == shard for path, shard in shard_of.items() if path in found)
        assert manifest.n_shards >= before.n_shards
        assert all(found[path].shard >= before.n_shards for path in folder.keys() - shard_of.keys())
        for number, files in enumerate(before.shards()):
            if all(found.get(file.path) == file for file in files) and not {p for p in found if p not in old and shard_of.get(p) == number}:
                assert manifest.shards()[number] == files
        shard_of |= {path: file.shard for path, file in found.items()}
        before = manifest


@given(histories, st.integers(1, 20))
def test_a_version_rises_by_one_with_every_change_that_was_taken_in(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> None:
    last: dict[str, tuple[int, int]] = {}
    versions: dict[str, int] = {}
    for folder, manifest in zip(history, after(history, shard_bytes), strict=True):
        for path, stat in folder.items():
            versions[path] = versions.get(path, 0) + (path in last and last[path] != stat)
            assert places(manifest)[path].version == versions[path]
        last |= folder


@given(histories, st.integers(1, 20), st.randoms())
def test_taking_in_twice_changes_nothing_and_order_is_irrelevant(
    history: list[dict[str, tuple[int, int]]], shard_bytes: int, shuffle: random.Random
) -> None:
    manifest = after(history, shard_bytes)[-1]
    files = seen(history[-1])
    shuffle.shuffle(files)
    again, changes = take_in(manifest, files, shard_bytes)
    assert again == manifest and not changes and changes == Changes()
    shuffled = Manifest(())
    for folder in history:
        files = seen(folder)
        shuffle.shuffle(files)
        shuffled = take_in(shuffled, files, shard_bytes)[0]
    assert shuffled == manifest and shuffled.text() == manifest.text()


@given(histories, st.integers(1, 20))
def test_new_files_are_balanced_among_themselves(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> None:
    before, manifest = [Manifest(()), *after(history, shard_bytes)][-2:]
    new = sorted((file for file in manifest.files if file.shard >= before.n_shards), key=lambda file: file.path)
    assert [file.shard - before.n_shards for file in new] == balance([file.bytes for file in new], shard_bytes)
    assert manifest.n_shards == before.n_shards + len({file.shard for file in new})


@given(histories, st.integers(1, 20))
def test_a_manifest_of_many_takings_survives_its_file(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> None:
    manifest = after(history, shard_bytes)[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "manifest.jsonl")
        path.write_text(manifest.text(), encoding="utf-8")
        assert load_manifest(path) == manifest and load_manifest(path).fingerprint == manifest.fingerprint


@given(histories, st.integers(1, 20))
def test_the_fingerprint_tells_shards_apart_and_no_times(history: list[dict[str, tuple[int, int]]], shard_bytes: int) -> None:
    """Equal exactly when every shard holds the same files of the same sizes and versions."""
    manifests = after(history, shard_bytes)
    contents = [[[(file.path, file.bytes, file.version) for file in shard] for shard in manifest.shards()] for manifest in manifests]
    for one, of_one in zip(manifests, contents, strict=True):
        for other, of_other in zip(manifests, contents, strict=True):
            assert (one.fingerprint == other.fingerprint) == (of_one == of_other)


def test_a_file_that_comes_back_as_it_was_brings_its_old_manifest_back() -> None:
    """A filesystem that was not mounted for a day costs nothing."""
    first, _ = take_in(Manifest(()), [Seen("/in/a", 5, 1), Seen("/in/b", 5, 1)], 5)
    without, changes = take_in(first, [Seen("/in/a", 5, 1)], 5)
    assert changes == Changes(gone=("/in/b",)) and without.n_shards == 2 and without.shards()[1] == []
    assert without.fingerprint != first.fingerprint
    same, changes = take_in(without, [Seen("/in/a", 5, 1), Seen("/in/b", 5, 1)], 5)
    assert same == first and changes == Changes(back=("/in/b",))
    other, changes = take_in(without, [Seen("/in/a", 5, 1), Seen("/in/b", 5, 2)], 5)
    assert changes == Changes(changed=("/in/b",), back=("/in/b",), touched=1)
    assert places(other)["/in/b"] == InputFile("/in/b", 5, 1, 1, 2)


def test_a_manifest_without_versions_and_times_is_read_as_it_was(tmp_path: Path) -> None:
    """One that was frozen before there were versions: same fingerprint, and only another size is a change."""
    paths = write_inputs(tmp_path / "in", [5, 9])
    text = "".join(json.dumps({"bytes": b, "path": str(p), "shard": s}) + "\n" for p, b, s in zip(paths, [5, 9], [1, 0], strict=True))
    lines = sorted(text.splitlines(keepends=True), key=lambda line: json.loads(line)["shard"])
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    old = load_manifest(tmp_path / "manifest.jsonl")
    assert old.fingerprint == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert [(file.version, file.mtime_ns) for file in old.files] == [(0, 0), (0, 0)]
    assert freeze(tmp_path, ["in/*"], tmp_path, 8)[1] is None
    manifest, changes = refreeze(tmp_path, ["in/*"], tmp_path, 8)
    assert not changes and manifest.fingerprint == old.fingerprint
    assert [file.mtime_ns for file in manifest.files] == [path.stat().st_mtime_ns for path in reversed(paths)]
    assert list(tmp_path.glob("manifest.*.jsonl")) == []
    paths[0].write_bytes(b"x" * 6)
    os.utime(paths[1], ns=(1, 1))
    _, changes = refreeze(tmp_path, ["in/*"], tmp_path, 8)
    assert changes == Changes(changed=(str(paths[0]), str(paths[1])), touched=1)


def test_inputs_of_today_are_taken_in_and_the_older_manifest_is_kept(tmp_path: Path) -> None:
    paths = write_inputs(tmp_path / "in", [5, 9, 1, 4])
    run = tmp_path / "run"
    first, _ = freeze(run, ["in/*"], tmp_path, 8)
    text = (run / "manifest.jsonl").read_text()
    paths[0].write_bytes(b"other size")
    os.utime(paths[1], ns=(1, 1))
    paths[3].unlink()
    for name in ("new1.gz", "new2.gz"):
        (tmp_path / "in" / name).write_bytes(b"12345678")
    notice = freeze(run, ["in/*"], tmp_path, 8)[1]
    wanted = "2 new (new1.gz, ...), 2 changed (000.warc.gz, ...; 1 of them only in mtime, which counts as changed), 1 gone (003.warc.gz)"
    assert notice is not None and wanted in notice
    assert (run / "manifest.jsonl").read_text() == text
    manifest, changes = refreeze(run, ["in/*"], tmp_path, 8)
    assert changes.text() == wanted and load_manifest(run / "manifest.jsonl") == manifest
    assert (run / f"manifest.{first.fingerprint[:12]}.jsonl").read_text() == text
    was, now = places(first), places(manifest)
    assert [now[str(path)].shard for path in paths[:3]] == [was[str(path)].shard for path in paths[:3]]
    assert [now[str(path)].version for path in paths[:3]] == [1, 1, 0]
    assert {now[str(tmp_path / "in" / name)].shard for name in ("new1.gz", "new2.gz")} == {first.n_shards, first.n_shards + 1}
    # and what was taken in is no news any more
    assert freeze(run, ["in/*"], tmp_path, 8) == (manifest, None)
    inodes = {path: path.stat().st_ino for path in run.iterdir()}
    assert refreeze(run, ["in/*"], tmp_path, 8) == (manifest, Changes())
    assert {path: path.stat().st_ino for path in run.iterdir()} == inodes


def test_taking_in_makes_the_first_manifest_too(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in", [5, 9])
    assert refreeze(tmp_path / "run", ["in/*"], tmp_path, 8) == (freeze(tmp_path / "run", ["in/*"], tmp_path, 8)[0], Changes())


def test_inputs_that_are_all_gone_are_not_taken_in(tmp_path: Path) -> None:
    """An empty match is rather a filesystem that is not mounted; the manifest stays."""
    paths = write_inputs(tmp_path / "in", [5, 9])
    frozen, _ = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    for path in paths:
        path.unlink()
    with pytest.raises(ManifestError, match="match no file"):
        refreeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    assert load_manifest(tmp_path / "run/manifest.jsonl") == frozen
