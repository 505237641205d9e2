local pr = require "postrider"

pr.test.case("trouble is told once, and its end", function(t)
  t:config [[
    [account.alerts]
    username = "alerts@contoso.com"
    server = { host = "smtp.example.org", port = 587, tls = "starttls" }
    auth = { plugin = "basic", password = { env = "ALERTS" } }
  ]]
  t.http:reply { status = 200 }
  t:load "canary.lua"
  t.smtp:reply(451, "4.7.0", "Temporary server error", { times = 2 })
  t.clock:advance "2h"
  t.eq(#t.http.requests, 1)
  t.match(t.http.requests[1].json.text, "alerts cannot send")
  t.clock:advance "1h"
  t.match(t.http.requests[2].json.text, "alerts sends again")
  t.eq(t.outbox[1].to, { "alerts@contoso.com" })
end)
