-- Accounts for many mailboxes, from a list in a CSV file, written into postrider.toml:
--
--   name,username,sender
--   berlin,svc-berlin@contoso.com,berlin@contoso.com
--
--   postrider run scripts/accounts-from-csv.lua accounts.csv
--
-- All of them sign in as one application. Run it again after the list has changed: a mailbox that
-- is as it was is left alone, and comments and other settings stay. The file has to lie beneath a
-- directory under [scripts.fs] read.
local pr = require "postrider"

local function settings(row)
  return {
    provider = "microsoft365",
    username = row.username,
    sender = row.sender ~= "" and row.sender or row.username,
    auth = {
      plugin = "oauth", flow = "client_credentials", tenant = "contoso.onmicrosoft.com",
      client_id = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
      client_secret = pr.secret.vault "mail/client_secret",
    },
  }
end

local written = 0
for line, row in ipairs(assert(pr.csv.read(pr.args[1] or "accounts.csv"))) do
  local key = "account." .. row.name
  local known = assert(pr.config.get "account" or {})[row.name]
  local wanted = settings(row)
  if not known or known.username ~= wanted.username or known.sender ~= wanted.sender then
    -- The whole file is checked before it is replaced: a bad row changes nothing.
    local ok, err = pr.config.set(key, wanted)
    if not ok then error("row " .. line .. ", " .. row.name .. ": " .. err.message, 0) end
    written = written + 1
  end
end
print(written .. " accounts written")
