local pr = require "postrider"

pr.test.case("the late shift hears what failed in the early one, the night shift no more of it", function(t)
  t.clock:set "2026-03-02T13:00:00+01:00"
  t:load "on-call.lua"
  t:emit("send.failed", { at = t.clock:now(), account = "billing", message = "mailbox full", code = "smtp.temporary" })
  t.clock:advance "1h"
  t.eq(t.outbox[1].to, { "late@contoso.com", "early@contoso.com" })
  t.match(t.outbox[1].text, "billing: mailbox full")
  t.clock:advance "8h"
  t.match(t.outbox[2].text, "Nothing failed")
end)
