"""Message ids: one that stands twice is found, whatever it looks like, and no other is."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.inspection.message_ids import MessageIds

NUMBERS = ["0", "7", f"{10**18 - 1}"]
IDS = st.sampled_from([*NUMBERS, "07", "-7", "", "m0", f"{10**18}", f"{2**64}"])
ROWS = st.lists(st.tuples(IDS, st.integers(0, 2)), max_size=4)


@given(st.lists(st.tuples(st.booleans(), ROWS), max_size=4))
def test_an_id_stands_twice_or_it_is_not_found(
    files: list[tuple[bool, list[tuple[str, int]]]],
) -> None:
    """Rows of one message have places of their own; a dead letter is all of it."""
    seen, held = MessageIds(), defaultdict[str, list[tuple[str, int | None]]](list)
    for number, (is_letters, rows) in enumerate(files):
        path = f"file-{number}"
        ids = pa.chunked_array([pa.array([id_ for id_, _ in rows], pa.string())])
        if is_letters:
            seen.letters(path, ids)
        else:
            seen.rows(path, ids, np.array([index for _, index in rows], np.int64))
        for id_, index in rows:
            held[id_].append((path, None if is_letters else index))

    found = [*seen.findings()]

    twice = {id_: {path for path, _ in places} for id_, places in held.items() if is_twice(places)}
    names = {id_: id_ if id_ in NUMBERS else repr(id_) for id_ in twice}
    assert len(found) == len({*found}) == len(twice)
    for id_, name in names.items():
        (told,) = (each for each in found if f"message id {name} are in" in each)
        assert twice[id_] <= {*told.partition(": see ")[2].split(", ")}


def is_twice(places: list[tuple[str, int | None]]) -> bool:
    """Tell whether two of some places can't both be right."""
    indexes = [index for _, index in places]
    return len(indexes) > 1 and (None in indexes or len({*indexes}) < len(indexes))


def test_of_many_findings_some_are_told() -> None:
    """A collection that was begun anew would have as many as it has messages."""
    seen = MessageIds()
    for path in ("a", "b"):
        seen.letters(path, pa.chunked_array([[f"m{number}" for number in range(1000)]]))

    assert len([*seen.findings()]) == 20
