-- At 08:00 on working days in Paris, tells three people how the accounts stand.
--
--   files = ["morning-report.lua"] under [scripts], and postrider serve
--
-- The report waits in the queue until the server takes it. Its key has the day in it: however often
-- this runs, each day's report goes once. One that is not delivered by the evening is not sent at all.
local pr = require "postrider"

local PEOPLE = { "finance@contoso.com", "sales@contoso.com", "ops@contoso.com" }
local alerts = pr.account "alerts"

pr.cron("0 8 * * mon-fri", function(run)
  local day = pr.time.format(run.scheduled_at, "Europe/Paris"):sub(1, 10)
  local lines = {}
  for _, account in ipairs(pr.accounts()) do
    local status, err = account:status()
    lines[#lines + 1] = account.name .. ": " .. (status and status.state or err.message)
  end
  return alerts:send {
    to = PEOPLE,
    subject = "Report of " .. day,
    text = table.concat(lines, "\n"),
    wait = "queued", idempotency_key = "morning-report " .. day,
    expires_at = run.scheduled_at + 10 * 3600,
  }
end, { name = "morning-report", tz = "Europe/Paris" })
