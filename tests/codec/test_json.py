"""JSON: nothing is coerced, nothing is lost, and every fault is told with its path."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, NewType, cast

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from gamegirl.codec import CodecError, Fault, JsonCodec, decode_json, encode_json

UserId = NewType("UserId", str)
Turns = TypeAliasType("Turns", list[int])


class Mood(Enum):
    CALM = "calm"
    WILD = "wild"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Flavour(StrEnum):
    SWEET = "sweet"


@attrs.frozen
class Player:
    user_id: UserId
    joined_turn: int = 0
    last_active: float = 0.0
    mood: Mood = Mood.CALM


@dataclasses.dataclass
class Point:
    x: int
    y: int


def check_is_whole(instance: object, attribute: object, value: float) -> None:
    if value < 0:
        raise ValueError("a score is never negative")


@attrs.frozen
class Game:
    name: str
    active: bool
    crown: str | None = None
    players: dict[str, Player] = attrs.field(factory=dict[str, Player])
    moves: list[Point] = attrs.field(factory=list[Point])
    turns: tuple[int, ...] = ()
    corner: tuple[int, str] = (0, "")
    extra: Any = None
    score: Annotated[float, "points"] = attrs.field(default=0.0, validator=check_is_whole)
    rank: Rank = Rank.LOW
    flavour: Flavour = Flavour.SWEET
    kind: Literal["solo", "duel", 3] = "solo"
    best: Player | None = None
    either: int | str | None = None
    measure: float | str = 0.0
    table: Mapping[str, int] = attrs.field(factory=dict[str, int])
    row: Sequence[str] = ()
    _hidden: bool = False
    counted: int = attrs.field(init=False, default=7)


@attrs.frozen
class Tree:
    name: str
    children: list[Tree] = attrs.field(factory=lambda: list[Tree]())
    parent: Tree | None = None


@attrs.define
class Loose:
    anything: object = None
    nothing: None = None
    items: list = attrs.field(factory=list)  # type: ignore[type-arg]
    names: dict = attrs.field(factory=dict)  # type: ignore[type-arg]


GAMES = JsonCodec(Game)
TREES = JsonCodec(Tree)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
players = st.builds(Player, texts, st.integers(), finite, st.sampled_from(Mood))
games = st.builds(
    Game,
    name=texts,
    active=st.booleans(),
    crown=st.none() | texts,
    players=st.dictionaries(texts, players, max_size=3),
    moves=st.lists(st.builds(Point, st.integers(), st.integers()), max_size=3),
    turns=st.lists(st.integers(), max_size=3).map(tuple),
    corner=st.tuples(st.integers(), texts),
    extra=plain,
    score=st.floats(0, 1e300),
    rank=st.sampled_from(Rank),
    kind=st.sampled_from(["solo", "duel", 3]),
    best=st.none() | players,
    either=st.none() | st.integers() | texts,
    measure=finite | texts,
    table=st.dictionaries(texts, st.integers(), max_size=3),
    row=st.lists(texts, max_size=2).map(tuple),
    hidden=st.booleans(),
)


def faults(codec: JsonCodec[Any], data: Any) -> dict[str, str]:
    """The paths and reasons that the codec gives for an input."""
    text = data if isinstance(data, str | bytes) else json.dumps(data)
    with pytest.raises(CodecError) as caught:
        codec.decode(text)
    return {fault.path: fault.reason for fault in caught.value.faults}


@given(games)
def test_what_is_encoded_is_decoded_to_the_same(game: Game) -> None:
    """Whatever the object holds, as bytes and as text, and as plain data too."""
    data = GAMES.encode(game)
    assert GAMES.decode(data) == game
    assert GAMES.decode(data.decode("utf-8")) == game
    assert GAMES.structure(GAMES.unstructure(game)) == game
    assert GAMES.encode(GAMES.decode(data)) == data


@given(plain)
def test_plain_data_comes_back_from_json_as_it_was(value: Any) -> None:
    """And in any spelling: compact, spaced, escaped."""
    assert decode_json(encode_json(value)) == value
    assert decode_json(json.dumps(value, indent=2)) == value
    assert decode_json(json.dumps(value).encode()) == value


PIECES = [
    *"{}[],: ",
    *[
        "0",
        "1",
        "-1",
        "-0",
        "01",
        "1.5",
        "1.",
        ".5",
        "-0.0",
        "1e5",
        "1E+5",
        "1e-400",
        "1e400",
        "0.1e1",
        "1.7976931348623159e308",
    ],
    *["true", "false", "null", "NaN", "-Infinity"],
    *("9" * 25, "-" + "9" * 25, "9" * 20 + ".0"),
    *('"a"', '"b"', '""', '"Zoë"', '"\x7f"', '"\x01"', "\t", "\ufeff"),
    *(r'"\ud800"', r'"\ud83d\ude00"', r'"\u0000"', r'"\x"'),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example('{"a":1,"b":-0.0,"a":[1.5,"\\ud83d\\ude00"]}')
@example('["\\ud800"]')
@example("[1e400]")
@example("[" * 50 + "9" * 25 + "]" * 50)
def test_the_quick_reader_reads_what_the_standard_library_reads(text: str) -> None:
    """Whatever is decoded is to the digit and the type what `json` makes of it."""
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(CodecError):
            decode_json(text)
        return
    assert repr(decode_json(text, lenient=True)) == repr(expected)
    assert repr(decode_json(text.encode(), lenient=True)) == repr(expected)


@given(st.binary(max_size=40) | st.text(max_size=40))
@example(b"\xff")
@example(b"\xef\xbb\xbf{}")
@example("\ud800")
@example('"\ud800"')
@example("1e999")
@example("-Infinity")
@example("9" * 5000)
def test_any_input_is_decoded_or_refused_with_our_error(data: bytes | str) -> None:
    """No other error ever comes out."""
    decoders: list[Callable[[bytes | str], object]] = [
        decode_json,
        GAMES.decode,
        JsonCodec(float).decode,
        JsonCodec(list[Any]).decode,
    ]
    for decode in decoders:
        with contextlib.suppress(CodecError):
            decode(data)
    with contextlib.suppress(CodecError):
        encode_json(decode_json(data, lenient=True))


def test_json_is_compact_and_raw_utf_8() -> None:
    """Nothing is spent on spaces and escapes."""
    player = Player(UserId("Zoë 🎮"), 3, 1.5, Mood.WILD)
    expected = '{"user_id":"Zoë 🎮","joined_turn":3,"last_active":1.5,"mood":"wild"}'
    assert JsonCodec(Player).encode(player) == expected.encode()


def test_unknown_fields_are_ignored_and_missing_ones_take_their_defaults() -> None:
    """Older and newer programs read each other's data."""
    game = GAMES.decode(
        '{"name": "Chess", "active": true, "shoes": 2, "players": {"1": {"user_id": "1", "x": 0}}}'
    )
    assert game == Game("Chess", True, players={"1": Player(UserId("1"))})


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", 5, "must be a text, not 5"),
        ("name", None, "must be a text, not null"),
        ("active", "False", "must be true or false, not 'False'"),
        ("active", 0, "must be true or false, not 0"),
        ("active", 1, "must be true or false, not 1"),
        ("crown", 5, "must be a text, not 5"),
        ("score", "5", "must be a number, not '5'"),
        ("score", True, "must be a number, not true"),
        ("score", 10**400, "must be a finite number"),
        ("score", -1, "a score is never negative"),
        ("turns", "12", "must be a list, not '12'"),
        ("turns", {"0": 1}, "must be a list, not an object"),
        ("players", [], "must be an object, not a list"),
        ("corner", [1], "must be a list of 2, not of 1"),
        ("corner", "ab", "must be a list, not 'ab'"),
        ("rank", "1", "must be one of 1, 2, not '1'"),
        ("rank", True, "must be one of 1, 2, not true"),
        ("rank", 1.0, "must be one of 1, 2, not 1.0"),
        ("rank", [], "must be one of 1, 2, not a list"),
        ("flavour", "sour", "must be one of 'sweet', not 'sour'"),
        ("kind", "3", "must be one of 'solo', 'duel', 3, not '3'"),
        ("best", [], "must be an object, not a list"),
        ("either", 1.5, "must be a whole number or a text or null, not 1.5"),
        ("either", True, "must be a whole number or a text or null, not true"),
        ("measure", None, "must be a number or a text, not null"),
        ("name", "x" * 100, None),
        ("active", "x" * 100, f"must be true or false, not '{'x' * 40}…'"),
        ("active", 10**400, "must be true or false, not a huge number"),
    ],
)
def test_nothing_is_coerced(field: str, value: object, reason: str | None) -> None:
    """A value of another type is a fault that says what was wanted and what was there."""
    data = {"name": "Chess", "active": True, field: value}
    if reason is None:
        assert GAMES.decode(json.dumps(data))
    else:
        expected_path = "" if "never" in reason else field
        assert faults(GAMES, data) == {expected_path: reason}


