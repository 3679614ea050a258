"""The site profile: what a cluster wants to be told, in one TOML; and the resources that one stage asks for.

A profile is written once per cluster by its sysadmin; a run names it. Every field has a default that works on a plain Slurm.
"""

from __future__ import annotations

import inspect
import re
import reprlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError


class SiteError(Exception):
    """A profile that cannot be used; the message says where and what is possible."""


DEFAULT_MEM_GB = 2.0
"""Memory of a worker process where neither the config nor a measurement says anything."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _one_line(value: Any) -> Any:
    if isinstance(value, str) and CONTROL.search(value):
        raise ValueError("holds a control character; expected one line of text")
    return value


def _one_bind(text: str) -> str:
    if "," in text or not text:
        raise ValueError("expected one SOURCE[:TARGET[:ro]] for each entry, without a comma (the runtime would read two)")
    return text


def _no_option(text: str) -> str:
    if text.startswith("-") or not text.strip():
        raise ValueError("expected a name or path; this would be read as an option, or as nothing")
    return text


Line = Annotated[str, AfterValidator(_one_line)]
"""Text that ends up in one line of a script."""

Name = Annotated[Line, AfterValidator(_no_option)]
"""A line that is a whole argument of a command."""

Bind = Annotated[Line, AfterValidator(_one_bind)]

OptionValue = Annotated[str | int | bool, AfterValidator(_one_line)]

OptionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
"""Long name of an sbatch option."""


class Site(BaseModel):
    """One cluster. Unknown keys are errors. `docs/sites.md` has a line for each key.

    Everything but `setup` is data: it is quoted wherever it meets a shell. `setup` is shell on purpose.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Line = Field("default", description="shown in plans")
    # whom and where
    account: Line | None = Field(None, description="--account")
    partition: Line | None = Field(None, description="--partition of CPU stages")
    gpu_partition: Line | None = Field(None, description="--partition of GPU stages; default: partition")
    qos: Line | None = Field(None, description="--qos")
    constraint: Line | None = Field(None, description="--constraint")
    reservation: Line | None = Field(None, description="--reservation")
    exclusive: bool = Field(False, description="--exclusive: no other job on the nodes of ours")
    gpu_request: str = Field("gpus-per-node", pattern="^(gpus-per-node|gres)$", description="how GPUs are asked for")
    gpu_type: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]+$", description="type of GPU where the site wants one: a100")
    extra: dict[OptionName, OptionValue] = Field(default_factory=dict, description="further sbatch options, e.g. mail-type")
    # before the worker starts
    modules: tuple[Name, ...] = Field((), description="module load, one each, before all else")
    conda: Name | None = Field(None, description="conda environment to activate: name or prefix; needs no `conda init`")
    setup: tuple[str, ...] = Field((), description="shell lines after modules and conda, taken as they are")
    python: Line | None = Field(
        None, description="interpreter on compute nodes; default: that of conda or container, or the submitting one"
    )
    container: Name | None = Field(None, description="Apptainer or Singularity image that the worker runs in")
    container_runtime: str = Field("apptainer", pattern="^(apptainer|singularity)$", description="program that runs the image")
    container_binds: tuple[Bind, ...] = Field((), description="SOURCE[:TARGET[:ro]], one each; $VARIABLES are those of the node")
    container_options: tuple[Line, ...] = Field((), description="further words after `exec`, e.g. --cleanenv")
    # limits
    max_array_size: int = Field(1001, ge=2, description="Slurm's MaxArraySize (scontrol show config)")
    max_tasks: int = Field(1000, ge=1, description="array elements of one stage at most; the site's submit limit")
    throttle: int | None = Field(None, ge=1, description="array elements running at once (--array=...%N)")
    node_cpus: int | None = Field(None, ge=1, description="cores of one node; a task may not ask for more")
    node_mem_gb: float | None = Field(None, gt=0, description="memory of one node, GB")
    node_gpus: int | None = Field(None, ge=0, description="GPUs of one node; a task may not ask for more")
    max_time_min: int | None = Field(None, ge=1, description="longest time limit of the partition, minutes")
    # manners
    signal_s: int = Field(120, ge=10, description="warning before the time limit, seconds")
    requeue: bool = Field(True, description="--requeue: preempted elements come back")
    rounds: int = Field(2, ge=0, le=20, description="how often the gate of a stage resubmits what is missing")
    submit_from_compute: bool = Field(True, description="compute nodes may call sbatch; else the gate says what to type")
    sacct: bool = Field(True, description="accounting may be asked; else everything comes from files and squeue")
    scratch: Line | None = Field(None, description="node-local folder; $VARIABLES are those of the node, e.g. $TMPDIR")
    shared_state: bool = Field(False, description="run directories may be writable for the group or for all")
    core_hour_price: float | None = Field(None, ge=0, description="price of a core-hour, in any currency; for estimates")
    gpu_hour_price: float | None = Field(None, ge=0, description="price of a GPU-hour, in the same currency")


