-- The world of a script, made before it runs: what of Lua's libraries it may use, and the
-- module `postrider` over functions in Rust. Nothing else of either is within its reach.
--
-- Two rules hold everywhere below. Whatever gets control back from the script's own code, or
-- from C, takes a breath: it halts if the call is stopped, else `while true do pcall(f) end`
-- would outlive every limit, and pauses if its turn is over, for no hook counts what C does. And
-- what C would do at length, or call the script back from, is refused or done here instead.

local host, ready, waiting, fields = ...

local error, getmetatable, load, next, pairs, pcall, rawget, select, setmetatable, tonumber, tostring, type, xpcall =
  error, getmetatable, load, next, pairs, pcall, rawget, select, setmetatable, tonumber, tostring, type, xpcall
local co_close, co_create, co_isyieldable, co_resume, co_status, co_yield = coroutine.close, coroutine.create,
  coroutine.isyieldable, coroutine.resume, coroutine.status, coroutine.yield
local concat = table.concat
local gsub, raw_match, sub = string.gsub, string.match, string.sub
local getinfo, metatable_of, traceback = debug.getinfo, debug.getmetatable, debug.traceback
local HUGE = math.huge
local tick, plain, PENDING, OUT_OF_MEMORY = host.tick, host.plain, host.pending, host.out_of_memory

-- How much one C call may take or give: milliseconds of work.
local OCTETS_MAX, SOURCE_MAX = 32 << 20, 1 << 20

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

-- Halts a call that is stopped, and pauses one whose turn is over. `tick` answers nothing where
-- there is time left, and otherwise whether to stop.
local function breathe(e)
  local stop = tick()
  if stop == nil then return end
  if stop then halt(e) end
  if co_isyieldable() then host.pause() end
end

local function stopped() return tick() == true end

-- From `true, …` or `false, error` of Rust; nothing when it found the script stopped.
local function finish(ok, ...)
  if ok == nil then halt "stopped" end
  breathe((...))
  if ok then return ... end
  return error((...), 0)
end

-- What a function answered that was called for the script: its complaints have no line yet, or
-- one of ours.
local function relay(ok, ...)
  breathe((...))
  if ok then return ... end
  local e = ...
  if type(e) == "string" then
    local ours = raw_match(e, "^%[postrider[.%w]*%]:%d+: (.*)")
    if ours or not raw_match(e, "^[^\n]-:%d+: ") then misuse(ours or e) end
  end
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

-- Collects all garbage, a little at a time. One cycle may have begun before what is to be
-- collected was dropped.
local function collect()
  for _ = 1, 2 do
    repeat
      local done = collectgarbage("step", 256)
      breathe()
    until done
  end
end

