"""Versions: older data is brought to ours step by step, newer data is left alone."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamegirl.codec import CodecError, JsonCodec, NewerSchemaError, Schema


@attrs.frozen
class Score:
    points: int
    unit: str


def split(plain: dict[str, Any]) -> dict[str, Any]:
    points, unit = plain.pop("text").split()
    return {**plain, "points": points, "unit": unit}


def count(plain: dict[str, Any]) -> dict[str, Any]:
    return {**plain, "points": int(plain["points"])}


SCHEMA = Schema(3, {1: split, 2: count})
SCORES = JsonCodec(Score, schema=SCHEMA)


@pytest.mark.parametrize(
    "data",
    [
        '{"text": "5 goals"}',
        '{"schema": 1, "text": "5 goals"}',
        '{"schema": 2, "points": "5", "unit": "goals"}',
        '{"schema": 3, "points": 5, "unit": "goals"}',
    ],
)
def test_every_version_is_read(data: str) -> None:
    """Data without a version is of the first."""
    assert SCORES.decode(data) == Score(5, "goals")


@given(st.integers(), st.text("abc", min_size=1))
def test_what_is_written_says_its_version(points: int, unit: str) -> None:
    """And is read back without a migration."""
    score = Score(points, unit)
    assert SCORES.unstructure(score) == {"points": points, "unit": unit, "schema": 3}
    assert SCORES.decode(SCORES.encode(score)) == score


def test_newer_data_is_refused_as_such() -> None:
    """So that nobody takes it for broken and overwrites it."""
    with pytest.raises(
        NewerSchemaError, match="Score: schema: is 4, and this program knows at most 3"
    ) as caught:
        SCORES.decode('{"schema": 4}')
    assert (caught.value.found, caught.value.supported) == (4, 3)
    assert isinstance(caught.value, CodecError)


@pytest.mark.parametrize("version", ['"1"', "0", "-1", "1.0", "true", "null"])
def test_a_version_is_a_whole_number_from_1(version: str) -> None:
    """Anything else is a fault of its field."""
    with pytest.raises(CodecError) as caught:
        SCORES.decode(f'{{"schema": {version}, "text": "5 goals"}}')
    assert [fault.path for fault in caught.value.faults] == ["schema"]


@pytest.mark.parametrize("data", ["[]", "5", "null", '"x"'])
def test_only_objects_have_a_version(data: str) -> None:
    """Other JSON is refused before any migration sees it."""
    with pytest.raises(CodecError, match="must be an object"):
        SCORES.decode(data)


def test_a_migration_that_fails_is_a_fault_of_the_data() -> None:
    """With the version it started from, and the cause."""
    with pytest.raises(CodecError, match="migration from version 1 failed: KeyError") as caught:
        SCORES.decode("{}")
    assert isinstance(caught.value.__cause__, KeyError)


def test_migrating_leaves_the_given_data_as_it_was() -> None:
    """It may still be needed, for quarantine."""
    plain = {"text": "5 goals"}
    assert SCHEMA.upgrade(plain) == {"points": 5, "unit": "goals", "schema": 3}
    assert plain == {"text": "5 goals"}


@pytest.mark.parametrize(("version", "steps"), [(0, []), (2, []), (3, [1]), (3, [1, 3]), (1, [1])])
def test_a_schema_has_a_step_for_every_older_version(version: int, steps: list[int]) -> None:
    """The program learns it when it makes the schema."""
    with pytest.raises(ValueError, match="needs one migration from each"):
        Schema(version, dict.fromkeys(steps, count))
