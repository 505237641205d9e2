-- A health canary: every account sends itself a message once an hour, and a webhook hears of each
-- account that cannot, by a road other than mail, and once more when it can again.
--
--   files = ["canary.lua"] under [scripts], CANARY_WEBHOOK in the environment, and postrider serve
--
-- It shows that the server accepts mail, not that mail arrives. What the webhook did not take it is
-- told again an hour later.
local pr = require "postrider"

local EVERY = "1h"
local webhook = pr.secret.env "CANARY_WEBHOOK"

local down = {}                                    -- accounts whose trouble the webhook knows of

-- Answers whether the webhook took it.
local function tell(text)
  local response, err = pr.http.post(webhook, { json = { text = text }, timeout = "10s" })
  if response and response.ok then return true end
  pr.log.error("the webhook did not take: " .. text, { why = response and response.status or err.message })
  return false
end

local function probe(account)
  local name = account.name
  local address = pr.config.get("account." .. name .. ".test_recipient") or pr.config.get("account." .. name .. ".username")
  local sent, err = account:send { to = address, subject = "Canary of " .. name, text = "It sings." }
  if not sent and not down[name] then
    down[name] = tell(("Postrider: %s cannot send: %s"):format(name, err.message))
  elseif sent and down[name] then
    down[name] = not tell(("Postrider: %s sends again"):format(name))
  end
end

-- All at the same time: one that hangs, or raises an error, keeps none of the others.
pr.every(EVERY, function()
  local probes = {}
  for i, account in ipairs(pr.accounts()) do
    probes[i] = function() probe(account) end
  end
  pr.join(probes)
end, { name = "canary", timeout = "10m" })
