-- Built subgraphs mean nothing to the older package, which would take them for annotations.
DROP TABLE pair;
DROP TABLE instance_sample;
DELETE FROM ledger WHERE step = 'graph';
DELETE FROM subgraph WHERE method <> '3dssg';
ALTER TABLE subgraph
    DROP CONSTRAINT subgraph_number_check,
    DROP CONSTRAINT subgraph_centre_m_check,
    DROP COLUMN max_distance_m,
    DROP COLUMN centre_m;
COMMENT ON COLUMN subgraph.method IS '3dssg: given by the annotations';
