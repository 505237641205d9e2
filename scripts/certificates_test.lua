local pr = require "postrider"

local function monday(t, rows)
  t.fs:write("certificates.csv", "name,ends\n" .. rows)
  t.clock:set "2026-03-02T06:59:00+01:00"
  t:load "certificates.lua"
  t.clock:advance "1m"
end

pr.test.case("what ends soon is told, the first to end first", function(t)
  monday(t, "a,2026-04-30T00:00:00Z\nb,2026-03-20T00:00:00Z\nc,2026-03-01T00:00:00Z\n")
  t.eq(t.outbox[1].subject, "2 certificates want attention")
  t.match(t.outbox[1].text, "^c: has ended\r?\nb: 17 days")
end)

pr.test.case("a date that cannot be read is told, and hides no other", function(t)
  monday(t, "a,next year\nb,2026-03-20T00:00:00Z\n")
  t.match(t.outbox[1].text, '^a: cannot read its date "next year"\r?\nb: 17 days')
end)

pr.test.case("no mail where none ends soon", function(t)
  monday(t, "a,2026-12-31T00:00:00Z\n")
  t.eq(t.outbox, {})
end)
