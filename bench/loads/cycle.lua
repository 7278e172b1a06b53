-- Sends the requests of a file in turn, byte for byte; a NUL ends each. The file's name comes after `--`.
local requests = {}
local at = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for one in file:read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = one
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end
