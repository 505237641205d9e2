local pr = require "postrider"

pr.test.case("one message goes out, and nobody writes as the chief executive", function(t)
  t:run "quickstart.lua"
  t.eq(#t.outbox, 1)
  local message = t.outbox[1]
  t.eq(message.to, { "admin@contoso.com", "night@example.net" })
  t.match(message.subject, "^Disk at 91 %%")
  t.eq(message.attachments[1].name, "disks.csv")
  t.match(table.concat(t.log, "\n"), "not sent as ceo@contoso.com")
end)

pr.test.case("a refused sign-in says so at the check", function(t)
  t.oauth:reply { error = "invalid_client", times = "always" }
  t.raises(function() t:run "quickstart.lua" end, "not ready")
  t.eq(t.outbox, {})
end)
