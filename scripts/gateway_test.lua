local pr = require "postrider"

local function submits(t, device, recipients)
  return t.gateway:submit {
    device = device, client = "192.168.1.20", sender = "alerts@contoso.com", recipients = recipients,
    subject = "On battery", text = "Load 40 %",
  }
end

pr.test.case("an alarm goes to whoever is on call, at any hour", function(t)
  t:load "gateway.lua"
  t.clock:set "2026-03-02T10:00:00+01:00"
  t.ok(submits(t, "ups-1", "somebody@contoso.com").accepted)
  t.clock:set "2026-03-02T23:00:00+01:00"
  t.ok(submits(t, "ups-2", "somebody@contoso.com").accepted)
  t.eq(t.outbox[1].to, { "helpdesk@contoso.com" })
  t.eq(t.outbox[2].to, { "night@contoso.com" })
  t.eq(t.outbox[2].subject, "[ups-2] On battery")
  t.eq(t.outbox[2].headers.importance, "high")
  t.match(t.outbox[2].text, "Load 40 %%")
end)

pr.test.case("a scan goes to colleagues and to nobody else", function(t)
  t:load "gateway.lua"
  t.ok(submits(t, "scanner-1", "ann@CONTOSO.com").accepted)
  local answer = submits(t, "scanner-1", { "ann@contoso.com", "ann@notcontoso.com" })
  t.eq(answer.code, 550)
  t.match(answer.text, "^5%.7%.1 scans go to contoso%.com only, not to ann@notcontoso%.com")
  t.eq(#t.outbox, 1)
end)

pr.test.case("the old fax signs in by day", function(t)
  t:load "gateway.lua"
  t.clock:set "2026-03-02T12:00:00+01:00"
  t.ok(submits(t, "fax-old", "ann@contoso.com").accepted)
  t.clock:set "2026-03-02T22:00:00+01:00"
  t.eq(submits(t, "fax-old", "ann@contoso.com").code, 535)
end)

pr.test.case("other devices are left alone", function(t)
  t:load "gateway.lua"
  t.ok(submits(t, "printer-2", { "ann@example.org", "bob@example.org" }).accepted)
  t.eq(t.outbox[1].to, { "ann@example.org", "bob@example.org" })
  t.eq(t.outbox[1].subject, "On battery")
end)
