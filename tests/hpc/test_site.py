"""The site profile: mistakes are named with the valid choices; requests that can never run are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hpc.site import DEFAULT_MEM_GB, Resources, Site, SiteError, check_resources, describe, load_site

REPO = Path(__file__).resolve().parents[2]
PROFILES = sorted((REPO / "jobs" / "templates").glob("site*.toml"))


def test_every_field_has_a_default_that_works() -> None:
    assert load_site(None) == Site()
    assert check_resources("extract", Resources(), Site()) is None


def test_every_key_of_a_profile_is_documented_and_no_other() -> None:
    text = (REPO / "docs" / "sites.md").read_text(encoding="utf-8").partition("## Keys")[2].partition("## Containers")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \| \S", text, re.M)) == sorted(Site.model_fields)


def test_every_key_stands_in_the_template_of_all_keys() -> None:
    text = (REPO / "jobs" / "templates" / "site.toml").read_text(encoding="utf-8")
    keys = set(re.findall(r"^(?:# )?(\w+) = ", text, re.M)) | set(re.findall(r"^# \[site\.(\w+)\]", text, re.M))
    assert set(Site.model_fields) <= keys


def test_every_shipped_profile_is_valid_and_documented() -> None:
    assert [path.stem for path in PROFILES] == ["site-cloud", "site-cpu", "site-gpu", "site-laptop", "site"]
    text = (REPO / "docs" / "sites.md").read_text(encoding="utf-8")
    for path in PROFILES:
        assert load_site(path) != Site() and f"| `{path.name}` |" in text


def test_memory_that_is_not_said_is_kept_apart_from_memory_that_is() -> None:
    assert Resources().mem_gb is None and Resources().time_limit_min is None
    assert (Resources(cpus=8).task_mem_gb, Resources(cpus=8, gpus=2).task_mem_gb) == (8 * DEFAULT_MEM_GB, 2 * DEFAULT_MEM_GB)
    assert Resources(cpus=8, mem_gb=0.5).task_mem_gb == 4 and Resources(task_minutes=20).time_min == 90


@pytest.mark.parametrize("table", ["", "[site]\n"])
def test_a_profile_with_and_without_its_heading(tmp_path: Path, table: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(table + 'name = "cluster"\nsetup = ["module load python"]\nmax_array_size = 2000\n')
    site = load_site(path)
    assert (site.name, site.setup, site.max_array_size) == ("cluster", ("module load python",), 2000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin = 'cpu'", r"unknown key 'partitoin'; valid keys: account, .*partition"),
        ("max_array_size = 'many'", "max_array_size = 'many': .*integer"),
        ("throttle = 0", "throttle = 0: .*greater than or equal to 1"),
        ("gpu_request = 'tres'", "gpu_request = 'tres'"),
        ("name = ", "site.toml is not TOML"),
        ('account = "a\\nb"', r"account = 'a\\nb': holds a control character; expected one line of text"),
        ('[site.extra]\ncomment = "a\\u0000b"', "extra.comment = .*: holds a control character"),
        ('modules = ["ok", "-x"]', r"modules.1 = '-x': expected a name or path; this would be read as an option"),
        ('conda = "--help"', "conda = '--help': expected a name or path"),
        ('container = " "', "container = ' ': expected a name or path"),
        (
            'container_binds = ["/a,/b"]',
            r"container_binds.0 = '/a,/b': expected one SOURCE\[:TARGET\[:ro\]\] for each entry, without a comma",
        ),
        ('gpu_type = "a100:4 --uid=0"', "gpu_type = 'a100:4 --uid=0'"),
        ('container_runtime = "sh"', "container_runtime = 'sh'"),
        ("name = '\udcff'", "site.toml is not TOML"),
        ("[site]\nname = 'a'\n[extra]\nexclusive = true", r"unknown table 'extra'"),
    ],
)
def test_mistakes_in_a_profile_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SiteError, match=message):
        load_site(path)


def test_a_missing_profile_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"no site profile .*; expected a TOML file. `ccpipe init` writes one"):
        load_site(tmp_path / "nowhere.toml")
    with pytest.raises(SiteError, match="is a folder"):
        load_site(tmp_path)


@pytest.mark.parametrize(
    ("asked", "site", "message"),
    [
        ({"cpus": 65}, {"node_cpus": 64}, r"asks for 65 cpus; a node of site 'default' has 64. Set \[resources.sig\] cpus"),
        ({"cpus": 64, "mem_gb": 4.1}, {"node_mem_gb": 256}, r"asks for 262.4 GB \(64 processes x 4.1\); a node .* has 256. Set"),
        ({"cpus": 64, "gpus": 2, "mem_gb": 130}, {"node_mem_gb": 256}, r"asks for 260 GB \(2 processes x 130\)"),
        ({"gpus": 8}, {"node_gpus": 4}, r"asks for 8 GPUs; a node of site 'default' has 4. Set \[resources.sig\] gpus"),
        ({"cpus": 64}, {"node_mem_gb": 100}, None),  # memory left open: sizing starts fewer processes
        ({"task_minutes": 60}, {"max_time_min": 200}, None),  # time left open: sizing makes shorter tasks
        ({"time_limit_min": 300}, {"max_time_min": 200}, "asks for 300 minutes"),
        (
            {"time_limit_min": 3},
            {"signal_s": 120},
            "asks for 3 minutes, of which the warning takes the last 180 s .* Set .* time_limit_min",
        ),
        ({"time_limit_min": 4}, {"signal_s": 120}, None),
        ({"task_minutes": 60, "time_limit_min": 200}, {"max_time_min": 200}, None),
        ({"cpus": 64, "mem_gb": 4}, {"node_cpus": 64, "node_mem_gb": 256}, None),
    ],
)
def test_impossible_resources(asked: dict[str, float], site: dict[str, float], message: str | None) -> None:
    found = check_resources("sig", Resources.model_validate(asked), Site.model_validate(site))
    assert found is None if message is None else found is not None and re.search(message, found)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kenlm: str


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    models: dict[str, Inner] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"models": {}}, "key 'name' is missing"),
        ({"name": "a", "nmae": "x" * 10_000}, "unknown key 'nmae'; valid keys: models, name"),
        ({"name": "a", "models": {"en": {"kenlm": "a", "sp": "b"}}}, "unknown key 'models.en.sp'; valid keys: kenlm"),
        ({"name": "a", "models": {"en": {}}}, "key 'models.en.kenlm' is missing"),
        ({"name": 3, "x": 1}, "name = 3: Input should be a valid string; unknown key 'x'; valid keys: models, name"),
    ],
)
def test_mistakes_are_told_in_one_line_with_the_keys_of_their_place(value: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    assert describe(caught.value, Outer) == line


def test_a_long_value_is_cut_short() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"name": ["x" * 100_000] * 1000})
    assert len(describe(caught.value, Outer)) < 300
