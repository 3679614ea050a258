"""A real Slurm of several virtual nodes on this one machine, private to a test run.

`with SlurmCluster.start() as slurm:` gives munged, mariadbd, slurmdbd, slurmctld and one slurmd for each node, all in one
folder under the temporary directory, on free ports, with their own SLURM_CONF; nothing in /etc or /run is read or written.
Needs root and the packages of `install.sh`. Leaving the block kills every daemon and job and deletes the folder; what a
killed test run left behind is swept away by the next start. `python tests/slurm/cluster.py` keeps one running for a person.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from processes import MARK, is_alive, kill_marked, start_time
from slurm_files import CGROUP_CONF, CGROUPS_V1, Layout, database_arguments, database_init, gres_conf, slurm_conf, slurmdbd_conf

PROGRAMS = ("munged", "mungekey", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")
FOLDER_PREFIX = "ccpipe-slurm-"
OWNER_FILE = "owner.json"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
FINAL_STATES = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"]
)


def why_not() -> str | None:
    """Why the cluster cannot start here, or None."""
    if os.geteuid() != 0:
        return "the test cluster needs root (slurmd starts jobs as their users)"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}")]
    return f"not installed: {', '.join(missing)}; type: sh tests/slurm/install.sh" if missing else None


def has_memory_cgroups() -> bool:
    """Whether the kernel offers memory limits (cgroups version 1, writable) to the test cluster."""
    return os.access(CGROUPS_V1 / "cgroup.procs", os.W_OK)


def remove_cgroup(folder: Path) -> None:
    """A cgroup is removed from the innermost folder outwards, by rmdir alone."""
    for inner in sorted((path for path in folder.glob("**/") if path != folder), reverse=True):
        inner.rmdir()
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()


@dataclass
class SlurmCluster:
    """Handle of a running cluster. `root` is its folder; jobs may use `root / "work"` as their shared filesystem."""

    layout: Layout
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.layout.root

    @property
    def nodes(self) -> tuple[str, ...]:
        return self.layout.nodes

    @classmethod
    @contextlib.contextmanager
    def start(
        cls, n_nodes: int = 4, gpus_per_node: int = 2, grace_s: int = 5, max_array_size: int = 200, memory_cgroups: bool = False
    ) -> Iterator[SlurmCluster]:
        """Start the daemons, wait until every node is idle; on leaving, stop all and delete the folder.

        Each node has 4 CPUs and 2000 MB for jobs to ask for. A preempted job is killed `grace_s` after its warning, or up to
        30 s later. `memory_cgroups`: limits by the kernel, where `has_memory_cgroups()`; nodes then get unusual names, since
        Slurm names cgroups after them and two clusters must not share one.
        """
        sweep_leftovers()
        root = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        (root / OWNER_FILE).write_text(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
        root.chmod(0o755)
        prefix = f"p{os.getpid()}n" if memory_cgroups else "n"
        nodes = tuple(f"{prefix}{i + 1}" for i in range(n_nodes))
        ctld, dbd, db, *slurmds = free_ports(3 + n_nodes)
        layout = Layout(
            root,
            nodes,
            cpus_per_node=4,
            mem_mb_per_node=2000,
            gpus_per_node=gpus_per_node,
            grace_s=grace_s,
            memory_cgroups=memory_cgroups,
            max_array_size=max_array_size,
            ctld_port=ctld,
            dbd_port=dbd,
            db_port=db,
            node_ports=tuple(slurmds),
            db_password=secrets.token_hex(12),
        )
        cluster = cls(layout)
        try:
            cluster._write_files()
            cluster._start_all()
            yield cluster
        finally:
            cluster.stop()

    # ---- what tests call

    def env(self) -> dict[str, str]:
        """This process's environment without Slurm's variables, and SLURM_CONF of this cluster."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "SRUN_", MARK))}
        return env | {"SLURM_CONF": str(self.layout.slurm_conf), "PATH": f"{os.environ['PATH']}:{SBIN}"}

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Run a Slurm command (or any other) against this cluster; its output. Raises `RuntimeError` with stderr on failure."""
        done = subprocess.run(
            [str(word) for word in command], env=self.env() | dict(env or {}), cwd=cwd, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} returned {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def sbatch(self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Submit; the job id as text."""
        return self.run("sbatch", "--parsable", *arguments, env=env, cwd=cwd).partition(";")[0]

    def squeue(self, *arguments: str) -> dict[str, str]:
        """Job or element id (`7`, `7_3`) -> state such as RUNNING, of what is queued or runs."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T", *arguments).splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def sacct(self, job_id: str, *fields: str, duplicates: bool = False) -> list[dict[str, str]]:
        """Accounting rows of a job, without its steps. `duplicates`: one row for each time that it was started."""
        names = ["JobID", "State", *fields]
        more = ["--duplicates"] if duplicates else []
        out = self.run("sacct", "--noheader", "--parsable2", "--allocations", f"--format={','.join(names)}", "-j", job_id, *more)
        return [dict(zip(names, line.split("|"), strict=True)) for line in out.splitlines()]

    def states(self, job_id: str) -> dict[str, str]:
        """Element id -> its latest state in accounting, first word only (`CANCELLED by 0` is CANCELLED)."""
        return {element: row["State"].split()[0] for row in self.sacct(job_id) for element in expand_elements(row["JobID"])}

    def wait_job(self, job_id: str, timeout: float = 60) -> dict[str, str]:
        """Wait until all elements of a job are over; element id -> final state, from the controller (accounting lags by 1-2 s)."""
        self.wait_until(lambda: set(self.all_states(job_id).values()) <= FINAL_STATES, timeout, f"job {job_id} to end")
        return self.all_states(job_id)

    def all_states(self, job_id: str) -> dict[str, str]:
        """Element id -> state, finished elements included (the controller remembers them for an hour)."""
        return self.squeue(f"--jobs={job_id}", "--states=all")

    def wait_accounted(self, job_id: str, timeout: float = 20) -> dict[str, str]:
        """Wait until accounting agrees with the controller about a finished job; element id -> final state in accounting."""
        known = self.wait_job(job_id)
        self.wait_until(lambda: self.states(job_id) == known, timeout, f"sacct to report {known}")
        return known

    def wait_running(self, element: str, timeout: float = 30) -> None:
        self.wait_until(lambda: self.all_states(element).get(element) == "RUNNING", timeout, f"{element} to run")

    def wait_until(self, true: Callable[[], object], timeout: float, what: str) -> None:
        """Ask five times a second. Raises `TimeoutError` with the queue as it stands."""
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                queue = self.run("squeue", "--array", "--format=%i %T %r %N %S")
                raise TimeoutError(f"waited {timeout:g} s for {what}; the queue:\n{queue}\nlogs in {self.root}")
            time.sleep(0.2)

    def requeue(self, element: str) -> None:
        """Send a running job or element back to the queue."""
        self.run("scontrol", "requeue", element)

    def node_of(self, element: str) -> str:
        """Node on which an element runs."""
        return self.run("squeue", "--noheader", f"--jobs={element}", "--format=%N")

    def end_time_limit(self, element: str) -> None:
        """Let a running job's time be over: TIMEOUT, as soon as the controller looks, every 30 s. No time limit under 1 min exists."""
        self.run("scontrol", "update", f"JobId={element}", "EndTime=now+1")

    def end_out_of_memory(self, element: str) -> None:
        """End a running job as OUT_OF_MEMORY, which the plugin task/cgroup would report as "signal" 253."""
        raw_id = self.run("squeue", "--noheader", "--array", f"--jobs={element}", "--format=%A")
        library = f"ctypes.CDLL({str(find_libslurm())!r}, ctypes.RTLD_GLOBAL)"
        code = f"import ctypes; lib = {library}; lib.slurm_init(None); exit(lib.slurm_complete_job({raw_id}, 253))"
        self.run(sys.executable, "-c", code)

    def preempt(self, node: str, seconds: float = 1) -> str:
        """Submit an urgent job that needs the whole of a node: what runs there on `main` is requeued. Its job id."""
        whole = [f"--nodelist={node}", f"--cpus-per-task={self.layout.cpus_per_node}", "--mem=100"]
        return self.sbatch("--partition=urgent", *whole, "--output=/dev/null", f"--wrap=sleep {seconds:g}")

    def kill_node(self, name: str) -> None:
        """A node loses power: slurmd, its steps and their jobs are killed at once and nobody tells the controller."""
        kill_marked(f"{self.root}/{name}")
        self.daemons.pop(name).wait()

    def start_node(self, name: str) -> None:
        self._spawn(name, ["slurmd", "-D", "-N", name])
        self.wait_until(lambda: self.node_state(name) in {"idle", "mixed", "allocated"}, 30, f"node {name} to answer")

    def node_state(self, name: str) -> str:
        """`idle`, `mixed`, `allocated`, `down*` ... as sinfo says it."""
        return self.run("sinfo", "--noheader", "--Node", f"--nodes={name}", "--partition=main", "--format=%T")

    def restart_controller(self) -> None:
        """Stop slurmctld and start it anew from its saved state. (Killed, it would forget the last five seconds.)"""
        self.daemons["slurmctld"].terminate()
        self.daemons.pop("slurmctld").wait(30)
        self._spawn("slurmctld", ["slurmctld", "-D"])
        self._wait_answer()

    def reset(self) -> None:
        """Cancel every job and revive every node, so that one test leaves nothing to the next."""
        for name in self.nodes:
            if name not in self.daemons:
                self.start_node(name)
        self.run("scancel", "--full", "--signal=KILL", "--user=root")
        self.run("scancel", "--user=root")
        self.wait_until(lambda: not self.squeue(), 30, "all jobs to be gone")

    def stop(self) -> None:
        """Kill all daemons and jobs of this cluster and delete its folder."""
        kill_marked(f"{self.root}/")
        for daemon in self.daemons.values():
            daemon.wait()
        self.daemons.clear()
        for folder in (CGROUPS_V1 / f"slurm_{name}" for name in self.nodes):
            remove_cgroup(folder)
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- starting

    def _write_files(self) -> None:
        layout, root = self.layout, self.root
        for folder in ("state", "work", *(f"spool.{name}" for name in layout.nodes)):
            (root / folder).mkdir()
        layout.slurm_conf.write_text(slurm_conf(layout))
        (root / "gres.conf").write_text(gres_conf(layout))
        (root / "cgroup.conf").write_text(CGROUP_CONF if layout.memory_cgroups else "")
        (root / "init.sql").write_text(database_init(layout))
        (root / "slurmdbd.conf").write_text(slurmdbd_conf(layout))
        (root / "slurmdbd.conf").chmod(0o600)
        for path in layout.gpu_files():
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))

    def _start_all(self) -> None:
        root, layout = self.root, self.layout
        self.run("mungekey", "--create", f"--keyfile={root}/munge.key")
        munge_files = [f"--{what}-file={root}/munged.{what}" for what in ("pid", "log", "seed")]
        self._spawn("munged", ["munged", "-F", "--force", f"--key-file={root}/munge.key", f"--socket={layout.munge_socket}", *munge_files])
        self.run(
            *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={root}/db"),
            *("--auth-root-authentication-method=socket", "--skip-test-db"),
            # a server that starts sweeps temporary tables out of its folder, also those of another cluster that starts beside it
            env={"TMPDIR": str(root)},
        )
        self._spawn("mariadbd", database_arguments(layout))
        self._wait_port("mariadbd", layout.db_port)
        self._spawn("slurmdbd", ["slurmdbd", "-D"])
        self._wait_port("slurmdbd", layout.dbd_port)
        self.run("sacctmgr", "--immediate", "add", "cluster", "ccpipe")
        self._spawn("slurmctld", ["slurmctld", "-D"])
        for name in layout.nodes:
            self._spawn(name, ["slurmd", "-D", "-N", name])
        self._wait_answer()
        self.wait_until(lambda: all(self.node_state(name) == "idle" for name in self.nodes), 30, "all nodes to be idle")

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        """Start a daemon in a session of its own, marked as ours."""
        with (self.root / f"{name}.out").open("ab") as out:
            mark = {MARK: f"{self.root}/{name}"}
            self.daemons[name] = subprocess.Popen(
                command, env=self.env() | mark, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=self.root
            )

    def _wait_port(self, name: str, port: int) -> None:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            self._check_daemon(name, deadline)

    def _wait_answer(self) -> None:
        deadline = time.monotonic() + 30
        while "UP" not in subprocess.run(["scontrol", "ping"], env=self.env(), capture_output=True, text=True).stdout:
            self._check_daemon("slurmctld", deadline)

    def _check_daemon(self, name: str, deadline: float) -> None:
        time.sleep(0.05)
        if self.daemons[name].poll() is not None or time.monotonic() > deadline:
            tails = [(self.root / f"{name}.{kind}") for kind in ("out", "log")]
            text = "\n".join(path.read_text(errors="replace")[-2000:] for path in tails if path.exists())
            raise RuntimeError(f"{name} does not come up (exit status {self.daemons[name].poll()}); it wrote:\n{text}")


