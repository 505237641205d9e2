-- Tells the operators when a file system fills up: once for each level it passes, and again only
-- after it has been below that level.
--
--   run = ["/usr/bin/df"] under [scripts], and postrider serve
--
-- What it has told it forgets when it is loaded anew. Change the three lines below.
local pr = require "postrider"

local LEVELS = { 80, 90, 95 }                      -- per cent, rising
local TO = "ops@contoso.com"
local alerts = pr.account "alerts"

local told = {}                                    -- the level told of, by mount point

local function level_of(used)
  local level = 0
  for _, one in ipairs(LEVELS) do
    if used >= one then level = one end
  end
  return level
end

pr.every("5m", function()
  local df = assert(pr.run { "/usr/bin/df", "-P", "-l", timeout = "30s" })
  if not df.ok then error("df: " .. df.stderr) end
  for line in df.stdout:gmatch "[^\n]+" do
    local used, mount = line:match "(%d+)%%%s+(/.*)$"
    if used then
      local level = level_of(tonumber(used))
      if level > (told[mount] or 0) then
        assert(alerts:send { to = TO, subject = ("%s is %d %% full"):format(mount, used), text = df.stdout })
      end
      told[mount] = level
    end
  end
end, { name = "disk-space", timeout = "2m" })
