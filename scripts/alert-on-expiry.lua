-- Tells a webhook, by a road other than mail, when a person has to act or mail will stop: somebody
-- must sign in again, or a client secret or certificate comes to its end.
--
--     ALERT_WEBHOOK=https://hooks.example.org/… postrider run scripts/alert-on-expiry.lua
--     postrider run scripts/alert-on-expiry.lua https://hooks.example.org/…
--
-- An address that is a secret belongs into the environment, not among the arguments, which others
-- on the machine can see. Another argument is the CA-FILE of a webhook whose certificate comes from
-- an authority of your own; --test tells the webhook something now, to see whether it takes it.
--
-- Run it once a day, by cron or by a systemd timer as in rotate.lua. Each warning is told once: a
-- sign-in when it is needed, a secret at 30, 14, 7, 3 days and 1 day before its end. A warning that
-- the webhook did not take is told again at the next run.
--
-- Exit status: 0 nobody has to act now; 1 somebody has, and the last line says where.
local pr = require "postrider"

local address, ca_file, test
for _, arg in ipairs(pr.args) do
  if arg == "--test" then
    test = true
  elseif arg:find "^https?://" then
    address = arg
  else
    ca_file = arg
  end
end
local webhook = address or pr.secret.env "ALERT_WEBHOOK"

-- Most chats show `text`; the other fields are for programs.
local function tell(warning)
  local response = assert(pr.http.post(webhook, { json = warning, timeout = "10s", ca_file = ca_file }))
  -- An error says that nobody has heard it, so it will be told again.
  if not response.ok then error("the webhook answered " .. response.status) end
  pr.log.info("told: " .. warning.text)
end

if test then tell { text = "Postrider: this is a test", event = "test" } end

pr.on("token.reauthorization_required", function(event)
  tell {
    text = ("Postrider: account %s sends no mail: %s. Run: %s"):format(event.account, event.message, event.remedy),
    event = "token.reauthorization_required",
    account = event.account, reason = event.reason, since = pr.time.format(event.since), remedy = event.remedy,
  }
end)

local function ends(days)
  if days > 1 then return "ends in " .. days .. " days" end
  return days == 1 and "ends within a day" or "has come to its end"
end

pr.on("secret.expiring", function(event)
  tell {
    text = ("Postrider: %s of account %s %s"):format(event.secret, event.account, ends(event.days)),
    event = "secret.expiring",
    account = event.account, secret = event.secret, days = event.days, expires_at = pr.time.format(event.expires_at),
  }
end)

-- Looking is what brings it to light: an account in use is looked after, and a refresh that is due
-- shows whether the provider still grants it.
local act = {}
for _, account in ipairs(pr.accounts()) do
  local rotation, failed = account:rotate()
  local status, err = account:status()
  if not status then
    pr.log.error(account.name .. ": " .. err.message, { code = err.code, try = err.remedy })
    act[#act + 1] = account.name
  elseif status.sign_in_needed then
    act[#act + 1] = account.name
  elseif not rotation then
    pr.log.warn(account.name .. ": " .. failed.message, { code = failed.code, retryable = failed.retryable })
    if not failed.retryable then act[#act + 1] = account.name end
  end
  for _, secret in ipairs(status and status.expires or {}) do
    pr.log.info(("%s: %s ends at %s"):format(account.name, secret.secret, pr.time.format(secret.expires_at)))
  end
end

if #act > 0 then error("somebody has to act: " .. table.concat(act, ", "), 0) end
