"""`ccpipe build-blocklist` and `ccpipe blocklist-check`: what they print and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ccpipe.urls import Blocklist
from jobs import cli


def write_lists(folder: Path) -> None:
    (folder / "ut1" / "adult").mkdir(parents=True)
    (folder / "ut1" / "adult" / "domains").write_text("bad.example\nxxx\nbad.example\n")
    (folder / "ads.hosts").write_text("# ads\n127.0.0.1 localhost\n0.0.0.0 ads.example\n0.0.0.0 bad.example\n\nbroken..line\n")
    (folder / "words.txt").write_text("casino\n")


def test_a_build_says_what_became_of_every_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path)
    out = tmp_path / "out.blocklist"
    command = ["build-blocklist", str(out), str(tmp_path / "ut1"), f"Ad Servers={tmp_path / 'ads.hosts'}"]
    assert cli.main([*command, "--banned-words", str(tmp_path / "words.txt")]) == 0
    shown = re.sub(" +", " ", capsys.readouterr().out)
    for row in (
        "adult 1",
        "ad_servers 1",
        "lines read 9",
        "names in them 7",
        "entries 2",
        "again in the same category 1",
        "in an earlier category 1",
    ):
        assert f"{row} \n" in shown, row
    for row in ("malformed 1 broken..line", "public_suffix 1 xxx", "single_label 1 127.0.0.1 localhost", "words: hard 1"):
        assert row in shown, row
    assert [Blocklist.open(out).reason(f"http://{host}/") for host in ("bad.example", "ads.example", "casino.example", "a.xxx")] == [
        "url_blocked_adult",
        "url_blocked_ad_servers",
        "url_banned_word",
        None,
    ]
    assert cli.main([*command, "--suffix", "xxx", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["entries"] == 3 and answer["skipped"] == {"blank": 1, "comment": 1, "malformed": 1, "single_label": 1}
    assert answer["bytes"] == out.stat().st_size and Blocklist.open(out).match("http://a.xxx") == "adult"


def test_a_check_names_the_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path)
    out = str(tmp_path / "out.blocklist")
    assert cli.main(["build-blocklist", out, str(tmp_path / "ut1")]) == 0
    capsys.readouterr()
    assert cli.main(["blocklist-check", out, "http://www.bad.example/x", "http://good.example/", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["urls"] == [
        {"url": "http://www.bad.example/x", "reason": "url_blocked_adult", "entry": "bad.example"},
        {"url": "http://good.example/", "reason": None, "entry": None},
    ]
    assert cli.main(["blocklist-check", out, "http://www.bad.example/x", "http://good.example/"]) == 0
    shown = re.sub(" +", " ", capsys.readouterr().out)
    assert "http://www.bad.example/x url_blocked_adult bad.example" in shown and "http://good.example/ not blocked" in shown
    assert cli.main(["blocklist-check", out]) == 0
    assert "adult 1" in re.sub(" +", " ", capsys.readouterr().out)


def test_what_cannot_be_built_or_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path)
    out, lists = str(tmp_path / "out.blocklist"), str(tmp_path / "ut1")
    (tmp_path / "cut").write_bytes(b"CCBLOCK2" + bytes(20))
    for arguments, message in (
        (["build-blocklist", out, f"adult={tmp_path}/nowhere"], r"no file or folder .*nowhere; expected plain lists"),
        (["build-blocklist", f"{tmp_path}/no/folder/x", lists], r"no folder .*/no/folder; expected one to write x into: make it first"),
        (
            ["build-blocklist", out, lists, "--banned-words", f"{tmp_path}/nowhere"],
            r"no file .*nowhere; expected a text file with one word",
        ),
        (["build-blocklist", out, lists, "--soft-limit", "0"], r"0 soft words; expected 1 to 16: give another --soft-limit"),
        (["blocklist-check", out], r"no file or folder .*out.blocklist; expected a compiled block list or lists"),
        (["blocklist-check", f"{tmp_path}/cut"], r"its header is damaged; expected JSON: build it again"),
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1, error
        assert not Path(out).exists()
