"""Another storage in the place of the one that all steps open."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pipeline.commands import redrive as redrive_command
from pipeline.planning import topic
from transforms import (
    read_dead_letters,
    read_slices,
    write_batch_files,
    write_dead_letters,
)
from transforms.committing import commit
from transforms.committing import redrive as commit_redrive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from batch_collection.storage.contract import Storage

__all__ = ["COLLECTING", "REDRIVING", "interposed"]

COLLECTING = (topic, read_slices, write_batch_files, write_dead_letters, commit)
"""The modules that open a collection's storage while collecting."""
REDRIVING = (
    redrive_command,
    read_dead_letters,
    write_batch_files,
    write_dead_letters,
    commit_redrive,
)
"""The same of a redrive."""


@contextmanager
def interposed(storage: Storage, modules: tuple[ModuleType, ...] = COLLECTING) -> Iterator[None]:
    """Let some modules open ``storage``, whatever they are asked for."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "open_storage", lambda _: storage)
        patch.setattr(sys, "unraisablehook", lambda _: None)  # writers that die with their files
        logging.disable()  # a log record would keep the traceback, and those writers with it
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            gc.collect()
