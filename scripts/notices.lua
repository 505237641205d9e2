-- A personal notice to each row of a CSV file (mail,name,due), so many a minute.
--
--   postrider run scripts/notices.lua people.csv
--
--   read = ["/srv/notices"] under [scripts.fs], where the file lies
--
-- Whom the server refuses is logged and the others go on; at the end the script fails if anybody
-- was. Change the text and the pace, which is to stay below what the provider allows.
local pr = require "postrider"

local A_MINUTE = 20
local SUBJECT = "Your certificate ends on {{ due }}"
local TEXT = "Dear {{ name }},\n\nyour certificate ends on {{ due }}. Please renew it.\n"
local HTML = "<p>Dear {{ name }},</p><p>your certificate ends on <b>{{ due }}</b>. Please renew it.</p>"
local alerts = pr.account "alerts"

local refused = 0
for i, person in ipairs(assert(pr.csv.read(pr.args[1]))) do
  if i > 1 then pr.sleep(60 / A_MINUTE) end
  local receipt, err = alerts:send {
    to = person.mail,
    subject = assert(pr.template.text(SUBJECT, person)),
    text = assert(pr.template.text(TEXT, person)),
    html = assert(pr.template.html(HTML, person)),
  }
  if not receipt then
    refused = refused + 1
    pr.log.error(person.mail .. ": " .. err.message, { code = err.code, retryable = err.retryable })
  end
end
if refused > 0 then error(refused .. " notices were not sent", 0) end
