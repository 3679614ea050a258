"""Which keys of two identities differ: exactly those that make the fingerprints differ."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpc.state.identity import ABSENT, difference_line, differing_keys
from hpc.state.plan import fingerprint

keys = st.sampled_from(["a", "b", "where"])
leaves = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, 0.5, "x", ""]) | st.lists(st.integers(0, 1), max_size=2)
identities = st.dictionaries(keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6), max_size=3)


def flat(identity: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(identity, dict):
        return {key: identity}
    return {k: v for name, value in identity.items() for k, v in flat(value, f"{key}.{name}".lstrip(".")).items()}


@given(identities, identities)
def test_keys_differ_exactly_when_fingerprints_do(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = differing_keys(old, new)
    assert (found == []) == (fingerprint(old) == fingerprint(new))
    assert [key for key, _, _ in found] == sorted({key for key, _, _ in found}, key=lambda key: key.split("."))
    assert differing_keys(new, old) == [(key, after, before) for key, before, after in found]


@given(identities, identities)
def test_the_differences_lead_from_one_identity_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Whoever applies them to the values of the old one gets those of the new one."""
    values = flat(old)
    for key, before, after in differing_keys(old, new):
        assert before == ABSENT or not isinstance(before, dict) or flat(before, key).items() <= values.items()
        values = {k: v for k, v in values.items() if k != key and not k.startswith(f"{key}.")}
        values |= {} if isinstance(after, str) and after == ABSENT else flat(after, key)
    assert fingerprint(values) == fingerprint(flat(new))


def test_a_key_is_named_with_both_values() -> None:
    old = {"stage": "quality", "config": {"min_score": 0.5, "where": None}, "models": {"model": "1a" * 32}, "inputs": {"base": "2b" * 32}}
    new = {"stage": "quality", "config": {"min_score": 1, "where": "lid_label = 'zh'"}, "models": {"model": "3c" * 32}, "inputs": {}}
    assert [difference_line(difference) for difference in differing_keys(old, new)] == [
        "config.min_score: 0.5 -> 1",
        "config.where: null -> \"lid_label = 'zh'\"",
        "inputs.base: 2b2b2b2b2b2b.. -> (absent)",
        "models.model: 1a1a1a1a1a1a.. -> 3c3c3c3c3c3c..",
    ]


def test_equal_to_python_but_not_to_the_fingerprint() -> None:
    assert differing_keys({"config": {"k": 1}}, {"config": {"k": 1.0}}) == [("config.k", 1, 1.0)]
    assert differing_keys({"config": {"k": 1}}, {"config": {"k": True}}) == [("config.k", 1, True)]
