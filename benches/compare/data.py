"""The data of the comparison: chat messages, narrow numeric rows, a mix of files.

All of it comes from seeded generators, so that every run of every machine has the same bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import sqlite3
import struct
from pathlib import Path

MESSAGES = 300_000
NARROW = 1_000_000
MIX_BYTES = 250 << 20

SCHEMA = """
CREATE TABLE bench_message (
    id int4 NOT NULL, create_uid int4, create_date timestamp, write_uid int4, write_date timestamp,
    conversation_id int4, role varchar, content text, tokens int4, cost numeric(12,6), metadata jsonb);
CREATE TABLE bench_narrow (
    id int4 NOT NULL, account_id int4, partner_id int4, quantity float8, amount numeric(12,2),
    balance numeric(14,2), posted timestamp, due date, reconciled bool, score float8, ref int8);
INSERT INTO ir_model (id, name, model, "order", state, transient, create_uid, create_date)
SELECT (SELECT max(id) FROM ir_model) + n, jsonb_build_object('en_US', model), model, 'id', 'base', false, 1, '2024-01-01'
FROM (VALUES (1, 'bench.message'), (2, 'bench.narrow')) AS m (n, model);
"""

KEYS = """
ALTER TABLE bench_message ADD PRIMARY KEY (id);
ALTER TABLE bench_narrow ADD PRIMARY KEY (id);
ANALYZE bench_message;
ANALYZE bench_narrow;
CHECKPOINT;
"""


def messages(rows: int):
    """Lines of COPY text for `bench_message`: some 1.4 kB a row as COPY BINARY."""
    source = random.Random(7)
    words = vocabulary(source, 30_000)
    weights = [1 / (rank + 3) for rank in range(len(words))]
    # People and models repeat themselves: a sixth of what is said are phrases.
    sums = list(itertools.accumulate(weights))
    phrases = [" ".join(source.choices(words, cum_weights=sums, k=3 + n % 6)) for n in range(4_000)]
    shares = [1 / (rank + 10) for rank in range(len(phrases))]
    weights += [0.125 * sum(weights) / sum(shares) * share for share in shares]
    words += phrases
    weights = list(itertools.accumulate(weights))
    roles = ["user", "assistant", "assistant", "system"]
    batch = 2_000
    for start in range(0, rows, batch):
        count = min(batch, rows - start)
        # Most messages are short; most of the bytes are in long ones, which PostgreSQL compresses.
        lengths = [min(9_000, 4 + int(source.lognormvariate(3.42, 1.5))) for _ in range(count)]
        stream = source.choices(words, cum_weights=weights, k=sum(lengths))
        at = 0
        lines = []
        for offset, length in enumerate(lengths):
            number = start + offset + 1
            text = " ".join(stream[at : at + length])
            at += length
            moment = f"2025-{1 + number * 7 // rows % 12:02}-{1 + number % 28:02} {number % 24:02}:{number % 60:02}:{number % 59:02}.{source.randrange(10**6):06}"
            role = roles[number % 4]
            metadata = f'{{"model": "model-{number % 5}", "temperature": {number % 10 / 10}, "finish": "stop", "latency_ms": {source.randrange(9000)}}}'
            lines.append(
                f"{number}\t{1 + number % 40}\t{moment}\t{1 + number % 40}\t{moment}\t{1 + number // 12}\t{role}\t"
                f"{text}\t{length * 4 // 3}\t{source.randrange(10**6) / 10**6}\t{metadata}\n"
            )
        yield "".join(lines)


def narrow(rows: int):
    """Lines of COPY text for `bench_narrow`."""
    source = random.Random(11)
    batch = 10_000
    for start in range(0, rows, batch):
        lines = []
        for number in range(start + 1, min(start + batch, rows) + 1):
            cents = source.randrange(10**7)
            posted = f"2024-{1 + number % 12:02}-{1 + number % 28:02} {number % 24:02}:{number % 60:02}:{number % 59:02}"
            lines.append(
                f"{number}\t{source.randrange(400)}\t{source.randrange(50_000)}\t{source.random() * 100!r}\t"
                f"{cents / 100:.2f}\t{-cents / 50:.2f}\t{posted}\t{posted[:10]}\t{'t' if number % 3 else 'f'}\t"
                f"{source.gauss(0, 1)!r}\t{source.getrandbits(40)}\n"
            )
        yield "".join(lines)


def vocabulary(source: random.Random, size: int) -> list[str]:
    """Words that look like words, the frequent ones short."""
    syllables = [c + v + e for c in "bcdfghklmnprstvw" for v in "aeiou" for e in ("", "n", "r", "s", "l")]
    words = []
    for rank in range(size):
        count = 1 + int(math.log10(rank + 1) * 0.75 + source.random())
        words.append("".join(source.choices(syllables, k=count)))
    return words


def file_mix(folder: Path, total: int) -> int:
    """A third each of float vectors, SQLite and SQL text below a filestore. Returns the bytes."""
    source = random.Random(13)
    words = vocabulary(source, 20_000)
    third = total // 3
    written = 0
    piece = 8 << 20
    for index in range(max(1, third // piece)):
        size = min(third, piece)
        written += keep(folder, vectors(source, size))
        written += keep(folder, sql_text(source, words, size))
        written += keep(folder, database(source, words, size, folder / f"{index}.sqlite"))
    return written


def keep(folder: Path, data: bytes) -> int:
    """Writes a file as Odoo names it."""
    name = hashlib.sha1(data).hexdigest()
    path = folder / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)


def vectors(source: random.Random, size: int) -> bytes:
    """32-bit floats as embeddings have them: random but for the upper bits of their exponents."""
    count = size // 4
    pattern = lambda word: int.from_bytes(struct.pack("<I", word) * count, "little")  # noqa: E731
    noise = int.from_bytes(source.randbytes(4 * count), "little")
    return (noise & pattern(0x81FFFFFF) | pattern(0x3C000000)).to_bytes(4 * count, "little")


def sql_text(source: random.Random, words: list[str], size: int) -> bytes:
    out = bytearray()
    number = 0
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
    while len(out) < size:
        number += 1
        text = " ".join(source.choices(words, cum_weights=weights, k=60))
        out += (
            f"INSERT INTO public.ai_message VALUES ({number}, {number // 7}, 'user', '{text}', "
            f"'2025-01-02 03:04:05.{source.randrange(10**6):06}', NULL, {source.randrange(4000)});\n"
        ).encode()
    return bytes(out[:size])


def database(source: random.Random, words: list[str], size: int, path: Path) -> bytes:
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE embedding_metadata (id INTEGER, key TEXT, string_value TEXT, float_value REAL)")
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
    made = 0
    number = 0
    while made < size:
        rows = []
        for _ in range(500):
            number += 1
            text = " ".join(source.choices(words, cum_weights=weights, k=40))
            rows.append((number, "chroma:document", text, source.random()))
            made += len(text) + 40
        connection.executemany("INSERT INTO embedding_metadata VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    data = path.read_bytes()
    path.unlink()
    return data