def expand_elements(job_id: str) -> list[str]:
    """Elements that never started share one accounting row.

    >>> expand_elements("7_[2-4,9%2]")
    ['7_2', '7_3', '7_4', '7_9']
    """
    job, bracket, inside = job_id.partition("_[")
    if not bracket:
        return [job_id]
    ranges = [part.split("-") for part in inside.rstrip("]").partition("%")[0].split(",")]
    return [f"{job}_{i}" for ends in ranges for i in range(int(ends[0]), int(ends[-1]) + 1)]


def free_ports(n: int) -> list[int]:
    """Free TCP ports below the range from which the kernel gives ports to outgoing connections."""
    found: list[int] = []
    with contextlib.ExitStack() as open_sockets:
        while len(found) < n:
            port = 10_000 + secrets.randbelow(20_000)
            trial = open_sockets.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                trial.bind(("127.0.0.1", port))
                found.append(port)
    return found


def find_libslurm() -> Path:
    """The library with all of Slurm's functions, beside its plugins."""
    found = sorted(Path("/usr/lib").glob("**/libslurmfull.so"))
    if not found:
        raise FileNotFoundError("no libslurmfull.so under /usr/lib; expected slurm-wlm-basic-plugins; type: sh tests/slurm/install.sh")
    return found[0]


def sweep_leftovers() -> None:
    """Kill and delete clusters whose test run is no longer alive."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads((folder / OWNER_FILE).read_text())
            if not is_alive(owner["pid"], owner["started"]):
                kill_marked(f"{folder}/")
                shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Keep a cluster until Ctrl-C, for trying things by hand."""
    if reason := why_not():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with SlurmCluster.start() as slurm, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={slurm.layout.slurm_conf}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
