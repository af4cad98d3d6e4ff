"""What messages are that were meant as JSON and are none: what senders are known to put there."""

from __future__ import annotations

__all__ = ["told_by_bytes"]


_FRAME = 5  # of Confluent's schema registry: a zero byte, and a schema's id
_MOST_ID = 1 << 24  # ids are counted from 1 or 100,001; garbage is seldom so small
_STARTS = {
    b"\x1f\x8b": "gzip; send it uncompressed, and let Kafka compress (compression.type)",
    b"\x28\xb5\x2f\xfd": "zstd; send it uncompressed, and let Kafka compress (compression.type)",
    b"\x04\x22\x4d\x18": "LZ4; send it uncompressed, and let Kafka compress (compression.type)",
    b"\xff\xfe": "UTF-16; send UTF-8",
    b"\xfe\xff": "UTF-16; send UTF-8",
    b"\xef\xbb\xbf": "JSON behind a byte order mark; send UTF-8 without one",
    b"Obj\x01": "an Avro file; send JSON",
    b"PAR1": "a Parquet file; send JSON",
}
_WITHOUT_MARK = (b"{\0", b"[\0", b"\0{", b"\0[")


def told_by_bytes(message: bytes) -> str | None:
    """Say what a message is that is no JSON, and the cure; None: its first bytes don't tell."""
    for start, what in _STARTS.items():
        if message.startswith(start):
            return what
    if message.startswith(_WITHOUT_MARK):
        return "UTF-16; send UTF-8"
    schema_id = int.from_bytes(message[1:_FRAME], "big")
    if message[:1] != b"\0" or len(message) <= _FRAME or not 0 < schema_id < _MOST_ID:
        return None
    kind = "JSON" if message[_FRAME : _FRAME + 1] in {b"{", b"["} else "Avro or Protobuf"
    return (
        f"{kind} framed for a schema registry (schema id {schema_id}); send it as JSON without the "
        f"first {_FRAME} bytes, or decode it with --input_format=MODULE:FUNCTION"
    )
