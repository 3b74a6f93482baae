-- Vertices by turns to three labels, edges by turns to two; every endpoint exists.
INSERT INTO {{graph}}."Conversation" (properties)
SELECT jsonb_build_object('odoo_id', i, 'name', 'Conversation ' || i, 'score', 0.30000000000000004::float8, 'tags', jsonb_build_array('a', NULL, true, i))
FROM generate_series(1, ({{vertices}} + 2) / 3) AS i;
INSERT INTO {{graph}}."Concept" (properties)
SELECT jsonb_build_object('name', E'Concept "' || i || E'" \\ 😀\n', 'weight', i / 7.0::float8, 'big', 1000000000000000 + i)
FROM generate_series(1, ({{vertices}} + 1) / 3) AS i;
INSERT INTO {{graph}}."Person With Space" (properties)
SELECT CASE WHEN i % 5 = 0 THEN '{}'::jsonb ELSE jsonb_build_object('name', 'Zoë ' || i) END FROM generate_series(1, {{vertices}} / 3) AS i;

CREATE TEMP TABLE sample_vertex ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY id) - 1 AS k, id FROM {{graph}}._ag_label_vertex;
INSERT INTO {{graph}}."MENTIONS" (start_id, end_id, properties)
SELECT a.id, b.id, jsonb_build_object('at', i, 'certainty', 0.1::float8 * i) FROM generate_series(1, ({{edges}} + 1) / 2) AS i
JOIN sample_vertex a ON a.k = i % {{vertices}} JOIN sample_vertex b ON b.k = (i::bigint * 7919) % {{vertices}} ORDER BY i;
INSERT INTO {{graph}}."RELATED_TO" (start_id, end_id)
SELECT a.id, b.id FROM generate_series(1, {{edges}} / 2) AS i
JOIN sample_vertex a ON a.k = (i::bigint * 31) % {{vertices}} JOIN sample_vertex b ON b.k = (i::bigint * 104729) % {{vertices}} ORDER BY i;
