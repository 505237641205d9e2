local pr = require "postrider"

local function df(t, used)
  local text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 %d %d %d%% /srv\n"
  t.process:reply { program = "/usr/bin/df", stdout = text:format(used, 100 - used, used), times = 1 }
  t.clock:advance "5m"
end

pr.test.case("each level is told once, and again after it was left", function(t)
  t:config [[
    [scripts]
    run = ["/usr/bin/df"]
    [account.alerts]
    username = "alerts@contoso.com"
    server = { host = "smtp.example.org", port = 587, tls = "starttls" }
    auth = { plugin = "basic", password = { env = "ALERTS" } }
  ]]
  t:load "disk-space.lua"
  for _, used in ipairs { 79, 85, 86, 92, 60, 85 } do df(t, used) end
  local subjects = {}
  for i, message in ipairs(t.outbox) do subjects[i] = message.subject end
  t.eq(subjects, { "/srv is 85 % full", "/srv is 92 % full", "/srv is 85 % full" })
end)
