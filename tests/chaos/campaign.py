"""A chaos campaign on a real Slurm: rounds of small flows, disturbed at random, each of which must end as if nothing had happened.

    python tests/chaos/campaign.py --minutes 3 --seed 7        (or --hours 1)

Each round submits a flow of eight stages and 168 units as job arrays with gates, on a small disk of its own; faults are drawn
from the seed while it runs; then gates and `ccpipe retry` finish it, and the verdict is computed from files (verdict.py).
Needs root and Slurm (tests/slurm/install.sh). Prints what was injected and survived; the exit code is 1 where a law was broken.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "slurm"))

from cluster import SlurmCluster, why_not
from disk import small_disk
from faults import FAULTS, can
from flow_round import FLOOR, STAGES, Round, flow_toml
from inputs import make_inputs
from pipeline import Pipeline
from verdict import (
    check_committed_once,
    check_counts,
    check_failures,
    check_no_orphans,
    check_nobody_works,
    check_nothing_done_again,
    check_outputs,
    digests,
)
from watcher import Watcher

PAUSE_S = 1.0
"""A slice lasts at least this long."""

FINISH_S = 240.0
MAX_RESUBMISSIONS = 6
"""After the last fault: what a user must type `ccpipe retry` at most, and how long it may take."""

SHOWN = 20
"""Violations of one round that are printed, and of a campaign that are in its line of JSON."""

DISKS = ("tmpfs", "ext4")
PARTITIONS = ("main", "scrap")


@dataclass
class Undisturbed:
    """SHA-256 of every output by its path, of the flow as it is and with the other threshold."""

    usual: dict[str, str]
    edited: dict[str, str]


@dataclass
class Tally:
    """What a campaign has done so far. A fault is survived when the verdict on its round holds."""

    seed: int
    began: float = field(default_factory=time.monotonic)
    rounds: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    units: int = 0
    resubmissions: int = 0
    released: int = 0
    slices: int = 0
    slices_begun_twice: int = 0
    violations: list[str] = field(default_factory=list)

    def table(self) -> str:
        width = max(map(len, FAULTS))
        lines = [f"{'fault':<{width}}  injected  survived"]
        lines += [f"{kind:<{width}}  {self.injected[kind]:8d}  {self.survived[kind]:8d}" for kind in FAULTS]
        total = f"{'together':<{width}}  {self.injected.total():8d}  {self.survived.total():8d}"
        return "\n".join([*lines, total])

    def line(self) -> str:
        """Everything as one line of JSON."""
        value = {key: dict(item) if isinstance(item, Counter) else item for key, item in vars(self).items() if key != "began"}
        value |= {"violations": self.violations[:SHOWN], "n_violations": len(self.violations)}
        return json.dumps(value | {"minutes": round((time.monotonic() - self.began) / 60, 1), "faults": self.injected.total()})


def undisturbed(slurm: SlurmCluster, folder: Path, inputs: Path) -> Undisturbed:
    """Run the flow on this machine, twice: as it is, and with the other threshold."""
    pipeline = Pipeline(slurm, folder)
    shutil.copy(STAGES, folder)
    found = []
    for floor in (FLOOR, 2 * FLOOR):
        pipeline.configure(flow_toml(inputs, None, 0, floor))
        pipeline.ok("local")
        found.append(digests(pipeline.run))
    return Undisturbed(*found)


def kinds(rng: random.Random) -> Iterator[str]:
    """Faults for ever, in random order, each as often as any other."""
    while True:
        bag = list(FAULTS)
        rng.shuffle(bag)
        yield from bag


def disturb(round_: Round, drawn: Iterator[str], n_faults: int, tally: Counter[str], say: bool) -> None:
    """Inject `n_faults` faults while the flow runs; one that finds no victim waits until there is one."""
    waiting: list[str] = []
    due = time.monotonic() + round_.rng.uniform(2, 6)
    while tally.total() < n_faults and not round_.over():
        round_.tick()
        round_.resubmit_if_idle()
        if time.monotonic() < due:
            time.sleep(0.1)
            continue
        if len(waiting) < min(3, n_faults - tally.total()):
            waiting.append(next(drawn))
        for kind in list(waiting):
            if (what := inject(round_, kind)) is not None:
                waiting.remove(kind)
                tally[kind] += 1
                if say:
                    print(f"  {time.strftime('%H:%M:%S')} {kind}: {what}", flush=True)
                # some hit what the one before has left
                due = time.monotonic() + round_.rng.choice((0.0, *[round_.rng.uniform(1, 5)] * 3))
                break
        else:
            time.sleep(0.3)


def inject(round_: Round, kind: str) -> str | None:
    """What was done, or None: no victim, or it ended just now (Slurm then refuses)."""
    try:
        return FAULTS[kind](round_)
    except RuntimeError as error:
        print(f"  {kind}: {error}", file=sys.stderr)
        return None


def judge(round_: Round, watcher: Watcher, expected: Undisturbed) -> list[str]:
    """All laws, in the order in which they are easiest to understand."""
    run = round_.run
    broken = list(round_.violations)
    broken += check_committed_once(run, watcher.winners)
    broken += check_outputs(run, expected.usual)
    broken += check_counts(run)
    broken += check_nothing_done_again(round_.pipeline.noted(), watcher.seen, round_.frozen)
    broken += check_failures(run)
    broken += check_nobody_works(run)
    if round_.threshold_edited:
        broken += judge_edited(round_, expected)
    if can("gc"):
        done = round_.ccpipe("gc", "--yes", must=True)
        broken += [f"gc returned {done.returncode}"] if done.returncode else []
        broken += check_outputs(run, expected.usual)
        broken += check_no_orphans(run)
    return list(dict.fromkeys(broken))


def judge_edited(round_: Round, expected: Undisturbed) -> list[str]:
    """The new version beside the old one is brought to its end too, and has the bytes of its own undisturbed run."""
    round_.configure(floor=2 * FLOOR)
    round_.ccpipe("plan", must=True)
    round_.finish_as_configured(FINISH_S, MAX_RESUBMISSIONS)
    broken = check_outputs(round_.run, expected.edited) + check_counts(round_.run)
    round_.configure()
    round_.ccpipe("plan", must=True)
    return broken + round_.violations


def play(
    slurm: SlurmCluster, folder: Path, inputs: Path, expected: Undisturbed, drawn: Iterator[str], rng: random.Random, tally: Tally
) -> None:
    """One round, from an empty folder to its verdict. The folder of a round that broke a law is kept."""
    number = tally.rounds
    kind, partition = DISKS[number % 2], PARTITIONS[number // 2 % 2 ^ number % 2]
    # every kind once in the first round
    n_faults = len(FAULTS) + (rng.randint(-5, 5) if number else 0)
    print(f"round {number}: {n_faults} faults, {kind}, partition {partition}", flush=True)
    pipeline = Pipeline(slurm, folder)
    with small_disk(pipeline.run, kind) as disk:
        round_ = Round(slurm, pipeline, disk, inputs, partition, random.Random(rng.random()), PAUSE_S)
        injected: Counter[str] = Counter()
        with Watcher(round_.run) as watcher:
            round_.start()
            try:
                disturb(round_, drawn, n_faults, injected, say=True)
            finally:
                round_.finish(FINISH_S, MAX_RESUBMISSIONS)
        broken = judge(round_, watcher, expected)
        if broken:
            shutil.copytree(round_.run, folder / "run-as-judged", symlinks=True, dirs_exist_ok=True)
    begun = [(line["stage"], line["fp12"], line["unit"], line["slice"]) for line in pipeline.noted()]
    tally.rounds += 1
    tally.injected += injected
    tally.units += sum(1 for piece in watcher.seen if piece[3] is None)
    tally.resubmissions += round_.resubmissions
    tally.released += round_.released
    tally.slices += len(set(begun))
    tally.slices_begun_twice += len(begun) - len(set(begun))
    if broken:
        tally.violations += [f"round {number}: {line}" for line in broken]
        shown = [f"  BROKEN: {line}" for line in broken[:SHOWN]] + (
            [f"  ... and {len(broken) - SHOWN} more"] if len(broken) > SHOWN else []
        )
        print("\n".join(shown), f"  kept: {folder}", sep="\n", flush=True)
    else:
        tally.survived += injected
        shutil.rmtree(folder)


def run_campaign(seed: int, minutes: float, folder: Path) -> Tally:
    """Rounds until the time is up; at least one. What broke a law stays in `folder`."""
    rng, tally = random.Random(seed), Tally(seed)
    drawn = kinds(rng)
    print(f"chaos campaign, seed {seed}, {minutes:g} minutes", flush=True)
    inputs = make_inputs(folder)
    with SlurmCluster.start() as slurm:
        expected = undisturbed(slurm, folder / "undisturbed", inputs)
        first = time.monotonic()
        while not tally.rounds or time.monotonic() - tally.began + (time.monotonic() - first) / tally.rounds < minutes * 60:
            play(slurm, folder / f"round-{tally.rounds}", inputs, expected, drawn, rng, tally)
            slurm.reset()
    print(tally.table(), tally.line(), sep="\n", flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the random faults (default: the time)")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long; a round takes about one")
    parser.add_argument("--hours", type=float, help="how long, instead of minutes")
    args = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    # leaving in order: the cluster is stopped, the disk unmounted
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="ccpipe-chaos-"))
    tally = run_campaign(args.seed, args.hours * 60 if args.hours else args.minutes, folder)
    if tally.violations:
        print(f"{len(tally.violations)} violations; the rounds are kept in {folder}; again: --seed {args.seed}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
