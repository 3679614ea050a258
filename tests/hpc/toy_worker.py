"""One worker process of the toy stage, as a task starts it: `toy_worker.py RUN FP12 WORKER OF MODE`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from toy import Squares

from hpc.state.launch import start_order
from hpc.state.state import StageState
from hpc.workers.task import StopFlag, stop_when_orphaned
from hpc.workers.worker import Worker


class Moody(Squares):
    """`poison`: unit 002 kills the process that touches it; `exits`, `exits natively`: it ends it.

    `slow`: a slice takes a while; `idle`: dies before any claim."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def slice(self, unit: Any, inputs: Any, folder: Path, cursor: Any) -> Any:
        if self.mode == "poison" and unit.id == "002":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "exits" and unit.id == "002":
            sys.exit(7)
        if self.mode == "exits natively" and unit.id == "002":
            os._exit(0)
        if self.mode == "slow":
            time.sleep(0.05)
        return super().slice(unit, inputs, folder, cursor)


def main() -> int:
    run, fp12, worker, of, mode = sys.argv[1:]
    if mode == "crash":
        raise RuntimeError("cannot even start")
    stop = stop_when_orphaned(StopFlag().install())
    state = StageState(Path(run), "squares", fp12)
    (Path(run) / f"env-{worker}.txt").write_text("\n".join(f"{key}={value}" for key, value in sorted(os.environ.items())))
    if mode == "idle":
        os.kill(os.getpid(), signal.SIGKILL)
    units = start_order(state.plan.largest_first, int(worker), int(of))
    return Worker(state, Moody(mode), units, stop, poll_s=0.05).run().exit_code


if __name__ == "__main__":
    sys.exit(main())
