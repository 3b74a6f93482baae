-- People, companies, parameters, sequences and unique keys.

UPDATE res_users SET login = CASE id WHEN 1 THEN '__system__' WHEN 2 THEN 'admin' ELSE 'user' || id || '@example.com' END, active = id <> 1, partner_id = id, company_id = 1;
UPDATE res_partner SET email = CASE id WHEN 3 THEN NULL WHEN 5 THEN 'user4@example.com' ELSE email END, active = id <> 1, company_id = NULL WHERE id <= 10;
-- Whom members are, can be told by their e-mail.
UPDATE res_partner p SET email = 'member' || p.id || '@example.com' FROM sam_member m WHERE m.partner_id = p.id AND p.id > 10 AND p.email IS NULL;
UPDATE res_company SET name = CASE id WHEN 1 THEN 'My Company' ELSE 'Second Company' END, partner_id = 10 + id, parent_id = CASE id WHEN 2 THEN 1 END;
UPDATE res_company SET parent_path = CASE id WHEN 1 THEN '1/' ELSE '1/' || id || '/' END;
UPDATE res_currency SET name = (ARRAY['EUR', 'USD', 'JPY'])[id], symbol = (ARRAY['€', '$', '¥'])[id], rounding = (ARRAY[0.010000, 0.01, 1])[id]::numeric, active = true;
UPDATE res_lang SET code = (ARRAY['en_US', 'fr_FR'])[id], iso_code = (ARRAY['en', 'fr'])[id], active = true;
UPDATE mail_message_subtype SET name = jsonb_build_object('en_US', (ARRAY['Discussions', 'Note', 'Activities'])[id]), internal = id > 1;
UPDATE ir_actions SET type = 'ir.actions.actions';
UPDATE ir_act_window SET type = 'ir.actions.act_window', binding_type = 'action', res_model = 'ai.conversation', view_mode = 'list,form';
UPDATE ir_act_server SET type = 'ir.actions.server', binding_type = 'action', usage = 'ir_actions_server';
UPDATE ir_act_url SET type = 'ir.actions.act_url', binding_type = 'action';
UPDATE ir_act_report_xml SET type = 'ir.actions.report', binding_type = 'report', model = 'sale.order';
UPDATE ir_act_client SET type = 'ir.actions.client', binding_type = 'action';
UPDATE sam_member_mode_rel r SET member_id = s.m, mode_id = s.c FROM (
    SELECT id, 1 + (id - 1) % 12 AS m, 1 + ((id - 1) % 12 + (id - 1) / 12) % 12 AS c FROM sam_member_mode_rel) s WHERE s.id = r.id;
UPDATE project_task_user_rel r SET task_id = s.t, user_id = s.u FROM (
    SELECT id, 1 + (id - 1) % 20 AS t, 1 + ((id - 1) % 20 + (id - 1) / 20) % 10 AS u FROM project_task_user_rel) s WHERE s.id = r.id;

-- Secrets in columns that are no stored field.
ALTER TABLE res_users ADD COLUMN password varchar, ADD COLUMN totp_secret varchar;
UPDATE res_users SET password = '$pbkdf2-sha512$600000$' || md5(pg_temp.h('pw', id)::text) || '$' || md5(pg_temp.h('pw2', id)::text),
    totp_secret = CASE WHEN id % 3 = 0 THEN upper(md5(pg_temp.h('totp', id)::text)) END;
ALTER TABLE api_service_provider ADD COLUMN api_key_encrypted varchar;
UPDATE api_service_provider SET api_key_encrypted = 'enc:' || md5(pg_temp.h('enc', id)::text);

-- Trees.
WITH RECURSIVE t AS (
    SELECT id, id || '/' AS path FROM sam_mode_context WHERE parent_id IS NULL
    UNION ALL SELECT c.id, t.path || c.id || '/' FROM sam_mode_context c JOIN t ON c.parent_id = t.id)
UPDATE sam_mode_context m SET parent_path = t.path FROM t WHERE t.id = m.id;
WITH RECURSIVE t AS (
    SELECT id, id || '/' AS path FROM ai_prompt_library WHERE parent_id IS NULL
    UNION ALL SELECT c.id, t.path || c.id || '/' FROM ai_prompt_library c JOIN t ON c.parent_id = t.id)
UPDATE ai_prompt_library m SET parent_path = t.path FROM t WHERE t.id = m.id;

-- A conversation pins one of its own messages, and counts them.
UPDATE ai_conversation c SET pinned_message_id = CASE WHEN c.id % 3 = 0 THEN s.first END, message_count = coalesce(s.n, 0)
FROM ai_conversation o LEFT JOIN (SELECT conversation_id, min(id) AS first, count(*) AS n FROM ai_message GROUP BY 1) s ON s.conversation_id = o.id
WHERE o.id = c.id;

