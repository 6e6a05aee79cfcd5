-- When a member's channel was made, for an agent's channels in their order.
ALTER TABLE am_channel_members ADD COLUMN made_at TEXT;
UPDATE am_channel_members SET made_at = (SELECT c.created_at FROM am_channels c WHERE c.id = am_channel_members.channel_id);
CREATE INDEX am_channel_members_made ON am_channel_members (agent_id, made_at, channel_id);

-- What an agent holds, the most urgent first.
CREATE INDEX am_assignments_held_order ON am_assignments (agent_id, priority, placed_at, id)
    WHERE state IN ('OFFERED', 'ACCEPTED');

-- What the coordinator ended first.
CREATE INDEX am_execution_list_ended ON am_execution_list (ended_at, id) WHERE ended_at IS NOT NULL;
