-- The agent that a key of the role AGENT is bound to; none: the key is bound to no agent.
ALTER TABLE am_api_keys ADD COLUMN agent_id TEXT;