def test_a_whole_number_will_do_for_a_float() -> None:
    """JSON has but one kind of number; the object gets a float."""
    player = JsonCodec(Player).decode('{"user_id": "1", "last_active": 5}')
    assert type(player.last_active) is float
    assert GAMES.decode('{"name": "", "active": true, "measure": 5}').measure == 5.0


@pytest.mark.parametrize("value", ["5.9", '"5"', "true", "null", "5.0", "NaN", "[5]"])
def test_only_whole_numbers_are_ints(value: str) -> None:
    """5.0 isn't one either: somebody computed it."""
    assert list(faults(JsonCodec(Player), f'{{"user_id": "1", "joined_turn": {value}}}')) == [
        "joined_turn"
    ]


def test_all_faults_come_at_once_with_their_paths() -> None:
    """Whoever mends an input sees everything that is wrong with it."""
    data = {
        "active": "yes",
        "players": {
            "42": {"user_id": "42", "joined_turn": "7"},
            "a.b": {"user_id": 1, "mood": "sad"},
            "ok": {"user_id": "ok"},
        },
        "moves": [{"x": 1, "y": 2}, {"x": 1}, 5],
        "turns": [1, 2.5, "3"],
        "table": {"a": 1},
        "extra": {"deep": [1, "fine"]},
    }
    assert faults(GAMES, data) == {
        "name": "is missing",
        "active": "must be true or false, not 'yes'",
        "players.42.joined_turn": "must be a whole number, not '7'",
        'players["a.b"].user_id': "must be a text, not 1",
        'players["a.b"].mood': "must be one of 'calm', 'wild', not 'sad'",
        "moves[1].y": "is missing",
        "moves[2]": "must be an object, not 5",
        "turns[1]": "must be a whole number, not 2.5",
        "turns[2]": "must be a whole number, not '3'",
    }
    with pytest.raises(
        CodecError, match=r"Game: name: is missing; active: must be .*; players\.42"
    ) as caught:
        GAMES.decode(json.dumps(data))
    assert Fault("name", "is missing") in caught.value.faults


