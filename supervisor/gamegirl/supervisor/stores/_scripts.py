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
# ARGV: for each commit a head (how many arguments follow it, number of requires, number of writes,
#   '+' if it becomes due, '-' if it no longer is, 'r' if it gives up ownership), owner, revision,
#   commit id; if it becomes due or no longer is, its name in the index; if it becomes due, when;
#   for each require a field and '=' with its value, or '' (absent); for each write its head, then
#   what the head says that follows:
#   T: a text / H<count>:<ttl or nothing>: fields / P<count>:<count>: fields, fields removed /
#   L<count>: items / A<count>:<keep>: items / D: nothing
# Heads are cheap: a call has only a few different ones, and each is looked at once.
# Answer: for each commit 1 done, 2 done before, {'F', owner, revision, since} fenced,
#   {'F'} no fence,
#   {'C', revision}, {'B', position among its keys, type}, {'U', index}, {'X'} the fence is none
COMMIT = Script.of(
    _TYPE_OF,
    _READ_FENCE,
    """
local call, keys, args = redis.call, KEYS, ARGV
local due_index = keys[1]
local index_type = type_of(due_index)
if index_type ~= 'zset' and index_type ~= 'none' then
  return redis.error_reply('GGINDEX ' .. due_index .. ' holds a ' .. index_type)
end

local needs = {T = 'string', H = 'hash', P = 'hash', L = 'list', A = 'list'}

-- What the head of a write says, by its text; a call has only a few different ones. `size`: so many
-- arguments follow; `leaves`: the type that the key has then ('none': no key, nil: that of before).
local heads = {}
local function head_of(text)
  local op, number, more = string.match(text, '^(.)(%d*):?(%-?%d*)$')
  local count = tonumber(number) or 0
  local head = {op = op, needs = needs[op], leaves = needs[op], count = count, size = count}
  if op == 'T' then
    head.size = 1
  elseif op == 'P' then
    head.removed = tonumber(more)
    head.size = count + head.removed
    head.checks = head.removed == 0 and count > 0 and count <= 4000
    if count == 0 then head.leaves = nil end
  elseif op == 'A' then
    head.keep = more ~= '0' and tonumber(more)
    if not head.keep then
      head.leaves = 'none'
    elseif count == 0 then
      head.leaves = nil
    end
  elseif count == 0 then
    head.leaves = 'none'
  elseif more ~= '' then
    head.ttl = more
  end
  heads[text] = head
  return head
end

-- Calls a command with many arguments, in portions that the stack can take; its last answer.
local function with_all(command, key, first, last)
  if last < first then return 0 end
  while last - first >= 4000 do
    call(command, key, unpack(args, first, first + 3999))
    first = first + 4000
  end
  return call(command, key, unpack(args, first, last))
end

-- Makes the write whose head is at `a`.
local function write(head, a, key)
  local op, count = head.op, head.count
  if op == 'P' then
    with_all('HSET', key, a + 1, a + count)
    if head.removed > 0 then with_all('HDEL', key, a + 1 + count, a + head.size) end
  elseif op == 'T' then
    call('SET', key, args[a + 1])
  elseif op == 'H' then
    call('DEL', key)
    with_all('HSET', key, a + 1, a + count)
    if head.ttl then call('EXPIRE', key, head.ttl) end
  elseif head.keep then
    local length = with_all('RPUSH', key, a + 1, a + count)
    if length > head.keep or count == 0 then call('LTRIM', key, -head.keep, -1) end
  else
    call('DEL', key)
    if op == 'L' then with_all('RPUSH', key, a + 1, a + count) end
  end
end

-- A command that our user may not call would end the script in the middle of a commit, and what a
-- list has got by then it would get once more. So whatever the writes call is tried before the
-- first of them, on a key that is never there; once, since nobody's rights change meanwhile.
local tried = {}
local function try(command, ...)
  if not tried[command] then
    call(command, ...)
    tried[command] = true
  end
end

local function rehearse(head, fence, rev)
  local op, nowhere = head.op, fence .. '\\0'
  if op == 'T' then
    try('SET', nowhere, '', 'XX')
  elseif op == 'P' or op == 'H' then
    try('HSET', fence, 'rev', rev)
    if op == 'P' and head.removed > 0 then try('HDEL', nowhere, '') end
    if head.ttl then try('EXPIRE', nowhere, 1) end
  end
  if head.keep then
    try('LTRIM', nowhere, 0, -1)
    if not tried.RPUSH then
      try('RPUSH', nowhere, '')
      call('LTRIM', nowhere, 1, 0)
    end
  elseif op ~= 'T' and op ~= 'P' then
    try('DEL', nowhere)
    if op == 'L' and not tried.RPUSH then
      try('RPUSH', nowhere, '')
      call('DEL', nowhere)
    end
  end
  head.rehearsed = true
end

local function refusal(k, a, requires, writes, rev)
  for i = 1, requires do
    local key, wanted = keys[k + i], args[a + 2 * i - 1]
    local found = type_of(key)
    if found ~= 'none' and found ~= 'hash' then return {'B', i, found} end
    local held = call('HGET', key, args[a + 2 * i - 2])
    if (held and '=' .. held or '') ~= wanted then return {'U', i - 1} end
  end
  a = a + 2 * requires
  local types = writes > 1 and {}
  for i = requires + 1, requires + writes do
    local key, text = keys[k + i], args[a]
    local head = heads[text] or head_of(text)
    if head.needs then
      local found = types and types[key] or type_of(key)
      if found ~= 'none' and found ~= head.needs then return {'B', i, found} end
      if types then types[key] = head.leaves or found end
    elseif types then
      types[key] = 'none'
    end
    if not head.rehearsed and (types or head.op ~= 'P' or head.removed > 0) then
      rehearse(head, keys[k], rev)
    end
    a = a + 1 + head.size
  end
  return nil
end

-- As nearly all presses are: a lone patch, which says itself whether its key is a hash, and if it
-- isn't, has changed nothing.
local function patch(head, a, key)
  local answer = redis.pcall('HSET', key, unpack(args, a + 1, a + head.count))
  if type(answer) ~= 'table' then return nil end
  local found = type_of(key)
  if found ~= 'none' and found ~= 'hash' then return {'B', 1, found} end
  call('HSET', key, unpack(args, a + 1, a + head.count)) -- Fails again, for whoever calls us.
end

local kinds = {}
local function kind_of(text)
  local size, requires, writes, due, release = string.match(
    text, '^(%d+):(%d+):(%d+)([+-]?)(r?)$')
  local kind = {
    size = tonumber(size), requires = tonumber(requires), writes = tonumber(writes),
    due = due ~= '' and due, release = release ~= '',
  }
  kind.first = 4 + (due ~= '' and 1 or 0) + (due == '+' and 1 or 0)
  kind.lone = kind.writes == 1 and kind.requires == 0 and not kind.due
  kinds[text] = kind
  return kind
end

local function commit(kind, k, a)
  local key, owner, revision, id = keys[k], args[a + 1], args[a + 2], args[a + 3]
  local fence = read_fence(key)
  if not fence then return {'X'} end
  local rev, done = fence[2] or '0', false
  if rev == '' then rev = '0' end
  if rev == revision and fence[3] == id then done = true end
  if not fence[1] then return {'F'} end
  if fence[1] ~= owner then
    -- A release that is sent again finds the fence as it has left it itself: nobody's.
    if done and kind.release and fence[1] == '' then return 2 end
    return {'F', fence[1], rev, call('HGET', key, 'since') or ''}
  end
  if done then return 2 end
  if rev ~= string.format('%.0f', revision - 1) then return {'C', rev} end
  local requires, writes = kind.requires, kind.writes
  local first = a + kind.first
  local at = first + 2 * requires
  local lone, refused
  if kind.lone then lone = heads[args[at]] or head_of(args[at]) end
  if lone and lone.checks then
    refused, writes = patch(lone, at, keys[k + 1]), 0
  else
    refused = refusal(k, first, requires, writes, rev)
  end
  if refused then return refused end

  if kind.due == '-' then
    call('ZREM', due_index, args[a + 4])
  elseif kind.due then
    call('ZADD', due_index, args[a + 5], args[a + 4])
  end
  for i = requires + 1, requires + writes do
    local head = heads[args[at]]
    write(head, at, keys[k + i])
    at = at + 1 + head.size
  end
  -- Last: where a user may not call one of these commands, the commit must not pass for done.
  if kind.release then
    call('HSET', key, 'rev', revision, 'cid', id, 'owner', '')
  else
    call('HSET', key, 'rev', revision, 'cid', id)
  end
  return 1
end

local answers = {}
local k, a, last = 2, 1, #args
while a <= last do
  local kind = kinds[args[a]] or kind_of(args[a])
  answers[#answers + 1] = commit(kind, k, a)
  k = k + 1 + kind.requires + kind.writes
  a = a + 1 + kind.size
end
return answers
""",
)

