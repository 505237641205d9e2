-- What a `*_test.lua` has besides: `pr.test.case`, and the `t` that a case gets.
--
-- The functions in Rust come under the names by which they are described; here they are put
-- together as objects, and here values are compared and shown, which is easier in Lua.

local ready, waiting, index_of_case = ...

local error, getmetatable, ipairs, math_type, next, pairs, pcall, rawequal, select, setmetatable, tostring, type =
  error, getmetatable, ipairs, math.type, next, pairs, pcall, rawequal, select, setmetatable, tostring, type
local co_isyieldable, co_yield = coroutine.isyieldable, coroutine.yield
local concat, sort = table.concat, table.sort
local find, format, match, rep = string.find, string.format, string.match, string.rep

-- From `true, …` or `false, error` of Rust; nothing when it found the script stopped.
local function finish(ok, ...)
  if ok then return ... end
  if ok == nil and co_isyieldable() then co_yield() end
  return error((...), 0)
end

local call = {}
for name, f in next, ready do
  call[name] = function(...) return finish(f(...)) end
end
for name, f in next, waiting do
  call[name] = function(...)
    if not co_isyieldable() then
      return finish(ready["t.fail"](name .. ": waits, and nothing can wait inside table.sort or a metamethod"))
    end
    return finish(f(...))
  end
end

---- Showing values --------------------------------------------------------------------

local function is_word(key) return type(key) == "string" and find(key, "^[%a_][%w_]*$") ~= nil end

-- Numbers before text, each in its order.
local function before(a, b)
  local kind_a, kind_b = type(a), type(b)
  if kind_a ~= kind_b then return kind_a < kind_b end
  if kind_a == "number" or kind_a == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local function plain(value)
  local kind = type(value)
  if kind == "string" then return (format("%q", value):gsub("\\\n", "\\n"):gsub("\r", "\\r")) end
  if kind == "number" and math_type(value) == "float" and value % 1 == 0 and value > -1e15 and value < 1e15 then
    return format("%.1f", value)
  end
  return tostring(value)
end

local function speaks(value)
  local metatable = getmetatable(value)
  return type(metatable) == "table" and metatable.__tostring ~= nil
end

