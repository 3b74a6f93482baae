-- Attachments, messages, followers, activities: of SAM models and of others, side by side.
-- sample_file (k, fname, size, checksum, mimetype) names the filestore's files, sample_owner
-- (k, model, tbl, rows, sam, chatter) the models that attachments and messages belong to,
-- sample_binary (model, field, rows) the binary fields kept as attachments. {{messages}} at this scale.

CREATE TEMP TABLE shape ON COMMIT DROP AS
SELECT a.n, o.model, 1 + pg_temp.h('att.res', a.n) % o.rows AS res_id, a.kind, f.*
FROM generate_series(1, {{attachments}}) AS g
CROSS JOIN LATERAL (SELECT g AS n, CASE WHEN g % 10 < 6 THEN 'file' WHEN g % 10 = 6 THEN 'db' WHEN g % 10 = 7 THEN 'url' WHEN g % 10 = 8 THEN 'none' ELSE 'file' END AS kind) a
JOIN sample_owner o ON o.k = pg_temp.h('att.owner', a.n) % (SELECT count(*) FROM sample_owner)
JOIN sample_file f ON f.k = a.n % (SELECT count(*) FROM sample_file);

INSERT INTO ir_attachment (id, name, description, res_model, res_field, res_id, company_id, type, url, public, access_token, db_datas, store_fname,
    file_size, checksum, mimetype, index_content, original_id, create_uid, create_date, write_uid, write_date)
SELECT n, 'file ' || n || CASE WHEN n % 9 = 0 THEN pg_temp.tricky(n) ELSE '' END, NULL, CASE WHEN n % 17 = 0 THEN NULL ELSE model END, NULL,
    CASE WHEN n % 17 = 0 THEN NULL WHEN n % 23 = 0 THEN 0 ELSE res_id END, CASE WHEN n % 4 = 0 THEN 1 END,
    CASE kind WHEN 'url' THEN 'url' ELSE 'binary' END, CASE kind WHEN 'url' THEN 'https://example.com/doc/' || n END, n % 5 = 0,
    CASE WHEN n % 6 = 0 THEN md5('token' || pg_temp.h('tok', n)) END, CASE kind WHEN 'db' THEN decode(md5(n::text) || '00ff', 'hex') END,
    CASE kind WHEN 'file' THEN fname END, CASE kind WHEN 'file' THEN size WHEN 'db' THEN 18 END,
    CASE kind WHEN 'file' THEN checksum END, CASE kind WHEN 'file' THEN mimetype WHEN 'url' THEN 'text/html' ELSE 'application/octet-stream' END,
    CASE WHEN n % 8 = 0 THEN pg_temp.para('index', n, 3) ELSE mimetype END, CASE WHEN n % 31 = 0 THEN n - 1 END,
    1 + n % 10, '2024-06-01', NULL, '2024-06-02'
FROM shape ORDER BY n;
INSERT INTO ir_attachment (id, name, res_model, res_field, res_id, type, public, store_fname, file_size, checksum, mimetype, create_uid, create_date, write_uid, write_date)
SELECT {{attachments}} + row_number() OVER (ORDER BY b.model COLLATE "C", b.field COLLATE "C", i), b.field, b.model, b.field, i, 'binary', false, f.fname, f.size, f.checksum, f.mimetype,
    1, '2024-06-03', 1, '2024-06-03'
FROM sample_binary b CROSS JOIN LATERAL generate_series(1, least(b.rows, 6)) AS i
JOIN sample_file f ON f.k = pg_temp.h(b.model || b.field, i) % (SELECT count(*) FROM sample_file) ORDER BY 1;
-- Not bound to a record: an asset bundle, and an attachment of a record that is gone.
INSERT INTO ir_attachment (id, name, res_model, res_id, type, url, public, store_fname, file_size, checksum, mimetype, create_uid, create_date, write_uid, write_date)
SELECT (SELECT max(id) FROM ir_attachment) + v.n, v.name, v.model, v.res_id, 'binary', v.url, true, f.fname, f.size, f.checksum, f.mimetype, 1, '2024-06-04', 1, '2024-06-04'
FROM (VALUES (1, 'web.assets.min.js', 'ir.ui.view', 0, '/web/assets/1/web.assets.min.js'), (2, 'left over', 'ai.conversation', 999999, NULL)) AS v(n, name, model, res_id, url)
JOIN sample_file f ON f.k = v.n;

