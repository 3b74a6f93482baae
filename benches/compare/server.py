"""The throwaway PostgreSQL of the measurements, and what they run on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

SETTINGS = ["shared_buffers=256MB", "max_wal_size=4GB", "checkpoint_timeout=30min", "autovacuum=off"]


class Server:
    """A throwaway PostgreSQL, which ends when its standard input does."""

    def __init__(self, serve: Path, filestore: Path, more: tuple[str, ...] = ()):
        self.child = subprocess.Popen(
            [str(serve), str(filestore), *SETTINGS, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        line = self.child.stdout.readline()
        if not line:
            sys.exit(f"{serve} did not start a server")
        self.told = json.loads(line)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        self.child.stdin.close()
        self.child.wait()

    def psql(self, sql: str, database: str = "odoo", stdin=None) -> str:
        url = self.told["odoo"].replace("/odoo?", f"/{database}?")
        argv = [str(Path(self.told["bin"]) / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]
        done = subprocess.run(argv, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"psql: {done.stderr}")
        return done.stdout.strip()

    def fill(self, table: str, pieces) -> None:
        argv = [str(Path(self.told["bin"]) / "psql"), "-Xq", "-d", self.told["odoo"], "-c", f"COPY {table} FROM STDIN"]
        child = subprocess.Popen(argv, stdin=subprocess.PIPE)
        for piece in pieces:
            child.stdin.write(piece.encode())
        child.stdin.close()
        if child.wait():
            sys.exit(f"{table} could not be filled")


def machine(server: Server) -> dict:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].partition(":")[2].strip() if model else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.release(),
        "postgresql": server.psql("SHOW server_version"),
    }