# KEYS: the epoch; then each claim's fence.
# ARGV: process, instance, server, grace, lease; the claimer's clock in milliseconds, which an epoch
#   is not below: a server that has lost the counter gives none that it had given before; how many
#   prefetches there are, and for each a field of a hash, the beginning of a name that ends with the
#   field's value, and how many fields the hash of that name may have; then for each claim a nonce,
#   the token of an owner who is taken over from in any case ('': none), the number of its prefetch
#   (0: none), and the hash that this begins at.
# Answer: for each claim {'C', owner, previous or nil, revision, commit id} and, if it has a
#   prefetch, the fields of the hash of that name, or nil;
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
    local moment = tonumber(ARGV[6])
    if last - left < moment then
      last = moment + left
      redis.call('SET', KEYS[1], string.format('%.0f', last))
    end
    epoch, epochs = last - left, left
  end
  epoch, epochs = epoch + 1, epochs - 1
  return string.format('%.0f', epoch)
end

local prefetches, a = {}, 8
for i = 1, tonumber(ARGV[7]) do
  prefetches[i] = {field = ARGV[a], prefix = ARGV[a + 1], most = tonumber(ARGV[a + 2])}
  a = a + 3
end

-- What the hash holds whose name ends with what a field of another one says.
local function prefetched(prefetch, key)
  local name = redis.pcall('HGET', key, prefetch.field)
  if type(name) ~= 'string' then return false end
  name = prefetch.prefix .. name
  local size = redis.pcall('HLEN', name)
  if type(size) ~= 'number' or size > prefetch.most then return false end
  local fields = redis.pcall('HGETALL', name)
  return not fields.err and fields
end

local function claim(k, nonce, over, prefetch, hash)
  local key = KEYS[k]
  local fence = read_fence(key)
  if not fence then return {'X'} end
  local previous, rev, cid = fence[1], fence[2], fence[3]
  if rev == '' then rev = false end
  if rev and (#rev > 15 or string.find(rev, '[^0-9]')) then return {'R', rev} end
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
  if not prefetch then return {'C', owner, previous, rev, cid} end
  return {'C', owner, previous, rev, cid, prefetched(prefetch, hash)}
end

local answers = {}
for k = 2, #KEYS do
  local prefetch = prefetches[tonumber(ARGV[a + 2])]
  answers[k - 1] = claim(k, ARGV[a], ARGV[a + 1], prefetch, ARGV[a + 3])
  a = a + 4
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
  'ZRANGEBYSCORE', KEYS[1], ARGV[6], ARGV[7], 'WITHSCORES', 'LIMIT', ARGV[8], ARGV[9])
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
