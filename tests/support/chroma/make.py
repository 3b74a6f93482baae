"""make.py DIR --truth FILE: a real ChromaDB directory, and a JSON file that says what is in it.

Collections take these shapes in turn:

  mixed    l2, more records than the sync threshold and a rest: HNSW files and a write-ahead log
  log      cosine, fewer records than the threshold: only the log, no pickle
  changed  cosine, then updates, upserts and deletes over several persists
  purged   l2, a whole number of thresholds: the log keeps one row, vectors exist only in HNSW files
  sparse   inner product; records without document, without metadata, an empty and a 100 kB document
  empty    no record at all
"""

import argparse
import base64
import hashlib
import json
import pathlib
import sqlite3
import sys

import common

SHAPES = ["mixed", "log", "changed", "purged", "sparse", "empty"]
SPACES = {"log": "cosine", "changed": "cosine", "sparse": "ip"}
BATCH = 50


def main():
    args = parse_arguments()
    if args.dir.exists() and any(args.dir.iterdir()):
        sys.exit(f"{args.dir} is not empty: give a new directory")
    args.dir.mkdir(parents=True, exist_ok=True)
    client = common.open_client(args.dir)
    built = [build(client, args, number) for number in range(args.collections)]
    truth = {
        "chroma_version": common.chromadb.__version__,
        "seed": args.seed,
        "dim": args.dim,
        "collections": built,
    }
    for entry in built:
        entry.update(state_on_disk(args.dir, entry["id"]))
    args.truth.write_text(json.dumps(truth, ensure_ascii=False, indent=1), encoding="utf-8")
    counts = {entry["name"]: len(entry["records"]) for entry in built}
    print(json.dumps({"directory": str(args.dir), "collections": counts}))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--truth", type=pathlib.Path, required=True)
    parser.add_argument("--collections", type=int, default=len(SHAPES))
    parser.add_argument("--records", type=int, default=1200, help="in a full collection")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sync-threshold", type=int, default=500)
    args = parser.parse_args()
    if args.records <= args.sync_threshold:
        parser.error("--records must exceed --sync-threshold, or nothing is ever persisted")
    if args.sync_threshold % BATCH:
        parser.error(f"--sync-threshold must be a multiple of {BATCH}")
    return args


def build(client, args, number):
    shape = SHAPES[number % len(SHAPES)]
    space = SPACES.get(shape, "l2")
    name = f"sam_{shape}_{number}"
    collection = common.create_collection(client, name, space, args.sync_threshold)
    maker = Maker(collection, args.seed, name, args.dim)
    {
        "mixed": lambda: maker.add_range(args.records | 1),
        "log": lambda: maker.add_range(args.sync_threshold // 3),
        "changed": lambda: change(maker, args.records),
        "purged": lambda: maker.add_range(args.records // args.sync_threshold * args.sync_threshold),
        "sparse": lambda: sparse(maker, args.records // 4),
        "empty": lambda: None,
    }[shape]()
    return {
        "name": name,
        "id": str(collection.id),
        "shape": shape,
        "space": space,
        "metadata": collection.metadata,
        "records": {record_id: describe(*record) for record_id, record in maker.records.items()},
    }


def describe(vector, document, metadata):
    raw = common.float32_bytes(vector)
    return {
        "embedding_f32_base64": base64.b64encode(raw).decode(),
        "embedding_sha256": hashlib.sha256(raw).hexdigest(),
        "document": document,
        "metadata": metadata,
    }


class Maker:
    """Applies operations to a collection and to a plain dict beside it."""

    def __init__(self, collection, seed, name, dim):
        self.collection, self.seed, self.name, self.dim = collection, seed, name, dim
        self.records = {}
        self.version = 0

    def write(self, operation, ids):
        self.version += 1
        rows = {record_id: self.row(record_id) for record_id in ids}
        getattr(self.collection, operation)(
            ids=list(rows),
            embeddings=[row[0] for row in rows.values()],
            documents=[row[1] for row in rows.values()],
            metadatas=[row[2] for row in rows.values()],
        )
        self.records.update(rows)

    def row(self, record_id):
        metadata = common.metadata(record_id, self.version)
        if common.CHROMA_VERSION >= (1, 5):
            metadata["list"] = ["α", "", "🙂"]
            metadata["numbers"] = [1, self.version]
        return (
            common.vector(self.seed, self.name, record_id, self.version, self.dim),
            common.document(record_id, self.version),
            metadata,
        )

    def add_range(self, count):
        for start in range(0, count, BATCH):
            self.write("add", [f"r{n:05}" for n in range(start, min(start + BATCH, count))])

    def delete(self, ids):
        self.collection.delete(ids=ids)
        for record_id in ids:
            del self.records[record_id]


def change(maker, count):
    maker.add_range(count)
    every = list(maker.records)
    for start in range(0, count, 4 * BATCH):
        maker.write("update", every[start : start + BATCH])
        maker.write("upsert", every[start + BATCH : start + 2 * BATCH][::2] + [f"new {start} 🚀"])
        maker.delete(every[start + 2 * BATCH : start + 3 * BATCH : 3])


def sparse(maker, count):
    def add(prefix, documents, metadatas):
        rows = {f"{prefix}{n}": documents[n] if documents else None for n in range(count // 3)}
        maker.version += 1
        vectors = [
            common.vector(maker.seed, maker.name, record_id, maker.version, maker.dim) for record_id in rows
        ]
        maker.collection.add(
            ids=list(rows), embeddings=vectors, documents=documents, metadatas=metadatas
        )
        for n, (record_id, document) in enumerate(rows.items()):
            maker.records[record_id] = (vectors[n], document, metadatas[n] if metadatas else None)

    third = count // 3
    add("bare/", None, None)
    add("doc:", [f"only text {n} 🙂" for n in range(third - 2)] + ["", "long ☃ " * 12_500], None)
    add("Meta ", None, [{"only": n, "neg": -n, "tiny": 5e-324, "big": 2**62 + n} for n in range(third)])


def state_on_disk(directory, collection_id):
    """How the collection lies on disk, so that a test can rely on having every shape."""
    uri = f"file:{directory / 'chroma.sqlite3'}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    try:
        (segment,) = connection.execute(
            "SELECT id FROM segments WHERE collection = ? AND scope = 'VECTOR'", (collection_id,)
        ).fetchone()
        (queued,) = connection.execute(
            "SELECT count(*) FROM embeddings_queue WHERE topic LIKE ?", (f"%/{collection_id}",)
        ).fetchone()
    finally:
        connection.close()
    folder = directory / segment
    return {
        "vector_segment": segment,
        "queued": queued,
        "folder": folder.is_dir(),
        "persisted": (folder / "index_metadata.pickle").exists(),
    }


if __name__ == "__main__":
    main()
