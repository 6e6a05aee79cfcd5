-- Lists of further tables of the coordinator's, as am_execution_list is one: jobs, trust scores and limits of sandboxes.
CREATE TABLE am_job_list (
    id TEXT NOT NULL PRIMARY KEY,
    -- A principal: who ordered it here, or that of the client as the coordinator stores it, which may be a key or an id of its own.
    client_id TEXT NOT NULL,
    -- In upper case; FAILED too where the result of a completed job says that it failed.
    state TEXT NOT NULL,
    -- Empty: none is stored.
    service TEXT NOT NULL,
    -- In the job table's clock, as it is stored there.
    requested_at TEXT NOT NULL,
    -- From am_jobs, in UTC; null: no end was noticed.
    ended_at TEXT
) WITHOUT ROWID;
CREATE INDEX am_job_list_page ON am_job_list (client_id, requested_at, id, state, service, ended_at);
CREATE INDEX am_job_list_state ON am_job_list (client_id, state, requested_at, id, service, ended_at);
CREATE INDEX am_job_list_all ON am_job_list (requested_at, id, state, service, ended_at);
CREATE INDEX am_job_list_all_state ON am_job_list (state, requested_at, id, service, ended_at);
CREATE INDEX am_job_list_open ON am_job_list (id) WHERE state IN ('QUEUED', 'RUNNING');

CREATE TABLE am_trust_list (
    id TEXT NOT NULL PRIMARY KEY,
    entity_type TEXT NOT NULL,
    trust_score REAL NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX am_trust_list_page ON am_trust_list (created_at, id, trust_score, entity_type);
CREATE INDEX am_trust_list_type ON am_trust_list (entity_type, created_at, id, trust_score);
CREATE INDEX am_trust_list_score ON am_trust_list (trust_score, entity_type, created_at);

CREATE TABLE am_sandbox_list (
    id TEXT NOT NULL PRIMARY KEY,
    is_active INTEGER NOT NULL
) WITHOUT ROWID;

-- Counters of jobs by state: of all services, and of each.
CREATE TRIGGER am_job_list_counted AFTER INSERT ON am_job_list
BEGIN
    INSERT INTO am_list_counts (list, owner_id, kind, entries)
    VALUES ('jobs', new.client_id, new.state, 1), ('jobs', '*', new.state, 1),
        ('jobs/' || new.service, new.client_id, new.state, 1), ('jobs/' || new.service, '*', new.state, 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_job_list_recounted AFTER UPDATE OF client_id, state, service ON am_job_list
WHEN new.client_id <> old.client_id OR new.state <> old.state OR new.service <> old.service
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list IN ('jobs', 'jobs/' || old.service) AND owner_id IN (old.client_id, '*') AND kind = old.state;
    INSERT INTO am_list_counts (list, owner_id, kind, entries)
    VALUES ('jobs', new.client_id, new.state, 1), ('jobs', '*', new.state, 1),
        ('jobs/' || new.service, new.client_id, new.state, 1), ('jobs/' || new.service, '*', new.state, 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_job_list_uncounted AFTER DELETE ON am_job_list
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list IN ('jobs', 'jobs/' || old.service) AND owner_id IN (old.client_id, '*') AND kind = old.state;
END;
-- Who ordered a job here, and when its end is noticed.
CREATE TRIGGER am_job_order_listed AFTER INSERT ON am_jobs
BEGIN
    UPDATE am_job_list SET client_id = new.client_id, ended_at = new.ended_at WHERE id = new.id;
END;
CREATE TRIGGER am_job_end_listed AFTER UPDATE OF ended_at ON am_jobs
BEGIN
    UPDATE am_job_list SET ended_at = new.ended_at WHERE id = new.id;
END;

-- Counters of trust scores, by type, and of sandboxes, by whether they are active.
CREATE TRIGGER am_trust_list_counted AFTER INSERT ON am_trust_list
BEGIN
    INSERT INTO am_list_counts (list, owner_id, kind, entries) VALUES ('trust_scores', '*', new.entity_type, 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_trust_list_recounted AFTER UPDATE OF entity_type ON am_trust_list WHEN new.entity_type <> old.entity_type
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'trust_scores' AND owner_id = '*' AND kind = old.entity_type;
    INSERT INTO am_list_counts (list, owner_id, kind, entries) VALUES ('trust_scores', '*', new.entity_type, 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_trust_list_uncounted AFTER DELETE ON am_trust_list
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'trust_scores' AND owner_id = '*' AND kind = old.entity_type;
END;
CREATE TRIGGER am_sandbox_list_counted AFTER INSERT ON am_sandbox_list
BEGIN
    INSERT INTO am_list_counts (list, owner_id, kind, entries) VALUES ('sandboxes', '*', CAST(new.is_active AS TEXT), 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_sandbox_list_recounted AFTER UPDATE OF is_active ON am_sandbox_list WHEN new.is_active <> old.is_active
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'sandboxes' AND owner_id = '*' AND kind = CAST(old.is_active AS TEXT);
    INSERT INTO am_list_counts (list, owner_id, kind, entries) VALUES ('sandboxes', '*', CAST(new.is_active AS TEXT), 1)
    ON CONFLICT (list, owner_id, kind) DO UPDATE SET entries = entries + 1;
END;
CREATE TRIGGER am_sandbox_list_uncounted AFTER DELETE ON am_sandbox_list
BEGIN
    UPDATE am_list_counts SET entries = entries - 1
    WHERE list = 'sandboxes' AND owner_id = '*' AND kind = CAST(old.is_active AS TEXT);
END;

-- Numbers of trust scores by bands of 20, the highest with 100, and the sums of their scores in millionths.
CREATE TABLE am_trust_bands (
    band INTEGER NOT NULL PRIMARY KEY,
    entries INTEGER NOT NULL,
    millionths INTEGER NOT NULL
);
CREATE TRIGGER am_trust_list_banded AFTER INSERT ON am_trust_list
BEGIN
    INSERT INTO am_trust_bands (band, entries, millionths)
    VALUES (max(0, min(4, CAST(new.trust_score / 20 AS INTEGER))), 1, CAST(round(new.trust_score * 1000000) AS INTEGER))
    ON CONFLICT (band) DO UPDATE SET entries = entries + 1, millionths = millionths + excluded.millionths;
END;
CREATE TRIGGER am_trust_list_rebanded AFTER UPDATE OF trust_score ON am_trust_list WHEN new.trust_score <> old.trust_score
BEGIN
    UPDATE am_trust_bands
    SET entries = entries - 1, millionths = millionths - CAST(round(old.trust_score * 1000000) AS INTEGER)
    WHERE band = max(0, min(4, CAST(old.trust_score / 20 AS INTEGER)));
    INSERT INTO am_trust_bands (band, entries, millionths)
    VALUES (max(0, min(4, CAST(new.trust_score / 20 AS INTEGER))), 1, CAST(round(new.trust_score * 1000000) AS INTEGER))
    ON CONFLICT (band) DO UPDATE SET entries = entries + 1, millionths = millionths + excluded.millionths;
END;
CREATE TRIGGER am_trust_list_unbanded AFTER DELETE ON am_trust_list
BEGIN
    UPDATE am_trust_bands
    SET entries = entries - 1, millionths = millionths - CAST(round(old.trust_score * 1000000) AS INTEGER)
    WHERE band = max(0, min(4, CAST(old.trust_score / 20 AS INTEGER)));
END;
