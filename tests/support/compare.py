"""compare.py DIR [--psql COMMAND] [--duckdb]: is what an extracted bundle holds what the database holds?

DIR is the extracted bundle. With --psql, every Parquet member under odoo_data/{models,relations,
support} is read with pyarrow, each value is written as PostgreSQL would (pgtext.py), and the rows
are compared, as a multiset, with COPY TO STDOUT of the live table through a real psql:

    compare.py DIR --psql 'psql -h /run/postgresql -d odoo'

Tables under models/ and relations/ must hold all rows and all columns, in the table's order; those
under support/ may hold some columns of some rows, each of which must be in the table, at most as
often as there. --subset and --whole (globs over schema.table) change that for single tables. Rows
of a query (arkstream.table without a schema, as for sequences) have no table to be compared with;
"compared" in the result lists those that had.

With --duckdb every member is read, all columns, by DuckDB too, and its row counts must be pyarrow's.

Prints {"tables", "rows", "values", "difference_count", "differences": […the first], …}; the exit
status is 1 when anything differs, 2 for a usage error. Memory: 40 bytes per row of one table, and
one batch; a row that differs is read again to show it.
"""

import argparse
import collections
import fnmatch
import functools
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

import pgtext
import pyarrow.parquet as pq

SECTIONS = ("models", "relations", "support")
SETTINGS = [
    # Names inside values (regclass …) are exported with their schema.
    "SET search_path = ''",
    "SET client_encoding = 'UTF8'",
    "SET DateStyle = 'ISO, YMD'",
    "SET IntervalStyle = 'postgres'",
    "SET TimeZone = 'UTC'",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'hex'",
    "SET row_security = off",
    "SET statement_timeout = 0",
]
SHOWN = 20  # --shown


