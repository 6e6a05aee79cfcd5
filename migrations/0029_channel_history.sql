-- The messages of a channel in the order of lists, by number.
CREATE INDEX am_messages_history ON am_messages (channel_id, id);
