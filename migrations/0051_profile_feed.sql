-- What ended of agents' work and was not yet taken into their profiles. Rows are written in the transaction of the end itself, and
-- deleted in the transaction of what they change.
CREATE TABLE am_profile_feed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- assignment, request, spending, allocation.
    source TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    -- 1: it succeeded; 0: it failed; null: it tells of no success.
    succeeded INTEGER,
    seconds REAL,
    -- In AIT.
    cost REAL,
    -- Share of what was allocated that was used.
    efficiency REAL,
    ended_at TEXT NOT NULL
);
CREATE TRIGGER am_profile_feed_attempt AFTER UPDATE OF outcome ON am_assignment_attempts
WHEN old.outcome IS NULL AND new.outcome IN ('COMPLETED', 'FAILED', 'LOST') AND new.ended_at IS NOT NULL
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, succeeded, seconds, cost, ended_at)
    VALUES ('assignment', new.agent_id, new.outcome = 'COMPLETED', CASE WHEN new.outcome = 'COMPLETED' THEN new.seconds END,
        CASE WHEN new.outcome = 'COMPLETED' THEN new.cost END, new.ended_at);
END;
-- A request of the marketplace that an agent had accepted: paid, or ended without a payment by the agent's doing.
CREATE TRIGGER am_profile_feed_request AFTER UPDATE OF ended_at ON am_market_requests
WHEN old.ended_at IS NULL AND new.ended_at IS NOT NULL AND new.agent_id IS NOT NULL AND new.accepted_at IS NOT NULL
    AND new.state <> 'CANCELLED'
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, succeeded, seconds, ended_at)
    VALUES ('request', new.agent_id, new.paid > 0, CASE WHEN new.completed_at IS NOT NULL
        THEN (julianday(new.completed_at) - julianday(new.accepted_at)) * 86400.0 END, new.ended_at);
END;
CREATE TRIGGER am_profile_feed_spending AFTER INSERT ON am_ledger_entries
WHEN new.agent_id IS NOT NULL AND new.spent + new.spent_on_agent > 0
BEGIN
    INSERT INTO am_profile_feed (source, agent_id, cost, ended_at)
    VALUES ('spending', new.agent_id, (new.spent + new.spent_on_agent) / 100000000.0, new.created_at);
END;
