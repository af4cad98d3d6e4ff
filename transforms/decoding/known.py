"""The decoders that ``--input_format`` names; to add one is a line here."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batch_collection.loading import load_function
from transforms.decoding.function_rows import read_bytes, read_function
from transforms.decoding.json_rows import read_json

if TYPE_CHECKING:
    from transforms.decoding.contract import Decoder

__all__ = ["DECODERS", "decoder_named"]

DECODERS: dict[str, Decoder] = {
    "json": read_json,
    "bytes": read_bytes,
}


def decoder_named(name: str) -> Decoder:
    """Return the decoder of a name, or what calls the function of ``module:function``.

    Raises:
        CollectionError: there is none.
    """
    if name in DECODERS:
        return DECODERS[name]
    return partial(read_function, load_function("input_format", name), name)
