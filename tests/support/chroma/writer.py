"""writer.py DIR --log FILE: writes to a ChromaDB directory until SIGTERM, and logs what was acknowledged.

One JSON object per line, synced to disk before the next operation starts:

  {"kind": "open", "seed": …, "dim": …, "collections": [{"name": …, "space": …}], "chroma_version": …}
  {"kind": "begin", "seq": 7, "op": "upsert", "collection": …, "ids": […]}
  {"kind": "ack", "seq": 7, "op": "upsert", "collection": …, "ids": […], "before": ns, "after": ns}
  {"kind": "close"}

`before` is taken before the call and `after` when it returned, both with time.time_ns(). The
operation with sequence number `seq` writes version `seq` of each id (common.py says what that is).
Operations are sequential, so a consistent copy holds a prefix of them. A last `begin` without its
`ack` was in flight when the process was killed.

Prints {"ready": true} when the collections are there and a first load has been acknowledged.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time

import common

stopping = threading.Event()


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    if args.stop_with_stdin:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), stopping.set()), daemon=True).start()

    args.dir.mkdir(parents=True, exist_ok=True)
    client = common.open_client(args.dir)
    with open(args.log, "x", encoding="utf-8") as log:
        writer = Writer(client, log, args)
        for name in writer.live:
            writer.apply("add", name, writer.fresh(args.batch))
        print(json.dumps({"ready": True}), flush=True)
        while not stopping.is_set() and writer.seq < args.operations:
            writer.step()
            stopping.wait(args.pause_ms / 1000)
        writer.line({"kind": "close"})
    print(json.dumps({"operations": writer.seq}), flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--log", type=pathlib.Path, required=True, help="must not exist yet")
    parser.add_argument("--collections", type=int, default=2, help="l2 and cosine in turn")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sync-threshold", type=int, default=60, help="low: HNSW files are rewritten often")
    parser.add_argument("--batch", type=int, default=20, help="largest number of ids in one call")
    parser.add_argument("--max-records", type=int, default=1500, help="per collection; then deletes prevail")
    parser.add_argument("--pause-ms", type=float, default=0)
    parser.add_argument("--operations", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


class Writer:
    def __init__(self, client, log, args):
        self.log, self.args = log, args
        self.random = random.Random(args.seed)
        self.seq = 0
        self.next_id = 0
        self.live = {}
        self.handles = {}
        described = []
        for number in range(args.collections):
            name, space = f"hot_{number}", ("l2", "cosine")[number % 2]
            self.handles[name] = common.create_collection(client, name, space, args.sync_threshold)
            self.live[name] = []
            described.append({"name": name, "space": space})
        self.line(
            {
                "kind": "open",
                "seed": args.seed,
                "dim": args.dim,
                "collections": described,
                "chroma_version": common.chromadb.__version__,
            }
        )

    def line(self, entry):
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()
        os.fsync(self.log.fileno())

    def fresh(self, count):
        ids = [f"id-{self.next_id + n}" for n in range(count)]
        self.next_id += count
        return ids

    def some(self, name, count):
        return self.random.sample(self.live[name], min(count, len(self.live[name])))

    def step(self):
        name = self.random.choice(list(self.live))
        count = self.random.randint(1, self.args.batch)
        full = len(self.live[name]) >= self.args.max_records
        op = self.random.choices(["add", "update", "upsert", "delete"], [0 if full else 6, 2, 1, 4 if full else 1])[0]
        if op == "add":
            ids = self.fresh(count)
        elif op == "upsert":
            ids = self.some(name, count // 2) + self.fresh(1)
        else:
            ids = self.some(name, count)
        if ids:
            self.apply(op, name, ids)

    def apply(self, op, name, ids):
        seq = self.seq + 1
        call = {"ids": ids}
        if op != "delete":
            dim = self.args.dim
            call["embeddings"] = [common.vector(self.args.seed, name, i, seq, dim) for i in ids]
            call["documents"] = [common.document(i, seq) for i in ids]
            call["metadatas"] = [common.metadata(i, seq) for i in ids]
        entry = {"seq": seq, "op": op, "collection": name, "ids": ids}
        self.line({"kind": "begin", **entry})
        before = time.time_ns()
        getattr(self.handles[name], op)(**call)
        after = time.time_ns()
        self.seq = seq
        self.line({"kind": "ack", **entry, "before": before, "after": after})
        if op == "delete":
            gone = set(ids)
            self.live[name] = [i for i in self.live[name] if i not in gone]
        else:
            known = set(self.live[name])
            self.live[name] += [i for i in ids if i not in known]


if __name__ == "__main__":
    main()
