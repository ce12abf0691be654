"""What Redis does in one step, in its own Lua. Pure.

All take the same keys: what says which entries are of the present (the epoch), everybody's writers, an owner's
entries, and the owner's writers.
"""

LOOK = """
-- ARGV: the entry's name, a new token, milliseconds. Returns the entry, or a token where one may be kept, or neither.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
if not run then return redis.error_reply('ERR this server does not tell its runs apart: no run_id') end
-- An epoch is of one run: what a server has loaded from its disk may be older than what it was told to forget.
local epoch = redis.call('GET', KEYS[1])
if epoch and string.sub(epoch, 1, #run) ~= run then epoch = false end
local kept = redis.call('HMGET', KEYS[3], 'epoch', 'token', ARGV[1])
local present = epoch and kept[1] == epoch
if present and kept[3] then
  -- Changes nothing, and is refused by a server that refuses to be written to: it could not be told to forget.
  redis.call('HDEL', KEYS[3], '')
  return {kept[3], false}
end
if redis.call('EXISTS', KEYS[2], KEYS[4]) > 0 then return {false, false} end
if present then return {false, kept[2]} end
if not epoch then
  epoch = run .. ':' .. ARGV[2]
  redis.call('SET', KEYS[1], epoch)
end
if kept[1] then redis.call('DEL', KEYS[3]) end
redis.call('HSET', KEYS[3], 'epoch', epoch, 'token', ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return {false, ARGV[2]}
"""

KEEP = """
-- ARGV: the entry's name, the token, the entry, how many there may be.
if redis.call('HGET', KEYS[3], 'token') ~= ARGV[2] then return {} end
if redis.call('HLEN', KEYS[3]) - 2 >= tonumber(ARGV[4]) then return {} end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
return {}
"""

CHANGE = """
-- ARGV: the writer, for how many seconds nothing may be kept on its account; 0 when it is done.
-- Forgets first: a server that is full still does that, and what comes after it in the same script.
redis.call('DEL', KEYS[3])
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
if tonumber(ARGV[2]) == 0 then
  redis.call('ZREM', KEYS[4], ARGV[1])
else
  redis.call('ZADD', KEYS[4], now + ARGV[2], ARGV[1])
  redis.call('EXPIRE', KEYS[4], ARGV[2])
end
return {}
"""
