"""Codecs: objects to bytes and back, strictly; ids in keys; and the root of all our errors.

It knows no games, waits for nothing and reads no clock.
"""

from gamegirl.codec._errors import CodecError, Fate, Fault, GameGirlError, InvalidIdError
from gamegirl.codec._hash import HashCodec
from gamegirl.codec._ids import ID_MAX, check_id, escape_id, unescape_id
from gamegirl.codec._json import JsonCodec
from gamegirl.codec._plain import decode_json, encode_json, plain_text
from gamegirl.codec._schema import Migration, NewerSchemaError, Schema

__all__ = [
    "ID_MAX",
    "CodecError",
    "Fate",
    "Fault",
    "GameGirlError",
    "HashCodec",
    "InvalidIdError",
    "JsonCodec",
    "Migration",
    "NewerSchemaError",
    "Schema",
    "check_id",
    "decode_json",
    "encode_json",
    "escape_id",
    "plain_text",
    "unescape_id",
]