-- One line where it is short, else a line for each field.
local function show(value, indent, above)
  if type(value) ~= "table" or speaks(value) then return plain(value) end
  if above[value] then return "{ … }" end
  above[value] = true
  local parts, length, list = {}, 0, #value
  for i = 1, list do parts[i] = show(value[i], indent .. "  ", above) end
  local keys = {}
  for key in next, value do
    if not (math_type(key) == "integer" and key >= 1 and key <= list) then keys[#keys + 1] = key end
  end
  sort(keys, before)
  for _, key in ipairs(keys) do
    local name = is_word(key) and key or "[" .. plain(key) .. "]"
    parts[#parts + 1] = name .. " = " .. show(value[key], indent .. "  ", above)
  end
  above[value] = nil
  if #parts == 0 then return "{}" end
  for _, part in ipairs(parts) do length = length + #part + 2 end
  if length + #indent <= 72 and not find(concat(parts), "\n", 1, true) then return "{ " .. concat(parts, ", ") .. " }" end
  return "{\n" .. indent .. "  " .. concat(parts, ",\n" .. indent .. "  ") .. ",\n" .. indent .. "}"
end

local function shown(value) return show(value, "", {}) end

---- Comparing ---------------------------------------------------------------------------

local function same(a, b, seen)
  if rawequal(a, b) or type(a) == type(b) and type(a) ~= "table" and a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  if seen[a] == b then return true end
  seen[a] = b
  for key, value in next, a do
    if not same(value, b[key], seen) then return false end
  end
  for key in next, b do
    if a[key] == nil then return false end
  end
  return true
end

local function fail(message, expected, got) return finish(ready["t.fail"](message, expected, got)) end

local function with(note, message)
  if note == nil then return message end
  return tostring(note) .. ": " .. message
end

local checks = {}

function checks.eq(got, expected, note)
  if not same(got, expected, {}) then fail(with(note, "not equal"), shown(expected), shown(got)) end
end

function checks.ok(value, note)
  if type(note) == "table" and note.message ~= nil then note = tostring(note) end
  if not value then fail(with(note, "not true"), "a value that is neither false nor nil", shown(value)) end
  return value
end

function checks.match(text, pattern, note)
  if type(pattern) ~= "string" then fail("t.match takes a text and a pattern, got a " .. type(pattern)) end
  if type(text) ~= "string" or not match(text, pattern) then
    fail(with(note, "no match"), "text that matches " .. plain(pattern), shown(text))
  end
end

function checks.raises(f, pattern)
  if type(f) ~= "function" then fail("t.raises takes a function, got a " .. type(f)) end
  local ok, e = pcall(f)
  if ok then fail("nothing was raised", pattern and "an error that matches " .. plain(pattern) or "an error", "none") end
  local text = tostring(e)
  if pattern and not find(text, pattern, 1, true) and not match(text, pattern) then
    fail("another error was raised", "an error that matches " .. plain(pattern), text)
  end
  return e
end

---- Objects -----------------------------------------------------------------------------

-- `t.load "x"` is as good as `t:load "x"`.
local function method(self, f)
  return function(first, ...)
    if rawequal(first, self) then return f(...) end
    return f(first, ...)
  end
end

-- An object with these functions; `fields` are asked anew each time they are read.
local function object(name, functions, fields)
  local self, known = {}, {}
  for key, f in pairs(functions) do
    self[key], known[#known + 1] = method(self, f), key
  end
  for key in pairs(fields or {}) do known[#known + 1] = key end
  return setmetatable(self, {
    __index = function(_, key)
      local field = fields and fields[key]
      if field then return field() end
      return finish(ready["t.unknown"](name, tostring(key), known))
    end,
    __newindex = function(_, key) return fail(name .. "." .. tostring(key) .. " cannot be set") end,
    __name = name,
    __tostring = function() return name end,
    __metatable = false,
  })
end

-- What a schedule has, and what can be done with it.
local function schedule(name)
  local standing = call["t.schedule"](name)
  function standing.run_now() return call["t.run_schedule"](name) end
  return standing
end

local function make()
  return object("t", {
    config = call["t:config"],
    emit = call["t:emit"],
    env = call["t:env"],
    eq = checks.eq,
    load = call["t:load"],
    match = checks.match,
    ok = checks.ok,
    raises = checks.raises,
    run = call["t:run"],
    schedule = schedule,
    secret = call["t:secret"],
  }, (function(objects)
    local fields = { outbox = call["t.outbox"], events = call["t.events"], log = call["t.log"] }
    for key, value in pairs(objects) do fields[key] = function() return value end end
    return fields
  end) {
    clock = object("t.clock", {
      advance = call["t.clock:advance"], set = call["t.clock:set"], now = call["t.clock:now"],
    }),
    fs = object("t.fs", { write = call["t.fs:write"], read = call["t.fs:read"] }, { dir = call["t.fs.dir"] }),
    gateway = object("t.gateway", { submit = call["t.gateway:submit"] }),
    http = object("t.http", { reply = call["t.http:reply"] }, { requests = call["t.http.requests"] }),
    oauth = object("t.oauth", { reply = call["t.oauth:reply"] }),
    process = object("t.process", { reply = call["t.process:reply"] }, { runs = call["t.process.runs"] }),
    smtp = object("t.smtp", { reply = call["t.smtp:reply"], lose = call["t.smtp:lose"] }),
  })
end

---- Cases -------------------------------------------------------------------------------

local cases, open = {}, true

local function case(name, f)
  if not open then fail "pr.test.case: a case cannot hold another one" end
  call["test.case"](name, f)
  cases[#cases + 1] = f
  return true
end

-- The test file's own chunk, and then the case that is wanted.
local function main(chunk)
  return function(...)
    chunk(...)
    open = false
    local f = cases[index_of_case]
    if f then f(make()) end
    call["t.done"]()
  end
end

return case, main
