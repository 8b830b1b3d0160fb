"""The scripts of the Redis store, in Lua 5.1 as every Redis since 6.2 and Valkey run it.

Each handles many actors, one after the other, so that one call serves a whole batch. Redis does not
undo what a failed script has written: whatever can be refused is checked before an actor's first
write, and what an actor's keys or fence hold can't stop the script for the others. No globals, and
no state is ever parsed here.
"""

from __future__ import annotations

import hashlib

import attrs


@attrs.frozen
class Script:
    """A script's text and the name under which a server keeps it."""

    text: bytes
    sha: bytes

    @classmethod
    def of(cls, *parts: str) -> Script:
        """Put a script together."""
        text = "\n".join(parts).encode()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


_TYPE_OF = """
local function type_of(key)
  local answer = redis.call('TYPE', key)
  if type(answer) == 'table' then answer = answer.ok end
  return answer
end
"""

_READ_FENCE = """
local function read_fence(key)
  local fence = redis.pcall('HMGET', key, 'owner', 'rev', 'cid')
  if not fence.err then return fence end
  local reason = tostring(fence.err)
  if string.find(reason, 'WRONGTYPE') then return nil end
  error(reason)
end
"""

# Index 1 of every pair is the type's name, index 2 what the key holds.
_LOAD = """
local function load(key)
  local kind = type_of(key)
  if kind == 'string' then return {kind, redis.call('GET', key)} end
  if kind == 'hash' then return {kind, redis.call('HGETALL', key)} end
  if kind == 'list' then return {kind, redis.call('LRANGE', key, 0, -1)} end
  return {kind}
end
"""

# How long nobody of our instance can take over from an owner, in milliseconds; 0: now.
# A server that was started anew, or came in another's place, may have lost leases of the living:
# where one is missing, its process gets the time of a lease to renew it. ARGV[3] is the run of the
# server that the claimer knows ('': it can't tell), ARGV[4] what is left of that time, ARGV[5] all
# of it. Who has gone leaves '\0' in its lease for a while.
_REMAINING = """
local me, instance = ARGV[1], ARGV[2]
local grace
local function left_for_renewals()
  if grace then return grace end
  grace = 0
  if ARGV[3] ~= '' then
    local info = redis.pcall('INFO', 'server')
    local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
    if run then grace = tonumber(run == ARGV[3] and ARGV[4] or ARGV[5]) end
  end
  return grace
end
local leases = {}
local function remaining(process)
  local known = leases[process]
  if known then return known end
  local key = 'gg:lease:' .. process
  local left = redis.call('PTTL', key)
  if left == -2 then
    left = (process == me or process == '') and 0 or left_for_renewals()
  elseif process ~= me and redis.pcall('GET', key) == '\0' then
    left = 0
  elseif process ~= me and instance ~= '' and redis.pcall('GET', key) == instance then
    left = 0
  elseif left == -1 then
    left = 1000
  elseif left == 0 then
    left = 1
  end
  leases[process] = left
  return left
end
local function process_of(owner)
  return string.match(owner, '^[^:]*:[^:]*:(.*)$') or ''
end
"""

