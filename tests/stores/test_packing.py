"""Commands as they are sent, and writes as the script's arguments."""

from __future__ import annotations

from typing import Any, cast

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gamegirl.actors import Drop, PatchHash, PutText
from gamegirl.supervisor.stores import ActorKey, Commit
from gamegirl.supervisor.stores._encode import commit_arguments
from gamegirl.supervisor.stores._packing import packed

PARTS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"x" * 2047, b"x" * 2048, b"x" * 70_000, b"\r\n$1\r\n"]),
)


@given(st.lists(PARTS, min_size=1, max_size=40))
def test_bytes_are_packed_as_by_the_client(parts: list[bytes]) -> None:
    """Also long ones, and what looks like the protocol itself."""
    assert packed(tuple(parts)) == cast("Any", hiredis).pack_command(tuple(parts))


@given(st.lists(PARTS | st.sampled_from(["SET", "é🎮"]) | st.integers(), min_size=1, max_size=9))
def test_texts_and_numbers_are_packed_too(parts: list[Any]) -> None:
    """As the client packs them."""
    assert packed(tuple(parts)) == cast("Any", hiredis).pack_command(tuple(parts))


@pytest.mark.parametrize("odd", [[], ["é🎮", 17]])
def test_thousands_are_packed_as_by_the_client(odd: list[Any]) -> None:
    """In slices, some of which are of nothing but bytes."""
    parts: list[Any] = [b"x" * (number % 300) for number in range(3000)]
    parts[1500:1500] = odd
    assert packed(tuple(parts)) == cast("Any", hiredis).pack_command(tuple(parts))


def arguments_of(*writes: Any) -> list[Any]:
    keys: list[Any] = []
    arguments: list[Any] = []
    commit = Commit(ActorKey("session", "c"), "1:a:p", 1, "c1", writes)
    commit_arguments(commit, keys, arguments)
    return arguments[4:]


class Renamed(PutText, frozen=True):
    """A kind of write of somebody else's."""


def test_a_write_says_what_it_is_in_one_argument() -> None:
    """And its values follow, as bytes; also those of a class derived from it."""
    assert arguments_of(PatchHash("k", {"é": "1", "b": b"2"}, ("c",))) == [
        b"P4:1",
        *("é".encode(), b"1", b"b", b"2", b"c"),
    ]
    assert arguments_of(Renamed("k", "é"), Drop("k")) == [b"T", "é".encode(), b"D"]


@pytest.mark.parametrize("write", ["SET", PatchHash("k", {"a": cast("Any", 1)})])
def test_what_is_no_write_is_not_sent(write: Any) -> None:
    """It is said before anything is."""
    with pytest.raises((TypeError, AttributeError)):
        arguments_of(write)


@pytest.mark.parametrize("write", ["SET", PatchHash("k", {"a": cast("Any", 1)})])
def test_a_commit_that_cannot_be_spelled_leaves_nothing_of_itself(write: Any) -> None:
    """Those before it in the same call go as if it had not been there."""
    keys: list[Any] = [b"a key"]
    arguments: list[Any] = [b"an argument"]
    commit = Commit(ActorKey("session", "c"), "1:a:p", 1, "c1", (PutText("k", "1"), write))
    with pytest.raises((TypeError, AttributeError)):
        commit_arguments(commit, keys, arguments)
    assert (keys, arguments) == ([b"a key"], [b"an argument"])


def test_an_actor_is_named_by_its_escaped_id() -> None:
    """In its fence's key and in the due index, from which it comes back."""
    key = ActorKey("session", "a:b")
    assert (key.escaped, key.fence) == ("a%3Ab", "gg:fence:session:a%3Ab")
    assert ActorKey.of_member(key.member) == key
