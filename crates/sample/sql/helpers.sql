-- Functions the sample is filled with; they end with the session. {{seed}} is the option's.

-- A non-negative number that depends on the seed, a key and a row number alone.
CREATE FUNCTION pg_temp.h(key text, i bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT hashtextextended(key || ':' || i::text, {{seed}}) & 9223372036854775807 $$;

CREATE FUNCTION pg_temp.word(h bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT (ARRAY['memory','vector','graph','canvas','node','prompt','agent','context','token','workflow',
  'session','branch','domain','ledger','invoice','journal','ticket','harvest','signal','lantern','compass',
  'archive','bridge','cascade','ember','fjord','glacier','harbor','island','juniper','kernel','lattice'])[1 + h % 32] $$;

-- What trips up text formats.
CREATE FUNCTION pg_temp.tricky(h bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT (ARRAY[
  E'', E' leading and trailing ', E'\\N', E'\\', E'\\.', E'back\\slash \\n \\t \\x41', E'tab\there',
  E'line\nbreak', E'carriage\r\nreturn', E'lone\rreturn', E'=cmd|''/C calc''!A0', E'+1+1', E'-2', E'@sum(A1)',
  E'"quoted", ''single''', E'a;b,c|d', E'NULL', E'\x01\x02\x07\x08\x0b\x0c\x0e\x1b\x1f\x7f', E'😀👩‍👩‍👧‍👦🇫🇷', E'e\u0301 vs é',
  E'\u202ertl\u202c', E'\ufeffbom', E'日本語テキスト', E'ÀÉÎõü ß', E'<script>alert(1)</script>', E'{"json": "in text"}',
  E'\u00a0nbsp', E'%s %d %%', E'$1 ${HOME} `id`', E'\U0001F600\uFFFD', E'0', E'false'])[1 + h % 32] $$;

CREATE FUNCTION pg_temp.sentence(h bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT (ARRAY[
  'The agent reads the context before it answers, and writes down what it has learned.',
  'Every conversation belongs to a workspace, unless its owner has kept it private.',
  'We measured the latency of the provider at three times of the day.',
  'La mémoire du système est enregistrée dans un graphe et dans des vecteurs.',
  'Please compare the two workflows and say which of them costs fewer tokens.',
  'A node without an input waits until its trigger fires.',
  'The import found 412 conversations, of which nine had no messages at all.',
  'Das Ergebnis wird gespeichert und später überprüft.',
  'If the credential has expired, the execution stops and tells the person who started it.',
  'Rain is expected in the afternoon; the harvest plan moves to Thursday.',
  'The canvas was duplicated from a template and then changed by hand.',
  'Voici le résumé : trois tâches terminées, une en attente.',
  'Knowledge is grouped into domains, and each domain into subcategories.',
  'The token budget of this month is used up to eighty percent.',
  'I could not find the document, so I asked for its location.',
  'Then the lantern went out and nobody spoke for a while.'])[1 + h % 16] $$;

CREATE FUNCTION pg_temp.para(key text, i bigint, n int) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT string_agg(pg_temp.sentence(pg_temp.h(key || k, i)) ||
     CASE WHEN k % 5 = 0 THEN E'\n\n' || to_hex(pg_temp.h(key || 'x' || k, i)) || E' ' ELSE ' ' END, '' ORDER BY k)
   FROM generate_series(1, n) AS k $$;

-- A JSON value of every kind: SQL NULL, JSON null, empty, nested, large integers, numbers as text.
CREATE FUNCTION pg_temp.json(key text, i bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE pg_temp.h(key, i) % 9
  WHEN 0 THEN NULL
  WHEN 1 THEN 'null'::jsonb
  WHEN 2 THEN '{}'::jsonb
  WHEN 3 THEN '[]'::jsonb
  WHEN 4 THEN jsonb_build_object('id', 1000000000000000 - i, 'ratio', 0.1 + i, 'exact', 1.500)
  WHEN 5 THEN jsonb_build_object('tags', jsonb_build_array(pg_temp.word(i), NULL, true, i), 'nested', jsonb_build_object('😀', E'line\nbreak'))
  WHEN 6 THEN to_jsonb(pg_temp.tricky(i))
  WHEN 7 THEN jsonb_build_object('text', pg_temp.para(key, i, 2), 'empty', '', 'none', NULL)
  ELSE to_jsonb(i) END $$;
