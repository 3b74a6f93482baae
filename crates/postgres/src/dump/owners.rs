//! Owners and grants as statements: a dump made with `--no-owner --no-acl` has neither.
//!
//! Owners come first, since changing an owner rewrites grants. An object with grants of its own
//! loses the default ones (of PUBLIC and of its owner) before it gets what it had. Members of
//! extensions keep the owner and the grants their extension gives them; only what was granted
//! beside is written.

use std::fmt::Write;

use tokio_postgres::{Client, Error, Row};

use crate::sql::quote_ident;

/// Everything that has an owner and grants, one row an object and grantee: what it is for ALTER,
/// what it is for GRANT, its name, its owner, whether the owner is to be set, whether it belongs
/// to an extension, and one grant, if it has any.
const OBJECTS: &str = "\
WITH objects(class, oid, alter_kind, grant_kind, name, owner, own, acl) AS ( \
    SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid, n.oid, \
           'SCHEMA', 'SCHEMA', pg_catalog.quote_ident(n.nspname), n.nspowner, true, n.nspacl \
    FROM pg_catalog.pg_namespace n \
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    UNION ALL \
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, \
           CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' \
                          WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, \
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, \
           pg_catalog.format('%I.%I', n.nspname, c.relname), c.relowner, \
           NOT (c.relkind = 'S' AND EXISTS ( \
               SELECT FROM pg_catalog.pg_depend o \
               WHERE o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = c.oid \
                 AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                 AND o.refobjsubid > 0 AND o.deptype IN ('a', 'i'))), \
           c.relacl \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') \
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    UNION ALL \
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 'ROUTINE', 'ROUTINE', \
           pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, \
                             pg_catalog.pg_get_function_identity_arguments(p.oid)), \
           p.proowner, true, p.proacl \
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    UNION ALL \
    SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, 'TYPE', 'TYPE', \
           pg_catalog.format('%I.%I', n.nspname, t.typname), t.typowner, true, t.typacl \
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
    LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid \
    WHERE (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c') \
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
), judged AS ( \
    SELECT o.*, EXISTS ( \
               SELECT FROM pg_catalog.pg_depend d \
               WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0 \
                 AND d.deptype = 'e') AS member \
    FROM objects o \
) \
SELECT j.alter_kind, j.grant_kind, j.name, pg_catalog.pg_get_userbyid(j.owner)::pg_catalog.text, \
       j.own AND NOT j.member, j.member, j.acl IS NOT NULL, \
       CASE WHEN x.grantee <> 0 \
            THEN pg_catalog.pg_get_userbyid(x.grantee)::pg_catalog.text END, \
       x.grantee IS NOT NULL, x.privileges, x.is_grantable \
FROM judged j \
LEFT JOIN LATERAL ( \
    SELECT a.grantee, a.is_grantable, \
           pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges \
    FROM pg_catalog.aclexplode(j.acl) a \
    WHERE NOT (j.member AND EXISTS ( \
        SELECT FROM pg_catalog.pg_init_privs i, pg_catalog.aclexplode(i.initprivs) b \
        WHERE i.classoid = j.class AND i.objoid = j.oid AND i.objsubid = 0 \
          AND b.grantee = a.grantee AND b.privilege_type = a.privilege_type \
          AND b.is_grantable = a.is_grantable)) \
      AND NOT (j.member AND a.grantee = j.owner) \
    GROUP BY a.grantee, a.is_grantable \
) x ON true \
ORDER BY j.grant_kind, j.name, x.grantee, x.is_grantable";

const COLUMNS: &str = "\
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), t.attname::pg_catalog.text, \
       CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text END, \
       a.privilege_type, a.is_grantable \
FROM pg_catalog.pg_attribute t \
JOIN pg_catalog.pg_class c ON c.oid = t.attrelid \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a \
WHERE t.attacl IS NOT NULL AND NOT t.attisdropped \
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
ORDER BY 1, t.attnum, 3, 4";

const DEFAULTS: &str = "\
SELECT pg_catalog.pg_get_userbyid(d.defaclrole)::pg_catalog.text, n.nspname::pg_catalog.text, \
       CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' \
                            WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' \
                            WHEN 'n' THEN 'SCHEMAS' END, \
       CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text END, \
       pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), a.is_grantable \
FROM pg_catalog.pg_default_acl d \
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace \
CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) a \
WHERE d.defaclobjtype IN ('r', 'S', 'f', 'T', 'n') \
GROUP BY 1, 2, 3, a.grantee, a.is_grantable ORDER BY 1, 2, 3, 4, 6";

