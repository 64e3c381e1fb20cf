"""The steps as Redis runs them: one Lua script for all, given any number of keys.

A record is a hash: `s` state, `fp` fingerprint, `e` epoch; while somebody holds it `l` (lease until), `d` (its length)
and `o` (who asked); when it is done `r`, the answer. States: I in progress, T taken over, A abandoned, D done, E done
with an error, X deleted. Times are milliseconds of the clock of Redis. What stands in a record is used only if it is
one: everything else is answered with C, and left as it is.
"""

from __future__ import annotations

import hashlib

from resilient_rpc.stores.base import KEEP

SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local KEEP = 60000
local at = 1
local function take() at = at + 1 return ARGV[at] end
local function number(text)
  if text and #text <= 15 and string.find(text, '^%d+$') then return tonumber(text) end
end
local HELD, DONE = {I = true, T = true}, {D = true, E = true}

local function load(key)
  local h = redis.pcall('HMGET', key, 's', 'fp', 'e', 'l', 'd', 'o', 'r')
  if h.err then
    if string.find(h.err, 'WRONGTYPE', 1, true) then return nil, {'C', 'it is no hash'} end
    return nil, {'F', h.err}
  end
  if not h[1] and redis.call('EXISTS', key) == 0 then return nil end
  local it = {s = h[1], fp = h[2], e = number(h[3]), l = number(h[4]), d = number(h[5]), o = h[6], r = h[7]}
  if not it.e then return nil, {'C', 'its epoch is no number'} end
  if it.s == 'X' then return it end
  if not it.fp then return nil, {'C', 'it has no fingerprint'} end
  if HELD[it.s] then
    if not it.l or not it.d then return nil, {'C', 'its lease is no number'} end
    if it.l - now > it.d then
      it.l = now + it.d
      redis.pcall('HSET', key, 'l', it.l)
    end
  elseif DONE[it.s] then
    if not it.r then return nil, {'C', 'it has no answer'} end
  elseif it.s ~= 'A' then
    return nil, {'C', 'its state is not known'}
  end
  return it
end

local function write(key, ...)
  local done = redis.pcall('HSET', key, ...)
  if type(done) == 'table' and done.err then return {'F', done.err} end
end

local function mine(key, epoch, test)
  local it, wrong = load(key)
  if wrong then return nil, wrong end
  if not it or it.e ~= epoch then return nil, 0 end
  return it
end

local function let_go(key)
  local wrong = write(key, 's', 'A')
  if wrong then return wrong end
  redis.call('HDEL', key, 'l', 'd', 'o')
  return 1
end

local step = {}

function step.b(key)
  local fp, lease, ttl, rerun, owner = take(), tonumber(take()), tonumber(take()), take(), take()
  local it, wrong = load(key)
  if wrong then return wrong end
  local state = 'I'
  if it and it.s ~= 'X' then
    if it.fp ~= fp then return {'M'} end
    if DONE[it.s] then return {it.s, it.r} end
    if HELD[it.s] then
      if it.o == owner then
        wrong = write(key, 'l', now + lease, 'd', lease)
        return wrong or {it.s, it.e}
      end
      if it.l > now then return {'B', it.l - now} end
      if rerun == '0' then return {'U'} end
      state = 'T'
    end
  end
  local epoch = math.max((it and it.e or 0) + 1, now)
  wrong = write(key, 's', state, 'fp', fp, 'e', epoch, 'l', now + lease, 'd', lease, 'o', owner)
  if wrong then return wrong end
  redis.call('PEXPIRE', key, math.max(ttl, lease + KEEP))
  return {state, epoch}
end

function step.r(key)
  local epoch, lease = tonumber(take()), tonumber(take())
  local it, wrong = mine(key, epoch)
  if wrong then return wrong end
  if not HELD[it.s] then return 0 end
  wrong = write(key, 'l', now + lease, 'd', lease)
  if wrong then return wrong end
  if redis.call('PTTL', key) < lease + KEEP then redis.call('PEXPIRE', key, lease + KEEP) end
  return 1
end

function step.c(key)
  local epoch, state, ttl, payload = tonumber(take()), take(), tonumber(take()), take()
  local it, wrong = mine(key, epoch)
  if wrong then return wrong end
  if DONE[it.s] then return 1 end
  if not HELD[it.s] then return 0 end
  wrong = write(key, 's', state, 'r', payload)
  if wrong then return wrong end
  redis.call('HDEL', key, 'l', 'd', 'o')
  redis.call('PEXPIRE', key, ttl)
  return 1
end

function step.a(key)
  local it, wrong = mine(key, tonumber(take()))
  if wrong then return wrong end
  if HELD[it.s] then return let_go(key) end
  return it.s == 'A' and 1 or 0
end

function step.o(key)
  local owner = take()
  local it, wrong = load(key)
  if wrong then return wrong end
  if it and HELD[it.s] and it.o == owner then return let_go(key) end
  return 0
end

function step.g(key)
  local it, wrong = load(key)
  if wrong then return wrong end
  if not it or it.s == 'X' then return {'G'} end
  return {'G', it.s, it.e, it.fp, math.max(0, (it.l or 0) - now), it.r or ''}
end

function step.x(key)
  local it, wrong = load(key)
  if wrong and wrong[1] == 'F' then return wrong end
  if wrong then return redis.call('DEL', key) end
  if not it or it.s == 'X' then return 0 end
  if write(key, 's', 'X') then return redis.call('DEL', key) end
  redis.call('HDEL', key, 'fp', 'l', 'd', 'o', 'r')
  redis.call('PEXPIRE', key, math.max(it.e - now, 0) + KEEP)
  return 1
end

local answers = {ARGV[1]}
for i = 1, #KEYS do answers[i + 1] = step[take()](KEYS[i]) end
return answers
""".replace("local KEEP = 60000", f"local KEEP = {KEEP * 1000:.0f}")
DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""By which Redis knows the script."""