local function caught(ok, ...)
  breathe((...))
  if ok then return true, ... end
  local e = seen((...))
  -- So near to the limit C fails where Lua would collect first.
  if type(e) == "string" and sub(e, -#OUT_OF_MEMORY) == OUT_OF_MEMORY then collect() end
  return false, e
end

local function safe_pcall(...) return caught(pcall(...)) end

local function safe_xpcall(f, handler, ...)
  return caught(xpcall(f, function(e)
    -- No hook runs in a handler that was called from one.
    e = seen(e)
    if stopped() or e == host.unpausable then return e end
    return handler(e)
  end, ...))
end

-- Coroutines that a limit broke off in the middle of C, where hooks are off from then on: what
-- they would still run, no limit could end.
local broken = setmetatable({}, { __mode = "k" })

-- What `resume` answered, once `co` has ended or yielded of its own accord: a coroutine that
-- waits for Rust, or that the hook paused, takes whoever resumed it along.
local function settle(co, ok, ...)
  local stop = tick()
  if stop then
    if not ok then broken[co] = true end
    halt((...))
  end
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

-- Long pieces are copied faster than many short ones.
local function repeated(s, n)
  if n <= 2000 or #s > 1000 then return raw_rep(s, n) end
  return raw_rep(raw_rep(s, 1000), n // 1000) .. raw_rep(s, n % 1000)
end

function strings.rep(s, n, sep)
  local count = math.tointeger(tonumber(n))
  if not count or count < 1 or type(s) ~= "string" and type(s) ~= "number" then
    return relay(pcall(raw_rep, s, n, sep))
  end
  local unit = sep and s .. tostring(sep) or tostring(s)
  if count > OCTETS_MAX or count * #unit > OCTETS_MAX then
    misuse("string.rep: the result would be longer than " .. OCTETS_MAX .. " octets")
  end
  if not sep then return relay(pcall(repeated, unit, count)) end
  return relay(pcall(function() return repeated(unit, count - 1) .. s end))
end

-- What C does to each octet, a stretch at a time.
local function stretched(name, backwards)
  local raw = string[name]
  strings[name] = function(s)
    if type(s) ~= "string" or #s <= SOURCE_MAX then return relay(pcall(raw, s)) end
    local out, count = {}, (#s - 1) // SOURCE_MAX + 1
    for i = 1, count do
      out[backwards and count + 1 - i or i] = raw(sub(s, (i - 1) * SOURCE_MAX + 1, i * SOURCE_MAX))
      breathe()
    end
    return relay(pcall(concat, out))
  end
end
stretched "lower"
stretched "upper"
stretched("reverse", true)

-- What C looks at octet by octet and cannot be given in stretches.
local function short(library, name)
  local raw = library[name]
  return function(s, ...)
    if type(s) == "string" and #s > OCTETS_MAX then
      misuse(name .. ": the text is longer than " .. OCTETS_MAX .. " octets")
    end
    return relay(pcall(raw, s, ...))
  end
end

-- A metamethod that C calls could not wait, and would be out of every limit's reach.
local function text_of(value)
  local metatable = metatable_of(value)
  local f = type(metatable) == "table" and rawget(metatable, "__tostring")
  if not f then return tostring(value) end
  local text = f(value)
  if type(text) ~= "string" and type(text) ~= "number" then misuse "'__tostring' must return a string" end
  return tostring(text)
end

local raw_format = string.format
function strings.format(form, ...)
  local args, count = { ... }, select("#", ...)
  for i = 1, count do
    local kind = type(args[i])
    if kind == "table" or kind == "userdata" then
      args[i] = text_of(args[i])
    elseif kind == "string" and #args[i] > OCTETS_MAX then
      misuse("string.format: a text is longer than " .. OCTETS_MAX .. " octets")
    end
  end
  return relay(pcall(raw_format, form, table.unpack(args, 1, count)))
end

local find, match, scan_each, scan_all =
  host["string.find"], host["string.match"], host["string.gmatch"], host["string.gsub"]

-- A search through a long text comes to pass in stretches: Rust says where the next one begins.
local function onward(search, s, pattern, extra, ok, ...)
  if ok and (...) == PENDING then
    breathe()
    return onward(search, s, pattern, extra, search(s, pattern, (select(2, ...)), extra))
  end
  return finish(ok, ...)
end

local function sought(search, s, pattern, init, extra)
  return onward(search, s, pattern, extra, search(s, pattern, init, extra))
end

function strings.find(s, pattern, init, plain) return sought(find, s, pattern, init, plain) end
function strings.match(s, pattern, init) return sought(match, s, pattern, init) end

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
  return function() return step(sought(scan_each, s, pattern, from, last)) end
end

-- A replacement text as pieces: text, or the number of a capture.
local function template(text)
  local pieces, from = {}, 1
  while true do
    local at = sought(find, text, "%", from, true)
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
  while count < (tonumber(most) or HUGE) and step(sought(scan_all, s, pattern, from, last)) do
    if anchored then break end
  end
  out[#out + 1] = sub(s, from)
  return concat(out), count
end

getmetatable("").__index = strings

---- Tables ------------------------------------------------------------------------------

local tables = host.tables(breathe, relay, misuse, metatable_of)

---- The rest of the language ------------------------------------------------------------

local globals = {
  _VERSION = _VERSION,
  assert = assert,
  error = error,
  getmetatable = getmetatable,
  ipairs = tables.ipairs,
  next = next,
  pairs = pairs,
  pcall = safe_pcall,
  rawequal = rawequal,
  rawget = rawget,
  rawlen = rawlen,
  rawset = rawset,
  select = select,
  tonumber = tonumber,
  tostring = text_of,
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
  table = tables.library,
  utf8 = pick "utf8",
}
globals._G = globals
for _, name in next, { "codepoint", "len", "offset" } do globals.utf8[name] = short(utf8, name) end

function globals.coroutine.close(co)
  if broken[co] then return false, "the coroutine was stopped" end
  return caught(co_close(co))
end

function globals.print(...)
  local out = {}
  for i = 1, select("#", ...) do out[i] = text_of((select(i, ...))) end
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
  if #chunk > SOURCE_MAX then misuse("load: the text is longer than " .. SOURCE_MAX .. " octets") end
  breathe()
  if select("#", ...) == 0 then return load(chunk, name, "t", globals) end
  return load(chunk, name, "t", (...))
end

function globals.collectgarbage(what)
  if what ~= nil and what ~= "collect" and what ~= "count" then
    misuse("collectgarbage: only \"collect\" and \"count\" are available")
  end
  if what == "count" then return collectgarbage "count" end
  collect()
  return 0
end

function globals.debug.traceback(...)
  local text = traceback(...)
  if type(text) ~= "string" then return text end
  text = gsub(text, "\n\t%[postrider[.%w]*%][^\n]*", "")
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
      misuse(name .. ": waits, and nothing can wait inside the handler of xpcall")
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

-- Waits while another task loads the module; one that loads it for itself waits for ever.
local function await(name)
  while loading[name] do
    local by = loading[name]
    local status = co_status(by.co)
    if status == "running" or status == "normal" then
      misuse("require: module '" .. name .. "' is being loaded: it requires itself")
    elseif status == "dead" or not host.is_under_way(by.call) then
      loading[name] = nil
    else
      if not co_isyieldable() then misuse("require: another task loads module '" .. name .. "', and nothing can wait here") end
      host.nap()
    end
  end
end

function globals.require(name)
  if type(name) == "string" then
    await(name)
    local value = loaded[name]
    if value ~= nil then return value end
  end
  local chunk, path = finish(host.require(name))
  local mine = { co = coroutine.running(), call = host.call() }
  loading[name] = mine
  local _ <close> = setmetatable({}, {
    __close = function()
      if loading[name] == mine then loading[name] = nil end
    end,
  })
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
