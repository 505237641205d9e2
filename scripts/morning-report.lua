-- At 08:00 on working days in Paris, tells three people how the accounts stand.
--
--   files = ["morning-report.lua"] under [scripts], and postrider serve
--
-- What a server refuses for now is tried again after a minute, then two, then four.
local pr = require "postrider"

local PEOPLE = { "finance@contoso.com", "sales@contoso.com", "ops@contoso.com" }
local alerts = pr.account "alerts"

pr.cron("0 8 * * mon-fri", function(run)
  local lines = {}
  for _, account in ipairs(pr.accounts()) do
    local status, err = account:status()
    lines[#lines + 1] = account.name .. ": " .. (status and status.state or err.message)
  end
  return alerts:send {
    to = PEOPLE,
    subject = "Report of " .. pr.time.format(run.scheduled_at, "Europe/Paris"):sub(1, 10),
    text = table.concat(lines, "\n"),
  }
end, { name = "morning-report", tz = "Europe/Paris", retry = { attempts = 3, backoff = "1m" } })
