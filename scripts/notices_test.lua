local pr = require "postrider"

pr.test.case("each gets a notice of their own, three seconds apart", function(t)
  t.fs:write("people.csv", "mail,name,due\na@example.org,Ada & Co,1 May\nb@example.org,Bo,2 May\n")
  t:run("notices.lua", { "people.csv" })
  t.clock:advance "1m"
  t.eq(#t.outbox, 2)
  t.eq(t.outbox[2].subject, "Your certificate ends on 2 May")
  t.match(t.outbox[1].html, "Ada &amp; Co")
  t.eq(math.floor(t.outbox[2].at - t.outbox[1].at + 0.5), 3)
end)
