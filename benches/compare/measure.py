"""One run of a command: wall time, CPU time and peak memory of it and all its descendants."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

INTERVAL = 0.02
"""Seconds between two looks at the memory."""

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Sample:
    """Figures of one run. Seconds and bytes."""

    wall: float
    cpu: float
    server_cpu: float
    rss: int
    output: int

    def as_dict(self) -> dict:
        return asdict(self)


class Failed(Exception):
    """A command that did not do its work."""


def run(argv, *, server_pid, stdin=None, stdout=None, env=None, allowed=(0,), group=None) -> Sample:
    """Runs a command, its standard error kept for the message of a failure; in a control group, if one is given."""
    before = family_cpu(server_pid)
    start = time.perf_counter()
    child = subprocess.Popen(
        argv,
        stdin=stdin or subprocess.DEVNULL,
        stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=env,
        preexec_fn=group.enter if group else None,
    )
    watch = Watch(child.pid)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    peak = watch.stop()
    if child.returncode not in allowed:
        tail = said.decode(errors="replace").strip().splitlines()[-12:]
        raise Failed(f"{argv[0]} ended with {child.returncode}:\n" + "\n".join(tail))
    return Sample(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        server_cpu=family_cpu(server_pid) - before,
        rss=peak,
        output=0,
    )


class Watch:
    """Looks at the memory of a process and its descendants until it is stopped."""

    def __init__(self, pid: int):
        self.peak = 0
        self.pid = pid
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self) -> None:
        while not self.done.wait(INTERVAL):
            sizes = [memory(pid) for pid in family(self.pid)]
            together = sum(now for now, _ in sizes)
            self.peak = max([self.peak, together, *(most for _, most in sizes)])

    def stop(self) -> int:
        self.done.set()
        self.thread.join()
        return self.peak


class Limited:
    """A control group whose processes together have so much memory, the pages of their files included."""

    def __init__(self, limit: int):
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        legacy = [to for _, to, kind, options, *_ in mounts if kind == "cgroup" and "memory" in options.split(",")]
        unified = [to for _, to, kind, *_ in mounts if kind == "cgroup2"]
        name = "memory.limit_in_bytes" if legacy else "memory.max"
        self.folder = Path((legacy or unified)[0]) / f"arkstream-bench-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / name).write_text(str(limit))

    def enter(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def __enter__(self) -> Limited:
        return self

    def __exit__(self, *_) -> None:
        self.folder.rmdir()


def family(pid: int) -> list[int]:
    """A process and its descendants, those of all its threads."""
    found = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += family(int(child))
    except OSError:
        pass
    return found


def memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process: now, and the most it ever had."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines) if name in ("VmRSS", "VmHWM")}
    return found.get("VmRSS", 0), found.get("VmHWM", 0)


def family_cpu(pid: int) -> float:
    """CPU seconds of a server so far: of the processes that run and of those that ended."""
    ticks = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        own, reaped = fields[11:13], fields[13:15]
        ticks += sum(map(int, own))
        if member == pid:
            ticks += sum(map(int, reaped))
    return ticks / TICKS
