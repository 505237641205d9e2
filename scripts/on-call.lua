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
local SHOWN = 100                                  -- failures at most, the latest
local alerts = pr.account "alerts"

local failures = {}                                -- lines, by number
local last, told = 0, 0                            -- the number of the last one, and of the last one told
pr.on("send.failed", function(event)
  last = last + 1
  failures[last] = pr.time.format(event.at, ZONE) .. " " .. event.account .. ": " .. event.message
  failures[last - SHOWN] = nil
end)

local function summary(up_to)
  if up_to == told then return "Nothing failed." end
  local first = math.max(told, up_to - SHOWN) + 1
  return ("%d messages were not sent:\n\n"):format(up_to - told) .. table.concat(failures, "\n", first, up_to)
end

for i, shift in ipairs(SHIFTS) do
  local before = SHIFTS[i - 1] or SHIFTS[#SHIFTS]
  pr.cron("0 " .. shift.hour .. " * * *", function()
    local up_to = last                             -- more may fail while this is sent
    assert(alerts:send { to = shift.who, cc = before.who, subject = "You are on call", text = summary(up_to) })
    told = up_to
  end, { name = "on-call-" .. shift.hour, tz = ZONE, retry = { attempts = 5, backoff = "1m" } })
end
