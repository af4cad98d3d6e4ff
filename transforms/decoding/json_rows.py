"""Rows of JSON messages, a whole chunk parsed at once.

Most messages are plain, and become rows in C (``plain``). What is left is read here: each message
is wrapped as ``{"v":...}``, so that objects and arrays decode alike, and all are joined for one
pass of pyarrow.json under an explicit schema that refuses unknown fields. If it fails, some
messages are looked at one by one (``json_value``), which finds bad messages and learns new columns,
then it runs again; if it still fails, in parts. Which way a message goes makes no difference to
what becomes of it.

Why no message can move onto another's offset: pyarrow's parser refuses raw line feeds in strings,
so after the ``}`` that follows a message the next wrapper's ``{`` is legal only outside of any
document. Hence no document spans two messages, each holds at least one, and as many documents as
messages means one each. A second key beside ``v`` is an unknown field.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.types import MAX_LEVELS, is_changed, merge, prune, untyped
from transforms.decoding.additions import folded, objection
from transforms.decoding.contract import (
    Piece,
    Reading,
    SchemaChange,
    array_of,
    grow,
    reason_of,
    too_much,
)
from transforms.decoding.json_instants import as_texts, with_instants
from transforms.decoding.json_value import (
    MAX_DEPTH,
    Misfit,
    check,
    depth,
    fitted,
    infer,
    load,
    written,
)
from transforms.decoding.plain import plain_reader
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from batch_collection.schema.types import Schema
    from transforms.decoding.contract import Columns
    from transforms.decoding.plain import PlainReader
    from transforms.decoding.rules import RowRules

__all__ = ["parse", "read_json"]


_CLOSE_LOOK = 64  # messages
_CLOSE_LOOK_BYTES = 1 << 20
_PARTS = 8
_FEW_FAILURES = 4  # of a chunk: of more, what is no JSON is looked for in all of a part
_MOST_BYTES = 1 << 28  # its blocks are below 2 GiB
_MOST_MESSAGES = 50_000  # pyarrow's parser stops at 100,000 rows a block
_PARSERS = min(os.cpu_count() or 1, 4)
_WORTH_A_THREAD = 2_000  # messages
_OR_KEEP = "or keep messages as they are with --input_format=bytes"
_NOTHING = pa.array([b""])
_ROW = re.compile(r" in row (\d+)$")
_P = TypeVar("_P")
_Found = TypeVar("_Found")


def read_json(messages: pa.Table, columns: Columns, rules: RowRules) -> Reading:
    """Return what the values of messages hold.

    New columns are learned from the messages in their order, those that are objects before those
    that are arrays: integers int64 (double with ``--numbers=double``), fractions double, text
    string. A type once known refuses other values; see ``json_value.check``. What was ``dropped``
    is left out, whatever it holds, quickly where that is of the type that it had.

    Raises:
        SchemaChange: a column in ``known`` but not ``pinned`` must become double.
    """
    integers = "double" if rules.numbers == "double" else "int64"
    values = array_of(messages.column("value"))
    reader = _Reader(values, columns, columns.known, integers, rules.reserved)
    reader.read()
    return Reading(reader.pieces, reader.faults, reader.known, reader.untyped)


@dataclass(frozen=True, slots=True)
class _Part:
    """Messages that are still to be read.

    ``screened``: none is left that is no JSON; ``looked_at``: those in front were looked at
    closely; ``vetted``: all were, and found good.
    """

    numbers: npt.NDArray[np.int64]
    screened: bool = False
    looked_at: bool = False
    vetted: bool = False


@dataclass
class _Reader:
    values: pa.Array
    columns: Columns
    known: Schema
    integers: str
    reserved: frozenset[str]
    pieces: list[Piece] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    untyped: Schema = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shape = self.known  # and the nulls and empty things met in this chunk
        self._typed_shape, self._type = (
            self._shape,
            to_arrow({**self._shape, **self.columns.dropped}),
        )
        self._is_changed = False
        self._failures = 0
        self._rewritten: dict[int, bytes] = {}  # messages as their columns hold them
        self._lengths = pc.binary_length(self.values).fill_null(0).to_numpy()

    def read(self) -> None:
        """Read everything; all types that change are told together."""
        objects, arrays, others = self._by_kind()
        self._read(objects, nested=False)
        self._read(arrays, nested=True)
        for number in self._close_look(others):  # can't be: they are neither
            self.faults[number] = "neither an object nor an array; send JSON objects"
        if self._is_changed:
            raise SchemaChange(self.known)

    def _by_kind(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the messages that can only be objects, arrays, and neither, by their first byte."""
        live = _true(self.values.is_valid())
        kinds = _first_bytes(self.values, self._lengths)
        objects, arrays = kinds == ord("{"), kinds == ord("[")
        for number in np.flatnonzero(live & ~objects & ~arrays):
            first = self._bytes(number).lstrip(b" \t\r\n")[:1]
            objects[number], arrays[number] = first == b"{", first == b"["
        live &= ~self._too_deep()
        for chosen in (live & objects, live & arrays, live & ~objects & ~arrays):
            yield np.flatnonzero(chosen)

    def _too_deep(self) -> npt.NDArray[np.bool_]:
        """Note messages that nest too deep; only those with many brackets are looked at."""
        deep = np.zeros(len(self.values), np.bool_)
        if self._lengths.max(initial=0) <= 2 * MAX_DEPTH:  # can't nest deeper than Arrow bears
            return deep
        for number in np.flatnonzero(_brackets(self.values) > MAX_DEPTH):
            levels = depth(self._bytes(number))
            if levels > MAX_DEPTH:
                deep[number] = True
                self.faults[int(number)] = (
                    f"nested {levels} levels deep, the limit is {MAX_LEVELS}; make it flatter, "
                    f"{_OR_KEEP}"
                )
        return deep

    def _bytes(self, number: Any) -> bytes:
        number = int(number)
        return self._rewritten.get(number) or self.values[number].as_py()

    def _read(self, numbers: npt.NDArray[np.int64], *, nested: bool) -> None:
        """Read messages of one kind: those that are plain, then the others.

        What is learned from a few of the others may make the rest plain.
        """
        while len(numbers) and (reader := plain_reader(self._type_of(nested=nested))):
            others = self._read_plain(reader, numbers, nested=nested)
            few, numbers = others[:_CLOSE_LOOK], others[_CLOSE_LOOK:]
            shape = self._shape
            self._read_others(few, nested=nested)
            if self._shape is shape:
                break
        self._read_others(numbers, nested=nested)

    def _type_of(self, *, nested: bool) -> pa.DataType:
        """Return the type of a message of one kind, with all that is known by now."""
        if self._typed_shape is not self._shape:
            self._typed_shape = self._shape
            self._type = to_arrow({**_parsable(self._shape), **self.columns.dropped})
        return pa.list_(self._type) if nested else self._type

    def _read_plain(
        self, reader: PlainReader, numbers: npt.NDArray[np.int64], *, nested: bool
    ) -> npt.NDArray[np.int64]:
        """Read those that are plain; return the others."""
        parts = np.array_split(numbers, _at_once(numbers))
        found = _at_the_same_time(partial(reader.read, self.values), parts)
        others = [numbers[:0]]
        for part, plain in zip(parts, found, strict=True):
            is_all = len(plain.values) == len(part)
            if len(plain.values):
                read = part if is_all else part[plain.is_plain]
                self.pieces.append(_piece_of(read, plain.values, nested=nested))
            if not is_all:
                others.append(part[~plain.is_plain])
        return np.concatenate(others)

    def _read_others(self, numbers: npt.NDArray[np.int64], *, nested: bool) -> None:
        """Read messages that may be anything: some parts at once, smaller ones if they fail.

        Between them messages are looked at closely, so that what is learned from one part is known
        when the next ones that failed are tried again.
        """
        parts = [_Part(each) for each in reversed(np.array_split(numbers, _at_once(numbers)))]
        while parts:  # the last is the next
            begun = [parts.pop() for _ in range(min(_at_once(parts[-1].numbers), len(parts)))]
            failed: list[tuple[_Part, pa.ArrowInvalid]] = []
            for part, found in zip(begun, self._tried(begun, nested=nested), strict=True):
                if isinstance(found, pa.ArrowInvalid):
                    failed.append((part, found))
                elif found is not None:
                    self.pieces.append(found)
            parts += [part for part, _ in reversed(failed[1:])]
            for part, error in failed[:1]:
                parts += reversed(self._smaller(part, error))

    def _tried(self, parts: list[_Part], *, nested: bool) -> list[Piece | pa.ArrowInvalid | None]:
        """Return of each part what it makes, or why it makes nothing; the parser frees the GIL."""
        type_ = self._type_of(nested=nested)

        def tried(part: _Part) -> Piece | pa.ArrowInvalid | None:
            try:
                return self._piece(part, type_, nested=nested) if len(part.numbers) else None
            except pa.ArrowInvalid as error:
                return error

        return _at_the_same_time(tried, parts)

    def _smaller(self, part: _Part, error: pa.ArrowInvalid) -> list[_Part]:
        """Return what to try instead of a part that failed.

        pyarrow names the row of most errors. It is only a hint: a message with two documents
        shifts it.
        """
        numbers, of = part.numbers, partial(_Part, screened=part.screened)
        self._failures += 1
        if self._failures > _FEW_FAILURES and not part.screened and len(numbers) > 1:
            return [self._screened(numbers)]
        row = _ROW.search(str(error))
        stumbled = int(row[1]) if row else len(numbers)
        if stumbled < len(numbers) and len(numbers) > _CLOSE_LOOK:
            seen = stumbled + _CLOSE_LOOK // 2
            rest = np.array_split(numbers[seen:], _PARTS)
            return [of(each) for each in (numbers[:stumbled], numbers[stumbled:seen], *rest)]
        if not part.looked_at:
            return [replace(self._sifted(numbers), screened=part.screened)]
        if len(numbers) > 1:
            return [of(each) for each in np.array_split(numbers, _PARTS)]
        return self._sifted_alone(part, error)

    def _screened(self, numbers: npt.NDArray[np.int64]) -> _Part:
        """Return all but those that are no JSON: where one is bad, many are, and it is quick."""
        good = np.ones(len(numbers), np.bool_)
        for place, number in enumerate(numbers.tolist()):
            try:
                orjson.loads(self._bytes(number))
            except orjson.JSONDecodeError:
                try:
                    load(self._bytes(number))  # whose word counts
                except Misfit as misfit:
                    self.faults[number] = str(misfit)
                    good[place] = False
        return _Part(numbers[good], screened=True)

    def _sifted(self, numbers: npt.NDArray[np.int64]) -> _Part:
        """Look closely at the first messages; return all but the bad."""
        sizes = np.cumsum(self._lengths[numbers[:_CLOSE_LOOK]], dtype=np.int64)
        looked_at = max(int(np.searchsorted(sizes, _CLOSE_LOOK_BYTES)), 1)
        good = np.array(self._close_look(numbers[:looked_at]), np.int64)
        rest = numbers[looked_at:]
        return _Part(np.concatenate([good, rest]), looked_at=True, vetted=not len(rest))

    def _sifted_alone(self, part: _Part, error: pa.ArrowInvalid) -> list[_Part]:
        """Look once more at a message that failed alone: more types may be known by now."""
        numbers = part.numbers
        before = self._bytes(numbers[0])
        if self._close_look(numbers):
            if not part.vetted or self._bytes(numbers[0]) != before:
                return [_Part(numbers, looked_at=True, vetted=True)]
            self.faults[int(numbers[0])] = reason_of(error)
        return []

    def _piece(self, part: _Part, type_: pa.DataType, *, nested: bool) -> Piece:
        numbers = part.numbers
        self._check_size(numbers)
        values = self._taken(numbers)
        if part.vetted:
            type_ = to_arrow(self.known)
            type_ = pa.list_(type_) if nested else type_
        piece = _piece_of(numbers, parse(values, type_, vetted=part.vetted), nested=nested)
        if piece.payload.null_count:
            message = "null instead of an object"
            raise pa.ArrowInvalid(message)
        if not part.vetted:
            self._check_floats(values, piece.payload)
        return piece

    def _taken(self, numbers: npt.NDArray[np.int64]) -> pa.Array:
        first, last = int(numbers[0]), int(numbers[-1])
        if last - first + 1 == len(numbers):
            values = self.values.slice(first, len(numbers))
        else:
            values = self.values.take(pa.array(numbers))
        if not self._rewritten:
            return values
        rewritten = np.isin(numbers, list(self._rewritten))
        texts = pa.array([self._bytes(number) for number in numbers[rewritten]], values.type)
        return pc.replace_with_mask(values, pa.array(rewritten), texts)

    def _check_size(self, numbers: npt.NDArray[np.int64]) -> None:
        """Refuse more than one parse bears, unless it is one message; then it is tried."""
        size = int(self._lengths[numbers].sum(dtype=np.int64))
        if len(numbers) > 1 and (len(numbers) > _MOST_MESSAGES or size > _MOST_BYTES):
            message = f"too much at once in row {len(numbers) // 2}"
            raise pa.ArrowInvalid(message)

    def _check_floats(self, values: pa.Array, payload: pa.StructArray) -> None:
        """Refuse NaN and infinities, and integers that their column has rounded."""
        for leaf in _floats(payload):
            digits, exact = (8, 2**24) if leaf.type == pa.float32() else (16, 2**53)
            if not pc.all(pc.is_finite(leaf)).as_py() and leaf.null_count < len(leaf):
                message = "NaN or an infinity is no JSON"
                raise pa.ArrowInvalid(message)
            if pc.any(pc.greater_equal(pc.abs(leaf), pa.scalar(exact, leaf.type))).as_py():
                self._check_long_numbers(values, digits)

    def _check_long_numbers(self, values: pa.Array, digits: int) -> None:
        long = pc.match_substring_regex(values, f"[0-9]{{{digits}}}")
        for place in np.flatnonzero(_true(long)):
            try:
                for value in _objects(self._kept(load(values[int(place)].as_py()))):
                    check(value, self._shape)
            except Misfit as misfit:
                message = f"{misfit} in row {place}"
                raise pa.ArrowInvalid(message) from misfit

    def _close_look(self, numbers: npt.NDArray[np.int64]) -> list[int]:
        """Learn from messages one by one; return those that are not known to be bad."""
        messages: dict[int, Any] = {}
        kept: dict[int, Any] = {}
        for number in map(int, numbers):
            try:
                messages[number] = load(self._bytes(number))
                kept[number] = self._kept(messages[number])
            except Misfit as misfit:
                self.faults[number] = str(misfit)
        good = self._learn(kept)
        for number in good:
            if (fits := _fitted(kept[number], self.known)) != messages[number]:
                self._rewritten[number] = written(fits)
        return good

    def _kept(self, message: Any) -> Any:
        """Return a message's value without the columns that were dropped."""
        objects = _objects(message)
        if not self.columns.dropped:
            return message
        kept = [
            {name: value for name, value in each.items() if name not in self.columns.dropped}
            for each in objects
        ]
        return kept if isinstance(message, list) else kept[0]

    def _learn(self, messages: dict[int, Any]) -> list[int]:
        """Take up what messages' values add, in their order; return those that are good.

        To take something up costs as much as all columns do, so it is done once for all of them; if
        one of them must not be, for one half and then the other.
        """
        grown, bad, adding = self.known, dict[int, str](), list[Any]()
        for number, message in messages.items():
            try:
                more = self._grown(grown, message)
            except Misfit as misfit:
                bad[number] = str(misfit)
                continue
            if more != grown:
                adding.append(message)
            grown = more
        try:
            if adding:
                self._adopt(grown, adding)
        except Misfit as misfit:
            if len(messages) > 1:
                pairs, middle = list(messages.items()), len(messages) // 2
                return [*self._learn(dict(pairs[:middle])), *self._learn(dict(pairs[middle:]))]
            bad = dict.fromkeys(messages, str(misfit))
        self.faults |= bad
        return [number for number in messages if number not in bad]

    def _grown(self, known: Schema, message: Any) -> Schema:
        """Return the types known with those that a message adds, which it must fit."""
        objects = _objects(message)
        grown = known
        for value in objects:
            self._check_names(value)
            grown = grow(grown, self.columns.pinned, infer(value, integers=self.integers))
        for value in objects:
            check(value, grown)
        return grown

    def _check_names(self, value: dict[str, Any]) -> None:
        for name in value:
            if name not in self.known and folded(name, self.columns.fold) in self.reserved:
                raise Misfit(_clash(name))

    def _note_untyped(self, value: dict[str, Any]) -> None:
        places = merge(self.untyped, untyped(value, self.known))
        # ever new names that never get a type are not worth more
        if places != self.untyped and not too_much(places, {}, times=2):
            self.untyped = places

    def _adopt(self, grown: Schema, messages: list[Any]) -> None:
        """Take up what messages add, if they are good and there is room."""
        if what := too_much(grown, self.known):
            reason = (
                f"{what} with this message's; send what varies as a list "
                f"of keys and values, {_OR_KEEP}"
            )
            raise Misfit(reason)
        typed = prune(grown)
        shape = merge(typed, merge(self._shape, grown, widen=False), widen=False)
        has_room = not too_much(shape, typed, times=2)
        if not has_room and len(messages) > 1:
            reason = "there may be room for some of them"
            raise Misfit(reason)
        if typed != self.known:
            if problem := objection(self.known, typed, self.columns.fold, self.columns.dropped):
                reason = f"{problem}, {_OR_KEEP}"
                raise Misfit(reason)
            self._prove(typed, messages)
            self._is_changed |= is_changed(self.known, typed)
            self.known = typed
        if has_room:  # else nulls under ever new names: no help
            self._shape = shape
        for value in (value for message in messages for value in _objects(message)):
            self._note_untyped(value)

    def _prove(self, typed: Schema, messages: list[Any]) -> None:
        """See that pyarrow would make rows of messages, before their columns are taken up."""
        names = {name for message in messages for value in _objects(message) for name in value}
        own = {name: type_ for name, type_ in typed.items() if name in names}
        texts = pa.array([written(_fitted(each, own)) for each in messages], pa.binary())
        type_ = to_arrow(own)
        try:  # all are objects, or all are arrays
            parse(texts, pa.list_(type_) if isinstance(messages[0], list) else type_, vetted=True)
        except pa.ArrowInvalid as error:
            raise Misfit(reason_of(error)) from error


