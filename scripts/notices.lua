-- A personal notice to each row of a CSV file (mail,name,due), so many a minute.
--
--   postrider run scripts/notices.lua people.csv
--
--   read = ["/srv/notices"] under [scripts.fs], where the file lies
--
-- Whom the server refuses for now is tried again later, whom it refuses for good is logged, and the
-- others go on; at the end the script fails if anybody has no notice. One whose answer was lost may
-- have arrived and is not sent twice: look for `smtp.unknown` in the log. Change the text and the
-- pace, which is to stay below what the provider allows.
local pr = require "postrider"

local A_MINUTE = 20
local ROUNDS, PAUSE = 3, "10m"
local SUBJECT = "Your certificate ends on {{ due }}"
local TEXT = "Dear {{ name }},\n\nyour certificate ends on {{ due }}. Please renew it.\n"
local HTML = "<p>Dear {{ name }},</p><p>your certificate ends on <b>{{ due }}</b>. Please renew it.</p>"
local alerts = pr.account "alerts"

local function notify(person)
  return alerts:send {
    to = person.mail,
    subject = assert(pr.template.text(SUBJECT, person)),
    text = assert(pr.template.text(TEXT, person)),
    html = assert(pr.template.html(HTML, person)),
  }
end

local people = assert(pr.csv.read(pr.args[1] or error("which file? postrider run notices.lua people.csv", 0)))
local refused = 0
for round = 1, ROUNDS do
  local again = {}
  for i, person in ipairs(people) do
    if i > 1 then pr.sleep(60 / A_MINUTE) end
    local receipt, err = notify(person)
    if not receipt and err.retryable and round < ROUNDS then
      again[#again + 1] = person
      pr.log.warn(person.mail .. ": " .. err.message .. "; it is tried again", { code = err.code })
    elseif err then                                -- `receipt, err`: taken, but not for everybody
      refused = refused + 1
      pr.log.error(person.mail .. ": " .. err.message, { code = err.code })
    end
  end
  people = again
  if #people == 0 then break end
  pr.sleep(PAUSE)
end
if refused > 0 then error(refused .. " notices were not sent", 0) end