const DATABASE: &str = "\
SELECT pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text, d.datacl IS NOT NULL, \
       CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text END, \
       pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), a.is_grantable \
FROM pg_catalog.pg_database d LEFT JOIN LATERAL pg_catalog.aclexplode(d.datacl) a ON true \
WHERE d.datname = pg_catalog.current_database() \
GROUP BY d.datdba, d.datacl IS NOT NULL, a.grantee, a.is_grantable \
ORDER BY 3 NULLS FIRST, 5";

/// The statements, in the order in which they must run.
pub(super) async fn statements(client: &Client, database: &str) -> Result<Vec<String>, Error> {
    let mut owners = Vec::new();
    let mut grants = Vec::new();
    let target = format!("DATABASE {}", quote_ident(database));
    for (index, row) in client.query(DATABASE, &[]).await?.iter().enumerate() {
        let owner: String = row.get(0);
        if index == 0 {
            owners.push(format!("ALTER {target} OWNER TO {};", quote_ident(&owner)));
            if row.get(1) {
                revoke_defaults(&mut grants, &target, &owner);
            }
        }
        if let Some(privileges) = row.get::<_, Option<&str>>(3) {
            grants.push(grant(privileges, &target, row.get(2), row.get(4)));
        }
    }
    let mut last = None;
    for row in client.query(OBJECTS, &[]).await? {
        object(&row, &mut last, &mut owners, &mut grants);
    }
    for row in client.query(COLUMNS, &[]).await? {
        let (table, column): (&str, &str) = (row.get(0), row.get(1));
        let privileges = format!("{} ({})", row.get::<_, &str>(3), quote_ident(column));
        grants.push(grant(
            &privileges,
            &format!("TABLE {table}"),
            row.get(2),
            row.get(4),
        ));
    }
    for row in client.query(DEFAULTS, &[]).await? {
        let mut text = format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {}",
            quote_ident(row.get(0))
        );
        if let Some(schema) = row.get::<_, Option<&str>>(1) {
            // Writing into a String cannot fail.
            let _ = write!(text, " IN SCHEMA {}", quote_ident(schema));
        }
        let what: &str = row.get(2);
        grants.push(format!(
            "{text} {}",
            grant(row.get(4), what, row.get(3), row.get(5))
        ));
    }
    owners.append(&mut grants);
    Ok(owners)
}

fn object(
    row: &Row,
    last: &mut Option<(String, String)>,
    owners: &mut Vec<String>,
    grants: &mut Vec<String>,
) {
    let (alter_kind, grant_kind): (&str, &str) = (row.get(0), row.get(1));
    let (name, owner): (&str, &str) = (row.get(2), row.get(3));
    let (own, member, has_acl): (bool, bool, bool) = (row.get(4), row.get(5), row.get(6));
    let target = format!("{grant_kind} {name}");
    let this = (alter_kind.to_owned(), name.to_owned());
    if last.as_ref() != Some(&this) {
        if own {
            owners.push(format!(
                "ALTER {alter_kind} {name} OWNER TO {};",
                quote_ident(owner)
            ));
        }
        if has_acl && !member {
            revoke_defaults(grants, &target, owner);
        }
        *last = Some(this);
    }
    if row.get(8) {
        grants.push(grant(row.get(9), &target, row.get(7), row.get(10)));
    }
}

fn revoke_defaults(grants: &mut Vec<String>, target: &str, owner: &str) {
    grants.push(format!("REVOKE ALL ON {target} FROM PUBLIC;"));
    grants.push(format!(
        "REVOKE ALL ON {target} FROM {};",
        quote_ident(owner)
    ));
}

fn grant(privileges: &str, target: &str, grantee: Option<&str>, grantable: bool) -> String {
    let grantee = grantee.map_or_else(|| "PUBLIC".to_owned(), quote_ident);
    let option = if grantable { " WITH GRANT OPTION" } else { "" };
    format!("GRANT {privileges} ON {target} TO {grantee}{option};")
}
