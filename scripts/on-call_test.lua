local pr = require "postrider"

local function fails(t, message)
  t:emit("send.failed", { at = t.clock:now(), account = "billing", message = message, code = "smtp.temporary" })
end

pr.test.case("the late shift hears what failed in the early one, the night shift no more of it", function(t)
  t.clock:set "2026-03-02T13:00:00+01:00"
  t:load "on-call.lua"
  fails(t, "mailbox full")
  t.clock:advance "1h"
  t.eq(t.outbox[1].to, { "late@contoso.com", "early@contoso.com" })
  t.match(t.outbox[1].text, "billing: mailbox full")
  t.clock:advance "8h"
  t.match(t.outbox[2].text, "Nothing failed")
end)

pr.test.case("a bad day is counted, and the latest of it shown", function(t)
  t.clock:set "2026-03-02T13:00:00+01:00"
  t:load "on-call.lua"
  for i = 1, 250 do fails(t, "failure " .. i .. ".") end
  t.clock:advance "1h"
  local text = t.outbox[1].text
  t.match(text, "^250 messages were not sent")
  t.match(text, "failure 151%..*failure 250%.")
  t.ok(not text:find("failure 150.", 1, true), "an older one")
end)

pr.test.case("what could not be told is told at the next attempt", function(t)
  t.clock:set "2026-03-02T13:00:00+01:00"
  t:load "on-call.lua"
  fails(t, "mailbox full")
  t.smtp:reply(451, "4.7.0", "Temporary server error")
  t.clock:advance "1h"
  t.eq(t.outbox, {})
  t.clock:advance "2m"
  t.match(t.outbox[1].text, "billing: mailbox full")
end)
