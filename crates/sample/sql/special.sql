-- Tables and views that a plain model does not show.

-- Odoo makes these by hand; `key` and `index` are no fields.
CREATE TABLE res_users_apikeys (id serial PRIMARY KEY, name varchar NOT NULL, user_id int4 NOT NULL REFERENCES res_users (id) ON DELETE CASCADE,
    scope varchar, expiration_date timestamp, index varchar(8) NOT NULL CHECK (char_length(index) = 8), key varchar NOT NULL,
    create_date timestamp DEFAULT (now() AT TIME ZONE 'utc'));
INSERT INTO res_users_apikeys (name, user_id, scope, index, key, create_date)
SELECT 'key ' || i, 2 + i % 3, 'rpc', left(md5(i::text), 8), '$pbkdf2-sha512$6000$' || md5(pg_temp.h('apikey', i)::text), '2024-05-05' FROM generate_series(1, 4) i;
CREATE TABLE auth_totp_device (LIKE res_users_apikeys INCLUDING ALL);
CREATE SEQUENCE auth_totp_device_id_seq OWNED BY auth_totp_device.id;
ALTER TABLE auth_totp_device ALTER id SET DEFAULT nextval('auth_totp_device_id_seq');
INSERT INTO auth_totp_device (name, user_id, scope, index, key, create_date) VALUES ('phone', 2, 'browser', 'abcdefgh', 'secret-device-key', '2024-05-05');

CREATE VIEW ai_service_cost_comparison AS
SELECT m.id, t.id AS service_type_id, t.name AS service_type_name, p.id AS provider_id, p.name AS provider_name, m.cost_per_1m_input_tokens AS cost_per_1m_input_tokens_min
FROM ai_provider_model m JOIN api_service_provider p ON p.id = m.provider_id LEFT JOIN ai_service_type t ON t.id = m.id;
CREATE VIEW ai_registry_watcher AS SELECT id, name, state, latest_version FROM ir_module_module;
CREATE VIEW report_project_task_user AS SELECT id, id AS task_id, name FROM project_task;

-- Heirs of an exported table: one is a model, the other is known to the catalog alone.
CREATE TABLE sam_knowledge_lesson (PRIMARY KEY (id), lesson_no int4, summary text) INHERITS (sam_knowledge_doc);
COMMENT ON TABLE sam_knowledge_lesson IS 'SAM Knowledge Lesson';
INSERT INTO sam_knowledge_lesson (name, sequence, active, lesson_no, summary, create_uid, create_date)
SELECT jsonb_build_object('en_US', 'Lesson ' || i), i, true, i, pg_temp.para('lesson', i, 3), 1, '2024-02-02' FROM generate_series(1, 6) i;
CREATE TABLE sam_knowledge_doc_archive (PRIMARY KEY (id), archived_on date) INHERITS (sam_knowledge_doc);
INSERT INTO sam_knowledge_doc_archive (name, sequence, active, archived_on, create_uid, create_date)
SELECT jsonb_build_object('en_US', 'Archived ' || i), i, false, date '2023-01-01' + i, 1, '2023-02-02' FROM generate_series(1, 9) i;

-- Partitioned by range, one range partitioned again by list.
CREATE TABLE sam_usage_event (id serial, event_date date NOT NULL, kind varchar NOT NULL, user_id int4 REFERENCES res_users (id) ON DELETE SET NULL,
    amount numeric, payload jsonb, create_uid int4 REFERENCES res_users (id) ON DELETE SET NULL, write_uid int4 REFERENCES res_users (id) ON DELETE SET NULL,
    create_date timestamp, write_date timestamp, PRIMARY KEY (id, event_date, kind)) PARTITION BY RANGE (event_date);
