-- name: role_states
-- Each of our roles: whether it exists, whether it may do its work in this database, and who has it.
SELECT role.name,
       to_regrole(role.name) IS NOT NULL,
       CASE
           WHEN to_regrole(role.name) IS NULL THEN false
           WHEN role.needs = 'owner' THEN
               (SELECT bool_and(c.relowner = to_regrole(role.name))
                FROM pg_class c
                WHERE c.oid = ANY (%(tables)s::text[]::regclass[]))
           ELSE
               (SELECT bool_and(has_table_privilege(role.name, named, role.needs))
                FROM unnest(%(tables)s::text[]::regclass[]) AS named)
               AND (role.name <> 'open3dsg_worker' OR to_regnamespace('open3dsg_queue') IS NULL
                    OR has_schema_privilege(role.name, 'open3dsg_queue', 'USAGE'))
       END,
       ARRAY(SELECT member.rolname::text
             FROM pg_auth_members m
             JOIN pg_roles member ON member.oid = m.member
             WHERE m.roleid = to_regrole(role.name)
             GROUP BY member.rolname
             ORDER BY member.rolname)
FROM (VALUES (1, 'open3dsg_reader', 'SELECT'),
             (2, 'open3dsg_writer', 'INSERT'),
             (3, 'open3dsg_worker', 'INSERT'),
             (4, 'open3dsg_owner', 'owner')) AS role (place, name, needs)
ORDER BY role.place

-- name: role_exists
SELECT to_regrole(%(role)s) IS NOT NULL

-- name: logins
-- Logins that have one of our roles, directly or by another role; the one that may most is named.
SELECT login.rolname, (array_agg(role.name ORDER BY role.place DESC))[1]
FROM pg_roles login
JOIN (VALUES (1, 'reader'), (2, 'writer'), (3, 'worker'), (4, 'owner')) AS role (place, name)
    ON to_regrole('open3dsg_' || role.name) IS NOT NULL
   AND pg_has_role(login.oid, to_regrole('open3dsg_' || role.name), 'MEMBER')
WHERE login.rolcanlogin AND NOT login.rolsuper
GROUP BY login.rolname
ORDER BY login.rolname

-- name: login_create
CREATE ROLE {login} LOGIN PASSWORD {verifier}

-- name: login_grant
GRANT {role} TO {login}

-- name: login_drop
DROP ROLE {login}

-- name: server_address
SELECT current_setting('listen_addresses'), current_setting('port')
