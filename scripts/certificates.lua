-- Every Monday at 07:00, a report of the certificates that end soon, from a list in a CSV file:
--
--   name,ends
--   www.contoso.com,2026-04-01T00:00:00Z
--
--   read = ["/srv/reports"] under [scripts.fs], where certificates.csv lies, and postrider serve
--
-- No mail where none ends soon. A row whose date cannot be read is in the report, first of all.
-- Change the line below.
local pr = require "postrider"

local FILE, DAYS, TO = "certificates.csv", 30, "ops@contoso.com"
local alerts = pr.account "alerts"

-- How urgent a row is, in days, and what is to be said of it.
local function judge(row)
  local ends = pr.time.parse(row.ends)
  if not ends then return -math.huge, ('%s: cannot read its date "%s"'):format(row.name, row.ends) end
  local days = math.tointeger((ends - pr.time.now()) // 86400)
  return days, row.name .. (days < 0 and ": has ended" or ": " .. days .. " days")
end

pr.cron("0 7 * * mon", function()
  local soon = {}
  for _, row in ipairs(assert(pr.csv.read(FILE))) do
    local days, line = judge(row)
    if days <= DAYS then soon[#soon + 1] = { days = days, line = line } end
  end
  if #soon == 0 then return end
  table.sort(soon, function(a, b) return a.days < b.days end)
  local lines = {}
  for i, one in ipairs(soon) do lines[i] = one.line end
  assert(alerts:send { to = TO, subject = #soon .. " certificates want attention", text = table.concat(lines, "\n") })
end, { name = "certificates", tz = "Europe/Paris", retry = { attempts = 3, backoff = "5m" } })