class Resources(BaseModel):
    """What one task of a stage asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: int = Field(4, ge=1, le=4096, description="cores of a task; one worker process each (GPU stages: shared by the GPUs)")
    gpus: int = Field(0, ge=0, le=64, description="GPUs of a task; one worker process each")
    mem_gb: float | None = Field(None, gt=0, description="memory per worker process, GB; default: by measurement, or 2")
    task_minutes: int = Field(60, ge=1, description="how long a task should last, minutes; decides how many there are")
    time_limit_min: int | None = Field(None, ge=1, description="Slurm time limit, minutes; default: the expected time with a margin")
    nodes: int = Field(1, ge=1, description="nodes meant for this stage; dedup partitions = nodes x cpus")
    tasks: int | None = Field(None, ge=1, description="array elements, where the estimate behind task_minutes is not to be trusted")
    max_tasks: int | None = Field(None, ge=1, description="array elements at most")
    retry_backoff_s: float = Field(5.0, ge=0, description="pause before a failed unit is tried again, seconds; doubled each time")
    max_failures: int = Field(3, ge=1, description="after so many failures a unit is parked")

    @property
    def procs(self) -> int:
        return self.gpus or self.cpus

    @property
    def time_min(self) -> int:
        return self.time_limit_min or 3 * self.task_minutes + 30

    @property
    def worker_mem_gb(self) -> float:
        return DEFAULT_MEM_GB if self.mem_gb is None else self.mem_gb

    @property
    def task_mem_gb(self) -> float:
        return self.worker_mem_gb * self.procs


def load_site(path: Path | None) -> Site:
    """Read a profile; None gives the defaults. Raises `SiteError`."""
    if path is None:
        return Site()  # type: ignore[call-arg]  # every field has a default
    try:
        value: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SiteError(f"no site profile {path}; expected a TOML file. `ccpipe init` writes one to start from") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteError(f"{path} is not TOML: {error}") from None
    except IsADirectoryError:
        raise SiteError(f"{path} is a folder; expected the TOML file of a site profile") from None
    if "site" in value and len(value) > 1:
        other = next(key for key in value if key != "site")
        raise SiteError(f"{path}: unknown table {other!r} beside [site]; further sbatch options belong in [site.extra]")
    try:
        return Site.model_validate(value.get("site", value))
    except ValidationError as error:
        raise SiteError(f"{path}: " + describe(error, Site)) from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Validation errors in one line each, with the valid keys where one is unknown."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {where!r}; valid keys: {', '.join(sorted(_model_at(model, item['loc'][:-1]).model_fields))}")
        elif item["type"] == "missing":
            lines.append(f"key {where!r} is missing")
        else:
            value, message = reprlib.repr(item["input"]), item["msg"].removeprefix("Value error, ")
            lines.append(f"{where} = {value}: {message}" if where else message)
    return "; ".join(lines)


def _model_at(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The model that stands at a place inside another one: the value type of `models.en` where models is a dict of models."""
    for part in loc:
        if part not in model.model_fields:
            continue
        kinds: list[Any] = [model.model_fields[str(part)].annotation]
        while kinds:
            kind = kinds.pop()
            kinds.extend(get_args(kind))
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                model = kind
    return model


def check_resources(what: str, resources: Resources, site: Site) -> str | None:
    """Why what the user asks for can never be had, or None. What is left open `hpc.planning.sizing` chooses within the site's limits."""
    if site.node_cpus and resources.cpus > site.node_cpus:
        return f"{what} asks for {resources.cpus} cpus; a node of site {site.name!r} has {site.node_cpus}. Set [resources.{what}] cpus"
    if site.node_mem_gb and resources.mem_gb is not None and resources.task_mem_gb > site.node_mem_gb:
        return (
            f"{what} asks for {resources.task_mem_gb:g} GB ({resources.procs} processes x {resources.worker_mem_gb:g}); "
            f"a node of site {site.name!r} has {site.node_mem_gb:g}. Set [resources.{what}] cpus or mem_gb"
        )
    if site.node_gpus is not None and resources.gpus > site.node_gpus:
        return f"{what} asks for {resources.gpus} GPUs; a node of site {site.name!r} has {site.node_gpus}. Set [resources.{what}] gpus"
    if resources.time_limit_min is None:
        return None
    if site.max_time_min and resources.time_min > site.max_time_min:
        return (
            f"{what} asks for {resources.time_min} minutes; site {site.name!r} allows {site.max_time_min}. "
            f"Set [resources.{what}] time_limit_min or task_minutes"
        )
    # Slurm may send the warning a minute early; a task warned as it starts would be requeued for ever
    if resources.time_min * 60 <= site.signal_s + 60:
        return (
            f"{what} asks for {resources.time_min} minutes, of which the warning takes the last {site.signal_s + 60} s (signal_s of site "
            f"{site.name!r} and a minute); nothing is left to work in. Set [resources.{what}] time_limit_min"
        )
    return None
