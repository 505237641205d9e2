local pr = require "postrider"

local TWO = "mail,name,due\na@example.org,Ada & Co,1 May\nb@example.org,Bo,2 May\n"

pr.test.case("each gets a notice of their own, three seconds apart", function(t)
  t.fs:write("people.csv", TWO)
  t:run("notices.lua", { "people.csv" })
  t.clock:advance "1m"
  t.eq(#t.outbox, 2)
  t.eq(t.outbox[2].subject, "Your certificate ends on 2 May")
  t.match(t.outbox[1].html, "Ada &amp; Co")
  t.eq(math.floor(t.outbox[2].at - t.outbox[1].at + 0.5), 3)
end)

pr.test.case("who is refused for now gets it later, who is refused for good holds up nobody", function(t)
  t.fs:write("people.csv", TWO .. "c@example.org,Cy,3 May\n")
  t.smtp:reply(451, "4.7.0", "Temporary server error", { at = "rcpt", only_for = "a@example.org" })
  t.smtp:reply(550, "5.1.1", "no such user", { at = "rcpt", only_for = "b@example.org", times = "always" })
  t:run("notices.lua", { "people.csv" })
  local failed = t.raises(function() t.clock:advance "15m" end, "1 notices were not sent")
  t.ok(failed)
  t.eq({ t.outbox[1].to[1], t.outbox[2].to[1] }, { "c@example.org", "a@example.org" })
end)

pr.test.case("nobody gets a notice twice because its answer was lost", function(t)
  t.fs:write("people.csv", TWO)
  t.smtp:lose()
  t:run("notices.lua", { "people.csv" })
  t.raises(function() t.clock:advance "1h" end, "1 notices were not sent")
  t.eq(#t.outbox, 2)
  t.match(table.concat(t.log, "\n"), "smtp.unknown")
end)
