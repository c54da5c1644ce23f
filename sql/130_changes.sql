-- What changed in a room between two visits.
--
-- Rigid transforms are 4x4 row-major, in metres; t_b_a maps the coordinates of scan a into those of scan b. Where
-- nobody gives one, it goes by way of the reference scan of the room: t_b_a = inverse(t_reference_b) t_reference_a.
--
-- Which object of one scan is which of the other: 3RScan gives an object of a room one number in all its visits.
-- Elsewhere objects are matched, nearest first: of all pairs that are called the same and lie at most so far apart
-- the closest is one object, then the closest of the others, and so on. To take the closest first, and not the
-- least sum, is on purpose: what stood still is found as such before anything is taken for moved.
--
-- Whether an object moved is told by its boxes. Two visits see different parts of it, and so its centroid is elsewhere
-- though it is not; its box then grew or shrank at one end. Only where both ends went the same way did it move, by as
-- much as the end that went less. What has no box is told by its centroid.

CREATE OR REPLACE FUNCTION rigid_product_v1(a double precision[], b double precision[])
RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (SELECT array_agg(a[4 * i + 1] * b[j + 1] + a[4 * i + 2] * b[j + 5] + a[4 * i + 3] * b[j + 9]
                         + a[4 * i + 4] * b[j + 13] ORDER BY i, j)
        FROM generate_series(0, 3) AS i, generate_series(0, 3) AS j);
COMMENT ON FUNCTION rigid_product_v1 IS 'the product a b of two 4x4 matrices: first b, then a';

CREATE OR REPLACE FUNCTION rigid_inverse_v1(t double precision[])
RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY[t[1], t[5], t[9], -(t[1] * t[4] + t[5] * t[8] + t[9] * t[12]),
             t[2], t[6], t[10], -(t[2] * t[4] + t[6] * t[8] + t[10] * t[12]),
             t[3], t[7], t[11], -(t[3] * t[4] + t[7] * t[8] + t[11] * t[12]),
             0, 0, 0, 1];
COMMENT ON FUNCTION rigid_inverse_v1 IS 'the inverse of a rotation and translation, 4x4';

CREATE OR REPLACE FUNCTION rigid_point_v1(t double precision[], p double precision[])
RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY[t[1] * p[1] + t[2] * p[2] + t[3] * p[3] + t[4],
             t[5] * p[1] + t[6] * p[2] + t[7] * p[3] + t[8],
             t[9] * p[1] + t[10] * p[2] + t[11] * p[3] + t[12]];
COMMENT ON FUNCTION rigid_point_v1 IS 'a point x y z, rotated and translated by t';

CREATE OR REPLACE FUNCTION point_distance_v1(p double precision[], q double precision[])
RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN sqrt((p[1] - q[1]) ^ 2 + (p[2] - q[2]) ^ 2 + (p[3] - q[3]) ^ 2);
COMMENT ON FUNCTION point_distance_v1 IS 'metres between two points x y z';

CREATE OR REPLACE FUNCTION is_rigid_v1(t double precision[])
RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF t IS NULL OR cardinality(t) <> 16 OR array_ndims(t) <> 1 OR array_position(t, NULL) IS NOT NULL
       -- A product of numbers as large as a damaged file may hold overflows.
       OR (SELECT bool_or(n NOT BETWEEN -1e6 AND 1e6) FROM unnest(t) AS n) THEN
        RETURN false;
    END IF;
    RETURN greatest(abs(t[13]), abs(t[14]), abs(t[15]), abs(t[16] - 1)) <= 1e-3
       AND (SELECT max(abs(n - CASE WHEN place IN (1, 6, 11, 16) THEN 1 ELSE 0 END)) <= 1e-3
            FROM unnest(rigid_product_v1(t, rigid_inverse_v1(t))) WITH ORDINALITY AS product (n, place)
            WHERE place NOT IN (4, 8, 12))
       AND t[1] * (t[6] * t[11] - t[7] * t[10]) - t[2] * (t[5] * t[11] - t[7] * t[9])
           + t[3] * (t[5] * t[10] - t[6] * t[9]) > 0;
