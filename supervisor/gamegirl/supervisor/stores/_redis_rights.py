"""What our user may do at a Redis: asked when a store opens, and when something was refused.

There is no command for that which an ordinary user may call, so all are tried, in ways that change
nothing. Who may do only a part of it would play, and lose what the other part is for, unseen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from redis.exceptions import NoScriptError, ResponseError

from gamegirl.supervisor.stores._packing import packed
from gamegirl.supervisor.stores._redis_calls import Request
from gamegirl.supervisor.stores._scripts import Script

# Answer: what our user has no right to, as in an ACL rule.
_RIGHTS = Script.of(
    """
local scratch, nowhere = 'gg:\\0rights', 'gg:\\0nowhere'
local lacking = {}

local function try(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  local reason = type(answer) == 'table' and answer.err and tostring(answer.err) or ''
  if string.find(reason, 'access') then
    local pattern = key == 'game:index' and key or string.match(key, '^(.-)%z') .. '*'
    lacking['~' .. pattern] = true
  elseif string.find(reason, "can't run") or string.find(reason, 'permission') then
    lacking['+' .. string.lower(command)] = true
  end
  return reason == ''
end

for _, key in ipairs({nowhere, 'game:index', 'game:session:\\0', 'sg:game_session:\\0'}) do
  try('TYPE', key)
  try('HDEL', key, '')
end
for _, command in ipairs({'GET', 'DEL', 'TTL', 'PTTL', 'HGETALL'}) do
  try(command, nowhere)
end
try('EXPIRE', nowhere, 1)
try('HGET', nowhere, '')
try('HMGET', nowhere, '')
try('LRANGE', nowhere, 0, 0)
try('LTRIM', nowhere, 0, 0)
try('ZADD', nowhere, 'XX', 0, '')
try('ZREM', nowhere, '')
try('ZRANGEBYSCORE', nowhere, 0, 0)
if try('SET', scratch, '', 'XX') and not lacking['+del'] then
  -- These would make a key that isn't there; a text is none that they could change.
  redis.call('SET', scratch, 'x')
  try('INCRBY', scratch, 1)
  try('HSET', scratch, 'x', 'x')
  try('RPUSH', scratch, 'x')
  redis.pcall('DEL', scratch)
end

local answer = {}
for right in pairs(lacking) do answer[#answer + 1] = right end
table.sort(answer)
return answer
"""
)

_COMMANDS: Sequence[tuple[Any, ...]] = (
    ("SCRIPT", "LOAD", _RIGHTS.text),
    ("EVALSHA", _RIGHTS.sha, "0"),
    ("SCAN", "0", "MATCH", "gg:rights", "COUNT", "1"),
    ("MULTI",),
    ("EXEC",),
)

QUESTION: Request = (tuple(map(packed, _COMMANDS)), len(_COMMANDS))
"""What to ask a server."""

_DIRECT = ("+script|load", "+evalsha", "+scan", "+multi", "+exec")
_DENIED = re.compile(r"no permissions? to run|can't (run|execute) this command")


def lacking(answers: Sequence[Any]) -> Sequence[str]:
    """The rights that are missing, as in an ACL rule, from the answers to the `QUESTION`.

    Raises:
        ResponseError: The server refused for another reason.
    """
    found: list[str] = []
    for right, answer in zip(_DIRECT, answers, strict=True):
        if isinstance(answer, NoScriptError) or "EXEC without MULTI" in str(answer):
            continue  # The command before was refused, which says it.
        if isinstance(answer, ResponseError):
            if not _DENIED.search(str(answer)):
                raise answer
            found.append(right)
        elif right == "+evalsha":
            found += [item.decode() for item in cast("list[bytes]", answer)]
    return found
