-- Hand-over of the on-call duty: at each change of shift whoever comes is told, with a copy to
-- whoever goes, what failed to be sent meanwhile.
--
--   files = ["on-call.lua"] under [scripts], and postrider serve
--
-- Change the shifts: the hour each begins, by the clock of that zone, and who has it.
local pr = require "postrider"

local ZONE = "Europe/Paris"
local SHIFTS = {
  { hour = 6, who = "early@contoso.com" },
  { hour = 14, who = "late@contoso.com" },
  { hour = 22, who = "night@contoso.com" },
}
local alerts = pr.account "alerts"

local failures = {}
pr.on("send.failed", function(event)
  failures[#failures + 1] = pr.time.format(event.at, ZONE) .. " " .. event.account .. ": " .. event.message
end)

for i, shift in ipairs(SHIFTS) do
  local before = SHIFTS[i > 1 and i - 1 or #SHIFTS]
  pr.cron("0 " .. shift.hour .. " * * *", function()
    local told = #failures
    assert(alerts:send {
      to = shift.who, cc = before.who, subject = "You are on call",
      text = told > 0 and table.concat(failures, "\n", 1, told) or "Nothing failed.",
    })
    table.move(failures, told + 1, #failures + told, 1)
  end, { name = "on-call-" .. shift.hour, tz = ZONE, retry = { attempts = 5, backoff = "1m" } })
end
