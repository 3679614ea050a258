"""Work on many pages in one child process that the kernel ends when a page takes too long, whatever code it is in.

In: a function that asks its `Desk` about each page, and limits. Out: what the function returned (plain JSON). When the child
dies on a page, the work is run again, told to drop that page for a reason and to end behind it: one bad page costs one more
run of the pages before it.

Before each page the child arms a timer of CPU time (`setitimer`) whose signal has its default action: the kernel ends the
process, in the middle of a C call too, where no Python handler would run. That costs two system calls a page and no process.
CPU seconds, not seconds of a clock: a busy machine or a slow filesystem makes no page slow. A crash of native code ends the child alone,
and memory is limited (RLIMIT_DATA), so that a page fails before the machine does. The child is forked: it has the stage, its models and
compiled kernels at once, also those of a user's subclass. It dies with its parent, and leaves stop signals to it.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import mmap
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

TIMER, TIMER_SIGNAL = signal.ITIMER_PROF, signal.SIGPROF
"""CPU time of the process, in user and kernel mode."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)

OUT_OF_MEMORY = 99
"""Exit code of a child that was refused memory for a page. It leaves at once: what it has written may be half a record."""

MAX_RUNS = 8
"""Runs of one piece of work before it is believed that the machine is at fault, not its pages."""

PR_SET_PDEATHSIG = 1
_PAGE = struct.Struct("q")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Died:
    """How a child ended without an answer. `page`: the number it worked on, 0 between two pages; `signal`: 0 after a call of exit()."""

    page: int
    signal: int
    code: int

    @property
    def reason(self) -> str:
        """Why the page is dropped: `too_slow`, `page_out_of_memory` or `page_crashed`."""
        if self.signal == TIMER_SIGNAL:
            return "too_slow"
        return "page_out_of_memory" if self.signal == signal.SIGKILL or self.code == OUT_OF_MEMORY else "page_crashed"

    @property
    def certain(self) -> bool:
        """Whether the page itself was measured. A crash, or a kill from outside, must happen twice to be held against it."""
        return self.signal == TIMER_SIGNAL or self.code == OUT_OF_MEMORY

    def to_error(self) -> Exception:
        how = f"killed by {signal.Signals(self.signal).name}" if self.signal else f"left with exit code {self.code}"
        where = f"at its page {self.page}" if self.page else "between two pages"
        text = f"the child process was {how} {where}; expected a page to be at fault twice. "
        if self.signal == signal.SIGKILL:
            return MemoryError(text + "The kernel kills so for want of memory: give the stage more (mem_gb)")
        return RuntimeError(text + "Run the stage with page_seconds = 0 to see it happen in the process itself")


class Desk:
    """What the work asks and tells, page by page. Without limits (no child) it does nothing."""

    def __init__(self, shared: mmap.mmap | None = None, cpu_seconds: float = 0.0, dropped: tuple[int, str] = (0, "")) -> None:
        self._shared, self._seconds, self._dropped = shared, cpu_seconds, dropped

    def reason_against(self, number: int) -> str | None:
        """Why page `number`, 1 or more, is to be dropped unseen; the work then ends behind it."""
        return self._dropped[1] if number == self._dropped[0] else None

    @contextmanager
    def page(self, number: int) -> Iterator[None]:
        """Work on page `number` for at most so many CPU seconds."""
        if self._shared is None:
            yield
            return
        _PAGE.pack_into(self._shared, 0, number)
        signal.setitimer(TIMER, self._seconds)
        try:
            yield
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        finally:
            signal.setitimer(TIMER, 0)
        _PAGE.pack_into(self._shared, 0, 0)


def run_watched(work: Callable[[Desk], Any], cpu_seconds: float, memory_bytes: int) -> Any:
    """What `work(desk)` returns, in a child; in this process where `cpu_seconds` is 0.

    Raises what it raises; errors that are not built in become `RuntimeError` of the same text. `MemoryError` or `RuntimeError` when
    children die and no page is to blame.
    """
    if not cpu_seconds:
        return work(Desk())
    dropped = (0, "")
    suspect: Died | None = None
    for _ in range(MAX_RUNS):
        outcome = _run_once(work, cpu_seconds, memory_bytes, dropped)
        if not isinstance(outcome, Died):
            return _open(outcome)
        if not outcome.page:
            break
        if outcome.certain or (suspect and suspect.page == outcome.page):
            dropped = (outcome.page, outcome.reason)
        suspect = outcome
    assert isinstance(outcome, Died)
    raise outcome.to_error()


def _run_once(work: Callable[[Desk], Any], cpu_seconds: float, memory_bytes: int, dropped: tuple[int, str]) -> bytes | Died:
    """The child's answer, or how it died."""
    with mmap.mmap(-1, mmap.PAGESIZE) as shared:
        desk = Desk(shared, cpu_seconds, dropped)
        answers, sender = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(answers)
            _be_child(work, desk, sender, parent, memory_bytes)
        os.close(sender)
        status = None
        try:
            with os.fdopen(answers, "rb") as pipe:
                answer = pipe.read()
            status = os.waitpid(child, 0)[1]
        finally:
            if status is None:  # interrupted: nobody waits for the answer
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        if status == 0 and answer:
            return answer
        killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return Died(_PAGE.unpack_from(shared, 0)[0], killer, 0 if killer else os.WEXITSTATUS(status))


# --- in the child -----------------------------------------------------------------------------------------------------


def _be_child(work: Callable[[Desk], Any], desk: Desk, sender: int, parent: int, memory_bytes: int) -> NoReturn:
    """Never returns into what the parent was doing, and runs none of its clean-up."""
    code = 1
    try:
        _settle(parent, memory_bytes)
        try:
            answer = json.dumps({"result": work(desk)})
        except BaseException as error:
            answer = json.dumps({"error": _told(error)})
        sys.stdout.flush()
        sys.stderr.flush()
        with os.fdopen(sender, "wb") as pipe:
            pipe.write(answer.encode())
        code = 0
    finally:
        os._exit(code)


def _settle(parent: int, memory_bytes: int) -> None:
    for number in STOP_SIGNALS:  # the parent decides: it waits for the slice, or kills us
        signal.signal(number, signal.SIG_IGN)
    signal.signal(TIMER_SIGNAL, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [TIMER_SIGNAL])
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went before we asked
            os._exit(1)
        _limit_memory(memory_bytes)


def _limit_memory(more: int) -> None:
    """Let the process take `more` bytes beyond what it holds. Files mapped into memory do not count."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + more
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _told(error: BaseException) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "text": str(error),
        "os": [error.errno, error.strerror, error.filename and str(error.filename)] if isinstance(error, OSError) and error.errno else None,
        "trace": "".join(traceback.format_exception(error)),
    }


# --- in the parent ----------------------------------------------------------------------------------------------------


def _open(answer: bytes) -> Any:
    message = json.loads(answer)
    if "error" not in message:
        return message["result"]
    raise _rebuilt(message["error"])


def _rebuilt(told: dict[str, Any]) -> BaseException:
    """The error as it was, if it is built in; its trace is a note."""
    kind = getattr(builtins, told["type"], None)
    error: BaseException
    if told["os"]:
        error = OSError(*told["os"])
    elif isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError):
        error = kind(told["text"])
    elif kind is SystemExit:
        error = SystemExit(told["text"])
    else:
        error = RuntimeError(f"{told['type']}: {told['text']}")
    error.add_note(f"in the child process:\n{told['trace']}")
    return error
