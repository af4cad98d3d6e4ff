"""What is held: each message once, by its last lease, within bounds, until it was released."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batch_collection.errors import StorageError
from tests.leased_stream import BEGIN
from transforms.sources.contract import LEASED
from transforms.sources.pubsub.held import BYTES_A_PULL, TAKEN, Bounds, Held

ALL = 10**9
NUMBERS = st.lists(st.integers(0, 30), max_size=8)
BOUNDS = Bounds(messages=20, bytes=2 * BYTES_A_PULL, memory=1_000)


def table(*deliveries: tuple[str, str], value: bytes = b"x" * 100) -> pa.Table:
    """Return deliveries, ids and leases, as a source gives them."""
    rows = [
        {"id": each, "lease": lease, "published": BEGIN, "value": value, "key": each}
        for each, lease in deliveries
    ]
    return pa.Table.from_pylist(rows, schema=LEASED)


def pulled(held: Held, *deliveries: tuple[str, str], now: float = 0.0, value: bytes = b"x") -> None:
    """Let a pull bring something."""
    asked = held.ask()
    assert asked
    held.came(asked, table(*deliveries, value=value), now)


def ids(found: pa.Table) -> list[str]:
    """Return the ids of messages."""
    return found["id"].to_pylist()


class HeldMachine(RuleBasedStateMachine):
    """Deliveries, redeliveries, plans, confirmations and crashes, against a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.deliveries = 0
        self.gone: set[str] = set()  # acknowledged: such a message may come again all the same
        self.crash()

    @rule()
    def crash(self) -> None:
        """All is forgotten; leases lapse, and what is not acknowledged comes again."""
        self.held = Held(BOUNDS)
        self.leases: dict[str, str] = {}
        self.owners: dict[str, str | None] = {}  # plan, or None: waiting
        self.released: set[str] = set()
        self.asked: list[int] = []

    @rule()
    def ask(self) -> None:
        """A pull is begun."""
        if asked := self.held.ask():
            self.asked.append(asked)

    @precondition(lambda self: self.asked)
    @rule(numbers=NUMBERS, is_lost=st.booleans())
    def come(self, numbers: list[int], *, is_lost: bool) -> None:
        """It brings messages, some of which are held, or came twice in it; or it fails."""
        asked = self.asked.pop(0)
        numbers = numbers[:asked]
        given = []
        for number in numbers:
            self.deliveries += 1
            given.append((str(number), f"lease-{self.deliveries}"))
        extended = self.held.came(
            asked, None if is_lost else table(*given), now=self.deliveries / 5
        )
        assert extended == ([] if is_lost else [lease for _, lease in given])
        self.held.put_away()
        for each, lease in () if is_lost else given:
            self.leases[each] = lease
            self.owners.setdefault(each, None)

    @rule(plan=st.sampled_from("pq"), messages=st.integers(1, 10), nbytes=st.integers(1, 900))
    def take(self, plan: str, messages: int, nbytes: int) -> None:
        """A plan takes what waits, whole and once."""
        waiting = [each for each, owner in self.owners.items() if owner is None]
        found = self.held.take(plan, messages, nbytes)
        assert found.schema == TAKEN
        taken = ids(found)
        assert len(taken) == len(set(taken)) <= messages
        assert set(taken) <= set(waiting) - self.released
        assert bool(taken) == bool(set(waiting) - self.released)
        assert len(taken) <= max(1, nbytes // 100)
        for row in found.to_pylist():
            assert (row["key"], row["value"]) == (row["id"], b"x" * 100)
        self.owners |= dict.fromkeys(taken, plan)

    @rule(plan=st.sampled_from("pq"))
    def end(self, plan: str) -> None:
        """What a plan took and nobody released waits again."""
        left = {e for e, owner in self.owners.items() if owner == plan} - self.released
        assert self.held.put_back(plan) == len(left)
        self.owners |= dict.fromkeys(left, None)

    @rule(numbers=NUMBERS)
    def release(self, numbers: list[int]) -> None:
        """The log names ids, some of which are not held here."""
        found = {str(number) for number in numbers} & self.owners.keys()
        assert self.held.release(pa.array([str(n) for n in set(numbers)], pa.string())) == len(
            found
        )
        self.released |= found

    @rule(numbers=NUMBERS)
    def acknowledge(self, numbers: list[int]) -> None:
        """What was released is acknowledged; some of it comes again before the answer."""
        sent = self.held.released()
        assert set(sent.values()) <= self.released
        again = {str(number) for number in numbers} & set(sent.values())
        asked = self.held.ask()
        if asked:
            self.asked.append(asked)
            self.asked.remove(asked)
            given = [(each, f"again-{self.deliveries}-{each}") for each in sorted(again)][:asked]
            self.held.came(asked, table(*given), now=self.deliveries / 5)
            self.leases |= dict(given)
            again = {each for each, _ in given}
            self.deliveries += 1
        else:
            again = set()
        self.held.acknowledged(sent)
        for each in set(sent.values()) - again:
            del self.leases[each], self.owners[each]
            self.released.discard(each)

    @rule()
    def give_up(self) -> None:
        """All but what was released goes back."""
        kept = {each: self.leases[each] for each in self.released}
        given = set(self.leases.values()) - set(kept.values())
        assert sorted(self.held.give_up()) == sorted(given)
        self.leases = kept
        self.owners = {each: self.owners[each] for each in kept}

    @invariant()
    def each_is_held_once_by_its_last_lease(self) -> None:
        """And nothing else is extended or acknowledged."""
        assert sorted(self.held.leases()) == sorted(self.leases.values())
        assert self.held.released() == {self.leases[each]: each for each in self.released}
        assert len(self.held) == len(self.leases)

    @invariant()
    def bounds_are_kept(self) -> None:
        """Pulls that are on their way included."""
        assert len(self.held) + sum(self.asked) <= BOUNDS.messages
        assert self.held.nbytes + BYTES_A_PULL * len(self.asked) <= BOUNDS.bytes
        assert (self.held.nbytes > 0) == (len(self.held) > 0)

    @invariant()
    def what_waits_is_counted(self) -> None:
        """By messages and bytes."""
        waiting = [e for e, owner in self.owners.items() if owner is None]
        count = len(set(waiting) - self.released)
        found = self.held.waiting()
        assert found.messages == count
        assert (found.bytes > 0, found.since is not None) == (count > 0, count > 0)


TestHeld = HeldMachine.TestCase
TestHeld.settings = settings(max_examples=150, stateful_step_count=40)


def test_nothing_is_pulled_when_it_is_full() -> None:
    """Not by messages, and not by bytes."""
    held = Held(Bounds(messages=1_500, bytes=100 * BYTES_A_PULL))
    assert [held.ask() for _ in range(3)] == [1_000, 500, 0]
    held.came(500, None, 0.0)
    assert held.ask() == 500
    held = Held(Bounds(messages=10**6, bytes=3 * BYTES_A_PULL))
    assert [held.ask() for _ in range(4)] == [1_000] * 3 + [0]
    held.came(1_000, table(("1", "a"), value=bytes(BYTES_A_PULL // 2)), 0.0)
    assert held.ask() == 0
    held.came(1_000, None, 0.0)
    assert [held.ask(), held.ask()] == [1_000, 0]


def test_one_answer_is_taken_whatever_the_bound() -> None:
    """Else nothing would ever come."""
    held = Held(Bounds(bytes=1))
    assert [held.ask(), held.ask()] == [1_000, 0]


def test_the_last_lease_counts_also_of_what_was_released() -> None:
    """A message that is delivered again before its acknowledgement is heard."""
    held = Held()
    pulled(held, ("1", "a"), ("2", "b"))
    held.release(pa.array(["1"]))
    sent = held.released()
    pulled(held, ("1", "c"))
    held.acknowledged(sent)
    assert held.released() == {"c": "1"}
    assert held.leases() == ["c", "b"]
    held.acknowledged(held.released())
    assert (held.leases(), held.released()) == (["b"], {})


def test_a_plan_takes_what_came_first_and_up_to_its_bytes() -> None:
    """But one message whatever its size."""
    held = Held()
    pulled(held, ("1", "a"), ("2", "b"), now=5.0, value=bytes(1_000))
    pulled(held, ("3", "c"), now=7.0, value=bytes(10))
    assert held.waiting() == (3, 3 * 64 + 2_010, 5.0)
    assert ids(held.take("p", 10, 1)) == ["1"]
    assert ids(held.take("p", 10, 2_000)) == ["2", "3"]
    assert ids(held.take("p", 10, 2_000)) == []
    assert held.put_back("p") == 3
    assert ids(held.take("q", 2, 10_000)) == ["1", "2"]
    assert held.waiting() == (1, 74, 7.0)


def test_answers_that_bring_little_are_held_together() -> None:
    """But not over a second, so that it is known since when the oldest waits; and not for ever."""
    held = Held()
    for number in range(3_000):
        pulled(held, (str(number), f"lease-{number}"), now=number / 10)
    assert 250 < len(held._chunks) < 300  # noqa: SLF001
    assert ids(held.take("p", 2_500, ALL)) == [str(number) for number in range(2_500)]
    since = held.waiting().since
    assert since is not None
    assert 249 <= since <= 250
    quick = Held()
    for number in range(3_000):
        pulled(quick, (str(number), f"lease-{number}"))
    assert len(quick._chunks) == 3  # noqa: SLF001
    assert quick.leases() == [f"lease-{number}" for number in range(3_000)]


def test_what_is_beyond_memory_lies_in_a_file_that_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads as it came, and its room is free once all of it is gone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = Held(Bounds(memory=10_000))
    before = open_files(tmp_path)
    for number in range(30):
        pulled(held, (str(number), f"lease-{number}"), value=b"%d" % number * 500)
        held.put_away()
        assert sum(c.nbytes for c in held._chunks.values() if c.batch is not None) <= 10_000  # noqa: SLF001
    assert list(tmp_path.iterdir()) == []
    assert len(open_files(tmp_path)) > len(before)
    found = held.take("p", 100, 10**9)
    assert ids(found) == [str(number) for number in range(30)]
    assert found["value"].to_pylist() == [b"%d" % number * 500 for number in range(30)]
    held.release(found["id"])
    held.acknowledged(held.released())
    del found
    assert open_files(tmp_path) == before
    assert held.nbytes == 0


def test_a_disk_that_is_full_is_said_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What could not be put away stays in memory."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    held = Held(Bounds(memory=10))
    pulled(held, ("1", "a"))
    with pytest.raises(StorageError, match="cannot put messages away in folder=/nowhere"):
        held.put_away()
    assert ids(held.take("p", 1, 1)) == ["1"]


def open_files(folder: Path) -> list[Path]:
    """Return which of this process's open files lie in a folder, whatever their names were."""
    found = []
    for each in Path("/dev/fd").iterdir():
        with suppress(OSError):
            found.append(each.readlink())
    return [each for each in found if each.is_relative_to(folder)]
