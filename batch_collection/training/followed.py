"""What is new in a log, for who comes again and again: batches, or their rows for training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError
from batch_collection.given import count_of, parts_of, whole_number
from batch_collection.loading import extra
from batch_collection.log.batch import Batch
from batch_collection.reading.cursor import Place
from batch_collection.reading.row_sequence import RowSequence, outlines
from batch_collection.training.arrays import ArrayRules, Arrays
from batch_collection.training.batches import (
    ColumnOptions,
    check_names,
    cut_arrays,
    join_arrays,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import tensorflow as tf
    from typing_extensions import Unpack

    from batch_collection.reading.following import Following
    from batch_collection.training.batches import Columns
    from batch_collection.training.to_torch import FollowedTorchBatches

__all__ = ["Followed", "FollowedBatches"]


class Followed(Iterator[Batch]):
    """Each batch that a cursor has not passed, in the order of the log, as an iterator.

    Or their rows, in that order, by one of its methods: a loop goes on where the one before it
    ended, in any process. Columns and types are those of the view that is followed.
    """

    def __init__(
        self,
        following: Callable[[], Following[Batch]],
        sequence: Callable[[], RowSequence],
        where: str,
    ) -> None:
        """Follow by what ``following`` makes; ``sequence`` tells the columns of ``where``."""
        self._following, self._sequence, self._where = following, sequence, where
        self._batches: Generator[Batch, None, None] = following().items()

    def __next__(self) -> Batch:
        """Return the next batch; the place after the one before it is remembered."""
        return next(self._batches)

    def close(self) -> None:
        """End the loop; the last batch comes again."""
        self._batches.close()

    def to_numpy_batches(
        self,
        batch_size: int,
        *,
        label: str | None = None,
        drop_remainder: bool = False,
        **options: Unpack[ColumnOptions],
    ) -> FollowedBatches:
        """Return rows in batches, as ``Collection.to_numpy_batches`` does those of a view.

        Args:
            batch_size: The rows of each batch. While a loop waits for new rows, fewer than that
                wait with it.
            label: A column that is handed out apart from the others.
            drop_remainder: Let fewer rows wait for the next loop, too, which begins with them;
                else they are the last batch of a loop that ends.
            options: As ``ArrayRules`` has them.

        Raises:
            CollectionError: an option makes no sense, or no array can hold a column.
        """
        check_names(options, ColumnOptions)
        rules = ArrayRules(**options, label=label)
        sequence = self._sequence()
        arrays = Arrays(rules, sequence.unified, self._where)
        size = whole_number("batch_size", batch_size)
        if size < 1:
            message = f"batch_size must be at least 1, got {size}"
            raise CollectionError(message)
        return FollowedBatches(self._following, arrays, sequence, size, drop=drop_remainder)

    def to_torch(self, batch_size: int, **options: Any) -> FollowedTorchBatches:
        """Return rows as an ``IterableDataset``; options as ``to_numpy_batches``.

        Raises:
            CollectionError: as there, or PyTorch is not installed.
        """
        extra("torch")
        module = extra("batch_collection.training.to_torch", "torch")
        return module.FollowedTorchBatches(self.to_numpy_batches(batch_size, **options))

    def to_tf(self, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Return rows as a ``tf.data.Dataset``; options as ``to_numpy_batches``.

        Raises:
            CollectionError: as there, or TensorFlow is not installed.
        """
        extra("tensorflow")
        module = extra("batch_collection.training.to_tensorflow", "tensorflow")
        return module.followed_dataset(self.to_numpy_batches(batch_size, **options))


class FollowedBatches:
    """Batches of exactly ``batch_size`` rows, of those that a cursor has not passed.

    The place is remembered when the next batch is asked for, once a second at most, and when the
    loop ends or waits: each row comes once, those of the last batch again if a loop was left, and
    those of the last second if its process died. ``state_dict`` tells the place after
    the last batch handed out, for who keeps it with a model: after ``load_state_dict`` of what was
    kept, the next loop begins there, so that no row is used twice, nor left out.
    """

    def __init__(
        self,
        following: Callable[[], Following[Batch]],
        arrays: Arrays,
        sequence: RowSequence,
        size: int,
        *,
        drop: bool,
    ) -> None:
        """Make ``arrays`` of rows, ``size`` at a time."""
        self.arrays = arrays
        self._following, self._unified = following, sequence.unified
        self._size, self._drops = size, drop
        self._place: Place | None = None

    def __iter__(self) -> Iterator[Any]:
        """Yield batches, then wait for new rows, or end where ``follow`` was told to."""
        return map(self.arrays.labelled, self.as_columns())

    def as_columns(self) -> Generator[Columns, None, None]:
        """Yield batches as dicts, the label among them."""
        following = self._following()
        held: list[Columns] = []
        lacking = self._size
        after: Place | None = None
        try:
            for step in following.steps():
                after, one = step.after, step.item
                if one is None:
                    if not held:
                        following.put_off(after)
                    continue
                rows, at = self._read(one, step.used), step.used
                while one.rows - at >= lacking:
                    held.append(cut_arrays(rows, at - step.used, at - step.used + lacking))
                    at += lacking
                    place = after if at == one.rows else Place(one.cycle, one.number, row=at)
                    yield self._handed(held, replace(place, stub=following.stub))
                    held, lacking = [], self._size
                    following.reach(place, often=True)
                if at < one.rows:
                    held.append(cut_arrays(rows, at - step.used, one.rows - step.used))
                    lacking -= one.rows - at
            if held and after is not None and not self._drops:
                yield self._handed(held, replace(after, stub=following.stub))
                following.reach(after)
        finally:
            following.remember()

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch handed out, as plain JSON values.

        Raises:
            CollectionError: none was.
        """
        if self._place is None:
            message = "no batch was handed out yet; the cursor has the place"
            raise CollectionError(message)
        return {"format": 1, **asdict(self._place)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the cursor stand at a place.

        Raises:
            CollectionError: it is none.
        """
        parts = parts_of(state, ("cycle", "index", "row"), "the place of a follower")
        cycle, index, row = map(count_of, ("cycle", "index", "row"), parts)
        self._following().cursor.store(Place(cycle, index, state.get("stub"), row))

    def _handed(self, held: list[Columns], place: Place) -> Columns:
        self._place = place
        return join_arrays(held) if len(held) > 1 else held[0]

    def _read(self, one: Batch, used: int) -> Columns:
        sequence = RowSequence((one,), outlines((one,), {}), (), self._unified)
        return self.arrays.of(sequence.table(0, self.arrays.schema).slice(used))
