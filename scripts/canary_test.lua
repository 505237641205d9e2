local pr = require "postrider"

local ACCOUNT = [[
  [account.%s]
  username = "%s@contoso.com"
  server = { host = "smtp.example.org", port = 587, tls = "starttls" }
  auth = { plugin = "basic", password = { env = "PASSWORD" } }
]]

pr.test.case("trouble is told once, and its end", function(t)
  t:config(ACCOUNT:format("alerts", "alerts"))
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

pr.test.case("a webhook that is down hides no account, and hears of it later", function(t)
  t:config(ACCOUNT:format("a", "a") .. ACCOUNT:format("b", "b"))
  t.http:reply { fails = "network.timeout", times = 2 }
  t.http:reply { status = 200 }
  t.smtp:reply(451, "4.7.0", "Temporary server error", { times = 4 })
  t:load "canary.lua"
  t.clock:advance "1h"
  t.eq(#t.log, 2)                                  -- both were tried, and the webhook took neither
  t.clock:advance "2h"
  local told = {}
  for i, request in ipairs(t.http.requests) do told[i] = request.json.text:match "^Postrider: (%a %a+)" end
  table.sort(told)
  t.eq(told, { "a cannot", "a cannot", "a sends", "b cannot", "b cannot", "b sends" })
end)
