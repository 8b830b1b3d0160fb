"""Digests of what is stored: our notes keep them, to tell what others have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from gamegirl.actors._writes import Value
from gamegirl.actors.session._state import tally_of

DIGEST_BYTES = 12
_TALLY = "sum:"
"""What the note of a history begins with; without it, it is a digest of all records together."""


def digest_of(*parts: bytes) -> str:
    """A short digest of bytes."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=DIGEST_BYTES).hexdigest()


def digest_of_hash(fields: Mapping[str, Value]) -> str:
    """A digest of a hash as stored, whatever the order of its fields."""
    pairs = ((key.encode(), _value_bytes(value)) for key, value in fields.items())
    return digest_of(*(part for pair in sorted(pairs) for part in pair))


def note_of_tally(tally: int) -> str:
    """What is noted of a history, always as long."""
    return f"{_TALLY}{tally:024x}"


def fits_history(noted: str, records: Sequence[bytes]) -> bool:
    """Whether these are the records that were noted, also by an earlier version."""
    if noted.startswith(_TALLY):
        return noted == note_of_tally(tally_of(records))
    return noted == digest_of(*records)


def _value_bytes(value: Value) -> bytes:
    return value.encode() if isinstance(value, str) else value
