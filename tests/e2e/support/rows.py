"""rows.py FOLDER: the rows of the Parquet files in FOLDER, one JSON object a line.
rows.py --below FOLDER: the same of all Parquet files below it.
rows.py --schemas FOLDER: what every Parquet file below FOLDER says about itself, one a line.

Large values are put back. Dates and times are the integers they are stored as, decimals and the floats that JSON lacks are
texts, bytes are hexadecimal.
"""

import decimal
import json
import math
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def main():
    folder = pathlib.Path(sys.argv[-1])
    if sys.argv[1] == "--schemas":
        for path in sorted(folder.rglob("*.parquet")):
            print(json.dumps(describe(path, folder), ensure_ascii=False))
    else:
        find = folder.rglob if sys.argv[1] == "--below" else folder.glob
        for path in sorted(find("*.parquet")):
            table = pq.read_table(path)
            columns = [table.column(name).cast(stored_type(table.field(name).type)) for name in table.column_names]
            large = large_values(path)
            for number, row in enumerate(zip(*(column.to_pylist() for column in columns))):
                values = dict(zip(table.column_names, map(plain, row))) | large.get(number, {})
                print(json.dumps(values, ensure_ascii=False))


def large_values(path):
    """By row: the values that stand in members of their own, as texts or, where they are none, hexadecimal."""
    root = next(folder for folder in path.parents if folder.name == "odoo_data").parent
    found = {}
    for value in json.loads((pq.ParquetFile(path).metadata.metadata or {}).get(b"arkstream.large", b"[]")):
        content = (root / value["member"]).read_bytes()
        try:
            found.setdefault(value["row"], {})[value["column"]] = content.decode()
        except UnicodeDecodeError:
            found.setdefault(value["row"], {})[value["column"]] = content.hex()
    return found


def stored_type(kind):
    if pa.types.is_list(kind):
        return pa.list_(stored_type(kind.value_type))
    if pa.types.is_date32(kind):
        return pa.int32()
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return pa.int64()
    return kind


def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def describe(path, folder):
    file = pq.ParquetFile(path)
    arrow, meta = file.schema_arrow, file.metadata
    groups = [meta.row_group(n) for n in range(meta.num_row_groups)]
    leaves = {file.schema.column(n).path.split(".")[0]: file.schema.column(n) for n in range(len(file.schema))}
    return {
        "member": str(path.relative_to(folder)),
        "rows": meta.num_rows,
        "codecs": sorted({group.column(n).compression for group in groups for n in range(group.num_columns)}),
        "bytes": sum(group.total_byte_size for group in groups),
        "metadata": texts(arrow.metadata),
        "fields": [
            {
                "name": field.name,
                "type": str(field.type),
                "logical": str(leaves[field.name].logical_type),
                "nullable": field.nullable,
                "metadata": texts(field.metadata),
            }
            for field in arrow
        ],
    }


def texts(metadata):
    return {key.decode(): value.decode() for key, value in (metadata or {}).items() if key != b"ARROW:schema"}


main()