def test_faults_of_a_list_begin_with_its_index() -> None:
    """As in `[3].turn`."""
    assert faults(JsonCodec(list[Point]), [{"x": 1, "y": 1}, {"x": 1}]) == {"[1].y": "is missing"}


def test_faults_of_a_part_begin_where_the_part_was() -> None:
    """Whoever salvages an input piece by piece gets the paths of the whole."""
    codec = JsonCodec(Player)
    with pytest.raises(CodecError) as caught:
        codec.structure({"joined_turn": "1"}, "players.42")
    assert [fault.path for fault in caught.value.faults] == [
        "players.42.user_id",
        "players.42.joined_turn",
    ]
    with pytest.raises(CodecError) as caught:
        JsonCodec(list[int]).structure(["1"], "history")
    assert [fault.path for fault in caught.value.faults] == ["history[0]"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_not_finite_are_refused_where_they_stand(number: str) -> None:
    """On reading, in fields and in plain data."""
    assert faults(JsonCodec(Player), f'{{"user_id": "1", "last_active": {number}}}') == {
        "last_active": "must be a finite number"
    }
    assert faults(GAMES, f'{{"name": "", "active": true, "extra": [{number}]}}') == {
        "extra[0]": "must be a finite number"
    }
    with pytest.raises(CodecError, match=r"a\[1\]: must be a finite number"):
        decode_json(f'{{"a": [1, {number}]}}')


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_not_written(number: float) -> None:
    """On writing as well."""
    with pytest.raises(CodecError, match="last_active: must be a finite number"):
        JsonCodec(Player).encode(Player(UserId("1"), last_active=number))


@pytest.mark.parametrize("text", [r'"\ud800"', r'"a\uDFFFb"', '"\ud83d"'])
def test_lone_surrogates_are_refused_where_they_stand(text: str) -> None:
    """Nothing comes in that could not be written again."""
    assert list(faults(JsonCodec(Player), f'{{"user_id": {text}}}')) == ["user_id"]
    assert list(faults(GAMES, f'{{"name": "", "active": true, "extra": [{text}]}}')) == ["extra[0]"]
    assert list(faults(JsonCodec(dict[str, Any]), f"{{{text}: 1}}")) != []
    with pytest.raises(CodecError, match="surrogate"):
        decode_json(f'{{"a": {text}}}')
    with pytest.raises(CodecError, match="its name has a lone surrogate"):
        decode_json(f"{{{text}: 1}}")


def test_surrogate_pairs_are_one_character() -> None:
    """Old data spells emoji so."""
    assert decode_json(r'"\ud83c\udfae"') == "🎮"


def test_lone_surrogates_are_not_written() -> None:
    """The error is ours, not one of the encoder's, and can be logged."""
    with pytest.raises(CodecError, match="user_id: has a lone surrogate") as caught:
        JsonCodec(Player).encode(Player(UserId("\ud800")))
    str(caught.value).encode("utf-8")
    with pytest.raises(CodecError) as caught:
        encode_json({"\ud800": 1})
    str(caught.value).encode("utf-8")


def test_names_that_are_not_ascii_are_checked_too() -> None:
    """An emoji is a fine name, a lone surrogate is none."""
    codec = JsonCodec(dict[str, int])
    assert codec.decode('{"🎮": 1}') == {"🎮": 1}
    assert faults(codec, r'{"\ud800": 1, "é": "x"}') == {
        r'["\ud800"]': "its name has a lone surrogate, which UTF-8 can't express",
        "é": "must be a whole number, not 'x'",
    }


def test_names_of_plain_data_must_be_texts() -> None:
    """JSON would write 1 and "1" alike."""
    with pytest.raises(CodecError, match="its name must be a text, not 1"):
        JsonCodec(dict[str, int]).structure({1: 1})
    with pytest.raises(CodecError, match="its name must be a text, not 1"):
        GAMES.structure({"name": "", "active": True, "extra": {1: 1}})


@pytest.mark.parametrize(
    "data", ["[" * 200_000, '{"a":' * 200_000, b"[" * 200_000 + b"]" * 200_000]
)
def test_input_that_is_nested_too_deeply_is_refused(data: bytes | str) -> None:
    """It neither crashes nor raises a RecursionError."""
    for decode in (decode_json, GAMES.decode):
        with pytest.raises(CodecError, match="nested too deeply"):
            decode(data)


def test_objects_that_are_nested_too_deeply_are_refused_both_ways() -> None:
    """Within a class that contains itself, too."""
    tree: dict[str, Any] = {"name": "leaf"}
    for _ in range(5_000):
        tree = {"name": "branch", "children": [tree]}
    with pytest.raises(CodecError):
        TREES.structure(tree)
    deep = Tree("leaf")
    for _ in range(5_000):
        deep = Tree("branch", [deep])
    with pytest.raises(CodecError, match="nested too deeply"):
        TREES.encode(deep)
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(CodecError):
        encode_json(circle)
    with pytest.raises(CodecError):
        JsonCodec(list[Any]).structure(circle)
    nested: list[Any] = []
    for _ in range(200_000):
        nested = [nested]
    with pytest.raises(CodecError, match="nested too deeply"):
        encode_json(nested)


def test_a_class_may_contain_itself() -> None:
    """And its faults have their paths all the way down."""
    tree = Tree("a", [Tree("b", [Tree("c")])], parent=Tree("d"))
    assert TREES.decode(TREES.encode(tree)) == tree
    assert faults(
        TREES, {"name": "a", "children": [{"name": "b", "children": [{}]}], "parent": {}}
    ) == {
        "children[0].children[0].name": "is missing",
        "parent.name": "is missing",
    }


def test_a_deep_input_with_a_fault_is_refused_in_time() -> None:
    """The work grows with the depth, it does not double with every level."""
    tree: dict[str, Any] = {"name": 5}
    for _ in range(40):
        tree = {"name": "branch", "children": [tree]}
    assert list(faults(TREES, tree)) == [".".join(["children[0]"] * 40 + ["name"])]


@pytest.mark.parametrize("data", [None, 5, ["{}"], bytearray(b"{}")])
def test_only_bytes_and_text_are_decoded(data: Any) -> None:
    """Even a mistake of the program comes as our error."""
    with pytest.raises(CodecError, match="must be bytes or str"):
        GAMES.decode(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe", "is not UTF-8: invalid start byte at byte 0"),
        ("{", "is not JSON: .* at line 1, column 2"),
        ("", "is not JSON"),
        ("{}{}", "is not JSON: Extra data"),
        ("\ufeff{}", "is not JSON"),
        ("9" * 5000, "is not usable"),
    ],
)
def test_what_is_no_json_is_refused_and_told_why(data: bytes | str, why: str) -> None:
    """With the place, where there is one."""
    with pytest.raises(CodecError, match=why):
        decode_json(data)


