-- Sends by the second account what the first one cannot send.
--
--   postrider run scripts/failover.lua ops@contoso.com "Disk at 91 %" "df says so."
--
-- Not where the first one's answer was lost: that message may have arrived, and another would be
-- its double. Nor for a message that is wrong itself. Change the names of the accounts below.
local pr = require "postrider"

local ACCOUNTS = { "alerts", "backup" }

local to, subject, text = table.unpack(pr.args, 1, 3)
local failed
for _, name in ipairs(ACCOUNTS) do
  local receipt, err = pr.account(name):send { to = to, subject = subject, text = text or "" }
  if receipt then
    pr.log.info("sent by " .. name)
    if err then error(err) end                     -- but not for everybody: smtp.partial
    return
  end
  pr.log.warn(name .. ": " .. err.message, { code = err.code })
  failed = err
  if err.code == "smtp.unknown" or err.code:find "^message%." then break end
end
error(failed)