# KEYS: the due index; then for each commit its fence, the keys it requires, the keys it writes.
# ARGV: for each commit how many arguments follow it, then: member, owner, revision before,
#   revision, commit id, due ('' keeps, '-' removes), release, number of requires, of writes;
#   for each require a field and '=' with its value, or '' (absent); for each write a letter, then
#   T text / H ttl count fields / P count count fields removed / L count items /
#   A keep count items / D
# Answer: for each commit 1 done, 2 done before, {'F', owner, revision, since} fenced,
#   {'F'} no fence,
#   {'C', revision}, {'B', position among its keys, type}, {'U', index}, {'X'} the fence is none
COMMIT = Script.of(
    _TYPE_OF,
    _READ_FENCE,
    """
local call = redis.call
local index_type = type_of(KEYS[1])
if index_type ~= 'zset' and index_type ~= 'none' then
  return redis.error_reply('GGINDEX ' .. KEYS[1] .. ' holds a ' .. index_type)
end

local needs = {T = 'string', H = 'hash', P = 'hash', L = 'list', A = 'list'}

-- Calls a command with many arguments in portions that the stack can take.
local function portions(command, key, first, last)
  for start = first, last, 4000 do
    call(command, key, unpack(ARGV, start, math.min(start + 3999, last)))
  end
end

-- Where the arguments of the write at `a` end, and the type it leaves behind ('none': no key).
local function extent(a, found)
  local op = ARGV[a]
  if op == 'P' then
    local set = tonumber(ARGV[a + 1])
    return a + 2 + set + tonumber(ARGV[a + 2]), set > 0 and 'hash' or found
  elseif op == 'T' then
    return a + 1, 'string'
  elseif op == 'D' then
    return a, 'none'
  end
  local count = tonumber(ARGV[a + 2])
  if op == 'A' then
    local left = count > 0 and 'list' or found
    return a + 2 + count, ARGV[a + 1] == '0' and 'none' or left
  end
  return a + 2 + count, count > 0 and needs[op] or 'none'
end

local function write(a, key)
  local op = ARGV[a]
  if op == 'P' then
    local set, removed = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
    portions('HSET', key, a + 3, a + 2 + set)
    portions('HDEL', key, a + 3 + set, a + 2 + set + removed)
    return
  elseif op == 'T' then
    call('SET', key, ARGV[a + 1])
    return
  elseif op == 'A' then
    local count = tonumber(ARGV[a + 2])
    if ARGV[a + 1] == '0' then
      call('DEL', key)
    else
      portions('RPUSH', key, a + 3, a + 2 + count)
      call('LTRIM', key, '-' .. ARGV[a + 1], -1)
    end
    return
  end
  call('DEL', key)
  if op == 'H' then
    local count = tonumber(ARGV[a + 2])
    portions('HSET', key, a + 3, a + 2 + count)
    if ARGV[a + 1] ~= '' and count > 0 then call('EXPIRE', key, ARGV[a + 1]) end
  elseif op == 'L' then
    portions('RPUSH', key, a + 3, a + 2 + tonumber(ARGV[a + 2]))
  end
end

-- A command that our user may not call would end the script in the middle of a commit, and what a
-- list has got by then it would get once more. So whatever the writes call is tried before the
-- first of them, on a key that is never there.
local tried = {}
local function try(command, ...)
  if not tried[command] then
    call(command, ...)
    tried[command] = true
  end
end

local function rehearse(a, fence, rev)
  local op, nowhere = ARGV[a], fence .. '\\0'
  if op == 'T' then
    try('SET', nowhere, '', 'XX')
  elseif op == 'P' or op == 'H' then
    try('HSET', fence, 'rev', rev)
    if op == 'P' and ARGV[a + 2] ~= '0' then try('HDEL', nowhere, '') end
    if op == 'H' and ARGV[a + 1] ~= '' then try('EXPIRE', nowhere, 1) end
  end
  if op == 'A' and ARGV[a + 1] ~= '0' then
    try('LTRIM', nowhere, 0, -1)
    try('RPUSH', nowhere, '')
    call('LTRIM', nowhere, 1, 0)
  elseif op ~= 'T' and op ~= 'P' then
    try('DEL', nowhere)
    if op == 'L' then
      try('RPUSH', nowhere, '')
      call('DEL', nowhere)
    end
  end
end

local function refusal(k, a, requires, writes, rev)
  for i = 1, requires do
    local key, wanted = KEYS[k + i], ARGV[a + 2 * i - 1]
    local found = type_of(key)
    if found ~= 'none' and found ~= 'hash' then return {'B', i, found} end
    local held = call('HGET', key, ARGV[a + 2 * i - 2])
    if (held and '=' .. held or '') ~= wanted then return {'U', i - 1} end
  end
  a = a + 2 * requires
  local types = writes > 1 and {}
  for i = requires + 1, requires + writes do
    local key, op = KEYS[k + i], ARGV[a]
    local found = types and types[key] or type_of(key)
    if found ~= 'none' and op ~= 'D' and found ~= needs[op] then return {'B', i, found} end
    if types or op ~= 'P' or ARGV[a + 2] ~= '0' then rehearse(a, KEYS[k], rev) end
    local last, left = extent(a, found)
    if types then types[key] = left end
    a = last + 1
  end
  return nil
end

local function commit(k, a)
  local key, owner = KEYS[k], ARGV[a + 1]
  local requires, writes = tonumber(ARGV[a + 7]), tonumber(ARGV[a + 8])
  local release = ARGV[a + 6] == '1'
  local next_k = k + 1 + requires + writes
  local fence = read_fence(key)
  if not fence then return {'X'}, next_k end
  local rev, done = fence[2] or '0', false
  if rev == '' then rev = '0' end
  if rev == ARGV[a + 3] and fence[3] == ARGV[a + 4] then done = true end
  if not fence[1] then return {'F'}, next_k end
  if fence[1] ~= owner then
    -- A release that is sent again finds the fence as it has left it itself: nobody's.
    if done and release and fence[1] == '' then return 2, next_k end
    return {'F', fence[1], rev, call('HGET', key, 'since') or ''}, next_k
  end
  if done then return 2, next_k end
  if rev ~= ARGV[a + 2] then return {'C', rev}, next_k end
  local refused = refusal(k, a + 9, requires, writes, rev)
  if refused then return refused, next_k end

  local member, due = ARGV[a], ARGV[a + 5]
  local at = a + 9 + 2 * requires
  if due == '-' then
    call('ZREM', KEYS[1], member)
  elseif due ~= '' then
    call('ZADD', KEYS[1], due, member)
  end
  for i = requires + 1, requires + writes do
    local last = extent(at, 'none')
    write(at, KEYS[k + i])
    at = last + 1
  end
  -- Last: where a user may not call one of these commands, the commit must not pass for done.
  if release then
    call('HSET', key, 'rev', ARGV[a + 3], 'cid', ARGV[a + 4], 'owner', '')
  else
    call('HSET', key, 'rev', ARGV[a + 3], 'cid', ARGV[a + 4])
  end
  return 1, next_k
end

local answers = {}
local k, a, last = 2, 1, #ARGV
while a <= last do
  answers[#answers + 1], k = commit(k, a + 1)
  a = a + 1 + tonumber(ARGV[a])
end
return answers
""",
)

