local pr = require "postrider"

local TWO = [[
  [account.alerts]
  username = "alerts@contoso.com"
  server = { host = "smtp.example.org", port = 587, tls = "starttls" }
  auth = { plugin = "basic", password = { env = "ALERTS" } }
  [account.backup]
  username = "backup@example.org"
  server = { host = "smtp.example.org", port = 587, tls = "starttls" }
  auth = { plugin = "basic", password = { env = "BACKUP" } }
]]
local MESSAGE = { "ops@contoso.com", "Disk", "Full." }

pr.test.case("what the first account is refused goes out by the second", function(t)
  t:config(TWO)
  t.smtp:reply(451, "4.7.0", "Temporary server error")
  t:run("failover.lua", MESSAGE)
  t.eq(#t.outbox, 1)
  t.eq(t.outbox[1].account, "backup")
end)

pr.test.case("where both are refused, the script fails", function(t)
  t:config(TWO)
  t.smtp:reply(451, "4.7.0", "Temporary server error", { times = "always" })
  t.raises(function() t:run("failover.lua", MESSAGE) end)
  t.eq(t.outbox, {})
end)
