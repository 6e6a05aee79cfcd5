-- Requests that ended, the oldest first, for their removal.
CREATE INDEX am_market_requests_ended ON am_market_requests (ended_at, id) WHERE ended_at IS NOT NULL;
