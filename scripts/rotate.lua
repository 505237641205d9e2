-- Keeps every account able to send: fetches the tokens that are due, uses the sign-ins that would
-- lapse for want of use, and says which account needs a person.
--
--     postrider run scripts/rotate.lua                  every account of postrider.toml
--     postrider run scripts/rotate.lua alerts billing   these
--     postrider run scripts/rotate.lua --force alerts   also where nothing is due
--
-- Postrider does this by itself while it sends. This is for machines that send seldom: run it a
-- few times a day, as the user that sends. By cron, whose mail then tells of what went wrong:
--
--     17 */6 * * *  postrider --log warn run /etc/postrider/rotate.lua
--
-- or by systemd, in postrider-rotate.service and postrider-rotate.timer:
--
--     [Service]                                         [Timer]
--     Type=oneshot                                      OnCalendar=00/6:17
--     User=postrider                                    RandomizedDelaySec=10m
--     ExecStart=postrider run /etc/postrider/rotate.lua Persistent=yes
--
-- Exit status: 0 all is well; 77 a person has to act, the last lines say who and how; 75 something
-- failed that may pass by itself; else that of what is wrong, such as 78 for settings.
local pr = require "postrider"

local force, accounts = false, {}
for _, arg in ipairs(pr.args) do
  if arg == "--force" then force = true else accounts[#accounts + 1] = pr.account(arg) end
end
if #accounts == 0 then accounts = pr.accounts() end

-- All at the same time; how many requests one provider gets at once is seen to.
local rotations = {}
for i, account in ipairs(accounts) do
  rotations[i] = function() return account, account:rotate { force = force } end
end

local worst                       -- what cannot pass by itself is worse than what can
for _, result in ipairs(pr.join(rotations)) do
  local account, rotation, err = table.unpack(result, 1, 3)
  if rotation then
    pr.log.info(account.name .. ": " .. rotation.outcome, {
      next_refresh = rotation.next_refresh and pr.time.format(rotation.next_refresh),
    })
  else
    local log = err.retryable and pr.log.warn or pr.log.error
    log(account.name .. ": " .. err.message, { code = err.code, try = err.remedy })
    if not worst or worst.retryable and not err.retryable then worst = err end
  end
end

if worst then error(worst) end