def test_of_a_name_that_comes_twice_the_last_value_counts() -> None:
    """As with every reader of old data."""
    assert decode_json('{"a": 1, "a": 2}') == {"a": 2}


def test_lenient_reading_leaves_the_faults_to_whoever_salvages_the_rest() -> None:
    """So one broken player doesn't cost all others."""
    roster = decode_json(
        r'{"1": {"user_id": "1", "last_active": NaN}, "2": {"user_id": "\ud800"},'
        '"3": {"user_id": "3"}}',
        lenient=True,
    )
    codec = JsonCodec(Player)
    assert codec.structure(roster["3"]) == Player(UserId("3"))
    for user_id, path in (("1", "players.1.last_active"), ("2", "players.2.user_id")):
        with pytest.raises(CodecError) as caught:
            codec.structure(roster[user_id], f"players.{user_id}")
        assert [fault.path for fault in caught.value.faults] == [path]


def test_plain_data_that_json_has_no_form_for_is_not_written() -> None:
    """It says where it is."""
    with pytest.raises(CodecError, match=r"a\[0\]: is a set, for which JSON has no form"):
        encode_json({"a": [{1}]})


@pytest.mark.parametrize(
    "game",
    [
        Game("x", True, best=5),  # type: ignore[arg-type]
        Game("x", True, moves=5),  # type: ignore[arg-type]
        Game("x", True, extra={1, 2}),
        Game(5, True),  # type: ignore[arg-type]
        Game("x", 1),  # type: ignore[arg-type]
        Game("x", True, extra={1: "a"}),
        "no game",
    ],
)
def test_objects_that_are_not_what_their_class_says_are_not_written(game: Any) -> None:
    """The error is ours; else it would be written, and refused when it is read."""
    with pytest.raises(CodecError):
        GAMES.encode(game)


