-- Postrider on one page. Offline, against the Microsoft 365 it brings along:
--
--     postrider run --sandbox scripts/quickstart.lua
--
-- In your own tenant: your names and ids, the secret in the environment, and no --sandbox. Or
-- name an account of your postrider.toml: postrider run scripts/quickstart.lua ACCOUNT
local pr = require "postrider"

-- An account is who signs in, whose name the mail bears, and how a token is obtained. Here the
-- app signs in by itself, with a secret that the script can point to but never see.
local alerts = pr.account(pr.args[1] or {
  name = "alerts",
  provider = "microsoft365",          -- server, port, TLS, endpoints, scopes, pacing
  username = "svc-mail@contoso.com",  -- who signs in
  sender = "alerts@contoso.com",      -- From: a shared mailbox which it may send as
  auth = {
    plugin = "oauth",
    flow = "client_credentials",
    tenant = "contoso.onmicrosoft.com",
    client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
    client_secret = pr.secret.env "SANDBOX_CLIENT_SECRET",
  },
})

-- Does it work? Goes as far as offering the sender, and sends nothing.
local report = alerts:check()
for _, stage in ipairs(report.stages) do
  print(("%-13s %-7s %s"):format(stage.name, stage.result, stage.evidence))
end
assert(report.ok, report.verdict)

-- One message, two people, one attachment. A misspelt field would be an error at this line.
local receipt = assert(alerts:send {
  to = { "admin@contoso.com", "Night shift <night@example.net>" },
  subject = "Disk at 91 % – please look",
  text = "The table is attached.\n",
  html = "<p>The table is <b>attached</b>.</p>",
  attach = { { name = "disks.csv", data = "disk,used\n/,91 %\n/home,40 %\n" } },  -- or "path/to/file"
})
print("\nsent " .. receipt.message_id)
for _, recipient in ipairs(receipt.recipients) do
  print(("  %-20s %s"):format(recipient.address, recipient.verdict))
end

-- What cannot be sent answers nil and an error that says why, and what to do about it.
local sent, err = alerts:send {
  from = "ceo@contoso.com", to = "admin@contoso.com", subject = "Bonus", text = "For everybody!\n",
}
if not sent then
  print("\nnot sent as ceo@contoso.com (" .. err.code .. ")")
  print("  why  " .. err.message)
  print("  fix  " .. err.remedy)
end
