-- One state, or STATES of them a call; none is a GET. EXACT tells whether each gets the same bits in any company.
local count, key = tonumber(os.getenv("STATES") or "1"), os.getenv("KEY")
local state = "[%.4f, 0.4, 0.9, 0.3, 0.5, 0.8, 0.6, 0.7, 0]"
wrk.method = count == 0 and "GET" or "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-api-key"] = key
if count == 0 then
    wrk.body = nil
elseif count == 1 then
    wrk.body = '{"state": ' .. state:format(1.2) .. "}"
else
    local states = {}
    for at = 1, count do
        states[at] = state:format(at / count)
    end
    wrk.body = '{"deterministic": ' .. (os.getenv("EXACT") or "true") .. ', "states": [' .. table.concat(states, ", ") .. "]}"
end

done = function(summary, latency, _)
    local errors = summary.errors
    local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(("RESULT %d %d %d %.1f %.1f"):format(summary.requests, summary.duration, bad, latency:percentile(50), latency:percentile(99)))
end