def test_an_object_that_could_not_be_read_back_is_told_where() -> None:
    """With all faults, as on reading."""
    with pytest.raises(CodecError) as caught:
        JsonCodec(Point).encode(Point("1", 10**400))  # type: ignore[arg-type]
    assert caught.value.faults == (Fault("x", "must be a whole number, not '1'"),)


def test_types_that_say_little_are_taken_as_any() -> None:
    """`object`, bare containers and None."""
    codec = JsonCodec(Loose)
    loose = Loose({"a": [1]}, None, [1, "b"], {"c": None})
    assert codec.decode(codec.encode(loose)) == loose
    assert faults(codec, '{"nothing": 1}') == {"nothing": "must be null, not 1"}
    assert JsonCodec(dict[str, dict[str, int]]).decode(b'{"a":{"b":1}}') == {"a": {"b": 1}}
    assert JsonCodec(list[list[int]]).encode([[1]]) == b"[[1]]"
    assert JsonCodec(dict[str, Point]).encode({"a": Point(1, 2)}) == b'{"a":{"x":1,"y":2}}'


@pytest.mark.parametrize(
    "cls", [bytes, set[str], dict[int, str], complex, list[bytes], Player | Point]
)
def test_types_that_could_not_be_read_back_strictly_have_no_codec(cls: Any) -> None:
    """The program learns it when it makes the codec, not when it reads."""
    with pytest.raises(TypeError, match="has no form in JSON"):
        JsonCodec(cls)


def test_an_alias_is_what_it_stands_for() -> None:
    """As in `type Turns = list[int]`, since Python 3.12."""
    assert JsonCodec(cast("type[list[int]]", Turns)).decode("[1]") == [1]


def test_a_codec_says_what_it_is_for() -> None:
    """In a debugger."""
    assert repr(GAMES) == "JsonCodec(Game)"
