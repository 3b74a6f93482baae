"""exports.py MANIFEST PARTS PARQUET JSONL: do exported files say what the parts of the bundle say?

PARTS is the unpacked bundle. Prints {"tables", "rows", "strings_for_numbers", "problems"}.
"""

import decimal
import json
import math
import pathlib
import sys

import numpy
import pyarrow as pa
import pyarrow.parquet as pq


def main():
    manifest = json.loads(pathlib.Path(sys.argv[1]).read_text())
    parts, parquet, jsonl = map(pathlib.Path, sys.argv[2:])
    result = {"tables": 0, "rows": 0, "strings_for_numbers": 0, "problems": []}
    named = set()
    for table in manifest["tables"]:
        model = table.get("model")
        name = model if model and model not in named else table["table"].removeprefix("public.")
        named.add(name)
        expected = pa.concat_tables(pq.read_table(parts / part["member"]) for part in table["parts"])
        merged = pq.read_table(parquet / f"{name}.parquet")
        result["problems"].extend(f"{name}.{column}: parquet differs" for column in differing(expected, merged))
        compare_json(name, expected, (jsonl / f"{name}.jsonl").read_text(), result)
        result["tables"] += 1
        result["rows"] += merged.num_rows
    print(json.dumps(result))


def differing(expected, merged):
    if expected.schema != merged.schema:
        return ["the schema"]
    return [name for name in expected.schema.names if not alike(expected.column(name), merged.column(name))]


def alike(one, other):
    """NaN equals nothing, so floats are compared as they are printed."""
    kind = one.type.value_type if pa.types.is_list(one.type) else one.type
    if pa.types.is_floating(kind):
        return repr(one.to_pylist()) == repr(other.to_pylist())
    return one.equals(other)


def compare_json(name, expected, text, result):
    lines = text.split("\n")[:-1]
    if len(lines) != expected.num_rows:
        result["problems"].append(f"{name}: {len(lines)} lines for {expected.num_rows} rows")
        return
    rows = [json.loads(line) for line in lines]
    fields = {field.name: field for field in expected.schema}
    for column, field in fields.items():
        metadata = field.metadata or {}
        if metadata.get(b"arkstream.companion_of", b"").decode() in fields:
            continue
        companion = metadata.get(b"arkstream.companion", b"").decode()
        texts = expected.column(companion).to_pylist() if companion in fields else [None] * len(rows)
        values = plain_values(expected.column(column))
        for row, value, exceptional in zip(rows, values, texts):
            found = row[column]
            wanted = exceptional if exceptional is not None else value
            if not same(found, wanted, result):
                result["problems"].append(f"{name}.{column}: {found!r} is not {wanted!r}")
                return


def plain_values(array):
    """Dates, times and uuids are left to the CSV test, which lets PostgreSQL read them."""
    if isinstance(array.type, pa.ExtensionType):
        array = array.cast(pa.string())
    kind = array.type.value_type if pa.types.is_list(array.type) else array.type
    if pa.types.is_temporal(kind) or pa.types.is_fixed_size_binary(kind):
        return [None if not valid else any_text for valid in array.is_valid().to_pylist()]
    if pa.types.is_float32(kind):
        return [narrow(value) for value in array.to_pylist()]
    return array.to_pylist()


def narrow(value):
    if isinstance(value, list):
        return [narrow(item) for item in value]
    return None if value is None else numpy.float32(value)


any_text = object()


def same(found, wanted, result):
    if wanted is any_text:
        return isinstance(found, (str, list))
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(
            same(one, other, result) for one, other in zip(found, wanted))
    if isinstance(wanted, bytes):
        return found == "\\x" + wanted.hex()
    if isinstance(wanted, decimal.Decimal):
        result["strings_for_numbers"] += 1
        return found == format(wanted, "f")
    if isinstance(wanted, (float, numpy.float32)):
        if math.isfinite(wanted):
            return isinstance(found, (int, float)) and type(wanted)(found) == wanted
        return found == {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(wanted)]
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if abs(wanted) < 2**53:
            return found == wanted and isinstance(found, int)
        result["strings_for_numbers"] += 1
        return found == str(wanted)
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


main()
