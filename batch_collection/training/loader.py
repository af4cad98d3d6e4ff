"""A loader for PyTorch whose place any number of ranks and workers can go on from."""

from __future__ import annotations

import warnings
from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from batch_collection.errors import CollectionError
from batch_collection.given import count_of, parts_of, public_names
from batch_collection.training.batches import (
    BatchRules,
    ColumnOptions,
    arrays_of,
    check_names,
    check_same,
    numpy_batches,
)
from batch_collection.training.dealing import Deal
from batch_collection.training.to_torch import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from batch_collection.reading.row_sequence import RowSequence
    from batch_collection.training.batches import Batches

__all__ = ["Loader", "LoaderOptions", "LoaderRules", "loader_of"]


_GROUP_BATCHES = 16
_GROUP_ROWS = 4096
"""What a worker hands over at once, at most: each time costs, however little it is."""


class LoaderOptions(ColumnOptions, total=False):
    """What a loader takes: see ``LoaderRules``, ``BatchRules`` and ``ArrayRules``."""

    workers: int
    map: Callable[[Any], Any] | None
    pin_memory: bool
    device: torch.device | str | None
    rank: int | None
    world: int | None
    drop_last: bool
    order_by: str | None
    shuffle: int | None
    shuffle_buffer: int
    prefetch: int


