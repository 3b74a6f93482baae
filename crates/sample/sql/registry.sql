-- The registry. {{document}} is the description of modules, models and fields as a JSON literal.

CREATE TEMP TABLE doc ON COMMIT DROP AS SELECT {{document}}::jsonb AS d;

INSERT INTO ir_module_module (id, name, category_id, shortdesc, author, website, latest_version, sequence,
    auto_install, state, demo, license, application, to_buy, web, imported, create_uid, create_date, write_uid, write_date)
SELECT m.id, m.name, 1 + m.id % 4, jsonb_build_object('en_US', initcap(replace(m.name, '_', ' '))), 'Sample', 'https://example.com',
    m.version, 100, false, m.state, false, 'LGPL-3', m.name LIKE 'ai\_%', false, false, false, 1, '2024-01-01', 1, '2024-01-01'
FROM doc, jsonb_to_recordset(d->'modules') AS m(id int, name text, state text, version text) ORDER BY m.id;

INSERT INTO ir_model (id, name, model, "order", state, transient, is_mail_thread, is_mail_activity, is_mail_blacklist,
    create_uid, create_date, write_uid, write_date)
SELECT m.id, jsonb_build_object('en_US', m.title, 'fr_FR', m.title || ' (fr)'), m.model, 'id', 'base', m.transient, m.thread, false, false,
    1, '2024-01-01', 1, '2024-01-01'
FROM doc, jsonb_to_recordset(d->'models') AS m(id int, title text, model text, transient bool, thread bool) ORDER BY m.id;

-- The foreign keys, now that what the rows point to is there.
{{keys}}

CREATE TEMP TABLE field ON COMMIT DROP AS
SELECT f.* FROM doc, jsonb_to_recordset(d->'fields') AS f(model text, name text, ttype text, relation text, inverse text,
    on_delete text, required bool, store bool, readonly bool, translate bool, company bool, relation_table text, column1 text, column2 text);

-- Fields of the tables that were made by hand, all but the secrets.
INSERT INTO field (model, name, ttype, relation, on_delete, required, store, readonly, translate, company)
SELECT m.model, a.attname,
    CASE WHEN k.confrelid IS NOT NULL THEN 'many2one'
         WHEN t.typname IN ('int2', 'int4', 'int8') THEN 'integer' WHEN t.typname IN ('float4', 'float8', 'numeric') THEN 'float'
         WHEN t.typname = 'bool' THEN 'boolean' WHEN t.typname = 'date' THEN 'date' WHEN t.typname IN ('timestamp', 'timestamptz') THEN 'datetime'
         WHEN t.typname IN ('json', 'jsonb') THEN 'json' WHEN t.typname = 'bytea' THEN 'binary' WHEN t.typname = 'text' THEN 'text' ELSE 'char' END,
    (SELECT o.model FROM doc, jsonb_to_recordset(d->'models') AS o(model text, "table" text, has_table bool)
      WHERE o.has_table AND o."table" = k.confrelid::regclass::name::text),
    CASE k.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' WHEN 'r' THEN 'restrict' END,
    a.attnotnull, true, false, false, false
FROM doc, jsonb_to_recordset(d->'models') AS m(model text, "table" text, from_catalog bool)
JOIN pg_class c ON c.relname = m."table" AND c.relnamespace = 'public'::regnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN (SELECT conrelid, conkey[1] AS col, confrelid, confdeltype FROM pg_constraint WHERE contype = 'f' AND conparentid = 0) k
    ON k.conrelid = c.oid AND k.col = a.attnum
WHERE m.from_catalog AND a.attname NOT IN ('id', 'create_uid', 'write_uid', 'create_date', 'write_date')
  AND (m.model, a.attname) NOT IN (('res.users.apikeys', 'key'), ('res.users.apikeys', 'index'), ('auth_totp.device', 'key'), ('auth_totp.device', 'index'))
  AND NOT EXISTS (SELECT FROM field f WHERE f.model = m.model AND f.name = a.attname);

INSERT INTO ir_model_fields (id, name, complete_name, model, relation, relation_field, model_id, field_description, ttype, required, readonly,
    index, translate, company_dependent, state, on_delete, selectable, relation_table, column1, column2, store, copied,
    create_uid, create_date, write_uid, write_date)
SELECT row_number() OVER (ORDER BY f.model COLLATE "C", f.name COLLATE "C"), f.name, f.name, f.model, f.relation, f.inverse, m.id,
    jsonb_build_object('en_US', initcap(replace(f.name, '_', ' '))), f.ttype, f.required, f.readonly, f.ttype = 'many2one' AND f.required,
    f.translate, f.company, 'base', f.on_delete, true, f.relation_table, f.column1, f.column2, f.store, true,
    1, '2024-01-01', 1, '2024-01-01'
FROM field f JOIN ir_model m ON m.model = f.model ORDER BY 1;

INSERT INTO ir_model_relation (id, name, model, module, create_uid, create_date, write_uid, write_date)
SELECT row_number() OVER (ORDER BY r."table" COLLATE "C"), r."table", m.id, x.id, 1, '2024-01-01', 1, '2024-01-01'
FROM doc, jsonb_to_recordset(d->'relations') AS r("table" text, model text, module text)
JOIN ir_model m ON m.model = r.model JOIN ir_module_module x ON x.name = r.module ORDER BY 1;

