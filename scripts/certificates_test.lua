local pr = require "postrider"

pr.test.case("what ends soon is told, the first to end first", function(t)
  t.fs:write("certificates.csv", "name,ends\na,2026-04-30T00:00:00Z\nb,2026-03-20T00:00:00Z\nc,2026-03-01T00:00:00Z\n")
  t.clock:set "2026-03-02T06:59:00+01:00"
  t:load "certificates.lua"
  t.clock:advance "1m"
  t.eq(t.outbox[1].subject, "2 certificates end soon")
  t.match(t.outbox[1].text, "^c: has ended\r?\nb: 17 days")
end)
