//! What the Odoo sample holds: a name for each trap, and the query that finds it.

pub(crate) const REGISTRY: &[(&str, &str)] = &[
    (
        "base's version",
        "latest_version = '18.0.1.3' FROM ir_module_module WHERE name = 'base'",
    ),
    (
        "modules that are not installed",
        "count(*) >= 3 FROM ir_module_module WHERE state LIKE 'un%' AND name ~ '^(ai|sam)_'",
    ),
    (
        "no abstract flag, and models without a relation",
        "count(*) FILTER (WHERE to_regclass(replace(model, '.', '_')) IS NULL) >= 9 FROM ir_model WHERE model IN ('ai.service', 'ai.context.builder', 'ai.graph.service', 'ai.vector.service', 'ai.document.extractor', 'mail.thread', 'base', 'ai.provider.usage.report', 'sale.report')",
    ),
    (
        "views",
        "count(*) = 3 FROM pg_class WHERE relkind = 'v' AND relname IN ('ai_service_cost_comparison', 'ai_registry_watcher', 'report_project_task_user')",
    ),
    (
        "transient models with tables and rows",
        "bool_and(transient) AND (SELECT count(*) FROM ai_conversation_history_importer) > 0 FROM ir_model WHERE model IN ('ai.memory.import.wizard', 'n8n.simple.extractor')",
    ),
    (
        "renamed models",
        "bool_and((to_regclass(t) IS NOT NULL) = e) FROM (VALUES ('connections', false), ('ai_service_provider', false), ('canvas_pan_move', false), ('workflow_connection', true), ('api_service_provider', true)) AS v(t, e)",
    ),
    (
        "a name that differs by a dot only",
        "count(*) = 1 FROM ir_model WHERE model IN ('documentation.intelligence', 'documentation_intelligence')",
    ),
    (
        "models the inventory does not name",
        "count(*) = 3 FROM ir_model WHERE model IN ('ai.prompt.library', 'sam.dream.log', 'sam.usage.event')",
    ),
    (
        "model names are translated",
        "bool_and(jsonb_typeof(name) = 'object' AND name ? 'fr_FR') FROM ir_model",
    ),
    (
        "a model's module, and modules that extend it",
        "string_agg(module, ' ' ORDER BY id) = 'base ai_brain ai_sam' FROM ir_model_data WHERE name = 'model_res_users'",
    ),
    (
        "every field is described",
        "count(*) = 0 FROM pg_attribute a JOIN ir_model m ON a.attrelid = to_regclass(replace(m.model, '.', '_')) WHERE a.attnum > 0 AND NOT a.attisdropped AND NOT EXISTS (SELECT FROM ir_model_fields f WHERE f.model = m.model AND f.name = a.attname) AND a.attname NOT IN ('password', 'totp_secret', 'key', 'index', 'api_key_encrypted') AND m.model NOT IN ('ir.actions.server', 'ir.actions.client', 'ir.actions.act_url', 'sam.knowledge.lesson')",
    ),
    (
        "stored binaries without a column",
        "count(*) >= 8 FROM ir_model_fields f WHERE ttype = 'binary' AND store AND to_regclass(replace(model, '.', '_')) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(replace(f.model, '.', '_')) AND a.attname = f.name)",
    ),
    (
        "binaries in a column",
        "count(*) > 0 FROM ai_qr_code WHERE octet_length(qr_image) > 0",
    ),
    (
        "relations are described",
        "bool_and(relation_table IS NOT NULL AND column1 IS NOT NULL AND column2 IS NOT NULL) FROM ir_model_fields WHERE ttype = 'many2many'",
    ),
    (
        "constraints lead from an odd table to its model",
        "count(*) > 0 FROM ir_model_constraint k JOIN ir_model m ON m.id = k.model WHERE m.model = 'sam.odd.column' AND k.name = 'SAM_Odd.Table_create_uid_fkey'",
    ),
    (
        "secrets that are no field",
        "(SELECT count(password) FROM res_users) > 0 AND (SELECT count(key) FROM res_users_apikeys) > 0 AND (SELECT count(totp_secret) FROM res_users) > 0 AND count(*) = 0 FROM ir_model_fields WHERE (model, name) IN (('res.users', 'password'), ('res.users', 'totp_secret'), ('res.users.apikeys', 'key'), ('auth_totp.device', 'key'), ('api.service.provider', 'api_key_encrypted'))",
    ),
    (
        "the memory configuration",
        "graph_enabled AND graph_host = '127.0.0.1' AND graph_port = 5433 AND graph_password = 'p''w' AND graph_name = 'sam' AND graph_database = 'sam_graph' AND vector_enabled AND chroma_persist_directory = './chroma ''data''' FROM ai_memory_config",
    ),
    (
        "the database's uuid",
        "value ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' FROM ir_config_parameter WHERE key = 'database.uuid'",
    ),
    (
        "comments",
        "obj_description('ai_message'::regclass) = 'AI Message' AND obj_description('mail_message_res_partner_rel'::regclass) = 'RELATION BETWEEN mail_message AND res_partner'",
    ),
    (
        "a dangling external id",
        "count(*) = 1 FROM ir_model_data WHERE model = 'ai.agent.registry' AND res_id = 99999",
    ),
    (
        "one owner, who is no superuser",
        "bool_and(pg_get_userbyid(relowner) = 'odoo') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = 'odoo') FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    ),
];

pub(crate) const TABLES: &[(&str, &str)] = &[
    (
        "heirs of ir_actions",
        "(SELECT count(*) FROM ir_actions) > (SELECT count(*) FROM ONLY ir_actions) AND (SELECT count(*) FROM pg_inherits WHERE inhparent = 'ir_actions'::regclass) = 5",
    ),
    (
        "heirs share no id",
        "count(*) = count(DISTINCT id) FROM ir_actions",
    ),
    (
        "heirs of an exported table, one of them no model",
        "(SELECT count(*) FROM sam_knowledge_doc) = (SELECT count(*) FROM ONLY sam_knowledge_doc) + 6 + 9 AND NOT EXISTS (SELECT FROM ir_model WHERE model LIKE 'sam.knowledge.doc.archive')",
    ),
    (
        "tables that do not follow the model's name",
        "bool_and(to_regclass(t) IS NOT NULL) FROM unnest(ARRAY['ir_act_report_xml', 'project_task_user_rel', 'sam_brain_mode', 'sam_member_mode_rel', 'x_type_matrix']) t",
    ),
    (
        "a relation table that two fields share",
        "count(*) = 2 FROM ir_model_fields WHERE relation_table = 'ai_conversation_workspace_rel'",
    ),
    (
        "a relation table that is a model",
        "(SELECT count(*) FROM ir_model_fields WHERE relation_table = 'sam_member_mode_rel') = 1 AND (SELECT count(*) FROM ir_model WHERE model = 'sam.member.mode') = 1 AND (SELECT count(id) FROM sam_member_mode_rel) = 20",
    ),
    (
        "ordinary relation tables",
        "count(*) >= 15 FROM pg_constraint k JOIN ir_model_relation r ON to_regclass(quote_ident(r.name)) = k.conrelid WHERE contype = 'p' AND cardinality(conkey) = 2",
    ),
    (
        "actions of every kind",
        "bool_and(n > 5) AND count(*) = 3 FROM (SELECT confdeltype, count(*) AS n FROM pg_constraint WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'r') GROUP BY 1) x",
    ),
    (
        "self-references",
        "count(*) >= 7 FROM pg_constraint WHERE contype = 'f' AND conrelid = confrelid",
    ),
    (
        "cycles",
        "(SELECT count(*) FROM ai_conversation WHERE pinned_message_id IS NOT NULL) > 0 AND count(*) = 2 FROM pg_constraint WHERE conname IN ('ai_conversation_pinned_message_id_fkey', 'ai_message_conversation_id_fkey')",
    ),
    (
        "paths of trees",
        "count(*) > 3 FROM sam_mode_context WHERE parent_path ~ '^(\\d+/)+\\d+/$' AND parent_path LIKE '%' || parent_id || '/' || id || '/'",
    ),
    (
        "a partitioned table with a partitioned partition",
        "(SELECT count(*) FROM pg_partition_tree('sam_usage_event') WHERE NOT isleaf) = 2 AND (SELECT count(*) FROM ONLY sam_usage_event) = 0 AND (SELECT count(*) FROM sam_usage_event) = 400 AND (SELECT count(*) FROM sam_usage_event_2024_chat) > 0 AND (SELECT count(*) FROM sam_usage_event_default) > 0",
    ),
    (
        "policies",
        "(SELECT count(*) FROM sam_private_note) = 30 AND count(*) = 2 AND bool_or(relforcerowsecurity) AND NOT bool_and(relforcerowsecurity) FROM pg_class WHERE relrowsecurity",
    ),
    (
        "dropped, generated and quoted columns",
        "(SELECT count(*) FROM pg_attribute WHERE attrelid = '\"SAM_Odd.Table\"'::regclass AND attisdropped) = 2 AND bool_and(doubled = \"select\" * 2 AND \"Mixed Case\" IS NOT NULL AND added_later IS NOT NULL) FROM \"SAM_Odd.Table\"",
    ),
    ("an empty table", "count(*) = 0 FROM n8n_menu_debug"),
    (
        "sequences that no table owns",
        "count(*) = 13 FROM pg_class s WHERE relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = s.oid AND d.deptype IN ('a', 'i')) AND relname ~ '^(ir_sequence_\\d|base_(registry|cache)_signaling)'",
    ),
    (
        "numbering in scope and out of it",
        "(SELECT last_value FROM ir_sequence_002) = 777 AND (SELECT last_value FROM ir_sequence_001) = 1234 AND NOT (SELECT is_called FROM ir_sequence_004_002)",
    ),
    (
        "owned sequences stand at the largest id",
        "(SELECT last_value FROM ai_message_id_seq) = (SELECT max(id) FROM ai_message) AND (SELECT last_value FROM ir_actions_id_seq) = (SELECT max(id) FROM ir_actions)",
    ),
    (
        "audit columns with their keys",
        "count(*) > 150 AND bool_and(confdeltype = 'n') FROM pg_constraint WHERE conname ~ '_(create|write)_uid_fkey$'",
    ),
];

pub(crate) const VALUES: &[(&str, &str)] = &[
    (
        "a text of 1.6 MB",
        "octet_length(content) > 1600000 FROM ai_message WHERE id = 7",
    ),
    (
        "a long message that begins with a URL",
        "length(content) = 22601 AND content LIKE 'https://%' FROM ai_message WHERE id = 11",
    ),
    (
        "text that formats trip over",
        "bool_and(n > 0) FROM (SELECT (SELECT count(*) FROM ai_message WHERE content = v) AS n FROM unnest(ARRAY['', E'\\\\N', E'\\\\', E'\\\\.', E'carriage\\r\\nreturn', E'=cmd|''/C calc''!A0', E'\\x01\\x02\\x07\\x08\\x0b\\x0c\\x0e\\x1b\\x1f\\x7f', '日本語テキスト', 'NULL', E'\\ufeffbom']) v) x",
    ),
    (
        "emoji",
        "count(*) > 0 FROM ai_message WHERE content LIKE '%😀%'",
    ),
    (
        "links to attachments",
        "count(*) > 0 FROM ai_message WHERE content LIKE '%/web/image/3%' AND content LIKE '%/web/content/5%'",
    ),
    (
        "NULL, JSON null and {}",
        "count(*) FILTER (WHERE metadata IS NULL) > 0 AND count(*) FILTER (WHERE metadata = 'null') > 0 AND count(*) FILTER (WHERE metadata = '{}') > 0 FROM ai_message WHERE id BETWEEN 60 AND 68",
    ),
    (
        "integers to 1e15 and exact numbers in JSON",
        "metadata->>'big' = '1000000000000000' AND metadata->>'exact' = '1.500' FROM ai_message WHERE id = 67",
    ),
    (
        "translations, and one language only",
        "count(*) FILTER (WHERE name ? 'fr_FR') > 0 AND count(*) FILTER (WHERE NOT name ? 'fr_FR') > 0 FROM ai_prompt_library",
    ),
    (
        "company-dependent values",
        "bool_and(ok) FROM (SELECT CASE id WHEN 1 THEN default_provider_id = '{\"1\": 5}' WHEN 2 THEN default_provider_id = '{\"1\": null}' WHEN 3 THEN default_provider_id IS NULL WHEN 4 THEN default_provider_id = '{}' ELSE true END AS ok FROM ai_workspace) x",
    ),
    ("their fallbacks", "count(*) = 7 FROM ir_default"),
    (
        "company-dependent fields have no key",
        "count(*) = 0 FROM pg_constraint WHERE conname LIKE '%default_provider_id_fkey' AND conrelid = 'ai_workspace'::regclass",
    ),
    (
        "floats",
        "array_agg(cost::text ORDER BY id) = '{NaN,Infinity,-Infinity,-0,0.30000000000000004,5e-324,1.7976931348623157e+308}' FROM ai_message WHERE id BETWEEN 70 AND 76",
    ),
    (
        "numerics keep their zeros",
        "array_agg(total_cost::text ORDER BY id) = '{1.500,NaN,0.000000,123456789012345678901234567890.10,-0.10}' FROM ai_conversation WHERE id <= 5",
    ),
    (
        "unconstrained numerics",
        "count(*) >= 5 AND bool_and(atttypmod = -1) FROM pg_attribute WHERE atttypid = 'numeric'::regtype AND attrelid IN ('ai_conversation'::regclass, 'ai_cost_budget'::regclass, 'ai_token_usage'::regclass)",
    ),
    (
        "dates without end, before Christ, far away",
        "array_agg(start_date::text ORDER BY id) = '{infinity,-infinity,5874897-12-31,0044-03-15 BC}' FROM ai_cost_budget WHERE id <= 4",
    ),
    (
        "timestamps alike",
        "array_agg(timestamp::text ORDER BY id) = '{infinity,-infinity,9999-12-31 23:59:59.999999,0044-03-15 12:00:00 BC,294276-12-31 23:59:59.999999,1969-12-31 23:59:59.999999,0001-01-01 00:00:00}' FROM ai_message WHERE id BETWEEN 80 AND 86",
    ),
    (
        "loose references that dangle",
        "count(*) = 2 FROM ai_conversation WHERE record_ref IN ('ai.agent.registry,99999', 'no.such.model,1')",
    ),
    (
        "the type matrix is wide",
        "count(*) > 95 FROM pg_attribute WHERE attrelid = 'x_type_matrix'::regclass AND attnum > 0",
    ),
    (
        "every column of it has a value",
        "bool_and(null_frac < 1) AND count(*) > 95 FROM pg_stats WHERE tablename = 'x_type_matrix'",
    ),
    (
        "values that neat types cannot carry",
        "(SELECT count(*) FROM x_type_matrix WHERE c_numeric_10_2 = 'NaN') = 1 AND (SELECT count(*) FROM x_type_matrix WHERE c_time = '24:00') = 1 AND (SELECT count(*) FROM x_type_matrix WHERE a_int4::text = '[0:2]={1,2,3}') = 1 AND (SELECT count(*) FROM x_type_matrix WHERE array_ndims(a_int4) = 2) = 2",
    ),
    (
        "odd scales, where the server has them",
        "current_setting('server_version_num')::int < 150000 OR (SELECT count(*) = 2 FROM pg_attribute WHERE attrelid = 'x_type_matrix'::regclass AND attname IN ('c_numeric_neg_scale', 'c_numeric_small'))",
    ),
];

pub(crate) const TRAVELLERS: &[(&str, &str)] = &[
    (
        "attachments of all four shapes",
        "count(*) FILTER (WHERE store_fname IS NOT NULL) > 0 AND count(*) FILTER (WHERE db_datas IS NOT NULL) > 0 AND count(*) FILTER (WHERE url IS NOT NULL AND type = 'url') > 0 AND count(*) FILTER (WHERE coalesce(store_fname, url) IS NULL AND db_datas IS NULL) > 0 FROM ir_attachment",
    ),
    (
        "files are shared by attachments",
        "count(store_fname) > count(DISTINCT store_fname) FROM ir_attachment",
    ),
    (
        "binary fields as attachments, of SAM and of others",
        "count(*) FILTER (WHERE res_model = 'sam.knowledge.doc' AND res_field = 'file_data') > 0 AND count(*) FILTER (WHERE res_model = 'res.partner' AND res_field = 'image_1920') > 0 FROM ir_attachment",
    ),
    (
        "attachments of others, and of nothing",
        "count(*) FILTER (WHERE res_model = 'sale.order') > 0 AND count(*) FILTER (WHERE res_model IS NULL) > 0 AND count(*) FILTER (WHERE res_id = 999999) = 1 FROM ir_attachment",
    ),
    (
        "messages of SAM, of others, and of nothing",
        "count(*) FILTER (WHERE model = 'ai.conversation') > 0 AND count(*) FILTER (WHERE model = 'sale.order') > 0 AND count(*) FILTER (WHERE model IS NULL) > 0 FROM mail_message",
    ),
    (
        "what hangs on messages",
        "(SELECT count(*) FROM mail_message_res_partner_rel) > 0 AND (SELECT count(*) FROM message_attachment_rel) > 0 AND (SELECT count(*) FROM mail_notification) > 0 AND (SELECT count(*) FROM mail_tracking_value WHERE field_id IS NOT NULL) > 0 AND (SELECT count(*) FROM mail_activity) > 0",
    ),
    (
        "followers of both",
        "count(DISTINCT res_model) >= 4 FROM mail_followers",
    ),
    (
        "chatter is a matter of the field",
        "bool_and(is_mail_thread) FROM ir_model WHERE model IN ('ai.conversation', 'canvas', 'sam.member')",
    ),
    (
        "external ids of others' data",
        "count(*) > 0 FROM ir_model_data WHERE model = 'sale.order'",
    ),
    (
        "external ids of others' numbering",
        "count(*) = 3 FROM ir_model_data WHERE model IN ('ir.sequence', 'ir.sequence.date_range') AND module IN ('sale', 'project')",
    ),
    (
        "no message is without its conversation",
        "count(*) = 0 FROM ai_message WHERE conversation_id NOT IN (SELECT id FROM ai_conversation)",
    ),
];