def _at_the_same_time(function: Callable[[_P], _Found], parts: Sequence[_P]) -> list[_Found]:
    """Return what a function that frees the GIL returns of each part."""
    if len(parts) == 1:
        return [function(parts[0])]
    return list(current().threads("parsing", _PARSERS).map(function, parts))


def _piece_of(numbers: npt.NDArray[np.int64], parsed: Any, *, nested: bool) -> Piece:
    """Return the rows of messages: what each of them is, an object or a list of some."""
    if not nested:
        return Piece(numbers, numbers, None, parsed)
    payload, counts = parsed.flatten(), pc.list_value_length(parsed).to_numpy()
    index = np.arange(len(payload)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Piece(numbers, np.repeat(numbers, counts), index.astype(np.int32), payload)


def parse(values: pa.Array, type_: pa.DataType, *, vetted: bool = False) -> Any:
    """Return JSON messages as an array of ``type_``, one value a message and none null.

    Fields beside ``type_`` are refused, or dropped if messages are ``vetted``: they hold nothing.

    Raises:
        pyarrow.ArrowInvalid: any of them is not exactly one JSON text of that type.
    """
    values.cast(pa.string())  # not UTF-8? pyarrow.json would let it pass into binary
    text = _framed(values)
    if not np.frombuffer(text, np.uint8).all():  # the parser takes a NUL for the end
        message = "a NUL byte is no JSON"
        raise pa.ArrowInvalid(message)
    table = pj.read_json(
        pa.BufferReader(text),
        pj.ReadOptions(use_threads=False, block_size=text.size + 1),
        pj.ParseOptions(
            pa.schema([("v", as_texts(type_))]),
            unexpected_field_behavior="ignore" if vetted else "error",
        ),
    )
    table.validate(full=True)  # offsets and UTF-8, which the parser doesn't vouch for
    column = table.column(0)
    if table.num_rows != len(values) or column.null_count or column.num_chunks != 1:
        message = f"{table.num_rows} JSON texts in {len(values)} messages"
        raise pa.ArrowInvalid(message)
    return with_instants(column.chunk(0), type_)


def _framed(values: pa.Array) -> pa.Buffer:
    """Return one line a message, ``{"v":MESSAGE}``; in Arrow's memory, which is used again."""
    end, begin = b"}\n", b'{"v":'
    fringed = pa.concat_arrays([_NOTHING, values, _NOTHING])
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(fringed)], fringed), end + begin)
    return joined.buffers()[2][len(end) : -len(begin)]


