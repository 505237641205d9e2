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

pr.test.case("a message that may have arrived is not sent again by the second", function(t)
  t:config(TWO)
  t.smtp:lose()
  local e = t.raises(function() t:run("failover.lua", MESSAGE) end)
  t.eq(e.code, "smtp.unknown")
  t.eq(#t.outbox, 1)
  t.eq(t.outbox[1].account, "alerts")
end)

pr.test.case("a message that is wrong itself is not tried twice", function(t)
  t:config(TWO)
  local e = t.raises(function() t:run("failover.lua", { "nobody", "Disk", "Full." }) end)
  t.eq(e.code, "message.invalid")
  t.ok(not table.concat(t.log, "\n"):find("backup", 1, true))
end)