CREATE TABLE sam_usage_event_2023 PARTITION OF sam_usage_event FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE sam_usage_event_2024 PARTITION OF sam_usage_event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE sam_usage_event_2024_chat PARTITION OF sam_usage_event_2024 FOR VALUES IN ('chat', 'voice');
CREATE TABLE sam_usage_event_2024_rest PARTITION OF sam_usage_event_2024 DEFAULT;
CREATE TABLE sam_usage_event_default PARTITION OF sam_usage_event DEFAULT;
INSERT INTO sam_usage_event (event_date, kind, user_id, amount, payload, create_uid, create_date)
SELECT date '2023-06-01' + (i * 3 % 900)::int, (ARRAY['chat', 'voice', 'import', 'cron'])[1 + i % 4], 1 + i % 10, i::numeric / 8, pg_temp.json('event', i), 1, '2024-01-01'
FROM generate_series(1, 400) i;

-- Row-level security: the policies hide nine rows of ten.
CREATE TABLE sam_private_note (id serial PRIMARY KEY, name varchar NOT NULL, body text, user_id int4 REFERENCES res_users (id) ON DELETE CASCADE,
    create_uid int4 REFERENCES res_users (id) ON DELETE SET NULL, write_uid int4 REFERENCES res_users (id) ON DELETE SET NULL, create_date timestamp, write_date timestamp);
INSERT INTO sam_private_note (name, body, user_id, create_uid, create_date)
SELECT 'Note ' || i, pg_temp.para('note', i, 2), 1 + i % 10, 1, '2024-03-03' FROM generate_series(1, 30) i;
ALTER TABLE sam_private_note ENABLE ROW LEVEL SECURITY;
CREATE POLICY sam_private_note_few ON sam_private_note USING (id % 10 = 0);
CREATE TABLE sam_vault_entry (id serial PRIMARY KEY, name varchar NOT NULL, secret varchar, owner_id int4 REFERENCES res_users (id) ON DELETE RESTRICT,
    create_uid int4 REFERENCES res_users (id) ON DELETE SET NULL, write_uid int4 REFERENCES res_users (id) ON DELETE SET NULL, create_date timestamp, write_date timestamp);
INSERT INTO sam_vault_entry (name, secret, owner_id, create_uid, create_date)
SELECT 'Entry ' || i, md5(pg_temp.h('vault', i)::text), 1 + i % 10, 1, '2024-03-03' FROM generate_series(1, 20) i;
ALTER TABLE sam_vault_entry ENABLE ROW LEVEL SECURITY;
{{force_row_security}}
CREATE POLICY sam_vault_entry_few ON sam_vault_entry USING (id % 10 = 0);

-- Names that need quotes, a dropped column, a generated one, one added later with a default.
CREATE TABLE "SAM_Odd.Table" (id serial PRIMARY KEY, gone int4, "Mixed Case" varchar, "select" int4, "quo""te" text, "dash-é" numeric, also_gone text,
    doubled int4 GENERATED ALWAYS AS ("select" * 2) STORED, create_uid int4, write_uid int4, create_date timestamp, write_date timestamp,
    CONSTRAINT "SAM_Odd.Table_create_uid_fkey" FOREIGN KEY (create_uid) REFERENCES res_users (id) ON DELETE SET NULL,
    CONSTRAINT "SAM_Odd.Table_write_uid_fkey" FOREIGN KEY (write_uid) REFERENCES res_users (id) ON DELETE SET NULL);
COMMENT ON TABLE "SAM_Odd.Table" IS 'SAM Odd Column';
INSERT INTO "SAM_Odd.Table" (gone, "Mixed Case", "select", "quo""te", "dash-é", also_gone, create_uid, create_date)
SELECT i, 'Value ' || i, i * 7, pg_temp.tricky(i), i::numeric / 4, 'gone', 1, '2024-04-04' FROM generate_series(1, 25) i;
ALTER TABLE "SAM_Odd.Table" DROP COLUMN gone, DROP COLUMN also_gone;
ALTER TABLE "SAM_Odd.Table" ADD COLUMN added_later text DEFAULT 'filled without a rewrite';