@dataclass(frozen=True, slots=True)
class LoaderRules:
    """Who reads batches, and what becomes of them.

    Args:
        workers: Processes that read batches and ``map`` them; 0: threads read ahead, and ``map``
            is called in the loop. The batches and their order are the same.
        map: A function of a batch; what it returns is handed out.
        pin_memory: Put tensors into pinned memory, where there is CUDA.
        device: Where tensors are brought.
        rank: Which of ``world`` trainers this is, counted from 0. Without both they are those of
            ``torch.distributed``, if that is initialized, else it is the only one.
        world: How many there are.
        drop_last: Leave out, at the end of an epoch, what does not fill a batch for every rank.
            Without it the rest is shared evenly.
    """

    workers: int = 0
    map: Callable[[Any], Any] | None = None
    pin_memory: bool = False
    device: torch.device | str | None = None
    rank: int | None = None
    world: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            CollectionError: names the option.
        """
        object.__setattr__(self, "workers", count_of("workers", self.workers))
        for good, message in (
            (
                self.map is None or callable(self.map),
                f"map must be a function of a batch, got {self.map!r}",
            ),
            (
                isinstance(self.pin_memory, bool),
                f"pin_memory must be True or False, got {self.pin_memory!r}",
            ),
            (
                (self.rank is None) == (self.world is None),
                f"rank and world go together, got rank={self.rank} world={self.world}",
            ),
        ):
            if not good:
                raise CollectionError(message)
        if self.device is not None:
            object.__setattr__(self, "device", _device(self.device))


class Loader:
    """Batches as tensors, dealt to the ranks in turn out of one order that all of them share.

    Each ``for`` over it is an epoch; one that was left begins again. All ranks have as many
    batches, and step together. Then ``state_dict`` is the same on all of them: the epoch, and the
    row that the rounds so far end before. After ``load_state_dict``, in any number of ranks and
    workers, the next loop hands out the rows from there on, each once.
    """

    def __init__(
        self, batches: Batches[Any], deal: Deal, rules: LoaderRules, view: Mapping[str, Any]
    ) -> None:
        """Deal ``batches`` of a whole order; ``view`` names the snapshot in a state."""
        self.rules = rules
        self._batches, self._deal, self._view = batches, deal, view
        self._keys = _Keys(0, 0, 0)
        self._epoch, self._row, self._resumes = 0, 0, False

    def __repr__(self) -> str:
        """Say how it deals, and what."""
        deal = self._deal
        return f"Loader({self._batches!r}, rank {deal.rank} of {deal.world})"

    def __dir__(self) -> list[str]:
        """List what users may call."""
        return public_names(self)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, for each rank."""
        return self._deal.rounds(0)

    @property
    def epoch(self) -> int:
        """The epoch of the place, counted from 0: ``for epoch in range(loader.epoch, epochs)``."""
        return self._epoch

    def __iter__(self) -> Iterator[Any]:
        """Yield this rank's batches from the place on that was loaded, or of an epoch."""
        deal, epoch, start = self._deal, self._epoch, self._row if self._resumes else 0
        self._resumes = False
        count = deal.rounds(start)
        batches = self._from_workers if self.rules.workers else self._here
        for number, batch in zip(range(count), batches(epoch, start, count), strict=True):
            self._epoch, self._row = epoch, deal.end(start, number + 1)
            if deal.is_scant(start, number):
                self._warn(self._row - deal.end(start, number))
            yield self._brought(batch)
        self._epoch, self._row = epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop be this epoch, counted from 0.

        Raises:
            CollectionError: it is none.
        """
        self._epoch, self._row, self._resumes = count_of("epoch", epoch), 0, False

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch handed out, as plain JSON values.

        It is the same on all ranks that were handed out as many.
        """
        return {"format": 2, **self._identity(), "epoch": self._epoch, "row": self._row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop begin at a place, which any number of ranks and workers may have saved.

        Raises:
            CollectionError: it is one of another order of rows, or of batches that are sharded.
        """
        parts = parts_of(state, ("epoch", "row"), "a state of a loader")
        if "shard" in state:
            message = (
                f"the state is not a loader's but of batches with shard={state['shard']}; "
                "load it into to_torch or to_numpy_batches, made as they were made then"
            )
            raise CollectionError(message)
        epoch, row = map(count_of, ("epoch", "row"), parts)
        check_same(state, self._identity())
        self._epoch, self._row, self._resumes = epoch, row, True

    def _identity(self) -> dict[str, Any]:
        """Name the order that rows are counted in; how it is dealt is no part of it."""
        rules = self._batches.rules
        names = ("shuffle", "shuffle_buffer", "order_by")
        return {**self._view, **{name: getattr(rules, name) for name in names}}

    def _here(self, epoch: int, start: int, count: int) -> Iterator[Any]:
        shares = (self._deal.share(start, number) for number in range(count))
        return _mapped(self._batches.taken(epoch, shares), self.rules.map)

    def _from_workers(self, epoch: int, start: int, count: int) -> Iterator[Any]:
        self._keys.set(epoch, start, -(-count // _group(self._deal)))
        for group in self._workers:
            yield from _each_tensor(group, _Packed, _unpacked)

    @cached_property
    def _workers(self) -> DataLoader[Any]:
        """Processes that last as long as this does; each is told anew in every loop."""
        return DataLoader(
            _Groups(self._batches, self._deal, self.rules.map),
            batch_size=None,
            sampler=self._keys,
            num_workers=self.rules.workers,
            collate_fn=_as_is,
            persistent_workers=True,
        )

    def _brought(self, batch: Any) -> Any:
        device, pins = self.rules.device, self.rules.pin_memory and torch.cuda.is_available()
        if pins:
            batch = _each_tensor(batch, torch.Tensor, torch.Tensor.pin_memory)
        if device is not None:
            batch = _each_tensor(
                batch, torch.Tensor, lambda each: each.to(device, non_blocking=pins)
            )
        return batch

    def _warn(self, rows: int) -> None:
        message = (
            f"{rows} rows are left of epoch {self._epoch} for {self._deal.world} ranks: some of "
            "these get a row that others have, too; drop_last=True leaves such rows out"
        )
        warnings.warn(message, stacklevel=3)


def loader_of(
    sequence: RowSequence,
    batch_size: int,
    options: Mapping[str, Any],
    label: str | None,
    *,
    view: Mapping[str, Any],
    where: str,
) -> Loader:
    """Return the loader that options ask for; those of batches and of columns among them.

    Raises:
        CollectionError: an option is unknown or makes no sense, or no array can hold a column.
    """
    check_names(options, LoaderOptions)
    names = {each.name for each in fields(LoaderRules)}
    rules = LoaderRules(**{name: value for name, value in options.items() if name in names})
    others = {name: value for name, value in options.items() if name not in names}
    arrays, left = arrays_of(sequence, others, where, label)
    cut = BatchRules(batch_size, **left)
    rank, world = _position(rules)
    batches = numpy_batches(sequence, arrays, cut, view)
    deal = Deal(sum(sequence.rows), cut.batch_size, rank, world, rules.drop_last)
    return Loader(batches, deal, rules, view)


class _Key(NamedTuple):
    """A group of batches: ``number`` of those of the loop from row ``start`` of an epoch on."""

    epoch: int
    start: int
    number: int


class _Keys:
    """The groups of a loop, in the order in which workers are asked for them and hand them out."""

    def __init__(self, epoch: int, start: int, count: int) -> None:
        self.set(epoch, start, count)

    def set(self, epoch: int, start: int, count: int) -> None:
        self._place, self._count = (epoch, start), count

    def __iter__(self) -> Iterator[_Key]:
        return (_Key(*self._place, number) for number in range(self._count))


class _Groups(Dataset):  # type: ignore[misc] # torch is Any where it is missing
    """Groups of batches by their keys; in a worker those come that it is asked for in turn."""

    def __init__(
        self, batches: Batches[Any], deal: Deal, map_: Callable[[Any], Any] | None
    ) -> None:
        self._batches, self._deal, self._map = batches, deal, map_
        self._next: _Key | None = None
        self._coming: Iterator[list[Any]] = iter(())

    def __getitem__(self, key: _Key) -> list[Any]:
        step = get_worker_info().num_workers
        if key != self._next:
            self._coming = self._from(key, step)
        group = next(self._coming)
        self._next = key._replace(number=key.number + step)
        return group

    def _from(self, key: _Key, step: int) -> Iterator[list[Any]]:
        """Yield every ``step``-th group, this one first."""
        deal, size = self._deal, _group(self._deal)
        count = deal.rounds(key.start)
        groups = [range(at, min(at + size, count)) for at in range(0, count, size)]
        mine = groups[key.number :: step]
        shares = (deal.share(key.start, number) for group in mine for number in group)
        batches = _mapped(self._batches.taken(key.epoch, shares), self._map)
        for group in mine:
            yield [
                _each_tensor(each, torch.Tensor, _packed) for each in islice(batches, len(group))
            ]


def _group(deal: Deal) -> int:
    return max(min(_GROUP_BATCHES, _GROUP_ROWS // deal.batch_size), 1)


def _mapped(batches: Iterator[Any], map_: Callable[[Any], Any] | None) -> Iterator[Any]:
    made = map(tensors, batches)
    return made if map_ is None else map(map_, made)


class _Packed(NamedTuple):
    """A tensor on its way from a worker: an array is sent with what it is in, not as a file."""

    array: npt.NDArray[Any]


def _packed(tensor: torch.Tensor) -> Any:
    try:
        return _Packed(tensor.numpy())
    except (TypeError, RuntimeError):  # numpy has no such type, or it is no plain tensor
        return tensor


def _unpacked(packed: _Packed) -> torch.Tensor:
    return torch.from_numpy(packed.array)


def _each_tensor(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Change what is of a ``kind`` within dicts, lists and tuples; all else stays as it is."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        changed = copy(value)  # of its own kind, as an OrderedDict
        for name, each in value.items():
            changed[name] = _each_tensor(each, kind, change)
        return changed
    if type(value) is list:
        return [_each_tensor(each, kind, change) for each in value]
    if isinstance(value, tuple):
        parts = [_each_tensor(each, kind, change) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _as_is(group: list[Any]) -> list[Any]:
    return group


def _position(rules: LoaderRules) -> tuple[int, int]:
    """Return the rank, and how many there are."""
    if rules.rank is not None and rules.world is not None:
        return rules.rank, rules.world
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _device(given: Any) -> torch.device:
    try:
        return torch.device(given)
    except (RuntimeError, TypeError) as error:
        message = f"device must be one of PyTorch's, as 'cpu' or 'cuda:0', got {given!r}"
        raise CollectionError(message) from error
