local pr = require "postrider"

pr.test.case("the webhook hears who has to sign in, and how", function(t)
  t.http:reply { status = 200 }
  t:load "reauthorization-webhook.lua"
  t:emit("token.reauthorization_required", {
    account = "alerts", message = "the grant was revoked", remedy = "postrider login alerts", reason = "revoked", since = 0,
  })
  t.eq(#t.http.requests, 1)
  t.eq(t.http.requests[1].json.text, "Postrider: alerts sends no mail: the grant was revoked. Run: postrider login alerts")
end)
