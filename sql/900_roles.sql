-- Who may do what: four roles that own no login, to be granted to logins.
--
--   open3dsg_reader  searches and reads everything, changes nothing
--   open3dsg_writer  reader, and runs every step; builds vector indexes
--   open3dsg_worker  writer, and the job queue
--   open3dsg_owner   owns tables, functions and views, so each of its members can migrate
--
-- Every migration runs this file last; `open3dsg db roles --sql` prints it for an administrator where the
-- migrating role lacks the rights. Running it again is safe: it adds what is missing and takes nothing away.
-- Roles belong to the whole server, so its databases share them, and one that is dropped leaves them.

DO $$
DECLARE
    wanted text;
    granted text;
    member text;
BEGIN
    IF NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
        RETURN;
    END IF;
    FOREACH wanted IN ARRAY ARRAY['open3dsg_reader', 'open3dsg_writer', 'open3dsg_worker', 'open3dsg_owner']
    LOOP
        CONTINUE WHEN to_regrole(wanted) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            RAISE DEBUG 'a migration of another database made % at the same time', wanted;
        END;
    END LOOP;
    FOR granted, member IN
        VALUES ('open3dsg_reader', 'open3dsg_writer'), ('open3dsg_writer', 'open3dsg_worker')
    LOOP
        CONTINUE WHEN pg_has_role(member, granted, 'MEMBER')
                      OR NOT pg_has_role(granted, 'MEMBER WITH ADMIN OPTION');
        BEGIN
            EXECUTE format('GRANT %I TO %I', granted, member);
        EXCEPTION WHEN unique_violation THEN
            RAISE DEBUG 'a migration of another database granted % at the same time', granted;
        END;
    END LOOP;
END
$$;

-- This database: what the roles may do in it, as far as the present role can say so.
DO $$
DECLARE
    -- Named one by one: tables of the users' own in the same schema are none of our business.
    store_tables constant text[] := ARRAY[
        'alembic_version', 'checkpoint', 'checkpoint_part', 'correction', 'dataset', 'edge_prediction', 'encoder', 'evaluation',
        'evaluation_rank', 'frame', 'instance', 'instance_attribute', 'instance_sample', 'ledger', 'node_feature',
        'node_prediction', 'observation', 'pair', 'pair_feature', 'pair_tokens', 'point_block', 'prediction',
        'relation_caption', 'relationship', 'rescan_object', 'run', 'run_metric', 'scan', 'store_meta', 'subgraph', 'subgraph_member',
        'term', 'term_embedding', 'vocabulary', 'vocabulary_term'];
    schema_tables constant text[] := ARRAY['alembic_version', 'store_meta'];  -- only migrations write these
    home constant regnamespace := (SELECT relnamespace FROM pg_class WHERE oid = 'scan'::regclass);
    queue constant regnamespace := to_regnamespace('open3dsg_queue');
    -- A name does not prove that a view or function is ours, and what the owner is given runs with its rights: it
    -- takes only what was made by those who made the tables, or by the present role.
    makers constant oid[] := ARRAY(
        SELECT c.relowner FROM pg_class c WHERE c.relnamespace = home AND c.relname = ANY (store_tables)
        UNION
        SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user);
    former regrole;
    statement text;
