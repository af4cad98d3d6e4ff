"""The flags that a job server has beside Beam's: it is asked for them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.options.flags import Parser

__all__ = ["add_flags", "flags_of"]


_SECONDS = 10
_KINDS = beam_job_api_pb2.PipelineOptionType


def flags_of(endpoint: str) -> Mapping[str, dict[str, Any]]:
    """Return what a job server offers: flags, with what argparse is told of each.

    Raises:
        CollectionError: nobody answers there.
    """
    try:
        with grpc.insecure_channel(endpoint) as channel:
            grpc.channel_ready_future(channel).result(_SECONDS)
            stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
            asked = beam_job_api_pb2.DescribePipelineOptionsRequest()
            answer = stub.DescribePipelineOptions(asked, timeout=_SECONDS)
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        message = f"no job server answers at --job_endpoint={endpoint}; start it, or fix the flag"
        raise CollectionError(message) from error
    return {f"--{option.name}": _taken(option) for option in answer.options}


def _taken(option: Any) -> dict[str, Any]:
    """Return how its value is read; as Beam does, which asks the server again as it submits."""
    if option.type == _KINDS.BOOLEAN:
        return {"action": "store_false" if option.default_value == "true" else "store_true"}
    if option.type == _KINDS.ARRAY:
        return {"action": "append"}
    return {"type": int} if option.type == _KINDS.INTEGER else {}


def add_flags(parser: Parser, offered: Mapping[str, dict[str, Any]]) -> None:
    """Let a parser take those, too, that it does not know."""
    known = parser.flags()
    for flag, taken in offered.items():
        if flag not in known:
            parser.add_argument(flag, default=argparse.SUPPRESS, **taken)