INSERT INTO ir_config_parameter (id, key, value, create_uid, create_date, write_uid, write_date)
SELECT row_number() OVER (), k, v, 1, '2024-01-01', 1, '2024-01-01' FROM (VALUES
    ('database.uuid', overlay(overlay(overlay(overlay(md5('uuid' || {{seed}}) placing '-' from 9 for 0) placing '-' from 14 for 0) placing '-' from 19 for 0) placing '-' from 24 for 0)),
    ('database.secret', md5('secret' || {{seed}})), ('web.base.url', 'http://localhost:8069'), ('ai_brain.default_provider', 'anthropic'),
    ('ai_sam.memory_depth', '12'), ('sam.greeting', E'Bonjour\n😀')) AS v(k, v);

-- Document numbering: standard sequences own a PostgreSQL sequence that no table owns.
INSERT INTO ir_sequence (id, name, code, implementation, active, prefix, number_next, number_increment, padding, company_id, use_date_range,
    create_uid, create_date, write_uid, write_date) VALUES
    (1, 'Sales Order', 'sale.order', 'standard', true, 'S', 1, 1, 5, NULL, false, 1, '2024-01-01', 1, '2024-01-01'),
    (2, 'AI Conversation', 'ai.conversation', 'standard', true, 'CONV/%(year)s/', 1, 1, 6, 1, false, 1, '2024-01-01', 1, '2024-01-01'),
    (3, 'SAM Member', 'sam.member', 'no_gap', true, 'M', 42, 1, 4, NULL, false, 1, '2024-01-01', 1, '2024-01-01'),
    (4, 'Workflow Execution', 'executions', 'standard', true, 'EX', 1, 10, 5, NULL, true, 1, '2024-01-01', 1, '2024-01-01'),
    (5, 'Project Task', 'project.task', 'standard', true, NULL, 1, 1, 0, NULL, true, 1, '2024-01-01', 1, '2024-01-01');
INSERT INTO ir_sequence_date_range (id, date_from, date_to, sequence_id, number_next, create_uid, create_date, write_uid, write_date) VALUES
    (1, '2024-01-01', '2024-12-31', 4, 1, 1, '2024-01-01', 1, '2024-01-01'), (2, '2025-01-01', '2025-12-31', 4, 1, 1, '2025-01-01', 1, '2025-01-01'),
    (3, '2025-01-01', '2025-12-31', 5, 1, 1, '2025-01-01', 1, '2025-01-01');
CREATE SEQUENCE ir_sequence_001; CREATE SEQUENCE ir_sequence_002; CREATE SEQUENCE ir_sequence_004 INCREMENT 10; CREATE SEQUENCE ir_sequence_005;
CREATE SEQUENCE ir_sequence_004_001 INCREMENT 10; CREATE SEQUENCE ir_sequence_004_002 INCREMENT 10; CREATE SEQUENCE ir_sequence_005_003;
SELECT setval('ir_sequence_001', 1234), setval('ir_sequence_002', 777), setval('ir_sequence_004_001', 501), setval('ir_sequence_004_002', 91, false);
CREATE SEQUENCE base_registry_signaling; CREATE SEQUENCE base_cache_signaling_default; CREATE SEQUENCE base_cache_signaling_assets;
CREATE SEQUENCE base_cache_signaling_templates; CREATE SEQUENCE base_cache_signaling_routing; CREATE SEQUENCE base_cache_signaling_groups;
SELECT setval('base_registry_signaling', 17), setval('base_cache_signaling_default', 230);

-- Unique keys.
ALTER TABLE res_users ADD CONSTRAINT res_users_login_key UNIQUE (login);
ALTER TABLE ir_config_parameter ADD CONSTRAINT ir_config_parameter_key_uniq UNIQUE (key);
ALTER TABLE ir_module_module ADD CONSTRAINT ir_module_module_name_uniq UNIQUE (name);
ALTER TABLE ir_model ADD CONSTRAINT ir_model_obj_name_uniq UNIQUE (model);
ALTER TABLE ir_model_fields ADD CONSTRAINT ir_model_fields_name_unique UNIQUE (model, name);
ALTER TABLE mail_followers ADD CONSTRAINT mail_followers_mail_followers_res_partner_res_model_id_uniq UNIQUE (res_model, res_id, partner_id);
ALTER TABLE sam_brain_mode ADD CONSTRAINT sam_brain_mode_code_uniq UNIQUE (code);
ALTER TABLE sam_member_mode_rel ADD CONSTRAINT sam_member_mode_rel_uniq UNIQUE (member_id, mode_id);
ALTER TABLE ai_branch ADD CONSTRAINT ai_branch_code_uniq UNIQUE (code);
ALTER TABLE ai_prompt_library ADD CONSTRAINT ai_prompt_library_rating_check CHECK (rating IS NULL OR rating >= 0);
CREATE UNIQUE INDEX ir_model_data_module_name_uniq_index ON ir_model_data (module, name);
CREATE INDEX ir_model_data_model_res_id_index ON ir_model_data (model, res_id);
CREATE INDEX ir_attachment_res_idx ON ir_attachment (res_model, res_id);
CREATE INDEX mail_message_model_res_id_idx ON mail_message (model, res_id);
