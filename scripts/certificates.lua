-- Every Monday at 07:00, a report of the certificates that end soon, from a list in a CSV file:
--
--   name,ends
--   www.contoso.com,2026-04-01T00:00:00Z
--
--   read = ["/srv/reports"] under [scripts.fs], where certificates.csv lies, and postrider serve
--
-- No mail where none ends soon.
local pr = require "postrider"

local FILE, DAYS, TO = "certificates.csv", 30, "ops@contoso.com"
local alerts = pr.account "alerts"

pr.cron("0 7 * * mon", function()
  local soon = {}
  for _, row in ipairs(assert(pr.csv.read(FILE))) do
    local days = (assert(pr.time.parse(row.ends)) - pr.time.now()) // 86400
    if days <= DAYS then soon[#soon + 1] = { name = row.name, days = math.tointeger(days) } end
  end
  if #soon == 0 then return end
  table.sort(soon, function(a, b) return a.days < b.days end)
  local lines = {}
  for i, one in ipairs(soon) do
    lines[i] = one.name .. (one.days < 0 and ": has ended" or ": " .. one.days .. " days")
  end
  assert(alerts:send { to = TO, subject = #soon .. " certificates end soon", text = table.concat(lines, "\n") })
end, { name = "certificates", tz = "Europe/Paris", retry = { attempts = 3, backoff = "5m" } })
