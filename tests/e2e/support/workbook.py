"""workbook.py [--resaved] BUNDLE_DIR WORKBOOK LARGE_DIR: does a workbook say what the bundle says, or that it does not?

BUNDLE_DIR is the unpacked bundle, LARGE_DIR the folder that odoo_data/large_fields is in. Reads by openpyxl.
Prints {"sheets", "cells", "cut", "dates", "problems"}. A cell is right when it holds the value, or when the
value is under "About" with its model, id, field and length.

--resaved: LibreOffice wrote the workbook again. It writes truths as formulas, ends lines with a newline,
and does not escape text that looks like an escape.
"""

import base64
import datetime
import json
import pathlib
import re
import sys

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "support"))
import pgtext

MOST = 32_767
RESAVED = "--resaved" in sys.argv


def main():
    folder, workbook, large = map(pathlib.Path, sys.argv[-3:])
    book = openpyxl.load_workbook(workbook, read_only=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    models = {m["model"]: m for m in json.loads((folder / "odoo_data/model_list.json").read_text())}
    index = [row for row in book["Index"].iter_rows(min_row=2, values_only=True)]
    about = [row for name in book.sheetnames if re.fullmatch(r"About(~\d+)?", name)
             for row in book[name].iter_rows(min_row=2, values_only=True)]
    listed = {(row[1], row[2], row[3]): row for row in about if row[0] in ("text cut", "binary left out")}
    result = {"sheets": len(index), "cells": 0, "cut": 0, "dates": 0, "listed": len(listed), "problems": []}
    tables = {table["table"]: table for table in manifest["tables"]}
    names, named = {}, set()
    for table in manifest["tables"]:
        model = table.get("model")
        names[table["table"]] = model if model and model not in named else table["table"].removeprefix("public.")
        named.add(model)
    for table in dict.fromkeys(row[2] for row in index):
        rows = []
        for sheet, _, other, count, _ in index:
            if other == table:
                found = list(book[sheet].iter_rows(values_only=True))
                if len(found) - 1 != count:
                    result["problems"].append(f"{sheet}: {len(found) - 1} rows, the index says {count}")
                heads, rows = found[0], rows + found[1:]
        compare(folder, large, tables[table], names[table], models, tables, heads, rows, listed, result)
    print(json.dumps(result, ensure_ascii=False))


def read(folder, table, columns=None):
    return pa.concat_tables(pq.read_table(folder / part["member"], columns=columns) for part in table["parts"])


def texts(data, column):
    field = data.schema.field(column)
    meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    found = pgtext.column_texts(data.column(column), meta.get("arkstream.pg_type", ""), meta.get("arkstream.encoding", "native"))
    companion = meta.get("arkstream.companion")
    if companion in data.schema.names:
        exceptional = data.column(companion).to_pylist()
        found = [other if other is not None else text for text, other in zip(found, exceptional)]
    return found, meta


def compare(folder, large, table, name, models, tables, heads, rows, listed, result):
    data = read(folder, table)
    if data.num_rows != len(rows):
        result["problems"].append(f"{name}: {len(rows)} rows of {data.num_rows}")
        return
    ids = data.column("id").to_pylist() if table["primary_key"] == ["id"] else [None] * len(rows)
    keys = [f"row-{n}" if found is None else str(found) for n, found in enumerate(ids, 1)]
    columns = [column["name"] for column in table["columns"]]
    if list(heads[: len(columns)]) != columns:
        result["problems"].append(f"{name}: heads {heads}")
        return
    lists = {}
    model = models.get(table.get("model"))
    if model and model["table"] == table["table"]:
        for field in model.get("x2many", []):
            lists[field["field"]] = pairs(folder, tables[field["table"]], field)
    if list(heads[len(columns):]) != list(lists):
        result["problems"].append(f"{name}: x2many heads {heads[len(columns):]} are not {list(lists)}")
    for at, head in enumerate(heads):
        if at < len(columns):
            expected, meta = texts(data, head)
        else:
            expected, meta = [lists[head].get(row) for row in ids], {}
        for row, key, text in zip(rows, keys, expected):
            cell = row[at] if at < len(row) else None
            result["cells"] += 1
            problem = check(large, listed, (name, key, head), cell, text, meta, result)
            if problem:
                result["problems"].append(f"{name} {key} {head}: {problem}: {str(cell)[:80]!r} for {str(text)[:80]!r}")
                break


def pairs(folder, table, field):
    data = read(folder, table, list(dict.fromkeys([field["column"], field["ids"]])))
    found = {}
    for owner, value in zip(data.column(field["column"]).to_pylist(), data.column(field["ids"]).to_pylist()):
        if owner is not None and value is not None:
            found.setdefault(owner, []).append(value)
    return {owner: ",".join(map(str, sorted(values))) for owner, values in found.items()}


def check(large, listed, place, cell, text, meta, result):
    if text is None or text == "":
        return None if cell is None else "a value where there is none"
    if meta.get("arkstream.pg_type") == "bytea":
        raw = bytes.fromhex(text[2:])
        if (len(raw) + 2) // 3 * 4 > MOST:
            result["cut"] += 1
            line = listed.get(place)
            return None if line and line[4] == len(raw) else "a binary that is not listed"
        return None if base64.b64decode(cell or "") == raw else "not the bytes"
    if isinstance(cell, bool):
        return None if text == ("t" if cell else "f") else "not the truth"
    if isinstance(cell, (int, float)):
        return None if float(text) == float(cell) else "not the number"
    if isinstance(cell, datetime.datetime):
        result["dates"] += 1
        wanted = datetime.datetime.fromisoformat(text.removesuffix("+00"))
        # openpyxl rounds to milliseconds; the cell itself keeps the microsecond.
        return None if abs(wanted - cell) <= datetime.timedelta(milliseconds=1) else "not the moment"
    if len(text.encode("utf-16-le")) // 2 > MOST:
        result["cut"] += 1
        line = listed.get(place)
        if not line or line[4] != len(text):
            return "a cut that is not listed"
        member = line[5].rsplit(" ", 1)[1]
        if member not in cell or (large / member).read_bytes().decode() != text:
            return "the whole text is not where it should be"
        return None if text.startswith(cell[:1000]) else "not the beginning"
    found = unescaped(cell)
    if RESAVED:
        found = {"=TRUE()": "t", "=FALSE()": "f"}.get(found, found)
        found, text = (re.sub("\r\n?", "\n", side) for side in (found, unescaped(text)))
    if meta.get("arkstream.odoo_type") == "many2one" and found.split(", ", 1)[0] == text:
        return None
    return None if found == text else "not the text"


def unescaped(text):
    """As Excel reads: openpyxl leaves the escapes of control characters alone."""
    return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found.group(1), 16)), text or "")


main()
