-- Tells a webhook at once when an account needs somebody to sign in again.
--
--   files = ["reauthorization-webhook.lua"] under [scripts], ALERT_WEBHOOK in the environment, and
--   postrider serve
--
-- Without a daemon, alert-on-expiry.lua does this once a day.
local pr = require "postrider"

local webhook = pr.secret.env "ALERT_WEBHOOK"

pr.on("token.reauthorization_required", function(event)
  local text = ("Postrider: %s sends no mail: %s. Run: %s"):format(event.account, event.message, event.remedy)
  local response = assert(pr.http.post(webhook, { json = { text = text }, timeout = "10s" }))
  if not response.ok then error("the webhook answered " .. response.status) end
end)
