"""Arkstream beside its peers: `bench.py` builds the data, runs all of them in turn, prints a table.

Every round runs each tool once, in another order than the round before, so that a machine that slows
down slows all of them. The ratio of a tool is the median over the rounds of its time to that of the
job's unit in the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path

import data
import jobs
import measure
import plot
from server import Server, machine

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    options = arguments()
    work = options.work.resolve()
    (work / "out").mkdir(parents=True, exist_ok=True)
    filestore = work / "filestore"
    shutil.rmtree(filestore, ignore_errors=True)
    with Server(options.serve, filestore) as server:
        setting = jobs.Setting(
            arkstream=options.arkstream.resolve(),
            python=options.venv.resolve() / "bin" / "python",
            venv=options.venv.resolve(),
            work=work,
            mix=work / "mix",
            server=server.told,
            psql=server.psql,
        )
        results = {"machine": machine(server), "scale": options.scale, "runs": options.runs, "jobs": []}
        wanted = options.jobs.split(",")
        build_tables(server, options.scale, work, wanted)
        for name in wanted:
            results["jobs"].append(compare(make(name, setting, options, server), options, server))
    target = options.results or work / "results.json"
    target.write_text(json.dumps(results, indent=1) + "\n")
    for job in results["jobs"]:
        print("\n" + table(job))
        (target.parent / f"{job['name']}.svg").write_text(plot.bars(job))
    print(f"\n{target}")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1: 300,000 messages, 1 M rows, 250 MB of files")
    parser.add_argument("--runs", type=int, default=5, help="rounds that count")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them")
    parser.add_argument("--jobs", default="rows,narrow,load,files")
    parser.add_argument("--tools", default="", help="only tools whose name begins with one of these, and the unit")
    parser.add_argument("--arkstream", type=Path, default=ROOT / "target/release/arkstream")
    parser.add_argument("--serve", type=Path, default=ROOT / "target/release/examples/serve")
    parser.add_argument("--venv", type=Path, default=ROOT / ".test-env/venv-bench")
    parser.add_argument("--work", type=Path, default=ROOT / "target/bench")
    parser.add_argument("--results", type=Path, help="where results and plots go; else into the work folder")
    return parser.parse_args()


def build_tables(server: Server, scale: float, work: Path, wanted: list[str]) -> None:
    say("building the tables")
    server.psql(data.SCHEMA)
    if {"rows", "load"} & set(wanted):
        server.fill("bench_message", data.messages(int(data.MESSAGES * scale)))
    if "narrow" in wanted:
        server.fill("bench_narrow", data.narrow(int(data.NARROW * scale)))
    for statement in data.KEYS.strip().splitlines():
        server.psql(statement)


def make(name: str, setting: jobs.Setting, options, server: Server) -> jobs.Job:
    if name == "rows":
        return jobs.rows(setting, name, "chat messages into Parquet, zstd", "bench_message", "bench.message")
    if name == "narrow":
        return jobs.rows(setting, name, "narrow numeric rows into Parquet, zstd", "bench_narrow", "bench.narrow")
    if name == "files":
        say("building the files")
        shutil.rmtree(setting.mix, ignore_errors=True)
        data.file_mix(setting.mix, int(data.MIX_BYTES * options.scale))
        return jobs.files(setting)
    if name == "load":
        return jobs.load(setting)
    sys.exit(f"there is no job {name}")


def compare(job: jobs.Job, options, server: Server) -> dict:
    """Runs the tools of a job in turn."""
    load_before = os.getloadavg()[0]
    unit = job.tools[0]
    prefixes = tuple(options.tools.split(",")) if options.tools else None
    chosen = [t for t in job.tools if prefixes is None or t is unit or t.name.startswith(prefixes)]
    kept: dict[str, list[measure.Sample]] = {tool.name: [] for tool in chosen}
    failed: dict[str, str] = {}
    for round_number in range(options.warmup + options.runs):
        turn = round_number % len(chosen)
        for tool in chosen[turn:] + chosen[:turn]:
            if tool.name in failed:
                continue
            try:
                sample = once(tool, server.told["pid"])
            except (measure.Failed, OSError) as why:
                failed[tool.name] = str(why)
                say(f"{job.name}: {tool.name} failed: {why}")
                continue
            if round_number >= options.warmup:
                kept[tool.name].append(sample)
            say(f"{job.name} {round_number}: {tool.name} {sample.wall:.2f} s, {sample.rss >> 20} MiB")
    return {
        "name": job.name,
        "title": job.title,
        "unit": unit.name,
        "load": [load_before, os.getloadavg()[0]],
        "failed": failed,
        "tools": [summary(tool, kept, unit.name) for tool in chosen if kept[tool.name]],
    }


def once(tool: jobs.Tool, server_pid: int) -> measure.Sample:
    if tool.needs and not shutil.which(tool.needs):
        raise measure.Failed(f"{tool.needs} is not installed")
    tool.prepare()
    stdin = open(tool.stdin, "rb") if tool.stdin else None
    # 3: a backup that left something out, as it does of files that belong to other models.
    sample = measure.run(tool.argv, server_pid=server_pid, stdin=stdin, env=tool.env, allowed=(0, 3))
    if tool.output:
        sample.output = size(tool.output)
    return sample


def size(path: Path) -> int:
    if path.is_dir():
        return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    return path.stat().st_size


def summary(tool: jobs.Tool, kept: dict, unit: str) -> dict:
    samples = kept[tool.name]
    walls = [sample.wall for sample in samples]
    pairs = [one.wall / other.wall for one, other in zip(samples, kept[unit], strict=False)]
    return {
        "name": tool.name,
        "wall_median": statistics.median(walls),
        "wall_min": min(walls),
        "cpu_min": min(sample.cpu for sample in samples),
        "server_cpu_min": min(sample.server_cpu for sample in samples),
        "rss_max": max(sample.rss for sample in samples),
        "output": samples[-1].output,
        "ratio_median": statistics.median(pairs),
        "ratio_of_min": min(walls) / min(sample.wall for sample in kept[unit]),
        "samples": [sample.as_dict() for sample in samples],
    }


def table(job: dict) -> str:
    head = f"{'':24} {'ratio':>6} {'of min':>6} {'median s':>9} {'min s':>7} {'CPU s':>7} {'server':>7} {'RSS MiB':>8} {'out MB':>8}"
    lines = [f"{job['title']}; ratios to {job['unit']}; load {job['load'][0]:.1f} to {job['load'][1]:.1f}", head]
    for tool in job["tools"]:
        lines.append(
            f"{tool['name']:24} {tool['ratio_median']:6.2f} {tool['ratio_of_min']:6.2f} {tool['wall_median']:9.2f} "
            f"{tool['wall_min']:7.2f} {tool['cpu_min']:7.2f} {tool['server_cpu_min']:7.2f} "
            f"{tool['rss_max'] / 2**20:8.0f} {tool['output'] / 1e6:8.1f}"
        )
    lines += [f"{name:24} failed: {why.splitlines()[-1]}" for name, why in job["failed"].items()]
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
