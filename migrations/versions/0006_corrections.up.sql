-- What people correct in a scene graph, and what annotations say of objects between two visits.

CREATE TABLE correction (
    scan_id BIGINT NOT NULL,
    correction_id BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    instance_no INTEGER NOT NULL,
    object_no INTEGER,
    term_id INTEGER NOT NULL,
    holds BOOLEAN DEFAULT true NOT NULL,
    author TEXT NOT NULL,
    made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    reverted_by TEXT,
    reverted_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT correction_pkey PRIMARY KEY (scan_id, correction_id),
    CONSTRAINT correction_scan_id_instance_no_fkey
        FOREIGN KEY (scan_id, instance_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT correction_scan_id_object_no_fkey
        FOREIGN KEY (scan_id, object_no) REFERENCES instance (scan_id, instance_no) ON DELETE CASCADE,
    CONSTRAINT correction_term_id_fkey FOREIGN KEY (term_id) REFERENCES term (term_id),
    CONSTRAINT correction_kind_check CHECK (kind IN ('label', 'relation')),
    CONSTRAINT correction_object_no_check CHECK ((kind = 'relation') = (object_no IS NOT NULL)),
    CONSTRAINT correction_not_self_check CHECK (object_no <> instance_no),
    CONSTRAINT correction_holds_check CHECK (holds OR kind = 'relation'),
    CONSTRAINT correction_author_check CHECK (char_length(author) BETWEEN 1 AND 200),
    CONSTRAINT correction_reverted_check CHECK ((reverted_by IS NULL) = (reverted_at IS NULL))
);
CREATE INDEX correction_scan_id_instance_no_idx ON correction (scan_id, instance_no);
CREATE INDEX correction_scan_id_object_no_idx ON correction (scan_id, object_no);
CREATE INDEX correction_term_id_idx ON correction (term_id);
COMMENT ON TABLE correction IS
    'what a person says of a label or a relation; of several that stand, the newest counts';
COMMENT ON COLUMN correction.instance_no IS 'the instance; of a relation its subject';
COMMENT ON COLUMN correction.term_id IS 'the label, or the predicate';
COMMENT ON COLUMN correction.holds IS 'false: the predicate does not hold';
COMMENT ON COLUMN correction.reverted_at IS 'null: it stands';

CREATE TABLE rescan_object (
    scan_id BIGINT NOT NULL,
    reference_no INTEGER NOT NULL,
    change TEXT NOT NULL,
    instance_no INTEGER,
    t_rescan_reference DOUBLE PRECISION[],
    symmetry SMALLINT,
    CONSTRAINT rescan_object_pkey PRIMARY KEY (scan_id, reference_no, change),
    CONSTRAINT rescan_object_scan_id_fkey FOREIGN KEY (scan_id) REFERENCES scan (scan_id) ON DELETE CASCADE,
    CONSTRAINT rescan_object_change_check CHECK (change IN ('moved', 'changed', 'removed')),
    CONSTRAINT rescan_object_t_rescan_reference_check CHECK (cardinality(t_rescan_reference) = 16)
);
COMMENT ON TABLE rescan_object IS 'what the annotations of a rescan say of objects of its reference scan';
COMMENT ON COLUMN rescan_object.reference_no IS 'number of the instance in the reference scan';
COMMENT ON COLUMN rescan_object.change IS
    'moved: rigidly; changed: not rigidly, as a curtain does; removed: no longer there';
COMMENT ON COLUMN rescan_object.instance_no IS 'its number in this scan; null where it was removed or not told';
COMMENT ON COLUMN rescan_object.t_rescan_reference IS
    '4x4 row-major, maps the object as it stood in the reference scan to where it stands in this one';
COMMENT ON COLUMN rescan_object.symmetry IS 'as the dataset numbers it: 0 none, 1 by a half, 2 by a quarter turn, 3 any';

-- A scene graph that another program made tells where its objects are, and has no points.
ALTER TABLE instance
    DROP CONSTRAINT instance_centroid_m_check,
    ADD CONSTRAINT instance_centroid_m_check CHECK (point_count = 0 OR centroid_m IS NOT NULL);
COMMENT ON COLUMN instance.centroid_m IS 'null where nothing says where the instance is';