END
$$;
COMMENT ON FUNCTION is_rigid_v1 IS 'whether 16 numbers are a proper rotation and a translation, to three decimals';

CREATE OR REPLACE FUNCTION turn_degrees_v1(t double precision[], symmetry integer DEFAULT 0)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- The angle of a rotation follows from its trace. An object that some turns about z leave as it is may have been
-- turned by any of these before: the least angle counts. After a turn by f the trace is
-- t11 + cos f (t1 + t6) + sin f (t2 - t5).
RETURN CASE WHEN t IS NOT NULL THEN degrees(acos(greatest(-1, least(1, (
    CASE symmetry
        WHEN 3 THEN t[11] + sqrt((t[1] + t[6]) ^ 2 + (t[2] - t[5]) ^ 2)
        ELSE (SELECT max(t[11] + cosd(f) * (t[1] + t[6]) + sind(f) * (t[2] - t[5]))
              FROM generate_series(0, 359, CASE symmetry WHEN 1 THEN 180 WHEN 2 THEN 90 ELSE 360 END) AS f)
    END - 1) / 2)))) END;
COMMENT ON FUNCTION turn_degrees_v1 IS
    'by how much a transform turns an object with a symmetry about z as rescan_object.symmetry numbers them: 0 to 180';

CREATE OR REPLACE FUNCTION box_bounds_v1(t double precision[], centre_m double precision[], axes double precision[],
                                         lengths_m double precision[])
RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
-- An edge reaches along an axis as far as it leans that way.
RETURN (SELECT array_agg(at[k] + way * reach.half_m ORDER BY way, k)
        FROM rigid_point_v1(t, centre_m) AS at
        CROSS JOIN generate_series(1, 3) AS k
        CROSS JOIN LATERAL (
            SELECT sum(abs(t[4 * k - 3] * axes[3 * j - 2] + t[4 * k - 2] * axes[3 * j - 1] + t[4 * k - 1] * axes[3 * j])
                       * lengths_m[j] / 2) AS half_m
            FROM generate_series(1, 3) AS j) AS reach
        CROSS JOIN (VALUES (-1), (1)) AS side (way));
COMMENT ON FUNCTION box_bounds_v1 IS
    'lower and upper x y z of an oriented box as instance has them (a unit axis a row), brought elsewhere by t';

CREATE OR REPLACE FUNCTION bounds_shift_v1(a double precision[], b double precision[])
RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (SELECT sqrt(sum(CASE WHEN (b[k] - a[k]) * (b[k + 3] - a[k + 3]) <= 0 THEN 0
                             ELSE least(abs(b[k] - a[k]), abs(b[k + 3] - a[k + 3])) END ^ 2))
        FROM generate_series(1, 3) AS k);
COMMENT ON FUNCTION bounds_shift_v1 IS
    'metres by which one box must be shifted at least so that along each axis one of the two holds the other';

