-- The world of a script, made before it runs: what of Lua's libraries it may use, and the
-- module `postrider` over functions in Rust. Nothing else of either is within its reach.
--
-- Two rules hold everywhere below. Whatever gets control back from the script's own code asks
-- whether the script is stopped, and halts if so: else `while true do pcall(f) end` would
-- outlive every limit. And what C code would do without end, where no hook interrupts it, is
-- refused or done here instead.

local host, ready, waiting, fields = ...

local error, getmetatable, load, next, pairs, pcall, rawget, select, setmetatable, tonumber, tostring, type, xpcall =
  error, getmetatable, load, next, pairs, pcall, rawget, select, setmetatable, tonumber, tostring, type, xpcall
local co_close, co_create, co_isyieldable, co_resume, co_status, co_yield = coroutine.close, coroutine.create,
  coroutine.isyieldable, coroutine.resume, coroutine.status, coroutine.yield
local concat = table.concat
local gsub, raw_match, sub = string.gsub, string.match, string.sub
local getinfo, metatable_of, traceback = debug.getinfo, debug.getmetatable, debug.traceback
local HUGE = math.huge
local stopped, plain, PENDING, OUT_OF_MEMORY = host.stopped, host.plain, host.pending, host.out_of_memory

-- How large a result of one C call may be: tens of milliseconds of work.
local OCTETS_MAX, ITEMS_MAX = 64 << 20, 10000000

-- Raises at the line of the script that called.
local function misuse(message)
  local at = host.here()
  return error(at and at .. ": " .. message or message, 0)
end

-- Leaves a stopped script where it stands, and runs nothing more of it: nobody resumes it.
-- Only where C waits for a result must an error carry it to whoever can.
local function halt(e)
  if co_isyieldable() then co_yield() end
  return error(e, 0)
end

-- From `true, …` or `false, error` of Rust; nothing when it found the script stopped.
local function finish(ok, ...)
  if ok then return ... end
  if ok == nil then halt "stopped" end
  return error((...), 0)
end

-- What a C function answered that was called for the script: its complaints have no line yet.
local function relay(ok, ...)
  if stopped() then halt((...)) end
  if ok then return ... end
  local e = ...
  if type(e) == "string" and not raw_match(e, "^[^\n]-:%d+: ") then misuse(e) end
  return error(e, 0)
end

-- An error as a script may see it: no Rust value.
local function seen(e)
  if type(e) == "userdata" then return plain(e) or e end
  return e
end

-- What a script may have of a library.
local function pick(library)
  local from, picked = _G[library], {}
  for _, name in next, host.library[library] do picked[name] = from[name] end
  return picked
end

---- Errors and coroutines ---------------------------------------------------------------

local function caught(ok, ...)
  if ok then return true, ... end
  if stopped() then halt((...)) end
  return false, seen((...))
end

local function safe_pcall(...) return caught(pcall(...)) end

local function safe_xpcall(f, handler, ...)
  return caught(xpcall(f, function(e)
    -- No hook runs in a handler that was called from one.
    if stopped() then return e end
    return handler(seen(e))
  end, ...))
end

-- What `resume` answered, once `co` has ended or yielded of its own accord: a coroutine that
-- waits for Rust, or that the hook paused, takes whoever resumed it along.
local function settle(co, ok, ...)
  if stopped() then halt((...)) end
  if not ok then return false, seen((...)) end
  local count = select("#", ...)
  if count == 1 and (...) == PENDING then
    return settle(co, co_resume(co, co_yield(PENDING)))
  elseif count == 0 and co_status(co) == "suspended" and getinfo(co, 0, "S").what ~= "C" then
    if co_isyieldable() then host.pause() end
    return settle(co, co_resume(co))
  end
  return true, ...
end

local function resume(co, ...) return settle(co, co_resume(co, ...)) end

local function unwrap(co, ok, ...)
  if ok then return ... end
  if co_status(co) == "dead" then co_close(co) end
  return error((...), 0)
end

local function wrap(f)
  local co = co_create(f)
  return function(...) return unwrap(co, resume(co, ...)) end
end

-- One task: answers `true, …` or `false, error, traceback`. It runs in a coroutine whose stack
-- still stands when it has failed, which tells where even for want of memory.
local function ended(co, ok, ...)
  if ok and co_status(co) == "dead" then return true, ... end
  local e = ...
  if ok then e = "attempt to yield from outside a coroutine" end
  if e == OUT_OF_MEMORY then host.relax() end
  return false, e, traceback(co)
end

local function task(f, ...)
  local co = co_create(f)
  return ended(co, settle(co, co_resume(co, ...)))
end

---- Strings -----------------------------------------------------------------------------

local strings = pick "string"

