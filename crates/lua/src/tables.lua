-- The table library over the script's own tables. C does what is short and calls nothing back;
-- what is long, or has a metatable whose functions might wait or never end, is done here, where
-- the hook sees it.

local breathe, relay, misuse, metatable_of = ...

local next, pcall, rawget, rawlen, tonumber, type = next, pcall, rawget, rawlen, tonumber, type
local tointeger = math.tointeger
local raw = {}
for name, f in next, table do raw[name] = f end
local raw_ipairs = ipairs

-- How many items C may go through at a time, and a table may claim to have.
local AT_ONCE, ITEMS_MAX = 10000, 10000000

-- Whether C would see the same as Lua does.
local function is_plain(t) return type(t) == "table" and not metatable_of(t) end

local function length(t, name)
  local n = #t
  if type(n) ~= "number" then misuse("table." .. name .. ": object length is not an integer") end
  if n > ITEMS_MAX then misuse("table." .. name .. ": the table claims more than " .. ITEMS_MAX .. " items") end
  return n
end

local library = { pack = raw.pack }

---- Sorting: a merge sort, which also an inconsistent order does not lead astray -----------

local function less(a, b) return a < b end

local function merge(from, to, first, middle, last, before)
  local i, j = first, middle
  for k = first, last - 1 do
    if i < middle and (j >= last or not before(from[j], from[i])) then
      to[k], i = from[i], i + 1
    else
      to[k], j = from[j], j + 1
    end
  end
end

local function sort(t, n, before)
  local from, to, min = {}, {}, math.min
  for i = 1, n do
    local item = t[i]
    -- As C does, which would hand it to the comparator.
    if item == nil then misuse "table.sort: a list without holes is needed" end
    from[i] = item
  end
  local width = 1
  while width < n do
    for first = 1, n, 2 * width do
      merge(from, to, first, min(first + width, n + 1), min(first + 2 * width, n + 1), before)
    end
    from, to, width = to, from, 2 * width
  end
  for i = 1, n do t[i] = from[i] end
end

function library.sort(t, before)
  if type(t) ~= "table" or before ~= nil and type(before) ~= "function" then
    return relay(pcall(raw.sort, t, before))
  end
  local n = length(t, "sort")
  if not before and n <= AT_ONCE and is_plain(t) then
    for i = 1, n do
      -- An item with a metatable may compare by a function of the script.
      if type(t[i]) == "table" or type(t[i]) == "userdata" then return relay(pcall(sort, t, n, less)) end
    end
    return relay(pcall(raw.sort, t))
  end
  return relay(pcall(sort, t, n, before or less))
end

---- Lists -------------------------------------------------------------------------------

function library.concat(t, sep, i, j)
  if type(t) ~= "table" then return relay(pcall(raw.concat, t, sep, i, j)) end
  local first, last = tointeger(tonumber(i or 1)), tointeger(tonumber(j or 0))
  if not first or not last then return relay(pcall(raw.concat, t, sep, i, j)) end
  if j == nil then last = length(t, "concat") end
  local plain = is_plain(t)
  if plain and last - first < AT_ONCE then return relay(pcall(raw.concat, t, sep, first, last)) end
  if last - first > ITEMS_MAX then misuse("table.concat: more than " .. ITEMS_MAX .. " items") end
  local out = {}
  for from = first, last, AT_ONCE do
    local to = math.min(from + AT_ONCE - 1, last)
    local items, shift = t, 0
    if not plain then
      items, shift = {}, from - 1
      for k = from, to do items[k - shift] = t[k] end
    end
    out[#out + 1] = relay(pcall(raw.concat, items, sep, from - shift, to - shift))
  end
  return relay(pcall(raw.concat, out, sep))
end

function library.insert(t, ...)
  local count = raw.pack(...).n
  if type(t) ~= "table" or count < 1 or count > 2 then return relay(pcall(raw.insert, t, ...)) end
  local n, at, value = length(t, "insert"), ...
  if count == 1 then
    t[n + 1] = at
    return
  end
  at = tointeger(tonumber(at))
  if is_plain(t) and n - (at or n) < AT_ONCE then return relay(pcall(raw.insert, t, ...)) end
  if not at or at < 1 or at > n + 1 then misuse "bad argument #2 to 'insert' (position out of bounds)" end
  for k = n, at, -1 do t[k + 1] = t[k] end
  t[at] = value
end

function library.remove(t, ...)
  if type(t) ~= "table" then return relay(pcall(raw.remove, t, ...)) end
  local n = length(t, "remove")
  local at = n
  if raw.pack(...).n > 0 then at = tointeger(tonumber((...))) end
  if is_plain(t) and n - (at or n) < AT_ONCE then return relay(pcall(raw.remove, t, ...)) end
  if not at or n + 1 ~= at and (at < 1 or at > n + 1) and not (n == 0 and at == 0) then
    misuse "bad argument #2 to 'remove' (position out of bounds)"
  end
  local value = t[at]
  for k = at, n - 1 do t[k] = t[k + 1] end
  if at <= n then t[n] = nil end
  return value
end

function library.move(a, f, e, t, into)
  local first, last, target = tointeger(tonumber(f)), tointeger(tonumber(e)), tointeger(tonumber(t))
  if type(a) ~= "table" or not (first and last and target) then return relay(pcall(raw.move, a, f, e, t, into)) end
  into = into == nil and a or into
  if last - first > ITEMS_MAX or first < 0 and last > ITEMS_MAX then
    misuse("table.move: more than " .. ITEMS_MAX .. " items")
  end
  if is_plain(a) and is_plain(into) and last - first < AT_ONCE then
    return relay(pcall(raw.move, a, f, e, t, into))
  end
  if into == a and target > first and target <= last then
    for k = last - first, 0, -1 do into[target + k] = a[first + k] end
  else
    for k = 0, last - first do into[target + k] = a[first + k] end
  end
  return into
end

function library.unpack(t, i, j)
  if is_plain(t) or type(t) ~= "table" then return relay(pcall(raw.unpack, t, i, j)) end
  local first = tointeger(tonumber(i or 1))
  local last = tointeger(tonumber(j or length(t, "unpack")))
  if not first or not last or last - first > ITEMS_MAX then misuse "too many results to unpack" end
  local items = {}
  for k = first, last do items[k - first + 1] = t[k] end
  return relay(pcall(raw.unpack, items, 1, last - first + 1))
end

---- ipairs ------------------------------------------------------------------------------

local function step(t, i)
  local value = t[i + 1]
  if value == nil then return nil end
  return i + 1, value
end

local function ipairs(t, ...)
  if t == nil or is_plain(t) then return relay(pcall(raw_ipairs, t, ...)) end
  return step, t, 0
end

return { library = library, ipairs = ipairs }
