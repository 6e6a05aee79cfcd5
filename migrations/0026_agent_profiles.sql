-- What an agent says of itself in the directory, as JSON: capabilities in words of its own, services, endpoints, version, tags,
-- chain, reported state and loads; null: it was registered without.
ALTER TABLE am_agents ADD COLUMN profile TEXT NOT NULL DEFAULT 'null';
