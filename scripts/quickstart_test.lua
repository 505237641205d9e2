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
  t.raises(function() t:run "quickstart.lua" end, "token failed: ")
  t.eq(t.outbox, {})
end)

pr.test.case("the check names the stage, the cause, and who can help", function(t)
  t.oauth:reply { error = "invalid_client", times = "always" }
  local report = pr.account("alerts"):check()
  local first
  for _, stage in ipairs(report.stages) do
    if not first and stage.result == "failed" then first = stage end
  end
  t.ok(not report.ok)
  t.eq(first.name, "token")
  t.eq(report.verdict, "token failed: " .. first.failure.cause)
  t.match(first.failure.code, "^auth%.")
  t.ok(#first.failure.remedy > 0 and #first.failure.who > 0)
  t.eq(first.failure.retryable, false)
end)
