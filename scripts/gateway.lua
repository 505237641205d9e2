-- Rules for the devices of a gateway: what the UPS has to say goes to whoever is on call, scans go
-- to nobody outside, and a device that is to be replaced keeps to the hours somebody is there.
--
--   files = ["gateway.lua"] under [scripts], and postrider serve
--
-- Change the names of the devices: those that they sign in with.
local pr = require "postrider"

local ALARMS = { ["ups-1"] = true, ["ups-2"] = true }
local SCANNERS = { ["scanner-1"] = true }
local OWN_DOMAIN = "contoso.com"
local BY_DAY = { ["fax-old"] = true }
local ZONE = "Europe/Paris"
local ON_CALL = { day = "helpdesk@contoso.com", night = "night@contoso.com" }

local function shift()
  local hour = tonumber(pr.time.format(pr.time.now(), ZONE):match "T(%d%d)")
  return hour >= 7 and hour < 19 and "day" or "night"
end

-- The device hears of a wrong password, as anybody does whom nobody let in.
pr.on("gateway.auth", function(device)
  if BY_DAY[device.device] and shift() == "night" then return false, "only by day" end
end)

local function is_outside(address)
  return address:lower():match "@(.*)$" ~= OWN_DOMAIN
end

pr.on("gateway.message", function(message)
  if ALARMS[message.device] then
    message.to = { ON_CALL[shift()] }
    message.subject = "[" .. message.device .. "] " .. (message.subject or "an alarm")
    message.headers.importance = "high"
    return message
  end
  if SCANNERS[message.device] then
    for _, recipient in ipairs(message.to) do
      if is_outside(recipient) then return false, "scans go to " .. OWN_DOMAIN .. " only, not to " .. recipient end
    end
  end
end)