def main():
    args = parse_arguments()
    members = find_members(args.dir)
    global SHOWN
    SHOWN = args.shown
    result = {"tables": len(members), "rows": 0, "values": 0, "difference_count": 0, "differences": [], "compared": []}
    if not members:
        report(result, {"what": f"no Parquet member under {args.dir}/odoo_data"})
    for (section, table), files in sorted(members.items()):
        try:
            if table is None:
                raise Mismatch(f"no arkstream.table in the file metadata of {files[0].name}")
            if args.psql and "." in table:
                compare_table(args, section, table, files, result)
            if args.duckdb:
                count_with_duckdb(table, files, result)
        except Mismatch as problem:
            report(result, {"table": table, "what": str(problem)})
    print(json.dumps(result, ensure_ascii=False))
    sys.exit(1 if result["difference_count"] else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--psql", type=shlex.split, help="how to call psql on the live database")
    parser.add_argument("--duckdb", action="store_true")
    parser.add_argument("--subset", action="append", default=[], metavar="GLOB")
    parser.add_argument("--whole", action="append", default=[], metavar="GLOB")
    parser.add_argument("--shown", type=int, default=SHOWN, metavar="N", help="differences in the result")
    args = parser.parse_args()
    if not (args.psql or args.duckdb):
        parser.error("give --psql, --duckdb, or both")
    return args


class Mismatch(Exception):
    """Something about a table as a whole."""


def report(result, difference):
    result["difference_count"] += 1
    if len(result["differences"]) < SHOWN:
        result["differences"].append(difference)


def find_members(directory):
    """{(section, table): parts in order}."""
    members = collections.defaultdict(list)
    for section in SECTIONS:
        for path in sorted((directory / "odoo_data" / section).rglob("*.parquet")):
            members[section, file_metadata(pq.read_schema(path), "arkstream.table")].append(path)
    return members


def file_metadata(carrier, key):
    value = (carrier.metadata or {}).get(key.encode())
    return None if value is None else value.decode()


# --- the bundle's side -----------------------------------------------------------------------


class Layout:
    """The table's columns in a part, and where the exact text of each may stand instead."""

    def __init__(self, schema):
        self.columns, self.companions = [], {}
        for field in schema:
            neat = file_metadata(field, "arkstream.companion_of")
            if neat is None:
                self.columns.append(field.name)
            else:
                self.companions[neat] = field.name
        self.types = {name: file_metadata(schema.field(name), "arkstream.pg_type") for name in self.columns}
        self.encodings = {name: file_metadata(schema.field(name), "arkstream.encoding") for name in self.columns}
        for name in self.columns:
            if self.types[name] is None or self.encodings[name] not in ("native", "text"):
                raise Mismatch(f"column {name}: arkstream.pg_type or arkstream.encoding is missing or unknown")
        for neat in self.companions:
            if neat not in self.types:
                raise Mismatch(f"the companion of {neat} has no such column beside it")


def bundle_rows(files):
    for path in files:
        part = pq.ParquetFile(path)
        layout = Layout(part.schema_arrow)
        large = large_values(path, part, layout)
        number = 0
        for batch in part.iter_batches(batch_size=1000):
            for row in zip(*(column_with_companion(batch, layout, name) for name in layout.columns)):
                yield put_back(row, large.pop(number, {}), layout)
                number += 1
        if large:
            raise Mismatch(f"{path} has {number} rows, and large values of {sorted(large)}")


def large_values(path, part, layout):
    """By row and column: values that stand in members of their own, the part has NULL there."""
    found = collections.defaultdict(dict)
    for value in json.loads((part.metadata.metadata or {}).get(b"arkstream.large", b"[]")):
        root = next(folder for folder in path.parents if folder.name == "odoo_data").parent
        content = (root / value["member"]).read_bytes()
        if len(content) != value["bytes"] or value["column"] not in layout.types:
            raise Mismatch(f"{value['member']} is not what {path} says: {value}")
        found[value["row"]][value["column"]] = content
    return found


def put_back(row, values, layout):
    if not values:
        return row
    row = list(row)
    for column, content in values.items():
        place = layout.columns.index(column)
        if row[place] is not None:
            raise Mismatch(f"column {column}: a value stands both in it and in a member")
        is_bytea = layout.encodings[column] == "native" and layout.types[column] == "bytea"
        row[place] = "\\x" + content.hex() if is_bytea else content.decode()
    return tuple(row)


def column_with_companion(batch, layout, name):
    texts = exact_texts(batch, layout, name)
    canonical = pgtext.canonical_float(layout.types[name])
    return texts if canonical is None else [text if text is None else canonical(text) for text in texts]


def exact_texts(batch, layout, name):
    try:
        texts = pgtext.column_texts(batch.column(name), layout.types[name], layout.encodings[name])
    except ValueError as problem:
        raise Mismatch(f"column {name}: {problem}") from problem
    companion = layout.companions.get(name)
    if companion is None:
        return texts
    exact = pgtext.column_texts(batch.column(companion), "text", "text")
    if any(text is not None and other is not None for text, other in zip(texts, exact)):
        raise Mismatch(f"column {name}: a value stands both in it and in {companion}")
    return [other if text is None else text for text, other in zip(texts, exact)]


# --- the database's side ---------------------------------------------------------------------


def live_rows(psql, table, layout, relkind):
    columns = layout.columns
    floats = [(n, f) for n, name in enumerate(columns) if (f := pgtext.canonical_float(layout.types[name]))]
    # A partitioned table or a view has no rows of its own.
    only = "" if relkind in "pvm" else "ONLY "
    query = f"COPY (SELECT {', '.join(map(quoted, columns))} FROM {only}{quoted_table(table)}) TO STDOUT"
    for line in psql_lines(psql, query):
        texts = pgtext.copy_fields(line)
        for n, canonical in floats:
            if texts[n] is not None:
                texts[n] = canonical(texts[n])
        yield tuple(texts)


def psql_lines(psql, query):
    command = [*psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    for statement in [*SETTINGS, query]:
        command += ["-c", statement]
    environment = {**os.environ, "PGCLIENTENCODING": "UTF8"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    with process:
        for line in process.stdout:
            yield line.removesuffix(b"\n")
        complaint = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise Mismatch(f"psql: {complaint}")


def live_columns(psql, table):
    """(relkind, all columns in the table's order)."""
    literal = "'" + quoted_table(table).replace("'", "''") + "'"
    lines = list(
        psql_lines(
            psql,
            "COPY (SELECT relkind, attname FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid"
            f" AND attnum > 0 AND NOT attisdropped WHERE pg_class.oid = {literal}::regclass"
            " ORDER BY attnum) TO STDOUT",
        )
    )
    rows = [pgtext.copy_fields(line) for line in lines]
    return rows[0][0], [name for _, name in rows if name is not None]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def quoted_table(table):
    schema, _, name = table.partition(".")
    return f"{quoted(schema)}.{quoted(name)}"


# --- comparing -------------------------------------------------------------------------------


def compare_table(args, section, table, files, result):
    layouts = [Layout(pq.read_schema(path)) for path in files]
    layout, columns = layouts[0], layouts[0].columns
    if not columns:
        raise Mismatch("no column")
    if any((other.columns, other.types) != (columns, layout.types) for other in layouts):
        raise Mismatch("the parts do not have the same columns")
    relkind, all_columns = live_columns(args.psql, table)
    whole = is_whole(args, section, table)
    if whole and columns != all_columns:
        raise Mismatch(f"the columns are {columns}, those of the table {all_columns}")

    bundle = collections.Counter()
    for row in bundle_rows(files):
        bundle[digest(row)] += 1
        result["rows"] += 1
        result["values"] += len(row)
    result["compared"].append(table)
    live = collections.Counter(digest(row) for row in live_rows(args.psql, table, layout, relkind))
    surplus = bundle - live
    missing = live - bundle if whole else collections.Counter()
    if surplus or missing:
        show_differences(args.psql, table, files, layout, relkind, surplus, missing, result)


def is_whole(args, section, table):
    if any(fnmatch.fnmatchcase(table, glob) for glob in args.whole):
        return True
    return section != "support" and not any(fnmatch.fnmatchcase(table, glob) for glob in args.subset)


def digest(row):
    state = hashlib.blake2b(digest_size=16)
    for text in row:
        if text is None:
            state.update(b"\0")
        else:
            raw = text.encode()
            state.update(b"\1%d:" % len(raw))
            state.update(raw)
    return state.digest()


def show_differences(psql, table, files, layout, relkind, surplus, missing, result):
    columns = layout.columns
    result["difference_count"] += surplus.total() + missing.total()
    only_bundle = pick(bundle_rows(files), surplus)
    # Rows are shown beside their counterpart, which a subset does not count as missing.
    key = columns.index("id") if "id" in columns else None
    wanted = {row[key] for row in only_bundle} if key is not None else set()
    counterparts = {}
    only_live = []
    for row in live_rows(psql, table, layout, relkind):
        if key is not None and row[key] in wanted:
            counterparts[row[key]] = row
        elif len(only_live) < SHOWN and digest(row) in missing:
            only_live.append(row)
    for row in only_bundle:
        other = counterparts.get(row[key]) if key is not None else None
        if other is None:
            show(result, {"table": table, "what": "row only in the bundle", "row": shorten_row(columns, row)})
        elif other == row:
            show(result, {"table": table, "what": "row more often in the bundle", "id": row[key]})
        else:
            for name, bundle_text, live_text in zip(columns, row, other):
                if bundle_text != live_text:
                    values = {"bundle": shorten(bundle_text), "live": shorten(live_text)}
                    show(result, {"table": table, "what": "value", "id": row[key], "column": name, **values})
    for row in only_live:
        show(result, {"table": table, "what": "row missing from the bundle", "row": shorten_row(columns, row)})


def pick(rows, digests):
    picked = []
    for row in rows:
        if len(picked) < SHOWN and digest(row) in digests:
            picked.append(row)
    return picked


def show(result, difference):
    if len(result["differences"]) < SHOWN:
        result["differences"].append(difference)


def shorten_row(columns, row):
    return {name: shorten(text) for name, text in list(zip(columns, row))[:8]}


def shorten(text):
    return text if text is None or len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


# --- DuckDB ----------------------------------------------------------------------------------


@functools.cache
def duckdb_connection():
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET autoinstall_known_extensions = false")
    return connection


def count_with_duckdb(table, files, result):
    import duckdb

    connection = duckdb_connection()
    total = 0
    for path in files:
        expected = pq.ParquetFile(path).metadata.num_rows
        # Counting every column makes DuckDB decode every column.
        columns = ", ".join(f"count(hash({quoted(name)}))" for name in pq.read_schema(path).names)
        try:
            counted = connection.execute(
                f"SELECT count(*){', ' + columns if columns else ''} FROM read_parquet(?)", [str(path)]
            ).fetchone()[0]
        except duckdb.Error as problem:
            raise Mismatch(f"DuckDB cannot read {path.name}: {problem}") from problem
        if counted != expected:
            raise Mismatch(f"DuckDB counts {counted} rows in {path.name}, pyarrow {expected}")
        total += counted
    counts = result.setdefault("duckdb_counts", {})
    counts[table] = counts.get(table, 0) + total


if __name__ == "__main__":
    main()
