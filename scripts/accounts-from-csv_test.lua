local pr = require "postrider"

local function list(count)
  local rows = { "name,username,sender" }
  for i = 1, count do rows[#rows + 1] = ("site%d,svc%d@contoso.com,"):format(i, i) end
  return table.concat(rows, "\n") .. "\n"
end

pr.test.case("fifty accounts are written once", function(t)
  t:config "# ours\n"
  t.fs:write("accounts.csv", list(50))
  t:run("accounts-from-csv.lua", { "accounts.csv" })
  t.match(t.log[#t.log], "^50 accounts")
  t.eq(pr.config.get "account.site50.sender", "svc50@contoso.com")
  t:run("accounts-from-csv.lua", { "accounts.csv" })
  t.match(t.log[#t.log], "^0 accounts")
end)

pr.test.case("a row that is wrong is named", function(t)
  t:config "# ours\n"
  t.fs:write("accounts.csv", "name,username,sender\nsite1,nobody,\n")
  t.raises(function() t:run("accounts-from-csv.lua", { "accounts.csv" }) end, "row 1, site1: .*nobody")
  t.eq(pr.config.get "account", nil)
end)
