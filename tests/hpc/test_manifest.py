"""The manifest: every input in exactly one shard, shards balanced, written once."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpc.manifest import InputFile, Manifest, ManifestError, balance, expand_inputs, freeze, load_manifest, make_manifest

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
    assert notice is not None and "1 new files, 1 no longer named" in notice


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
    import hpc.manifest as module

    write_inputs(tmp_path / "in", [5])
    publish = module.publish_text_once

    def overtaken(path: Path, text: str) -> bool:
        publish(path, make_manifest([str(tmp_path / "in/000.warc.gz")], 1).text())
        return publish(path, "another text\n")

    monkeypatch.setattr(module, "publish_text_once", overtaken)
    manifest, _ = freeze(tmp_path / "run", ["in/*"], tmp_path, 8)
    assert [file.bytes for file in manifest.files] == [5]
