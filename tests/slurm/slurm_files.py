"""Configuration files of the test cluster: what goes in is one `Layout`, what comes out are texts of files.

Nothing here touches the disk or starts a program. Each setting that is not there to make a daemon private has its reason.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Where the daemons live and what the cluster looks like. Ports are free TCP ports of this machine."""

    root: Path
    nodes: tuple[str, ...]
    cpus_per_node: int
    mem_mb_per_node: int
    gpus_per_node: int
    grace_s: int
    memory_cgroups: bool
    max_array_size: int
    ctld_port: int
    dbd_port: int
    db_port: int
    node_ports: tuple[int, ...]
    db_password: str

    @property
    def slurm_conf(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        return self.root / "munge.socket"

    def gpu_files(self) -> tuple[Path, ...]:
        """Character devices that stand for GPUs; the daemons only look whether they are there."""
        return tuple(self.root / f"gpu{i}" for i in range(self.gpus_per_node))


FEATURES = ("rome", "nvlink")
"""Of every node, for --constraint."""

GPU_TYPE = "a100"
"""For --gres=gpu:a100:2. A request without a type gets these too."""

CGROUPS_V1 = Path("/sys/fs/cgroup/memory")

CGROUP_CONF = f"""\
CgroupPlugin=cgroup/v1
CgroupMountpoint={CGROUPS_V1.parent}
ConstrainRAMSpace=yes
"""


def slurm_conf(layout: Layout) -> str:
    """`slurm.conf`: partition `main` is preempted (requeue) by partition `urgent`; `scrap` too, but its jobs are cancelled."""
    host = socket.gethostname().partition(".")[0]
    # with cgroups the kernel kills the one process that asks for too much; without, memory is sampled every second and the
    # whole job is killed, which accounting calls FAILED
    memory = "TaskPlugin=task/cgroup" if layout.memory_cgroups else "TaskPlugin=task/none\nJobAcctGatherParams=OverMemoryKill"
    return f"""\
ClusterName=ccpipe
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={layout.ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits (BeginTime) until its old credential has expired: 120 s unless said otherwise, 5 s is the least
AuthInfo=socket={layout.munge_socket},cred_expire=5
StateSaveLocation={layout.root}/state
SlurmdSpoolDir={layout.root}/spool.%n
SlurmctldPidFile={layout.root}/slurmctld.pid
SlurmdPidFile={layout.root}/slurmd-%n.pid
SlurmctldLogFile={layout.root}/slurmctld.log
SlurmdLogFile={layout.root}/slurmd-%n.log
SlurmctldDebug=debug
SlurmdDebug=debug
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
{memory}
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
# several nodes that each pretend to have more cores than this machine
SlurmdParameters=config_overrides
# a preempted job gets the signal of its --signal option as the grace time begins
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
SlurmdTimeout=6
SlurmctldTimeout=6
MinJobAge=3600
KillWait=5
InactiveLimit=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0,preempt_youngest_first
MaxArraySize={layout.max_array_size}
MaxJobCount=5000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={layout.dbd_port}
AccountingStoragePass={layout.munge_socket}
AccountingStorageTRES=gres/gpu
GresTypes=gpu
{_node_lines(layout, host)}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime={layout.grace_s}
PartitionName=scrap Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=CANCEL GraceTime={layout.grace_s}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


def _node_lines(layout: Layout, host: str) -> str:
    gres = f" Gres=gpu:{GPU_TYPE}:{layout.gpus_per_node}" if layout.gpus_per_node else ""
    return "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        f" CPUs={layout.cpus_per_node} RealMemory={layout.mem_mb_per_node} Features={','.join(FEATURES)}{gres}"
        for name, port in zip(layout.nodes, layout.node_ports, strict=True)
    )


def gres_conf(layout: Layout) -> str:
    return "".join(f"Name=gpu Type={GPU_TYPE} File={path}\n" for path in layout.gpu_files())


def slurmdbd_conf(layout: Layout) -> str:
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={layout.dbd_port}
SlurmUser=root
PidFile={layout.root}/slurmdbd.pid
LogFile={layout.root}/slurmdbd.log
DebugLevel=info
CommitDelay=1
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={layout.db_port}
StorageUser=slurm
StoragePass={layout.db_password}
StorageLoc=slurm_acct
"""


def database_init(layout: Layout) -> str:
    """SQL that mariadbd runs as it starts."""
    return f"""\
CREATE DATABASE slurm_acct;
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '{layout.db_password}';
CREATE USER 'slurm'@'localhost' IDENTIFIED BY '{layout.db_password}';
GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';
GRANT ALL ON slurm_acct.* TO 'slurm'@'localhost';
"""


def database_arguments(layout: Layout) -> list[str]:
    """Command line of mariadbd: small, private, no care for durability."""
    return [
        "mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={layout.root}/db",
        f"--tmpdir={layout.root}",
        f"--socket={layout.root}/db.socket",
        f"--pid-file={layout.root}/mariadbd.pid",
        f"--log-error={layout.root}/mariadbd.log",
        f"--init-file={layout.root}/init.sql",
        "--bind-address=127.0.0.1",
        f"--port={layout.db_port}",
        "--skip-name-resolve",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-fast-shutdown=2",
        "--innodb-lock-wait-timeout=900",
    ]
