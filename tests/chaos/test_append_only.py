"""Cutting an append-only file back: what a server finds there is never half a transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamegirl.chaos._append_only import AppendOnly, Fence


def command(*parts: str) -> bytes:
    sized = "".join(f"${len(part)}\r\n{part}\r\n" for part in parts)
    return f"*{len(parts)}\r\n{sized}".encode()


def fence(revision: int) -> bytes:
    return command("HSET", "gg:fence:session:c", "owner", "1:n:p", "rev", str(revision))


BEFORE = command("SELECT", "0") + fence(1)
TRANSACTION = (
    command("MULTI") + command("RPUSH", "history", "a") + fence(2) + command("exec") + fence(3)
)


@pytest.fixture
def file(tmp_path: Path) -> AppendOnly:
    (tmp_path / "appendonly.aof").write_bytes(BEFORE + TRANSACTION)
    return AppendOnly(tmp_path)


def test_a_cut_never_leaves_half_a_transaction(file: AppendOnly) -> None:
    """Wherever the file is cut: a server would play the half with the next transaction."""
    whole = file.path.read_bytes()
    for size in range(len(whole) + 1):
        file.path.write_bytes(whole)
        gone = file.cut(size)
        left = file.path.read_bytes()
        assert left == whole[: len(left)]
        assert gone == len(whole) - len(left) >= len(whole) - size
        assert left.count(b"MULTI\r\n") == left.count(b"exec\r\n")


def test_most_cuts_end_within_a_command(file: AppendOnly) -> None:
    """Nothing else is cut further back than asked for, and half a command stays."""
    whole = file.path.read_bytes()
    ends = len(BEFORE), len(whole) - len(fence(3)), len(whole)
    for size in range(len(whole) + 1):
        file.path.write_bytes(whole)
        file.cut(size)
        begun = len(BEFORE) + len(command("MULTI")) <= size < ends[1]
        assert begun or file.size == size
        assert not begun or 0 <= file.size - len(BEFORE) < len(command("MULTI"))


def test_the_fences_are_those_a_server_would_find(file: AppendOnly) -> None:
    """After the whole file, a transaction, and before it."""
    assert file.fences() == {"c": Fence("1:n:p", 3)}
    file.cut(len(BEFORE + TRANSACTION) - 1)
    assert file.fences() == {"c": Fence("1:n:p", 2)}
    file.cut(len(BEFORE) + 40)
    assert file.fences() == {"c": Fence("1:n:p", 1)}
