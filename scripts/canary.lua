-- A health canary: every account sends itself a message once an hour, and a webhook hears of each
-- account that cannot, by a road other than mail, and once more when it can again.
--
--   files = ["canary.lua"] under [scripts], CANARY_WEBHOOK in the environment, and postrider serve
--
-- It shows that the server accepts mail, not that mail arrives.
local pr = require "postrider"

local EVERY = "1h"
local webhook = pr.secret.env "CANARY_WEBHOOK"

local down = {}                                    -- accounts that could not send

local function tell(text)
  local response = assert(pr.http.post(webhook, { json = { text = text }, timeout = "10s" }))
  if not response.ok then error("the webhook answered " .. response.status) end
end

pr.every(EVERY, function()
  for _, account in ipairs(pr.accounts()) do
    local address = pr.config.get("account." .. account.name .. ".username")
    local sent, err = account:send { to = address, subject = "Canary of " .. account.name, text = "It sings." }
    if not sent and not down[account.name] then
      tell(("Postrider: %s cannot send: %s"):format(account.name, err.message))
    elseif sent and down[account.name] then
      tell(("Postrider: %s sends again"):format(account.name))
    end
    down[account.name] = not sent
  end
end, { name = "canary", timeout = "10m" })
