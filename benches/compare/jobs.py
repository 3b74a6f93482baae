"""What is compared: each job is a unit and the tools that do the same work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


SECRET = {**os.environ, "RESTIC_PASSWORD": "bench"}
"""What a repository that is thrown away is encrypted with."""


@dataclass
class Tool:
    """One way to do a job."""

    name: str
    argv: list[str]
    output: Path | None = None
    """A file or folder that holds the result."""
    prepare: Callable[[], None] = lambda: None
    """Untimed, before each run."""
    stdin: Path | None = None
    env: dict | None = None
    needs: str | None = None
    """A program that must be there."""


@dataclass
class Job:
    """Tools that do the same; the first one is the unit."""

    name: str
    title: str
    tools: list[Tool] = field(default_factory=list)


@dataclass
class Setting:
    """Where everything is."""

    arkstream: Path
    python: Path
    venv: Path
    work: Path
    mix: Path
    server: dict
    psql: Callable[..., str]

    @property
    def odoo(self) -> str:
        return self.server["odoo"]

    @property
    def tcp(self) -> str:
        """For those who cannot use a socket."""
        return f"postgresql://postgres:{self.server['password']}@127.0.0.1:{self.server['port']}/odoo"

    def tool(self, name: str) -> str:
        return str(Path(self.server["bin"]) / name)

    def out(self, name: str) -> Path:
        return self.work / "out" / name

    def peer(self, name: str, *arguments) -> list[str]:
        script = Path(__file__).with_name("peers.py")
        return [str(self.python), str(script), name, *map(str, arguments)]

    def backup(self, out: Path, *arguments) -> list[str]:
        return [
            str(self.arkstream), "backup", "--odoo-db", self.odoo, "--profile", "all",
            "--no-graph", "--no-chroma", "--progress", "none", "--jobs", "2", "--fresh",
            "--out", str(out), *arguments,
        ]  # fmt: skip


def removing(*paths: Path) -> Callable[[], None]:
    def remove() -> None:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            for one in path.parent.glob(path.name + "*"):
                if one.is_file():
                    one.unlink()

    return remove


def rows(setting: Setting, name: str, title: str, table: str, model: str) -> Job:
    """A table into Parquet, zstd."""
    url = setting.odoo
    job = Job(name, title)
    copy = f"COPY (SELECT * FROM {table}) TO STDOUT (FORMAT binary)"
    job.tools.append(Tool("COPY BINARY to /dev/null", [setting.tool("psql"), "-Xqd", url, "-c", copy]))

    def add(tool: str, argv: Callable[[Path], list[str]], suffix: str, **more) -> None:
        out = setting.out(f"{name}-{tool.split()[0].lower()}{suffix}")
        job.tools.append(Tool(tool, argv(out), out, removing(out), **more))

    add("Arkstream", lambda out: setting.backup(out, "--no-filestore", "--models", model), ".zip")
    for peer, at in (("duckdb", url), ("connectorx", setting.tcp), ("adbc", url)):
        add(peer, lambda out, peer=peer, at=at: setting.peer(f"{peer}_read", at, table, out), ".parquet")
    rivet_out = setting.out(f"{name}-rivet")
    config = setting.out(f"rivet-{name}.yaml")
    config.write_text(
        "source:\n  type: postgres\n"
        f"  url: {setting.tcp}\n"
        "  tls: { mode: disable }\n"
        f"exports:\n  - name: {table}\n    table: public.{table}\n    mode: chunked\n    chunk_column: id\n"
        "    chunk_count: 8\n    parallel: 2\n    format: parquet\n    compression: zstd\n"
        f"    destination: {{ type: local, path: {rivet_out} }}\n"
    )

    rivet = setting.venv / "bin" / "rivet"
    job.tools.append(
        Tool("rivet", [str(rivet), "run", "-c", str(config)], rivet_out, removing_then(rivet_out), needs=str(rivet))
    )
    add(
        "pg_dump -Fc",
        lambda out: [setting.tool("pg_dump"), "-Fc", "-t", table, "-f", str(out), url],
        ".dump",
    )
    return job


def removing_then(folder: Path) -> Callable[[], None]:
    def prepare() -> None:
        removing(folder)()
        folder.mkdir(parents=True)

    return prepare


SHAPE = """id int4, create_uid int4, create_date timestamp, write_uid int4, write_date timestamp,
    conversation_id int4, role varchar, content text, tokens int4, cost float8, metadata text"""
"""`bench_message` in types that every loader can write."""


def load(setting: Setting) -> Job:
    """Parquet into a table: logged, without an index. A restore does all that it always does."""
    job = Job("load", "chat messages from Parquet into a table (a restore: into a live one)")
    out, url = setting.out, setting.server["empty"]
    parquet, binary, bundle = out("load.parquet"), out("load.copy"), out("load.zip")
    subprocess.run(setting.peer("load_shape", setting.odoo, "bench_message", parquet), check=True)
    removing(bundle)()
    subprocess.run(setting.backup(bundle, "--no-filestore", "--models", "bench.message"), check=True)
    rows = "SELECT id, create_uid, create_date, write_uid, write_date, conversation_id, role, content, tokens, cost::float8, metadata::text"
    copy = f"COPY ({rows} FROM bench_message) TO STDOUT (FORMAT binary)"
    with open(binary, "wb") as file:
        subprocess.run([setting.tool("psql"), "-Xqd", setting.odoo, "-c", copy], stdout=file, check=True)
    setting.psql("DROP DATABASE IF EXISTS target", "postgres")
    setting.psql("CREATE DATABASE target TEMPLATE odoo", "postgres")

    def empty() -> None:
        setting.psql("DROP TABLE IF EXISTS load_target", "empty")
        setting.psql(f"CREATE TABLE load_target ({SHAPE})", "empty")
        setting.psql("CHECKPOINT", "empty")

    argv = [setting.tool("psql"), "-Xqd", url, "-c", "COPY load_target FROM STDIN (FORMAT binary)"]
    job.tools.append(Tool("COPY FROM BINARY", argv, prepare=empty, stdin=binary))

    def clear() -> None:
        for schema in setting.psql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'arkstream%'", "target").split():
            setting.psql(f"DROP SCHEMA {schema} CASCADE", "target")
        setting.psql("TRUNCATE bench_message", "target")
        setting.psql("CHECKPOINT", "target")
        removing(out("state"))()

    argv = [
        str(setting.arkstream), "restore", str(bundle), "--odoo-db", setting.odoo.replace("/odoo?", "/target?"),
        "--components", "models", "--models", "bench.message", "--yes", "--jobs", "2", "--progress", "none",
        "--state-dir", str(out("state")), "--report", str(out("load-report.md")),
    ]  # fmt: skip
    job.tools.append(Tool("Arkstream restore", argv, prepare=clear))
    for peer in ("duckdb", "pgpq"):
        argv = setting.peer(f"{peer}_load", url, "load_target", parquet)
        job.tools.append(Tool(peer, argv, prepare=empty))
    return job


def files(setting: Setting) -> Job:
    """Files into one archive."""
    job = Job("files", "files into one archive (float vectors, SQLite, SQL text)")
    folder = setting.mix

    def add(name: str, argv: list[str], out: Path, **more) -> None:
        more.setdefault("prepare", removing(out))
        job.tools.append(Tool(name, argv, out, **more))

    def shell(script: str) -> list[str]:
        return ["bash", "-c", f"set -o pipefail; {script}"]

    out = setting.out
    add("tar | zstd -3 -T2", shell(f"tar -C {folder} -c . | zstd -q -3 -T2 -o {out('files.tar.zst')}"),
        out("files.tar.zst"), needs="zstd")  # fmt: skip
    argv = setting.backup(out("files-arkstream.zip"), "--models", "ai.voice.service", "--include-orphans",
                          "--filestore", str(folder))  # fmt: skip
    add("Arkstream", argv, out("files-arkstream.zip"))
    repository = out("files-restic")

    def fresh_repository() -> None:
        removing(repository)()
        subprocess.run(["restic", "-q", "-r", str(repository), "init"], env=SECRET, check=True)

    add("restic", ["restic", "-q", "-r", str(repository), "backup", str(folder)],
        repository, env=SECRET, prepare=fresh_repository, needs="restic")  # fmt: skip
    add("7z -tzip -mx1", ["7z", "a", "-tzip", "-mx1", "-mmt2", "-bd", str(out("files-7z.zip")), str(folder)],
        out("files-7z.zip"), needs="7z")  # fmt: skip
    add("tar | pigz", shell(f"tar -C {folder} -c . | pigz -p2 > {out('files.tar.gz')}"),
        out("files.tar.gz"), needs="pigz")  # fmt: skip
    add("bsdtar zip", ["bsdtar", "--format", "zip", "-cf", str(out("files-bsdtar.zip")), "-C", str(folder), "."],
        out("files-bsdtar.zip"), needs="bsdtar")  # fmt: skip
    add("zip -r", ["zip", "-qr", str(out("files-zip.zip")), str(folder)], out("files-zip.zip"), needs="zip")
    add("Python make_archive", setting.peer("make_archive", folder, "-", out("files-python.zip")),
        out("files-python.zip"))  # fmt: skip
    return job
