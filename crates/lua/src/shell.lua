-- How a line of an interactive session is run, and its results shown. The names are taken before
-- the session can change them.

local getmetatable, next, rawget, rawset, require = getmetatable, next, rawget, rawset, require
local select, tostring, type, globals = select, tostring, type, _G
local find, format, gsub, rep = string.find, string.format, string.gsub, string.rep
local concat, sort = table.concat, table.sort
local math_type = math.type

-- More than this nobody reads at a prompt.
local DEPTH_MAX, ENTRIES_MAX, WIDTH = 6, 200, 80

local show

local function quoted(text)
  return (gsub(gsub(format("%q", text), "\\\n", "\\n"), "\r", "\\r"))
end

local function key(k)
  if type(k) == "string" and find(k, "^[%a_][%w_]*$") then return k end
  return "[" .. show(k, DEPTH_MAX, {}) .. "]"
end

-- Numbers by value, then text, then the rest.
local function before(a, b)
  local ta, tb = type(a), type(b)
  if ta == "number" and tb == "number" then return a < b end
  if ta ~= tb then return ta == "number" or (ta == "string" and tb ~= "number") end
  return tostring(a) < tostring(b)
end

local function entries(t, depth, open)
  local parts, n = {}, 0
  while t[n + 1] ~= nil and n < ENTRIES_MAX do
    n = n + 1
    parts[n] = show(t[n], depth + 1, open)
  end
  local keys, left = {}, 0
  for k in next, t do
    if not (math_type(k) == "integer" and k >= 1 and k <= n) then
      if #keys + n < ENTRIES_MAX then keys[#keys + 1] = k else left = left + 1 end
    end
  end
  sort(keys, before)
  for _, k in next, keys do parts[#parts + 1] = key(k) .. " = " .. show(t[k], depth + 1, open) end
  if left > 0 then parts[#parts + 1] = "… and " .. left .. " more" end
  return parts
end

function show(value, depth, open)
  local kind = type(value)
  if kind == "string" then return quoted(value) end
  if kind ~= "table" or getmetatable(value) ~= nil then return tostring(value) end
  if next(value) == nil then return "{}" end
  if open[value] or depth >= DEPTH_MAX then return "{ … }" end
  open[value] = true
  local parts = entries(value, depth, open)
  open[value] = nil
  local line = "{ " .. concat(parts, ", ") .. " }"
  if #line + 2 * depth <= WIDTH and not find(line, "\n", 1, true) then return line end
  local indent = rep("  ", depth + 1)
  return "{\n" .. indent .. concat(parts, ",\n" .. indent) .. ",\n" .. rep("  ", depth) .. "}"
end

local function results(...)
  local count = select("#", ...)
  if count == 0 then return nil end
  local shown = {}
  for i = 1, count do shown[i] = show((select(i, ...)), 0, {}) end
  return concat(shown, "\t")
end

local begun = false

return function(f)
  -- Not before: a script that forgets its `require` is to fail here as elsewhere.
  if not begun then
    begun = true
    if rawget(globals, "pr") == nil then rawset(globals, "pr", require "postrider") end
  end
  return results(f())
end