_OPENING = 0xDF  # what { and [ have in common; no other byte has it


def _brackets(values: pa.Array) -> npt.NDArray[np.int64]:
    """Count the opening brackets in each value, of which there are some: also those in strings."""
    _, offsets, content = values.buffers()
    bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    text = np.frombuffer(content, np.uint8)[bounds[0] : bounds[-1]]
    places = np.flatnonzero(text & _OPENING == ord("["))
    return np.diff(np.searchsorted(places, bounds - bounds[0]))


def _first_bytes(values: pa.Array, lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Return the first byte of each value, 0 where there is none."""
    _, offsets, content = values.buffers()
    if not lengths.any():
        return np.zeros(len(values), np.uint8)
    starts = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values)]
    found = np.frombuffer(content, np.uint8)[np.where(lengths, starts, starts[lengths.argmax()])]
    return np.where(lengths, found, 0).astype(np.uint8)


def _at_once(numbers: npt.NDArray[np.int64]) -> int:
    """Return in how many parts messages are parsed, or how many parts of such a size at once."""
    return _PARSERS if len(numbers) >= _WORTH_A_THREAD else 1


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects that a message holds."""
    objects = value if isinstance(value, list) else [value]
    for each in objects:
        if not isinstance(each, dict):
            kind = "null" if each is None else type(each).__name__
            kind = {"str": "string", "bool": "boolean", "list": "array"}.get(kind, kind)
            where = "an array with an element" if isinstance(value, list) else "a JSON text"
            reason = f"{where} of type {kind}; send an object or an array of objects, {_OR_KEEP}"
            raise Misfit(reason)
    return objects


def _fitted(message: Any, types: Schema) -> Any:
    """Return a message's value as ``fitted`` does that of each of its objects."""
    return fitted(message, [types] if isinstance(message, list) else types)


def _parsable(shape: Any) -> Any:
    """Return a shape that pyarrow.json reads alike: a list of nulls makes it lose count of them."""
    if isinstance(shape, dict):
        return {name: _parsable(type_) for name, type_ in shape.items()}
    if isinstance(shape, list):
        return [{}] if shape == ["null"] else [_parsable(shape[0])]
    return shape


def _clash(name: str) -> str:
    """Say why a field can't be a column."""
    lower = folded(name, "ascii")
    if lower.startswith("window_"):
        return f"field {name!r} would mask the path's {lower}=; rename it in the sender"
    case = "" if name == lower else f" {lower!r}, but for its case, which DuckDB and Spark ignore"
    return (
        f"field {name!r} is a column of the metadata{case}; rename it, or collect to another "
        "--output with --metadata=none"
    )


def _floats(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the columns of floating-point numbers, however deep."""
    if pa.types.is_floating(array.type):
        yield array
    elif pa.types.is_list(array.type):
        yield from _floats(array.values)
    elif pa.types.is_struct(array.type):
        for place in range(array.type.num_fields):
            yield from _floats(array.field(place))


def _true(mask: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    return mask.fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003 - pyarrow's
