#!/bin/sh
# Captures the wire bytes and the texts of the tables in types.sql; see README.md.
set -eu
cd "$(dirname "$0")"
db=arkstream_columnar_fixture
export PGOPTIONS="-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex -c client_encoding=UTF8"
run() { psql -X -q -v ON_ERROR_STOP=1 "$@"; }

run -d postgres -c "DROP DATABASE IF EXISTS $db" -c "CREATE DATABASE $db"
run -d $db -f types.sql
for table in scalars arrays bare; do
  run -d $db -c "COPY (
      SELECT a.attname, a.attnum, a.atttypid, format_type(a.atttypid, a.atttypmod), a.atttypmod, t.typtype,
             CASE WHEN t.typcategory = 'A' THEN t.typelem END,
             CASE WHEN t.typcategory = 'A' THEN e.typtype END, a.attnotnull
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = t.typelem
      WHERE a.attrelid = '$table'::regclass AND a.attnum > 0 AND NOT a.attisdropped
      ORDER BY a.attnum) TO STDOUT" >$table.columns
  [ $table = bare ] && order= || order="ORDER BY id"
  run -d $db -c "COPY (SELECT $(cat $table.select) FROM ONLY $table $order) TO STDOUT (FORMAT binary)" >$table.copy
  [ $table = scalars ] && numbers=",
      CASE WHEN isfinite(d) THEN d - date '1970-01-01' END,
      CASE WHEN isfinite(ts) THEN (ts::date - date '1970-01-01') * 86400000000::numeric + (extract(epoch FROM ts::time) * 1000000)::numeric(30,0) END,
      CASE WHEN isfinite(tstz) THEN (tstz::date - date '1970-01-01') * 86400000000::numeric + (extract(epoch FROM tstz::time) * 1000000)::numeric(30,0) END,
      (extract(epoch FROM t) * 1000000)::numeric(30,0)" || numbers=
  [ $table = bare ] && list= || list="*$numbers"
  run -d $db -c "COPY (SELECT $list FROM ONLY $table $order) TO STDOUT" >$table.txt
done
run -d postgres -c "DROP DATABASE $db"
