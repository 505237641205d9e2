local pr = require "postrider"

pr.test.case("at 08:00 on Monday in Paris the report goes to three people, and 432 4.3.2 is tried again", function(t)
  t.clock:set "2026-03-02T07:59:00+01:00"
  t:load "morning-report.lua"
  t.smtp:reply(432, "4.3.2", "STOREDRV.ClientSubmit; sender thread limit exceeded")
  t.clock:advance "1m"
  t.eq(#t.outbox, 0)
  t.eq(t.events[#t.events].name, "queue.deferred")
  t.clock:advance "1m"
  t.eq(#t.outbox[1].to, 3)
  t.eq(t.events[#t.events].name, "queue.delivered")
end)

pr.test.case("a day's report goes once, though somebody has it run again", function(t)
  t.clock:set "2026-03-02T07:59:00+01:00"
  t:load "morning-report.lua"
  t.clock:advance "1m"
  t.schedule("morning-report").run_now()
  t.eq(#t.outbox, 1)
end)

pr.test.case("what is not delivered by the evening is not sent any more", function(t)
  t.clock:set "2026-03-02T07:59:00+01:00"
  t:load "morning-report.lua"
  t.smtp:reply(451, "4.7.0", "Temporary server error", { times = "always" })
  t.clock:advance "12h"
  t.eq(#t.outbox, 0)
  local failed = {}
  for _, event in ipairs(t.events) do
    if event.name == "queue.failed" then failed[#failed + 1] = event.payload.recipient end
  end
  t.eq(failed, { "finance@contoso.com", "sales@contoso.com", "ops@contoso.com" })
end)

pr.test.case("nothing is sent at the weekend", function(t)
  t.clock:set "2026-02-28T00:00:00+01:00"
  t:load "morning-report.lua"
  t.clock:advance "2d"
  t.eq(#t.outbox, 0)
  t.eq(pr.time.format(t.schedule("morning-report").next), "2026-03-02T07:00:00Z")
end)

pr.test.case("it can be sent by hand", function(t)
  t:load "morning-report.lua"
  t.schedule("morning-report").run_now()
  t.match(t.outbox[1].subject, "^Report of %d+%-%d+%-%d+$")
  t.eq(t.schedule("morning-report").last.ok, true)
end)
