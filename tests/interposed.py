"""Another storage in the place of the one that everything opens."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from batch_collection.storage.known import STORAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.storage.contract import Storage

__all__ = ["interposed"]


@contextmanager
def interposed(storage: Storage) -> Iterator[None]:
    """Let ``storage`` be opened where the storage of its URI is asked for."""

    def instead(opening: Callable[[str], Storage], uri: str) -> Storage:
        opened = opening(uri)
        return storage if opened.uri == storage.uri else opened

    with pytest.MonkeyPatch.context() as patch:
        for scheme, opening in STORAGES.items():
            patch.setitem(STORAGES, scheme, partial(instead, opening))
        patch.setattr(sys, "unraisablehook", lambda _: None)  # writers that die with their files
        logging.disable()  # a log record would keep the traceback, and those writers with it
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            gc.collect()
