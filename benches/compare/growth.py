"""How Arkstream grows: `growth.py` measures it at several sizes, budgets and numbers of jobs, and with many items.

Every backup is verified. With `--hard` each command runs in a control group that has `--memory` and 96 MiB,
the pages of the files it reads and writes included: what needs more is killed, and that is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
from pathlib import Path

import data
import measure
from bench import ROOT, say, size
from jobs import removing
from server import Server, machine

PIECE = 70_755
"""Messages that are 0.1 GB as COPY BINARY."""

GB = 10**9
PROGRAM = 96 << 20
"""What a hard limit leaves beside `--memory`."""

NOT_WAITING = (
    "fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "max_locks_per_transaction=512"
)  # fmt: skip
"""The server is not what is measured; 5,000 tables with their indexes need more locks than it has by default."""


def main() -> int:
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    filestore = options.work / "filestore"
    shutil.rmtree(filestore, ignore_errors=True)
    with Server(options.serve, filestore, NOT_WAITING) as server:
        growth = Growth(options, server)
        for part in options.parts.split(","):
            {"sizes": growth.sizes, "giant": growth.giant, "files": growth.files, "tables": growth.tables}[part]()
    results = {"machine": growth.machine, "hard": options.hard, "runs": growth.found}
    target = options.results or options.work / "growth.json"
    target.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{target}")
    return 1 if any("failed" in run for run in growth.found) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="sizes,giant,files,tables")
    parser.add_argument("--sizes", default="0.1,1,5,20", help="GB of rows, as COPY BINARY")
    parser.add_argument("--jobs", default="1,2,4", help="numbers of jobs, tried at 1 GB")
    parser.add_argument("--memory", default="32,64,256", help="MiB")
    parser.add_argument("--restore-up-to", type=float, default=5, help="GB")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--tables", type=int, default=5_000)
    parser.add_argument("--hard", action="store_true", help="in a control group of --memory and 96 MiB (as root)")
    parser.add_argument("--arkstream", type=Path, default=ROOT / "target/release/arkstream")
    parser.add_argument("--serve", type=Path, default=ROOT / "target/release/examples/serve")
    parser.add_argument("--work", type=Path, default=ROOT / "target/growth")
    parser.add_argument("--results", type=Path, help="a file for the results; else in the work folder")
    return parser.parse_args()


class Growth:
    """The runs, one after the other, on one server."""

    def __init__(self, options: argparse.Namespace, server: Server):
        self.options = options
        self.server = server
        self.machine = machine(server)
        self.found: list[dict] = []
        self.pieces = 0
        server.psql(data.SCHEMA)
        server.psql("CREATE DATABASE target TEMPLATE odoo", "postgres")
        print(f"{'':44} {'seconds':>8} {'CPU s':>7} {'RSS MiB':>8} {'out MB':>8}")

    def sizes(self) -> None:
        for gigabytes in map(float, self.options.sizes.split(",")):
            self.grow(gigabytes)
            for mib in map(int, self.options.memory.split(",")):
                bundle = self.backup(f"{gigabytes:g} GB", ["--no-filestore", "--models", "bench.message"], mib)
                if gigabytes <= self.options.restore_up_to:
                    self.restore(f"{gigabytes:g} GB", bundle, "bench.message", mib)
                removing(bundle)()
            for jobs in self.options.jobs.split(",") if gigabytes == 1 else ():
                what = f"{gigabytes:g} GB, {jobs} jobs"
                removing(self.backup(what, ["--no-filestore", "--models", "bench.message"], 64, jobs))()

    def giant(self) -> None:
        """One value of a gigabyte, the largest that PostgreSQL has."""
        for database in ("odoo", "target"):
            self.server.psql(GIANT, database)
        self.server.psql("INSERT INTO bench_giant SELECT 1, convert_to(repeat('0123456789abcde\n', 62500000), 'UTF8')")
        for mib in map(int, self.options.memory.split(",")):
            bundle = self.backup("one value of 1 GB", ["--no-filestore", "--models", "bench.giant"], mib)
            self.restore("one value of 1 GB", bundle, "bench.giant", mib)
            removing(bundle)()
        self.server.psql("DROP TABLE bench_giant")

    def files(self) -> None:
        for count in (self.options.files // 100, self.options.files):
            folder = self.options.work / "small"
            shutil.rmtree(folder, ignore_errors=True)
            for number in range(count):
                data.keep(folder, f"{number}: {number * number % 997}\n".encode() * (1 + number % 60))
            more = ["--models", "ai.voice.service", "--include-orphans", "--filestore", str(folder)]
            removing(self.backup(f"{count} files", more, 32))()
            shutil.rmtree(folder)

    def tables(self) -> None:
        for count in (self.options.tables // 100, self.options.tables):
            # A transaction may lock only so many tables.
            for first in range(1, count + 1, 250):
                self.server.psql(MANY.format(first=first, last=min(count, first + 249)))
            self.server.psql("ANALYZE")
            self.plan(f"{count} tables", ["--no-filestore", "--models", "bench.many.*"])
            removing(self.backup(f"{count} tables", ["--no-filestore", "--models", "bench.many.*"], 32))()

    def grow(self, gigabytes: float) -> None:
        wanted = round(gigabytes * 10)
        if self.pieces >= wanted:
            return
        say(f"growing to {gigabytes:g} GB")
        if not self.pieces:
            self.server.fill("bench_message", data.messages(PIECE))
            self.server.psql("ALTER TABLE bench_message ADD PRIMARY KEY (id)")
            self.pieces = 1
        columns = "create_uid, create_date, write_uid, write_date, conversation_id, role, content, tokens, cost, metadata"
        for piece in range(self.pieces, wanted):
            self.server.psql(
                f"INSERT INTO bench_message SELECT id + {piece * PIECE}, {columns} FROM bench_message WHERE id <= {PIECE}"
            )
        self.pieces = wanted
        self.server.psql("VACUUM (ANALYZE) bench_message")
        self.server.psql("CHECKPOINT")

    def backup(self, what: str, more: list[str], mib: int, jobs: str = "2") -> Path:
        out = self.options.work / "bundle.zip"
        removing(out)()
        self.run(f"backup {what}, {mib} MiB", [*self.command(), "--jobs", jobs, "--memory", f"{mib}MiB", "--out", str(out), *more], mib, out)
        # It has no option of its own and keeps to the least budget.
        self.run(f"verify {what}", ["verify", str(out), "--progress", "none"], 32)
        return out

    def plan(self, what: str, more: list[str]) -> None:
        self.run(f"plan of {what}", [*self.command(), "--dry-run", "--out", str(self.options.work), *more], 32)

    def command(self) -> list[str]:
        return ["backup", "--odoo-db", self.server.told["odoo"], "--profile", "all", "--no-graph", "--no-chroma",
                "--fresh", "--progress", "none"]  # fmt: skip

    def restore(self, what: str, bundle: Path, model: str, mib: int) -> None:
        url = self.server.told["odoo"].replace("/odoo?", "/target?")
        state = self.options.work / "state"
        self.run(f"restore {what}, {mib} MiB", [
            "restore", str(bundle), "--odoo-db", url, "--components", "models", "--models", model, "--yes",
            "--jobs", "2", "--memory", f"{mib}MiB", "--progress", "none", "--state-dir", str(state),
            "--report", str(self.options.work / "restore.md"),
        ], mib)  # fmt: skip
        for schema in self.server.psql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'arkstream%'", "target").split():
            self.server.psql(f"DROP SCHEMA {schema} CASCADE", "target")
        self.server.psql(f"TRUNCATE {model.replace('.', '_')}", "target")
        removing(state)()

    def run(self, what: str, argv: list[str], mib: int, out: Path | None = None) -> None:
        limit = (mib << 20) + PROGRAM
        try:
            with measure.Limited(limit) if self.options.hard else contextlib.nullcontext() as group:
                argv = [str(self.options.arkstream), *argv]
                sample = measure.run(argv, server_pid=self.server.told["pid"], allowed=(0, 3), group=group)
        except measure.Failed as why:
            self.found.append({"run": what, "memory_mib": mib, "failed": str(why)})
            print(f"{what:44} failed: {why}", flush=True)
            return
        sample.output = size(out) if out else 0
        self.found.append({"run": what, "memory_mib": mib, **sample.as_dict()})
        print(
            f"{what:44} {sample.wall:8.2f} {sample.cpu:7.2f} {sample.rss / 2**20:8.0f} {sample.output / 1e6:8.1f}",
            flush=True,
        )


GIANT = """
CREATE TABLE bench_giant (id int4 PRIMARY KEY, payload bytea);
ALTER TABLE bench_giant ALTER payload SET STORAGE EXTERNAL;
INSERT INTO ir_model (id, name, model, "order", state, transient, create_uid, create_date)
SELECT max(id) + 1, '{"en_US": "bench.giant"}', 'bench.giant', 'id', 'base', false, 1, '2024-01-01' FROM ir_model;
"""

MANY = """
DO $$ BEGIN
FOR n IN {first}..{last} LOOP
    CONTINUE WHEN to_regclass('bench_many_' || n) IS NOT NULL;
    EXECUTE format('CREATE TABLE bench_many_%s (id int4 PRIMARY KEY, create_uid int4, create_date timestamp,
        write_uid int4, write_date timestamp, name varchar, amount numeric)', n);
    EXECUTE format('INSERT INTO bench_many_%s SELECT i, 1, now(), 1, now(), ''name '' || i, i * 1.5
        FROM generate_series(1, 20) AS i', n);
    INSERT INTO ir_model (id, name, model, "order", state, transient, create_uid, create_date)
    SELECT max(id) + 1, jsonb_build_object('en_US', 'bench.many.' || n), 'bench.many.' || n, 'id', 'base', false, 1, '2024-01-01'
    FROM ir_model;
END LOOP; END $$;
"""


if __name__ == "__main__":
    sys.exit(main())
