local pr = require "postrider"

pr.test.case("every account is refreshed once, and then nothing is due", function(t)
  t:run "rotate.lua"
  t.match(table.concat(t.log, "\n"), "alerts: refreshed")
  t:run "rotate.lua"
  t.match(t.log[#t.log], "alerts: fresh")
end)

pr.test.case("a provider in trouble may come round, one that refuses does not", function(t)
  t.oauth:reply { status = 503, times = "always" }
  local e = t.raises(function() t:run "rotate.lua" end)
  t.ok(e.retryable)
end)
