-- A column of every type, each with its edge values. The n-th value of a column stands in row n;
-- row 0 is all NULL. Values are written as text and read by the type's own input function.

CREATE TYPE x_mood AS ENUM ('sad', 'ok', 'it''s "very, {odd}" fine');
CREATE DOMAIN x_positive AS int4 CHECK (VALUE > 0);
CREATE DOMAIN x_price AS numeric(12, 3);
CREATE DOMAIN x_label AS text CHECK (length(VALUE) < 100);
CREATE TYPE x_pair AS (a int4, b text, c numeric(5, 2));

CREATE TABLE x_type_matrix (id int4 PRIMARY KEY);
CREATE TEMP TABLE x_value (col text, type text, vals text[]) ON COMMIT DROP;

INSERT INTO x_value VALUES
('c_bool', 'bool', '{t,f}'),
('c_int2', 'int2', '{0,-32768,32767}'), ('c_int4', 'int4', '{0,-2147483648,2147483647}'),
('c_int8', 'int8', '{0,-9223372036854775808,9223372036854775807,1000000000000000}'),
('c_float4', 'float4', '{0,-0,NaN,Infinity,-Infinity,1e-45,3.4028235e38,0.1}'),
('c_float8', 'float8', '{0,-0,NaN,Infinity,-Infinity,0.30000000000000004,5e-324,1.7976931348623157e308,0.1}'),
('c_numeric', 'numeric', '{0,1.500,NaN,-0.000,0.0000000000000000000000000000000000000001,123456789012345678901234567890.12345678901234567890,1e100}'),
('c_numeric_10_2', 'numeric(10,2)', '{0,NaN,99999999.99,-99999999.99,1.50}'),
('c_numeric_38_0', 'numeric(38,0)', '{0,99999999999999999999999999999999999999,-99999999999999999999999999999999999999,NaN}'),
('c_numeric_38_38', 'numeric(38,38)', '{0,0.99999999999999999999999999999999999999,-0.00000000000000000000000000000000000001}'),
('c_numeric_50_20', 'numeric(50,20)', '{0,123456789012345678901234567890.12345678901234567890,NaN}'),
('c_text', 'text', ARRAY['', 'plain', E'\\N', E'a\tb\nc\r\nd', '😀', E'\x01\x7f', '=cmd|''/C calc''!A0', repeat('x', 10000)]),
('c_varchar', 'varchar', ARRAY['', 'varchar', ' padded ']), ('c_varchar_20', 'varchar(20)', ARRAY['', '日本語', 'twenty characters ok']),
('c_char', 'char(5)', ARRAY['', 'ab', 'abcde', '  x']), ('c_onechar', '"char"', ARRAY['', 'a']), ('c_name', 'name', ARRAY['', 'a_name', 'Ünï "q"']),
('c_json', 'json', ARRAY['null', '{}', '{"b": 1, "a": 2,  "a": 3}', '[1, 1000000000000000, 1.500, 1e2]', '"text"', E'{"s":\n "\\u0041"}']),
('c_jsonb', 'jsonb', ARRAY['null', '{}', '{"b": 1, "a": {"c": [1.500, 1000000000000000]}}', '[]', '"😀"', '12345678901234567890.000100']),
('c_bytea', 'bytea', ARRAY['', '\x00', '\x00ff5c0a0d27', '\x' || repeat('deadbeef', 2000)]),
('c_date', 'date', '{2024-02-29,infinity,-infinity,0001-01-01,"0044-03-15 BC","4713-01-01 BC",9999-12-31,5874897-12-31,1970-01-01}'),
('c_timestamp', 'timestamp', '{"2024-02-29 23:59:59.999999",infinity,-infinity,"0044-03-15 12:00:00 BC","4713-01-01 00:00:00 BC","9999-12-31 23:59:59","294276-12-31 23:59:59.999999","1969-12-31 23:59:59.999999"}'),
('c_timestamp_0', 'timestamp(0)', '{"2024-02-29 12:00:01"}'), ('c_timestamp_3', 'timestamp(3)', '{"2024-02-29 12:00:01.123"}'),
('c_timestamptz', 'timestamptz', '{"2024-02-29 23:59:59.999999+05:45",infinity,-infinity,"0044-03-15 12:00:00+00 BC","294276-12-31 23:59:59.999999+00"}'),
('c_time', 'time', '{00:00:00,24:00:00,23:59:59.999999,12:34:56.5}'), ('c_time_0', 'time(0)', '{12:34:56,24:00:00}'),
('c_timetz', 'timetz', '{00:00:00+00,24:00:00-15:59,12:34:56.789012+05:45}'),
('c_interval', 'interval', '{0,"1 year 2 mons 3 days 04:05:06.789012","-1 year +2 days","-178000000 years","00:00:00.000001","1 mon","30 days","24:00:00"}'),
('c_interval_ym', 'interval year to month', '{"1 year 2 mons"}'),
('c_uuid', 'uuid', '{00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'),
('c_inet', 'inet', '{192.168.0.1,10.0.0.0/8,::1,2001:db8::/32,192.168.0.1/32,192.168.0.1/24}'), ('c_cidr', 'cidr', '{10.0.0.0/8,2001:db8::/32,192.168.0.1/32}'),
('c_macaddr', 'macaddr', '{08:00:2b:01:02:03}'), ('c_macaddr8', 'macaddr8', '{08:00:2b:01:02:03:04:05}'),
('c_bit', 'bit(5)', '{00000,10101}'), ('c_varbit', 'varbit', '{"",1,101010101010101}'), ('c_money', 'money', '{0,-1234.56,92233720368547758.07}'),
('c_point', 'point', ARRAY['(0,0)', '(1.5,-2.25)', '(NaN,Infinity)']), ('c_line', 'line', ARRAY['{1,-1,0}']), ('c_lseg', 'lseg', ARRAY['[(0,0),(1,1)]']),
('c_box', 'box', ARRAY['(1,1),(0,0)']), ('c_path', 'path', ARRAY['((0,0),(1,1))', '[(0,0),(2,1)]']), ('c_polygon', 'polygon', ARRAY['((0,0),(1,1),(1,0))']), ('c_circle', 'circle', ARRAY['<(0,0),1.5>']),
('c_tsvector', 'tsvector', ARRAY['', '''a'':1A ''it''''s'':2 ''plain''']), ('c_tsquery', 'tsquery', ARRAY['''a'' & !''b''', '''x'' <-> ''y'':*']),
('c_oid', 'oid', '{0,4294967295}'), ('c_regclass', 'regclass', '{ai_message,"\"SAM_Odd.Table\""}'), ('c_regtype', 'regtype', '{integer,x_mood}'), ('c_regproc', 'regproc', '{now}'),
('c_pg_lsn', 'pg_lsn', '{0/0,FFFFFFFF/FFFFFFFF}'), ('c_jsonpath', 'jsonpath', ARRAY['$."a"[*]?(@ > 1)']), ('c_xid', 'xid', '{0,4294967295}'), ('c_tid', 'tid', ARRAY['(0,1)']),
('c_enum', 'x_mood', ARRAY['sad', 'ok', 'it''s "very, {odd}" fine']), ('c_domain_int', 'x_positive', '{1,2147483647}'), ('c_domain_numeric', 'x_price', '{1.500,NaN,-999999999.999}'),
('c_domain_text', 'x_label', ARRAY['', 'label']), ('c_composite', 'x_pair', ARRAY['(1,"a ""b"", c",NaN)', '(,,)', '(-5,"",1.50)']),
('c_int4range', 'int4range', ARRAY['empty', '[1,5)', '(,)', '[3,)']), ('c_int8range', 'int8range', ARRAY['[1,9223372036854775807)']), ('c_numrange', 'numrange', ARRAY['[1.500,2.50]', '(,NaN)']),
('c_daterange', 'daterange', ARRAY['[2024-01-01,infinity)', 'empty']), ('c_tsrange', 'tsrange', ARRAY['["2024-01-01 00:00:00","2024-01-02 00:00:00"]']), ('c_tstzrange', 'tstzrange', ARRAY['["2024-01-01 00:00:00+00",)']),
('a_bool', 'bool[]', ARRAY['{}', '{t,f,NULL}', '[0:2]={t,f,t}', '{{t,f},{f,t}}']),
('a_int2', 'int2[]', ARRAY['{}', '{1,NULL,-32768}', '[-1:0]={1,2}']),
('a_int4', 'int4[]', ARRAY['{}', '{1,NULL,3}', '[0:2]={1,2,3}', '{{1,2},{3,4}}', '[2:3][0:1]={{1,2},{3,4}}', '{NULL}', '[1:1]={7}']),
('a_int8', 'int8[]', ARRAY['{}', '{9223372036854775807,-9223372036854775808}']), ('a_float4', 'float4[]', ARRAY['{NaN,Infinity,-0}']), ('a_float8', 'float8[]', ARRAY['{}', '{NaN,-Infinity,-0,0.30000000000000004,NULL}']),
('a_numeric', 'numeric[]', ARRAY['{}', '{1.500,NaN,NULL,1e50}']), ('a_numeric_10_2', 'numeric(10,2)[]', ARRAY['{1.50,NULL}', '{NaN,2.00}']),
('a_text', 'text[]', ARRAY['{}', '{"",NULL,"NULL","a,b","q\"uote","back\\\\slash"," sp "}', '[0:1]={x,y}', '{{a,b},{c,d}}']), ('a_varchar', 'varchar[]', ARRAY['{a,"",NULL}']), ('a_char', 'char(3)[]', ARRAY['{a,bc}']),
('a_bytea', 'bytea[]', ARRAY['{"\\x","\\x00ff",NULL}']), ('a_date', 'date[]', ARRAY['{2024-02-29,infinity,"0044-03-15 BC"}']), ('a_timestamp', 'timestamp[]', ARRAY['{"2024-02-29 12:00:00",-infinity,NULL}']),
('a_timestamptz', 'timestamptz[]', ARRAY['{"2024-02-29 12:00:00+00",infinity}']), ('a_time', 'time[]', ARRAY['{24:00:00,00:00:00}', '{01:02:03}']), ('a_uuid', 'uuid[]', ARRAY['{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}']),
('a_json', 'json[]', ARRAY['{"{\"a\": 1}","null",NULL}']), ('a_jsonb', 'jsonb[]', ARRAY['{"{\"a\": 1.500}","null",NULL}']), ('a_enum', 'x_mood[]', ARRAY['{sad,NULL,"it''s \"very, {odd}\" fine"}']),
('a_domain', 'x_positive[]', ARRAY['{1,NULL}']), ('a_composite', 'x_pair[]', ARRAY['{"(1,\"a b\",1.50)",NULL}']), ('a_int4range', 'int4range[]', ARRAY['{"[1,5)",empty}']), ('a_inet', 'inet[]', ARRAY['{10.0.0.1,::1}']), ('a_interval', 'interval[]', ARRAY['{"1 mon","-00:00:01"}']),
('v_int2vector', 'int2vector', ARRAY['1 2 3']), ('v_oidvector', 'oidvector', ARRAY['23 25']);

DO $$
DECLARE r record;
BEGIN
    IF current_setting('server_version_num')::int >= 140000 THEN
        INSERT INTO x_value VALUES ('c_multirange', 'int4multirange', ARRAY['{}', '{[1,3),[5,8)}']), ('c_datemultirange', 'datemultirange', ARRAY['{[2024-01-01,infinity)}']),
            ('c_numeric_inf', 'numeric', '{Infinity,-Infinity}'), ('a_numeric_inf', 'numeric[]', ARRAY['{Infinity,1.0,-Infinity}']);
    END IF;
    IF current_setting('server_version_num')::int >= 150000 THEN
        INSERT INTO x_value VALUES ('c_numeric_neg_scale', 'numeric(2,-3)', '{0,12000,-99000,NaN}'), ('c_numeric_small', 'numeric(3,5)', '{0,0.00123,-0.00999,NaN}'),
            ('a_numeric_neg_scale', 'numeric(2,-3)[]', ARRAY['{12000,NULL,NaN}']);
    END IF;
    FOR r IN SELECT col, type FROM x_value ORDER BY col COLLATE "C" LOOP
        EXECUTE format('ALTER TABLE x_type_matrix ADD COLUMN %I %s', r.col, r.type);
    END LOOP;
    INSERT INTO x_type_matrix (id) VALUES (0);
    FOR r IN SELECT n, string_agg(quote_ident(col), ', ' ORDER BY col COLLATE "C") AS cols, string_agg(quote_literal(val), ', ' ORDER BY col COLLATE "C") AS vals
        FROM x_value, unnest(vals) WITH ORDINALITY AS v(val, n) GROUP BY n ORDER BY n LOOP
        EXECUTE format('INSERT INTO x_type_matrix (id, %s) VALUES (%s, %s)', r.cols, r.n, r.vals);
    END LOOP;
END $$;
-- XML is a matter of how the server was built.
DO $$ BEGIN
    ALTER TABLE x_type_matrix ADD COLUMN c_xml xml;
    UPDATE x_type_matrix SET c_xml = '<a b="c">&amp;d</a>' WHERE id = 1;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
