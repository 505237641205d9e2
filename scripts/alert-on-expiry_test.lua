local pr = require "postrider"

pr.test.case("a sign-in that was revoked is told to the webhook, once", function(t)
  t:config [[
    [account.me]
    provider = "microsoft365"
    username = "me@contoso.com"
    auth = { plugin = "oauth", flow = "device_code", tenant = "contoso.com", client_id = "2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f801" }
  ]]
  t.http:reply { status = 200 }
  pr.account("me"):rotate()
  t.oauth:reply { error = "invalid_grant", description = "AADSTS50173: the grant was revoked", times = "always" }
  t.clock:advance "2h"

  t.raises(function() t:run "alert-on-expiry.lua" end, "somebody has to act: me")

  t.eq(#t.http.requests, 1)
  t.eq(t.http.requests[1].url, "https://secret.test/ALERT-WEBHOOK")
  t.match(t.http.requests[1].json.text, "account me sends no mail")
end)

pr.test.case("while all is well nobody hears anything", function(t)
  t:run "alert-on-expiry.lua"
  t.eq(t.http.requests, {})
end)
