"""The peers that are Python packages, each as one process: `peers.py NAME URL TABLE FILE`.

Every one is used as its documentation says, with two connections or threads where it has them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def duckdb_at(url: str):
    import duckdb
    from duckdb_extension_postgres_scanner import extensions  # noqa: F401  (told by its absence)

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    found = next(Path(extensions.__path__[0]).rglob("postgres_scanner.duckdb_extension"))
    connection.execute(f"LOAD '{found}'")
    connection.execute("SET threads = 2")
    connection.execute(f"ATTACH '{url}' AS pg (TYPE postgres)")
    return connection


def duckdb_read(url: str, table: str, file: str) -> None:
    duckdb_at(url).execute(f"COPY pg.public.{table} TO '{file}' (FORMAT parquet, COMPRESSION zstd)")


def duckdb_load(url: str, table: str, file: str) -> None:
    connection = duckdb_at(url)
    connection.execute("SET pg_use_binary_copy = true")
    connection.execute(f"INSERT INTO pg.public.{table} SELECT * FROM '{file}'")


def connectorx_read(url: str, table: str, file: str) -> None:
    import connectorx
    import pyarrow.parquet

    rows = connectorx.read_sql(
        url, f"SELECT * FROM {table}", partition_on="id", partition_num=2, return_type="arrow"
    )
    pyarrow.parquet.write_table(rows, file, compression="zstd")


def adbc_read(url: str, table: str, file: str) -> None:
    import adbc_driver_postgresql.dbapi
    import pyarrow.parquet

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        rows = cursor.fetch_record_batch()
        with pyarrow.parquet.ParquetWriter(file, rows.schema, compression="zstd") as writer:
            for batch in rows:
                writer.write_batch(batch)


def pgpq_load(url: str, table: str, file: str) -> None:
    import pgpq
    import psycopg
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(file)
    encoder = pgpq.ArrowToPostgresBinaryEncoder(parquet.schema_arrow)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
            copy.write(encoder.write_header())
            for batch in parquet.iter_batches(batch_size=8192):
                copy.write(encoder.write_batch(batch))
            copy.write(encoder.finish())


def make_archive(folder: str, _table: str, file: str) -> None:
    shutil.make_archive(file.removesuffix(".zip"), "zip", folder)


def load_shape(url: str, table: str, file: str) -> None:
    """Writes the Parquet file that the loads read: what every loader can take."""
    duckdb_at(url).execute(
        f"COPY (SELECT * REPLACE (metadata::VARCHAR AS metadata, cost::DOUBLE AS cost) FROM pg.public.{table}) "
        f"TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
    )


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
