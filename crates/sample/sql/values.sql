-- Values that real databases hold and that careless code loses.

-- Sizes: 1.6 MB in one text, and a message of 22,601 characters that begins with a URL.
UPDATE ai_message SET content = (SELECT string_agg(pg_temp.para('big', k, 10), E'\n' ORDER BY k) FROM generate_series(1, 1800) k) WHERE id = 7;
UPDATE ai_message SET content = rpad(content, 1600000, E'0123456789 end of a very long message\n') WHERE id = 7;
UPDATE ai_message SET content = rpad('https://example.com/a/very/long/link?with=parameters&and=more ', 22601, 'abcdefghij klmnopqrstuvwxyz ') WHERE id = 11;
UPDATE ai_message SET content = repeat('é', 40000), artifact_content = repeat(E'\r\n', 300) WHERE id = 12;
-- Links to attachments inside text.
UPDATE ai_message SET content = 'See <img src="/web/image/3"/> and [file](/web/content/5?download=true), or /web/image/ir.attachment/4/datas' WHERE id = 13;
-- Every tricky string, one a row.
UPDATE ai_message SET content = pg_temp.tricky(id - 20), artifact_content = pg_temp.tricky(id - 20), ai_model = pg_temp.tricky(id - 20) WHERE id BETWEEN 20 AND 51;
-- SQL NULL, JSON null, {} and others, on purpose and not by chance.
UPDATE ai_message SET metadata = v.j FROM (VALUES (60, NULL::jsonb), (61, 'null'), (62, '{}'), (63, '[]'), (64, '""'), (65, 'false'), (66, '0'),
    (67, '{"big": 1000000000000000, "exact": 1.500, "neg": -1000000000000000}'), (68, '"\\u0041 \u0001 😀"')) AS v(id, j) WHERE v.id = ai_message.id;
UPDATE ai_message SET cost = v.f::float8 FROM (VALUES (70, 'NaN'), (71, 'Infinity'), (72, '-Infinity'), (73, '-0'), (74, '0.30000000000000004'), (75, '5e-324'),
    (76, '1.7976931348623157e308')) AS v(id, f) WHERE v.id = ai_message.id;
UPDATE ai_message SET timestamp = v.t::timestamp FROM (VALUES (80, 'infinity'), (81, '-infinity'), (82, '9999-12-31 23:59:59.999999'), (83, '0044-03-15 12:00:00 BC'),
    (84, '294276-12-31 23:59:59.999999'), (85, '1969-12-31 23:59:59.999999'), (86, '0001-01-01 00:00:00')) AS v(id, t) WHERE v.id = ai_message.id;
UPDATE ai_conversation SET total_cost = v.n::numeric FROM (VALUES (1, '1.500'), (2, 'NaN'), (3, '0.000000'), (4, '123456789012345678901234567890.10'), (5, '-0.10')) AS v(id, n) WHERE v.id = ai_conversation.id;
UPDATE ai_cost_budget SET budget_amount = CASE id WHEN 1 THEN 100.00 WHEN 2 THEN 0.10 WHEN 3 THEN 1000000000000.00 ELSE budget_amount END,
    start_date = CASE id WHEN 1 THEN 'infinity'::date WHEN 2 THEN '-infinity' WHEN 3 THEN '5874897-12-31' WHEN 4 THEN '0044-03-15 BC' ELSE start_date END;
UPDATE sam_personality SET traits = CASE id WHEN 1 THEN '{"humour": 0.30000000000000004, "ids": [1, 2, 999999999999999]}'::jsonb ELSE 'null' END;
UPDATE ai_agent_registry SET description = CASE id WHEN 1 THEN NULL WHEN 2 THEN '{}'::jsonb WHEN 3 THEN '{"en_US": "", "fr_FR": "vide"}' WHEN 4 THEN '{"en_US": "only English"}' ELSE description END;
UPDATE ai_workspace SET default_provider_id = CASE id WHEN 1 THEN '{"1": 5}'::jsonb WHEN 2 THEN '{"1": null}' WHEN 3 THEN NULL WHEN 4 THEN '{}' WHEN 5 THEN '{"1": 4, "2": 99999}' ELSE default_provider_id END,
    monthly_cap = CASE id WHEN 1 THEN '{"1": 1.500}'::jsonb WHEN 2 THEN '{"1": 0.0}' ELSE monthly_cap END;
-- Loose references that point nowhere.
UPDATE ai_conversation SET record_ref = CASE id WHEN 6 THEN 'ai.agent.registry,99999' WHEN 7 THEN 'no.such.model,1' WHEN 8 THEN 'sale.order,1' END WHERE id IN (6, 7, 8);
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 140000 THEN
        UPDATE ai_conversation SET total_cost = CASE id WHEN 9 THEN 'Infinity'::numeric ELSE '-Infinity' END WHERE id IN (9, 10);
    END IF;
END $$;

-- Fallbacks of company-dependent fields, and defaults of users.
INSERT INTO ir_default (id, field_id, user_id, company_id, condition, json_value, create_uid, create_date, write_uid, write_date)
SELECT row_number() OVER (ORDER BY d.n), f.id, d.u, d.c, d.cond, d.v, 1, '2024-01-01', 1, '2024-01-01'
FROM (VALUES (1, 'ai.workspace', 'default_provider_id', NULL::int, 1, NULL, '2'), (2, 'ai.workspace', 'monthly_cap', NULL, NULL, NULL, '25.0'),
    (3, 'sam.user.settings', 'default_model_id', NULL, 1, NULL, '3'), (4, 'ai.conversation', 'status', 2, NULL, NULL, '"open"'),
    (5, 'res.partner', 'credit_limit', NULL, 1, NULL, '100.0'), (6, 'product.product', 'standard_price', NULL, NULL, NULL, '0.0'),
    (7, 'ai.workspace', 'greeting', NULL, 2, 'lang=fr', '"Bonjour \ud83d\ude00"')) AS d(n, model, field, u, c, cond, v)
JOIN ir_model_fields f ON f.model = d.model AND f.name = d.field;