local raw_rep = string.rep
function strings.rep(s, n, sep)
  local count = tonumber(n)
  if count and (type(s) == "string" or type(s) == "number") then
    local width = #tostring(s) + (sep and #tostring(sep) or 0)
    if count * width > OCTETS_MAX or count > OCTETS_MAX then
      misuse("string.rep: the result would be longer than " .. OCTETS_MAX .. " octets")
    end
  end
  return relay(pcall(raw_rep, s, n, sep))
end

local find, match, scan_each, scan_all =
  host["string.find"], host["string.match"], host["string.gmatch"], host["string.gsub"]
function strings.find(...) return finish(find(...)) end
function strings.match(...) return finish(match(...)) end

function strings.gmatch(s, pattern, init)
  local from, last = init, nil
  local function step(start, after, ...)
    if start then
      from, last = after, after
      return ...
    end
    from = #s + 2
    return nil
  end
  if type(s) == "number" then s = tostring(s) end
  return function() return step(finish(scan_each(s, pattern, from, last))) end
end

-- A replacement text as pieces: text, or the number of a capture.
local function template(text)
  local pieces, from = {}, 1
  while true do
    local at = finish(find(text, "%", from, true))
    if not at then break end
    local char = sub(text, at + 1, at + 1)
    local digit = tonumber(char)
    if not digit and char ~= "%" then misuse("string.gsub: invalid use of '%' in replacement string") end
    pieces[#pieces + 1] = sub(text, from, at - 1)
    pieces[#pieces + 1] = digit or "%"
    from = at + 2
  end
  pieces[#pieces + 1] = sub(text, from)
  return pieces
end

local function fill(pieces, whole, ...)
  local out = {}
  for i = 1, #pieces do
    local piece = pieces[i]
    if piece == 0 then
      piece = whole
    elseif type(piece) == "number" then
      if piece > select("#", ...) then
        misuse("string.gsub: invalid capture index %" .. piece .. " in replacement string")
      end
      piece = (select(piece, ...))
    end
    out[i] = piece
  end
  return concat(out)
end

function strings.gsub(s, pattern, replacement, most)
  local kind, pieces = type(replacement), nil
  if kind == "string" or kind == "number" then
    pieces = template(tostring(replacement))
  elseif kind ~= "table" and kind ~= "function" then
    misuse("string.gsub: argument 3 must be a string, a function or a table, got " .. kind)
  end
  if most ~= nil and not tonumber(most) then misuse("string.gsub: argument 4 must be a number, got " .. type(most)) end
  local out, count, from, last = {}, 0, 1, nil
  local function step(start, after, ...)
    if not start then return false end
    out[#out + 1] = sub(s, from, start - 1)
    local whole, value = sub(s, start, after - 1), nil
    if pieces then
      value = fill(pieces, whole, ...)
    elseif kind == "table" then
      value = replacement[(...)]
    else
      value = replacement(...)
    end
    local got = type(value)
    if not value then
      value = whole
    elseif got ~= "string" and got ~= "number" then
      misuse("string.gsub: invalid replacement value (a " .. got .. ")")
    end
    out[#out + 1] = value
    count, from, last = count + 1, after, after
    return true
  end
  if type(s) == "number" then s = tostring(s) end
  local anchored = sub(pattern, 1, 1) == "^"
  while count < (tonumber(most) or HUGE) and step(finish(scan_all(s, pattern, from, last))) do
    if anchored then break end
  end
  out[#out + 1] = sub(s, from)
  return concat(out), count
end

getmetatable("").__index = strings

---- Tables ------------------------------------------------------------------------------

-- A table with a metatable may claim any length.
local function bounded(name)
  local raw = table[name]
  return function(t, ...)
    if type(t) == "table" and metatable_of(t) and #t > ITEMS_MAX then
      misuse("table." .. name .. ": the table claims more than " .. ITEMS_MAX .. " items")
    end
    return relay(pcall(raw, t, ...))
  end
end

local tables = {
  insert = bounded "insert",
  pack = table.pack,
  remove = bounded "remove",
  sort = bounded "sort",
  unpack = table.unpack,
}

function tables.concat(t, sep, i, j)
  local first, last = tonumber(i) or 1, tonumber(j)
  if type(t) == "table" and (last or metatable_of(t)) and (last or #t) - first > ITEMS_MAX then
    misuse("table.concat: more than " .. ITEMS_MAX .. " items")
  end
  return relay(pcall(concat, t, sep, i, j))
end

local raw_move = table.move
function tables.move(a, f, e, ...)
  local first, last = tonumber(f), tonumber(e)
  if first and last and last - first > ITEMS_MAX then misuse("table.move: more than " .. ITEMS_MAX .. " items") end
  return relay(pcall(raw_move, a, f, e, ...))
end

---- The rest of the language ------------------------------------------------------------

local globals = {
  _VERSION = _VERSION,
  assert = assert,
  error = error,
  getmetatable = getmetatable,
  ipairs = ipairs,
  next = next,
  pairs = pairs,
  pcall = safe_pcall,
  rawequal = rawequal,
  rawget = rawget,
  rawlen = rawlen,
  rawset = rawset,
  select = select,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  xpcall = safe_xpcall,
  coroutine = {
    create = co_create,
    isyieldable = co_isyieldable,
    resume = resume,
    running = coroutine.running,
    status = co_status,
    wrap = wrap,
    yield = co_yield,
  },
  debug = {},
  math = pick "math",
  os = pick "os",
  string = strings,
  table = tables,
  utf8 = pick "utf8",
}
globals._G = globals

function globals.coroutine.close(co) return caught(co_close(co)) end

function globals.print(...)
  local out = {}
  for i = 1, select("#", ...) do out[i] = tostring((select(i, ...))) end
  if not host.write(concat(out, "\t") .. "\n") then misuse("print: standard output is closed") end
end

-- Finalizers run where no hook does.
function globals.setmetatable(t, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    misuse("setmetatable: '__gc' is not available; use a <close> variable")
  end
  return setmetatable(t, metatable)
end

-- Text only, and whole: bytecode can break the state, and a reader's errors would be swallowed.
function globals.load(chunk, name, _, ...)
  if type(chunk) ~= "string" then misuse("load: argument 1 must be a string, got " .. type(chunk)) end
  if select("#", ...) == 0 then return load(chunk, name, "t", globals) end
  return load(chunk, name, "t", (...))
end

function globals.collectgarbage(what)
  if what ~= nil and what ~= "collect" and what ~= "count" then
    misuse("collectgarbage: only \"collect\" and \"count\" are available")
  end
  return collectgarbage(what)
end

function globals.debug.traceback(...)
  local text = traceback(...)
  if type(text) ~= "string" then return text end
  text = gsub(text, "\n\t%[postrider%][^\n]*", "")
  return (gsub(text, "\n\t%[C%][^\n]*", ""))
end

---- require "postrider" -----------------------------------------------------------------

-- A table that says what it has when asked for something else.
local function namespace(name)
  return setmetatable({}, {
    __index = function(self, key)
      local known = {}
      for k in next, self do known[#known + 1] = k end
      misuse("there is no '" .. name .. "." .. tostring(key) .. "'" .. host.suggest(tostring(key), known))
    end,
  })
end

local pr = namespace "pr"
local methods = { account = {}, handler = {}, schedule = {} }
local properties = { account = {}, handler = {}, schedule = {} }

-- Puts `value` where its name says: `json.encode`, `account:send`, `account.name`.
local function place(name, value)
  local object, method = raw_match(name, "^(%w+):(.+)")
  local family, member = raw_match(name, "^(%w+)%.(.+)")
  if method then
    methods[object][method] = value
  elseif properties[family] then
    properties[family][member] = value
  elseif family then
    if not rawget(pr, family) then pr[family] = namespace("pr." .. family) end
    pr[family][member] = value
  else
    pr[name] = value
  end
end

for name, f in next, ready do
  place(name, function(...) return finish(f(...)) end)
end
for name, f in next, waiting do
  place(name, function(...)
    if not co_isyieldable() then
      misuse(name .. ": waits, and nothing can wait inside table.sort, a metamethod or an iterator of C")
    end
    return finish(f(...))
  end)
end
for name, value in next, fields do place(name, value) end

-- What an object of ours answers when asked for a field.
local function index_of(object)
  local its_methods, its_properties = methods[object], properties[object]
  return function(self, key)
    local method = its_methods[key]
    if method then return method end
    local property = its_properties[key]
    if property then return property(self) end
    local known = {}
    for k in next, its_methods do known[#known + 1] = k end
    for k in next, its_properties do known[#known + 1] = k end
    return misuse((object == "account" and "an " or "a ") .. object .. " has no '" .. tostring(key) .. "'" .. host.suggest(tostring(key), known))
  end
end

local loaded, loading = { postrider = pr }, {}

function globals.require(name)
  if type(name) == "string" then
    local value = loaded[name]
    if value ~= nil then return value end
    if loading[name] then misuse("require: module '" .. name .. "' is being loaded: it requires itself") end
  end
  local chunk, path = finish(host.require(name))
  loading[name] = true
  local _ <close> = setmetatable({}, { __close = function() loading[name] = nil end })
  local value = chunk(name, path)
  if value == nil then value = true end
  loaded[name] = value
  return value, path
end

---- Errors of operations ----------------------------------------------------------------

local err = {}

function err.__tostring(e)
  local text = tostring(e.message)
  if e.account then text = "account \"" .. tostring(e.account) .. "\": " .. text end
  if e.at then text = tostring(e.at) .. ": " .. text end
  if e.remedy then text = text .. " (fix: " .. tostring(e.remedy) .. ")" end
  return text
end

function err.__concat(a, b) return tostring(a) .. tostring(b) end

local indexes = {}
for object in next, methods do indexes[object] = index_of(object) end

return globals, task, indexes, err
