"""The watchdog: a page that hangs, crashes or grows in native code costs itself alone, and no child outlives its parent."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_extract import Done, run
from warc_pages import html, member, page, record, response

from ccpipe.extract import Extract
from ccpipe.warc import Record
from ccpipe.watchdog import Desk, run_watched

GB = 1 << 30


class Trapped(Extract):
    """A user's subclass whose native code goes wrong on some pages."""

    def _read_page(self, record: Record) -> dict[str, Any]:
        what = re.search(rb"trap=(\w+)", record.block)
        if what:
            getattr(self, what[1].decode())()
        return super()._read_page(record)

    def hang(self) -> None:
        """In one C call that takes longer than anybody waits."""
        re.match("(a+)+b", "a" * 64)

    def crash(self) -> None:
        ctypes.string_at(1)

    def leave(self) -> None:
        ctypes.CDLL(None).exit(3)

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def grow(self) -> None:
        bytearray(8 * GB)


def archive(tmp_path: Path, *traps: str) -> Path:
    """Pages 0..11; those of `traps` come after page 2, 5, 8."""
    parts = []
    for n in range(12):
        parts.append(member(page(n)))
        if n % 3 == 2 and n // 3 < len(traps):
            parts.append(member(record(response(html(f"<p>trap={traps[n // 3]}</p>")), 100 + n)))
    path = tmp_path / f"{'-'.join(traps) or 'sound'}.warc.gz"
    path.write_bytes(b"".join(parts))
    return path


def run_trapped(tmp_path: Path, *traps: str, **config: object) -> Done:
    return run(tmp_path / "run", [archive(tmp_path, *traps)], stage_class=Trapped, **{"page_seconds": 0.5, **config})


REASONS = {
    "hang": "too_slow",
    "crash": "page_crashed",
    "leave": "page_crashed",
    "kill": "page_out_of_memory",
    "grow": "page_out_of_memory",
}


@pytest.mark.parametrize("trap", REASONS)
def test_a_page_that_breaks_native_code_is_dropped_and_all_others_are_kept(tmp_path: Path, trap: str) -> None:
    sound = run(tmp_path / "sound", [archive(tmp_path)], page_seconds=0)
    done = run_trapped(tmp_path, trap)
    assert dict(done.counts.dropped) == {REASONS[trap]: 1}
    assert done.texts == sound.texts
    assert done.rows["digest"] == sound.rows["digest"]


def test_several_bad_pages_in_one_slice(tmp_path: Path) -> None:
    done = run_trapped(tmp_path, "crash", "hang", "grow")
    assert dict(done.counts.dropped) == {"page_crashed": 1, "too_slow": 1, "page_out_of_memory": 1}
    assert done.counts.kept == 12


def test_bytes_do_not_depend_on_the_child(tmp_path: Path) -> None:
    path = archive(tmp_path)
    inside, watched = (run(tmp_path / str(seconds), [path], page_seconds=seconds) for seconds in (0, 10))
    assert (inside.wet, inside.base, inside.counts) == (watched.wet, watched.base, watched.counts)


@pytest.mark.parametrize("trap", ["unclosed_divs", "attributes"])
def test_pages_of_quadratic_cost_end_in_time_without_the_guards(tmp_path: Path, trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 unclosed <div> take lexbor minutes in one call, many attributes likewise; here the guards let them through."""
    monkeypatch.setattr("ccpipe.html.guards.broken_rule", lambda *args: None)
    body = {"unclosed_divs": b"<div>" * 200_000, "attributes": b"<p " + b" ".join(b"a%d" % i for i in range(200_000)) + b">x"}[trap]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(member(page(1)) + member(page(2, body)) + member(page(3)))
    done = run(tmp_path / "run", [path], page_seconds=0.5)
    assert dict(done.counts.dropped) == {"too_slow": 1}
    assert [row["url"][-1] for row in done.rows.to_pylist()] == ["1", "3"]


def test_a_kill_that_does_not_happen_again_is_not_held_against_the_page(tmp_path: Path) -> None:
    """The kernel takes whoever is largest when the machine is short of memory, not whoever is to blame."""
    once = tmp_path / "once"

    def work(desk: Desk) -> list[int]:
        with desk.page(1):
            if not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [desk.reason_against(1) is None]

    assert run_watched(work, 5, GB) == [True]


def test_a_child_that_dies_between_pages_is_an_error_that_says_so() -> None:
    def killed(desk: Desk) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def crashed(desk: Desk) -> None:
        ctypes.string_at(1)

    with pytest.raises(MemoryError, match="killed by SIGKILL between two pages"):
        run_watched(killed, 5, GB)
    with pytest.raises(RuntimeError, match=r"SIGSEGV between two pages.*page_seconds = 0"):
        run_watched(crashed, 5, GB)


def test_errors_come_through_as_they_are() -> None:
    def full(desk: Desk) -> None:
        raise OSError(28, "No space left on device", "/x")

    def odd(desk: Desk) -> None:
        class Odd(Exception):
            pass

        raise Odd("odd")

    with pytest.raises(OSError) as seen:
        run_watched(full, 5, GB)
    assert (seen.value.errno, seen.value.filename) == (28, "/x")
    with pytest.raises(RuntimeError, match="Odd: odd") as other:
        run_watched(odd, 5, GB)
    assert "in odd" in other.value.__notes__[0]


def test_stop_signals_are_left_to_the_parent() -> None:
    """A scheduler signals every process of a job; the slice in hand is finished all the same."""

    def work(desk: Desk) -> str:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        return "finished"

    assert run_watched(work, 5, GB) == "finished"


ORPHAN = """
import os, sys
from pathlib import Path
from ccpipe.watchdog import run_watched
def work(desk):
    Path(sys.argv[1]).write_text(str(os.getpid()))
    while True:
        pass
run_watched(work, 60, 1 << 30)
"""


def test_no_child_outlives_a_killed_parent(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", ORPHAN, str(told)]) as parent:
        while not told.exists() or not told.read_text():
            time.sleep(0.02)
        child = int(told.read_text())
        parent.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and _runs(child):
        assert time.monotonic() < until, "the child goes on"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