INSERT INTO ir_model_constraint (id, name, definition, model, module, type, create_uid, create_date, write_uid, write_date)
SELECT row_number() OVER (ORDER BY k.conname COLLATE "C"), k.conname,
    CASE k.contype WHEN 'f' THEN NULL ELSE pg_get_constraintdef(k.oid) END, i.id, x.id, CASE k.contype WHEN 'f' THEN 'f' ELSE 'u' END,
    1, '2024-01-01', 1, '2024-01-01'
FROM doc, jsonb_to_recordset(d->'models') AS m(model text, "table" text, module text, has_table bool)
JOIN pg_class c ON c.relname = m."table" AND c.relnamespace = 'public'::regnamespace
JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('f', 'u', 'c') AND k.conparentid = 0
JOIN ir_model i ON i.model = m.model JOIN ir_module_module x ON x.name = m.module
WHERE m.has_table ORDER BY 1;

-- External ids: of models, of models that other modules extend, of fields, of modules, of data.
CREATE TEMP TABLE xid (module text, name text, model text, res_id int, noupdate bool) ON COMMIT DROP;
INSERT INTO xid SELECT m.module, 'model_' || replace(m.model, '.', '_'), 'ir.model', m.id, false
    FROM doc, jsonb_to_recordset(d->'models') AS m(id int, model text, module text);
INSERT INTO xid SELECT e.module, 'model_' || replace(e.model, '.', '_'), 'ir.model', m.id, false
    FROM doc, jsonb_to_recordset(d->'extensions') AS e(module text, model text) JOIN ir_model m ON m.model = e.model;
INSERT INTO xid SELECT m.module, 'field_' || replace(f.model, '.', '_') || '__' || f.name, 'ir.model.fields', f.id, false
    FROM doc, jsonb_to_recordset(d->'models') AS m(model text, module text) JOIN ir_model_fields f ON f.model = m.model;
INSERT INTO xid SELECT 'base', 'module_' || name, 'ir.module.module', id, true FROM ir_module_module;
INSERT INTO xid SELECT 'base', name, model, id, true FROM (VALUES
    ('user_root', 'res.users', 1), ('user_admin', 'res.users', 2), ('partner_root', 'res.partner', 1), ('partner_admin', 'res.partner', 2),
    ('main_company', 'res.company', 1), ('EUR', 'res.currency', 1), ('USD', 'res.currency', 2), ('lang_en', 'res.lang', 1), ('lang_fr', 'res.lang', 2)
) AS v(name, model, id);
INSERT INTO xid SELECT 'ai_brain', 'agent_' || technical_name, 'ai.agent.registry', id, false FROM ai_agent_registry WHERE id <= 8;
INSERT INTO xid SELECT 'ai_sam', 'mode_' || id, 'sam.mode.context', id, true FROM sam_mode_context WHERE id <= 5;
INSERT INTO xid SELECT '__export__', 'ai_conversation_' || id || '_' || left(md5(id::text), 8), 'ai.conversation', id, false FROM ai_conversation WHERE id <= 5;
INSERT INTO xid SELECT '__import__', 'doc ' || id || '.é', 'sam.knowledge.doc', id, false FROM ONLY sam_knowledge_doc WHERE id <= 3;
INSERT INTO xid SELECT 'sale', 'product_' || id, 'product.product', id, false FROM product_product WHERE id <= 10;
INSERT INTO xid SELECT 'sale', 'order_' || id, 'sale.order', id, false FROM sale_order WHERE id <= 5;
-- Numbering of other modules, and of the stack's own.
INSERT INTO xid VALUES ('sale', 'seq_sale_order', 'ir.sequence', 1, true), ('project', 'seq_task', 'ir.sequence', 5, true),
    ('project', 'seq_task_2025', 'ir.sequence.date_range', 3, true), ('ai_brain', 'seq_conversation', 'ir.sequence', 2, true);
INSERT INTO xid VALUES ('ai_brain', 'agent_that_was_deleted', 'ai.agent.registry', 99999, true);
INSERT INTO ir_model_data (id, module, name, model, res_id, noupdate, create_uid, create_date, write_uid, write_date)
SELECT row_number() OVER (), module, name, model, res_id, noupdate, 1, '2024-01-01', 1, '2024-01-01'
FROM (SELECT * FROM xid ORDER BY (model = 'ir.model') DESC, model COLLATE "C", res_id,
    (SELECT id FROM ir_module_module x WHERE x.name = xid.module), name COLLATE "C") o;

-- Comments as Odoo writes them.
DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT c.relname, a.attname, f.field_description->>'en_US' AS title
        FROM doc, jsonb_to_recordset(d->'models') AS m(model text, "table" text, has_table bool)
        JOIN pg_class c ON c.relname = m."table" AND c.relnamespace = 'public'::regnamespace
        JOIN ir_model_fields f ON f.model = m.model
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = f.name AND a.attnum > 0
        WHERE m.has_table AND m."table" LIKE 'ai\_%'
    LOOP
        EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', r.relname, r.attname, r.title);
    END LOOP;
END $$;