BEGIN
    -- The schema and the database.
    FOR statement IN
        SELECT format('GRANT %s TO %s', allowed.what, to_regrole(allowed.role))
        FROM (VALUES ('open3dsg_reader', format('USAGE ON SCHEMA %s', home)),
                     ('open3dsg_owner', format('USAGE, CREATE ON SCHEMA %s', home))) AS allowed (role, what)
        WHERE to_regrole(allowed.role) IS NOT NULL
          AND pg_has_role((SELECT nspowner FROM pg_namespace WHERE oid = home), 'USAGE')
        UNION ALL
        SELECT format('GRANT %s ON DATABASE %I TO %s',
                      allowed.rights, current_database(), to_regrole(allowed.role))
        FROM (VALUES ('open3dsg_writer', 'TEMPORARY'),
                     ('open3dsg_owner', 'TEMPORARY, CREATE')) AS allowed (role, rights)
        WHERE to_regrole(allowed.role) IS NOT NULL
          AND pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
    LOOP
        EXECUTE statement;
    END LOOP;

    -- Tables and views.
    FOR statement IN
        SELECT format('GRANT %s ON %s TO %s', allowed.wanted, c.oid::regclass, to_regrole(allowed.role))
        FROM pg_class c
        JOIN (VALUES ('open3dsg_reader', 'SELECT'),
                     ('open3dsg_writer', 'INSERT'),
                     ('open3dsg_writer', 'UPDATE'),
                     ('open3dsg_writer', 'DELETE')) AS allowed (role, wanted)
            ON allowed.wanted = 'SELECT' OR (c.relkind = 'r' AND c.relname <> ALL (schema_tables))
        WHERE c.relnamespace = home
          AND (c.relname = ANY (store_tables) OR (c.relkind = 'v' AND c.relname LIKE 'v\_%'))
          AND c.relowner = ANY (makers)
          AND to_regrole(allowed.role) IS NOT NULL
          AND NOT has_table_privilege(to_regrole(allowed.role), c.oid, allowed.wanted)
          AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        EXECUTE statement;
    END LOOP;
    IF to_regrole('open3dsg_writer') IS NOT NULL
       AND pg_has_role((SELECT proowner FROM pg_proc WHERE oid = 'create_node_index_v1'::regproc), 'USAGE')
    THEN
        GRANT EXECUTE ON FUNCTION create_node_index_v1, create_pair_index_v1, create_index_beside_v1, replace_index_v1
            TO open3dsg_writer;
        GRANT EXECUTE ON FUNCTION drop_unused_indexes_v1 TO open3dsg_writer;
    END IF;

    -- The job queue, which a migration may have put into a schema of its own.
    IF queue IS NOT NULL AND to_regrole('open3dsg_worker') IS NOT NULL
       AND to_regrole('open3dsg_reader') IS NOT NULL
       AND pg_has_role((SELECT nspowner FROM pg_namespace WHERE oid = queue), 'USAGE') THEN
        FOREACH statement IN ARRAY ARRAY[
            'GRANT USAGE ON SCHEMA %1$s TO open3dsg_reader, open3dsg_worker',
            'GRANT SELECT ON ALL TABLES IN SCHEMA %1$s TO open3dsg_reader',
            'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %1$s TO open3dsg_worker',
            'GRANT USAGE ON ALL SEQUENCES IN SCHEMA %1$s TO open3dsg_worker']
        LOOP
            EXECUTE format(statement, queue);
        END LOOP;
    END IF;

    -- Ownership. Who owned the tables until now becomes a member of the owner, and so goes on as before.
    IF to_regrole('open3dsg_owner') IS NULL OR NOT has_schema_privilege('open3dsg_owner', home, 'CREATE') THEN
        RETURN;
    END IF;
    FOR former IN
        SELECT DISTINCT c.relowner::regrole
        FROM pg_class c
        WHERE c.relnamespace = home AND c.relname = ANY (store_tables)
          -- To have made the role is no more than to administer it.
          AND NOT (pg_has_role(c.relowner, 'open3dsg_owner', 'USAGE')
                   AND pg_has_role(c.relowner, 'open3dsg_owner', 'SET'))
          AND pg_has_role('open3dsg_owner', 'MEMBER WITH ADMIN OPTION')
    LOOP
        EXECUTE format('GRANT open3dsg_owner TO %s', former);
    END LOOP;
    IF NOT pg_has_role('open3dsg_owner', 'SET') THEN
        RETURN;
    END IF;
    FOR statement IN
        SELECT format('ALTER %s OWNER TO open3dsg_owner', object.what)
        FROM (
            SELECT 1, format('SCHEMA %s', n.oid::regnamespace), n.nspowner
            FROM pg_namespace n
            WHERE n.oid = queue AND has_database_privilege(current_database(), 'CREATE')
            UNION ALL
            SELECT 2, format('TABLE %s', c.oid::regclass), c.relowner
            FROM pg_class c
            WHERE (c.relnamespace = home AND c.relname = ANY (store_tables))
               OR (c.relnamespace = home AND c.relkind = 'v' AND c.relname LIKE 'v\_%')
               OR (c.relnamespace = queue AND c.relkind IN ('r', 'v'))
            UNION ALL
            SELECT 2, format('ROUTINE %s', p.oid::regprocedure), p.proowner
            FROM pg_proc p
            WHERE (p.pronamespace = queue OR (p.pronamespace = home AND p.proname ~ '_v[0-9]+$'))
              AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
            UNION ALL
            SELECT 2, format('TYPE %s', t.oid::regtype), t.typowner
            FROM pg_type t
            LEFT JOIN pg_class c ON c.oid = t.typrelid
            WHERE t.typnamespace = queue AND (t.typtype = 'e' OR c.relkind = 'c')
        ) AS object (place, what, owner)
        WHERE object.owner = ANY (makers) AND object.owner <> 'open3dsg_owner'::regrole
          AND pg_has_role(object.owner, 'USAGE')
        ORDER BY object.place  -- what lies in a schema can only be given to one who may create there
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