# KEYS: the epoch; then each claim's fence.
# ARGV: process, instance, server, grace, lease; then for each claim a nonce, and the token of an
#   owner who is taken over from in any case ('': none).
# Answer: for each claim {'C', owner, previous or nil, revision, commit id},
#   {'O', owner, milliseconds}, {'X'} the fence is none, {'R', revision} is no number,
#   {'E'} the epoch is no number
# What the actors' keys hold is read in the same transaction, by commands of their own: what goes
# through a script is copied twice, which takes the server three times as long.
CLAIM = Script.of(
    _READ_FENCE,
    _REMAINING,
    """
local epoch, epochs = 0, 0

-- A fresh epoch. They are taken for all the claims that are left, with one command.
local function fresh(left)
  if epochs == 0 then
    local last = redis.pcall('INCRBY', KEYS[1], left)
    if type(last) == 'table' then
      local reason = tostring(last.err)
      for _, word in ipairs({'WRONGTYPE', 'integer', 'overflow'}) do
        if string.find(reason, word) then return nil end
      end
      error(reason)
    end
    epoch, epochs = last - left, left
  end
  epoch, epochs = epoch + 1, epochs - 1
  return string.format('%.0f', epoch)
end

local function claim(k, nonce, over)
  local key = KEYS[k]
  local fence = read_fence(key)
  if not fence then return {'X'} end
  local previous, rev, cid = fence[1], fence[2], fence[3]
  if rev == '' then rev = false end
  if rev and (#rev > 18 or string.find(rev, '[^0-9]')) then return {'R', rev} end
  if previous and previous ~= '' and previous ~= over then
    local process = process_of(previous)
    if process ~= me then
      local left = remaining(process)
      if left > 0 then return {'O', previous, left} end
    end
  end
  local number = fresh(#KEYS - k + 1)
  if not number then return {'E'} end
  local owner = number .. ':' .. nonce .. ':' .. me
  if rev and cid then
    redis.call('HSET', key, 'owner', owner, 'since', rev)
  else
    rev, cid = rev or '0', cid or ''
    redis.call('HSET', key, 'owner', owner, 'rev', rev, 'cid', cid, 'since', rev)
  end
  return {'C', owner, previous, rev, cid}
end

local answers = {}
for k = 2, #KEYS do
  answers[k - 1] = claim(k, ARGV[2 * k + 2], ARGV[2 * k + 3])
end
return answers
""",
)

# KEYS: keys. Answer: for each {type, what it holds or nil, seconds to live}
READ = Script.of(
    _TYPE_OF,
    _LOAD,
    """
local answers = {}
for i, key in ipairs(KEYS) do
  local loaded = load(key)
  answers[i] = {loaded[1], loaded[2] or false, redis.call('TTL', key)}
end
return answers
""",
)

# KEYS: the due index. ARGV: process, instance, server, grace, lease, until, offset, count.
# Answer: a flat list of member, time, owner, milliseconds (0: can be claimed)
DUE = Script.of(
    _READ_FENCE,
    _REMAINING,
    """
local page = redis.call(
  'ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[6], 'WITHSCORES', 'LIMIT', ARGV[7], ARGV[8])
local answers = {}
for i = 1, #page, 2 do
  local fence = read_fence('gg:fence:' .. page[i])
  local owner = fence and fence[1] or ''
  answers[#answers + 1] = page[i]
  answers[#answers + 1] = page[i + 1]
  answers[#answers + 1] = owner
  answers[#answers + 1] = owner ~= '' and remaining(process_of(owner)) or 0
end
return answers
""",
)
