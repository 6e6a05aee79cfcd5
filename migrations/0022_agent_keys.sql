-- The agent that a key of the role AGENT is bound to; none: the key is bound to no agent.
ALTER TABLE am_api_keys ADD COLUMN agent_id TEXT;

-- The sender's signature, verified on arrival: JSON with key_id, signed_at and value; none: the message is not signed, or
-- imported.
ALTER TABLE am_messages ADD COLUMN signature TEXT;
