"""What make.py, writer.py and check.py share: opening ChromaDB offline, and reproducible records.

Every vector, document and metadata value is a pure function of (seed, collection, id, version), so
that a checker needs only the log of operations to know what a directory must hold. Vectors are
multiples of 1/1024 and exact in float32: any language can compute them from SHAKE-256.

No embedding function is ever used: the default one would download a model.
"""

import hashlib
import os
import struct

os.environ["ANONYMIZED_TELEMETRY"] = "False"

import chromadb  # noqa: E402  (the variable above must be set first)
import numpy  # noqa: E402
from chromadb.config import Settings  # noqa: E402

CHROMA_VERSION = tuple(int(part) for part in chromadb.__version__.split(".")[:2])
EMOJI = ["🙂", "🚀", "👩‍🔬", "🇫🇷", "𝔘𝔫𝔦", "עברית", "नमस्ते", "e\u0301"]


def open_client(directory):
    """A client on a directory of this machine, without telemetry."""
    return chromadb.PersistentClient(
        path=str(directory), settings=Settings(anonymized_telemetry=False, allow_reset=False)
    )


def collection_names(client):
    return sorted(getattr(item, "name", item) for item in client.list_collections())


def open_collection(client, name):
    return client.get_collection(name, embedding_function=None)


def create_collection(client, name, space, sync_threshold):
    return client.create_collection(
        name,
        embedding_function=None,
        metadata={
            "hnsw:space": space,
            "hnsw:sync_threshold": sync_threshold,
            "hnsw:batch_size": min(100, sync_threshold),
            "hnsw:search_ef": 200,
        },
    )


def vector(seed, collection, record_id, version, dim):
    text = f"{seed}/{collection}/{record_id}/{version}".encode()
    raw = hashlib.shake_256(text).digest(2 * dim)
    return [(value - 32768) / 1024 for value in struct.unpack(f"<{dim}H", raw)]


def document(record_id, version):
    emoji = EMOJI[version % len(EMOJI)]
    words = " ".join(f"word{(version * 7 + n) % 97}" for n in range(version % 23))
    return f"{record_id} version {version} {emoji} {words}".strip()


def metadata(record_id, version):
    return {
        "v": version,
        "id": record_id,
        "whole": version * 1_000_003 - 500_000,
        "real": version / 7 + 0.1,
        "flag": version % 2 == 0,
        "text": f"é ☃ {EMOJI[version % len(EMOJI)]} \"quoted\" \\ {record_id}",
    }


def float32_bytes(values):
    return numpy.asarray(values, dtype="<f4").tobytes()


def vectors_agree(space, expected, actual):
    """Bit for bit, except for cosine: there ChromaDB stores the direction and the length."""
    expected = numpy.asarray(expected, dtype="<f4")
    actual = numpy.asarray(actual, dtype="<f4")
    if expected.shape != actual.shape:
        return False
    if space != "cosine":
        return expected.tobytes() == actual.tobytes()
    scale = float(numpy.abs(expected).max()) or 1.0
    return bool(numpy.all(numpy.abs(expected - actual) <= 1e-5 * scale))
