-- What we keep beside procrastinate's tables of the work queue, in their schema. Safe to run again.

CREATE TABLE IF NOT EXISTS attempt (
    job_id bigint NOT NULL,
    attempt integer NOT NULL,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    outcome text,
    reason text,
    trace text,
    is_forgiven boolean NOT NULL DEFAULT false,
    CONSTRAINT attempt_pkey PRIMARY KEY (job_id, attempt),
    CONSTRAINT attempt_job_id_fkey FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id) ON DELETE CASCADE
);
COMMENT ON TABLE attempt IS 'each time that a worker took an item up: when, which worker, and how it ended';
COMMENT ON COLUMN attempt.worker IS 'host and process number';
COMMENT ON COLUMN attempt.outcome IS
    'done, refused, broken, killed, lost, away, stopped or disconnected; null while it runs';
COMMENT ON COLUMN attempt.reason IS 'one line: why it did not end well';
COMMENT ON COLUMN attempt.trace IS 'the traceback of an error that is a bug';
COMMENT ON COLUMN attempt.is_forgiven IS 'the item was given new attempts by hand after this one';