CREATE OR REPLACE FUNCTION t_reference_scan_v1(scan_id bigint)
RETURNS double precision[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (SELECT CASE WHEN s.reference_name IS NULL THEN '{1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}'
                    ELSE s.t_reference_scan END
        FROM scan s
        WHERE s.scan_id = t_reference_scan_v1.scan_id);
COMMENT ON FUNCTION t_reference_scan_v1 IS
    'maps a scan into the reference scan of its room, which it may be itself; null where that is not known';

CREATE OR REPLACE FUNCTION are_of_one_room_v1(scan_a bigint, scan_b bigint)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (SELECT count(*) = 2 AND count(DISTINCT (s.dataset_id, coalesce(s.reference_name, s.name))) = 1
        FROM scan s
        WHERE s.scan_id IN (scan_a, scan_b));
COMMENT ON FUNCTION are_of_one_room_v1 IS 'whether two scans are known as visits to one room';

CREATE OR REPLACE FUNCTION keep_numbers_v1(scan_a bigint, scan_b bigint)
RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN are_of_one_room_v1(scan_a, scan_b)
   AND EXISTS (SELECT FROM scan s JOIN dataset d USING (dataset_id) WHERE s.scan_id = scan_a AND d.layout = '3rscan')
   -- Objects merged from masks are numbered as they come.
   AND NOT EXISTS (SELECT FROM ledger l WHERE l.scan_id IN (scan_a, scan_b) AND l.step = 'masks');
COMMENT ON FUNCTION keep_numbers_v1 IS 'whether an object has the same number in both of two scans';

CREATE OR REPLACE FUNCTION placed_objects_v1(scan_id bigint)
RETURNS TABLE (instance integer, label text, centroid_m double precision[], obb_centre_m double precision[],
               obb_axes double precision[], obb_lengths_m double precision[])
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT i.instance_no, coalesce(told.label, own.text), i.centroid_m, i.obb_centre_m, i.obb_axes, i.obb_lengths_m
    FROM instance i
    JOIN term own ON own.term_id = i.label_id
    LEFT JOIN v_corrected_label told ON (told.scan_id, told.instance) = (i.scan_id, i.instance_no)
    WHERE i.scan_id = placed_objects_v1.scan_id AND i.centroid_m IS NOT NULL
$$;
COMMENT ON FUNCTION placed_objects_v1 IS
    'the instances of a scan of which it is known where they are; label is as corrected, else as annotated';

CREATE OR REPLACE FUNCTION match_objects_v1(scan_a bigint, scan_b bigint, t_b_a double precision[],
                                            reach_m double precision DEFAULT 2, encoder text DEFAULT NULL)
RETURNS TABLE (instance_a integer, instance_b integer, similarity real)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    words_of integer := CASE WHEN encoder IS NOT NULL THEN (find_encoder_v1(encoder)).encoder_id END;
    taken_a integer[] := '{}';
    taken_b integer[] := '{}';
BEGIN
    FOR instance_a, instance_b, similarity IN
        SELECT near.instance_a, near.instance_b, near.similarity
        FROM (SELECT a.instance AS instance_a, b.instance AS instance_b,
                     1 - (f.embedding::vector <=> g.embedding::vector) AS similarity,
                     point_distance_v1(rigid_point_v1(t_b_a, a.centroid_m), b.centroid_m) AS distance_m
              FROM placed_objects_v1(scan_a) a
              JOIN placed_objects_v1(scan_b) b ON lower(b.label) = lower(a.label)
              LEFT JOIN node_feature f ON (f.scan_id, f.encoder_id, f.instance_no) = (scan_a, words_of, a.instance)
              LEFT JOIN node_feature g ON (g.scan_id, g.encoder_id, g.instance_no) = (scan_b, words_of, b.instance)
             ) AS near
        WHERE near.distance_m <= reach_m
        ORDER BY near.distance_m + CASE WHEN words_of IS NULL THEN 0 ELSE 1 - coalesce(near.similarity, 0) END,
                 near.instance_a, near.instance_b
    LOOP
        CONTINUE WHEN instance_a = ANY (taken_a) OR instance_b = ANY (taken_b);
        taken_a := taken_a || instance_a;
        taken_b := taken_b || instance_b;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION match_objects_v1 IS
    'objects of two scans that are called the same, matched nearest first up to reach_m apart; with an encoder, an'
    ' unlikeness (cosine distance of its features, 1 where one has none) of 1 weighs as much as a metre';

CREATE OR REPLACE FUNCTION annotated_changes_v1(scan_a bigint, scan_b bigint)
RETURNS TABLE (instance integer, said text, t_b_a double precision[], symmetry integer)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT o.instance,
           nullif(concat_ws(', ', CASE WHEN moved_a.change IS NOT NULL OR moved_b.change IS NOT NULL THEN 'moved' END,
                            CASE WHEN o.is_changed THEN 'changed' END,
                            CASE WHEN o.left_before_a AND NOT o.left_before_b THEN 'appeared' END,
                            CASE WHEN o.left_before_b AND NOT o.left_before_a THEN 'vanished' END), ''),
           -- What is not said to have moved lies as in the reference scan.
           CASE WHEN moved_a.change IS NOT NULL OR moved_b.change IS NOT NULL THEN rigid_product_v1(
               CASE WHEN moved_b.change IS NULL THEN rigid_inverse_v1(t_reference_scan_v1(scan_b))
                    ELSE moved_b.t_rescan_reference END,
               CASE WHEN moved_a.change IS NULL THEN t_reference_scan_v1(scan_a)
                    ELSE rigid_inverse_v1(moved_a.t_rescan_reference) END) END,
           coalesce(moved_b.symmetry, moved_a.symmetry)
    FROM (SELECT r.reference_no AS instance,
                 bool_or(r.change = 'changed') AS is_changed,
                 bool_or(r.change = 'removed' AND r.scan_id = scan_a) AS left_before_a,
                 bool_or(r.change = 'removed' AND r.scan_id = scan_b) AS left_before_b
          FROM rescan_object r
          WHERE r.scan_id IN (scan_a, scan_b)
          GROUP BY r.reference_no) AS o
    LEFT JOIN rescan_object moved_a
        ON (moved_a.scan_id, moved_a.reference_no, moved_a.change) = (scan_a, o.instance, 'moved')
    LEFT JOIN rescan_object moved_b
        ON (moved_b.scan_id, moved_b.reference_no, moved_b.change) = (scan_b, o.instance, 'moved')
$$;
COMMENT ON FUNCTION annotated_changes_v1 IS
    'what annotations say of objects between two visits to a room, by way of its reference scan; t_b_a maps an object'
    ' that moved from where it lies in scan a to where it lies in scan b, null where that was not told';

CREATE OR REPLACE FUNCTION visits_transform_v1(scan_a bigint, scan_b bigint)
RETURNS double precision[]
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
DECLARE
    t_b_a double precision[] := rigid_product_v1(rigid_inverse_v1(t_reference_scan_v1(scan_b)),
                                                 t_reference_scan_v1(scan_a));
BEGIN
    IF t_b_a IS NULL OR NOT are_of_one_room_v1(scan_a, scan_b) THEN
        RAISE EXCEPTION 'how scans % and % lie to each other is not known', (SELECT s.name FROM scan s WHERE s.scan_id = scan_a),
            (SELECT s.name FROM scan s WHERE s.scan_id = scan_b)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = CASE WHEN are_of_one_room_v1(scan_a, scan_b)
                              THEN 'they are of one room, but 3RScan.json has no transform of one of them: '
                              ELSE 'they are not known as visits to one room: ' END
                         || 'give the 4x4 transform that maps the first into the second';
    END IF;
    RETURN t_b_a;
END
$$;
COMMENT ON FUNCTION visits_transform_v1 IS
    'maps a scan into another of the same room, 4x4 row-major, by way of the reference scan; an error where not known';

CREATE OR REPLACE FUNCTION rescan_diff_v1(scan_a text, scan_b text, t_b_a double precision[] DEFAULT NULL,
                                          moved_m double precision DEFAULT 0.1,
                                          reach_m double precision DEFAULT 2, encoder text DEFAULT NULL)
RETURNS TABLE (change text, instance_a integer, label_a text, instance_b integer, label_b text,
               shift_m double precision, distance_m double precision, centroid_a_m double precision[],
               expected_b_m double precision[], centroid_b_m double precision[], similarity real, annotated text,
               annotated_m double precision, annotated_degrees double precision)
LANGUAGE plpgsql STABLE PARALLEL SAFE
AS $$
#variable_conflict use_column
DECLARE
    a_id constant bigint := scene_scan_id_v1(scan_a);
    b_id constant bigint := scene_scan_id_v1(scan_b);
    by_number constant boolean := keep_numbers_v1(a_id, b_id);
    t double precision[] := t_b_a;
    bare text;
BEGIN
    IF a_id = b_id THEN
        RAISE EXCEPTION '% and % are one scan', scan_a, scan_b
            USING ERRCODE = 'invalid_parameter_value', HINT = 'name two visits';
    END IF;
    IF moved_m IS NULL OR moved_m < 0 OR reach_m IS NULL OR reach_m < 0 THEN
        RAISE EXCEPTION 'moved_m and reach_m must be 0 or more, in metres' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF t IS NULL THEN
        t := visits_transform_v1(a_id, b_id);
    ELSIF NOT is_rigid_v1(t) THEN
        RAISE EXCEPTION 't_b_a is no rotation and translation'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'give 16 numbers: a 4x4 matrix row by row, in metres';
    END IF;
    SELECT string_agg(s.name, ', ' ORDER BY s.name) INTO bare
    FROM scan s
    WHERE s.scan_id IN (a_id, b_id) AND NOT EXISTS (SELECT FROM placed_objects_v1(s.scan_id));
    IF bare IS NOT NULL THEN
        RAISE EXCEPTION 'no object of % has a place', bare
            USING ERRCODE = 'no_data_found', HINT = '`open3dsg ingest` of its folder reads its geometry';
    END IF;
    RETURN QUERY
    WITH same AS (
        SELECT a.instance AS instance_a, b.instance AS instance_b, NULL::real AS similarity
        FROM placed_objects_v1(a_id) a
        JOIN placed_objects_v1(b_id) b USING (instance)
        WHERE by_number
        UNION ALL
        SELECT m.instance_a, m.instance_b, m.similarity
        FROM match_objects_v1(a_id, b_id, t, reach_m, encoder) m
        WHERE NOT by_number
    ), object AS (
        SELECT a.instance AS instance_a, a.label AS label_a, a.centroid_m AS centroid_a_m,
               rigid_point_v1(t, a.centroid_m) AS expected_b_m,
               box_bounds_v1(t, a.obb_centre_m, a.obb_axes, a.obb_lengths_m) AS expected_bounds,
               box_bounds_v1('{1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}', b.obb_centre_m, b.obb_axes, b.obb_lengths_m)
                   AS bounds,
               b.instance AS instance_b, b.label AS label_b, b.centroid_m AS centroid_b_m, same.similarity
        FROM placed_objects_v1(a_id) a
        LEFT JOIN same ON same.instance_a = a.instance
        FULL JOIN placed_objects_v1(b_id) b ON b.instance = same.instance_b
    )
    SELECT CASE WHEN o.instance_a IS NULL THEN 'appeared'
                WHEN o.instance_b IS NULL THEN 'vanished'
                WHEN coalesce(measured.shift_m, measured.distance_m) > moved_m THEN 'moved'
                ELSE 'stayed' END,
           o.instance_a, o.label_a, o.instance_b, o.label_b, measured.shift_m, measured.distance_m,
           o.centroid_a_m, o.expected_b_m, o.centroid_b_m, o.similarity,
           told.said, point_distance_v1(rigid_point_v1(told.t_b_a, o.centroid_a_m), o.expected_b_m),
           turn_degrees_v1(rigid_product_v1(rigid_inverse_v1(t), told.t_b_a), told.symmetry)
    FROM object o
    CROSS JOIN LATERAL (SELECT bounds_shift_v1(o.expected_bounds, o.bounds) AS shift_m,
                               point_distance_v1(o.expected_b_m, o.centroid_b_m) AS distance_m) AS measured
    LEFT JOIN annotated_changes_v1(a_id, b_id) told
        ON by_number AND told.instance = coalesce(o.instance_a, o.instance_b)
    ORDER BY o.instance_a, o.instance_b;
END
$$;
COMMENT ON FUNCTION rescan_diff_v1 IS
    'what became of every object between two scans: appeared, vanished, moved, or stayed; distance_m is between the'
    ' centroid in scan b and where that of scan a comes to lie there, shift_m the same of its boxes, of which another'
    ' part may have been scanned; it moved where that is more than moved_m; annotated: what the dataset says';