INSERT INTO mail_message (id, subject, date, body, model, res_id, record_name, message_type, subtype_id, author_id, parent_id, email_from, message_id, reply_to,
    is_internal, create_uid, create_date, write_uid, write_date)
SELECT n, CASE WHEN n % 5 = 0 THEN pg_temp.tricky(n) END, timestamp '2024-03-01' + n * interval '7 minutes', '<p>' || pg_temp.para('mail', n, 2) || '</p>' ||
    CASE WHEN n % 9 = 0 THEN '<img src="/web/image/' || 1 + n % 20 || '?access_token=x"/>' ELSE '' END,
    o.model, 1 + pg_temp.h('mail.res', n) % o.rows, 'Record ' || n, CASE WHEN n % 4 = 0 THEN 'notification' ELSE 'comment' END, 1 + n % 3, 1 + n % 10,
    CASE WHEN n > 20 AND n % 6 = 0 THEN n - 13 END, '"User" <user@example.com>', '<' || md5('mid' || pg_temp.h('mid', n)) || '@example.com>', 'catchall@example.com',
    n % 3 = 1, 1 + n % 10, '2024-03-01', 1, '2024-03-01'
FROM generate_series(1, {{messages}}) AS n
JOIN (SELECT *, row_number() OVER (ORDER BY k) - 1 AS c FROM sample_owner WHERE chatter) o ON o.c = pg_temp.h('mail.owner', n) % (SELECT count(*) FROM sample_owner WHERE chatter) ORDER BY n;
-- A message of no record, as mass mailings and system notices have.
UPDATE mail_message SET model = NULL, res_id = NULL WHERE id % 50 = 0;
INSERT INTO mail_message_res_partner_rel SELECT id, 1 + (id * 7) % 30 FROM mail_message WHERE id % 2 = 0;
INSERT INTO message_attachment_rel SELECT m.id, a.id FROM mail_message m JOIN ir_attachment a ON a.id = 1 + m.id % {{attachments}} WHERE m.id % 3 = 0;
INSERT INTO mail_notification (id, mail_message_id, res_partner_id, notification_type, notification_status, is_read, read_date)
SELECT row_number() OVER (ORDER BY mail_message_id), mail_message_id, res_partner_id, CASE WHEN mail_message_id % 3 = 0 THEN 'email' ELSE 'inbox' END, 'sent', mail_message_id % 4 = 0, NULL FROM mail_message_res_partner_rel;
INSERT INTO mail_followers (id, res_model, res_id, partner_id)
SELECT row_number() OVER (ORDER BY o.k, i, p), o.model, i, p FROM sample_owner o CROSS JOIN LATERAL generate_series(1, least(o.rows, 25)) AS i, generate_series(1, 9, 4) AS p
WHERE o.chatter AND (i + p) % 3 > 0;
INSERT INTO mail_followers_mail_message_subtype_rel SELECT id, 1 + id % 3 FROM mail_followers UNION SELECT id, 1 FROM mail_followers;
INSERT INTO mail_tracking_value (id, field_id, old_value_char, new_value_char, old_value_float, new_value_float, mail_message_id, create_uid, create_date)
SELECT row_number() OVER (ORDER BY m.id), (SELECT min(f.id) FROM ir_model_fields f WHERE f.model = m.model AND f.name = 'name'), 'old', pg_temp.tricky(m.id), 0.1, 0.30000000000000004, m.id, 1, '2024-03-01'
FROM mail_message m WHERE m.message_type = 'notification' AND m.model IS NOT NULL;
INSERT INTO mail_activity (id, res_model_id, res_model, res_id, summary, date_deadline, user_id, create_uid, create_date)
SELECT row_number() OVER (ORDER BY o.k, i), m.id, o.model, i, 'Call ' || i, date '2025-01-01' + i, 1 + i % 10, 1, '2024-01-01'
FROM sample_owner o JOIN ir_model m ON m.model = o.model CROSS JOIN LATERAL generate_series(1, 5) AS i WHERE o.chatter;
