-- When a key was used last, to the minute; none: not since this was kept.
ALTER TABLE am_api_keys ADD COLUMN last_used_at TEXT;
