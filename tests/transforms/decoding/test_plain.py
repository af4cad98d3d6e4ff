"""Plain JSON: what C makes of messages is what Python makes of each, and the rest is left alone."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.schema.arrow import to_arrow
from tests.decoding import chunk, decoded, rows
from tests.services.extension import check_built
from transforms.decoding import json_rows
from transforms.decoding.contract import Columns
from transforms.decoding.plain import is_built, plain_reader, truncated_power
from transforms.decoding.rules import RowRules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transforms.decoding.plain import Plain

EVERY: dict[str, Any] = {
    "b": "bool",
    "i": "int64",
    "u": "uint8",
    "d": "double",
    "s": "string",
    "n": {"x": "int64", "y": {"z": "string"}},
    "l": ["double"],
    "o": [{"k": "string", "m": ["int64"]}],
}


@pytest.fixture(autouse=True, scope="module")
def _is_built() -> None:
    """See that there is something to try."""
    check_built("transforms/decoding/plain_json.c", is_built=is_built())


def read(messages: Sequence[bytes], types: Any = None) -> Plain:
    """Read messages; see that what comes is whole."""
    type_ = to_arrow(types or EVERY)
    reader = plain_reader(type_)
    assert reader is not None
    plain = reader.read(pa.array(messages, pa.binary()), np.arange(len(messages)))
    plain.values.validate(full=True)
    assert plain.values.type == type_
    assert len(plain.values) == plain.is_plain.sum()
    return plain


def value_of(text: str, type_: str) -> Any:
    """Return what a column holds of a value, an exception where it is not plain."""
    plain = read([b'{"v":%s}' % text.encode(errors="surrogatepass")], {"v": type_})
    return plain.values[0]["v"].as_py() if plain.is_plain[0] else ValueError


def filled(type_: Any) -> st.SearchStrategy[Any]:
    """Make values of a type, any of them null, fields missing and in any order."""
    if isinstance(type_, dict):
        fields = st.fixed_dictionaries({}, optional={n: filled(t) for n, t in type_.items()})
        shuffled = st.builds(
            lambda value, rng: dict(rng.sample(list(value.items()), len(value))),
            fields,
            st.randoms(use_true_random=False),
        )
        return st.none() | shuffled
    if isinstance(type_, list):
        return st.none() | st.lists(filled(type_[0]), max_size=3)
    whole = {"int64": st.integers(-(2**63), 2**63 - 1), "uint8": st.integers(0, 255)}
    texts = st.text(st.characters(exclude_characters="\0"), max_size=12)
    kinds = {
        **whole,
        "bool": st.booleans(),
        "double": st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
        "string": texts,
    }
    return st.none() | kinds[type_]


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its fields; see that they are known, and none is there twice."""
    names = [name for name, _ in pairs]
    assert sorted(set(names)) == sorted(names)
    assert set(names) <= {*EVERY, "x", "y", "z", "k", "m"}
    return dict(pairs)


def shown(value: Any, type_: Any) -> Any:
    """Return a value as its column shows it."""
    if isinstance(type_, dict) and isinstance(value, dict):
        return {name: shown(value.get(name), field) for name, field in type_.items()}
    if isinstance(type_, list) and isinstance(value, list):
        return [shown(element, type_[0]) for element in value]
    return value


STYLES: list[dict[str, Any]] = [
    {},
    {"ensure_ascii": False},
    {"separators": (",", ":")},
    {"indent": 1},
]


@settings(max_examples=200)
@given(st.lists(filled(EVERY).filter(bool), max_size=12), st.sampled_from(STYLES))
def test_what_fits_is_read_exactly(values: list[Any], style: dict[str, Any]) -> None:
    """Whatever is null or missing, in whatever order and style: as Python has written it."""
    plain = read([json.dumps(value, **style).encode() for value in values])

    assert plain.is_plain.all()
    assert plain.values.to_pylist() == [shown(value, EVERY) for value in values]


MUTATIONS = st.tuples(st.integers(0), st.binary(max_size=3), st.integers(0, 3))


@settings(max_examples=300)
@given(st.lists(st.tuples(filled(EVERY).filter(bool), st.lists(MUTATIONS, max_size=2)), max_size=8))
def test_what_is_damaged_is_read_as_python_does_or_left_alone(
    messages: list[tuple[Any, list[tuple[int, bytes, int]]]],
) -> None:
    """And leaves no trace in its neighbours' columns."""
    damaged: list[bytes] = []
    for value, mutations in messages:
        text = bytearray(json.dumps(value).encode())
        for place, bytes_, gone in mutations:
            at = place % (len(text) + 1)
            text[at : at + gone] = bytes_
        damaged.append(bytes(text))

    plain = read(damaged)

    kept = iter(plain.values.to_pylist())
    for sent, is_plain, (_, mutations) in zip(damaged, plain.is_plain, messages, strict=True):
        assert is_plain or mutations
        if is_plain:
            assert next(kept) == shown(json.loads(sent, object_pairs_hook=unique), EVERY)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("1.5", "int64"),
        ("1.0", "int64"),
        ("1e2", "int64"),
        ("9223372036854775808", "int64"),
        ("-9223372036854775809", "int64"),
        ("99999999999999999999", "uint64"),
        ("-1", "uint8"),
        ("256", "uint8"),
        ("-129", "int8"),
        ("01", "int64"),
        ("+1", "int64"),
        ("-", "int64"),
        ("1a", "int64"),
        ("0x10", "int64"),
        ('"1"', "int64"),
        ("true", "int64"),
        ("9007199254740993", "double"),
        ("NaN", "double"),
        ("Infinity", "double"),
        ("1e999", "double"),
        ("0e309", "double"),
        ("1.", "double"),
        (".5", "double"),
        ("1e", "double"),
        ("1e+", "double"),
        ("12345678901234567890.5", "double"),
        ("1", "bool"),
        ("True", "bool"),
        ("truee", "bool"),
        ("nul", "string"),
        ("1", "string"),
        ('"a', "string"),
        ('"\\x"', "string"),
        ('"\\u12"', "string"),
        ('"\\u0000"', "string"),
        ('"\\ud800"', "string"),
        ('"\\ud800\\u0041"', "string"),
        ('"\\udc00"', "string"),
        ('"\ud800"', "string"),
        ('"a\nb"', "string"),
        ('"\0"', "string"),
        ("[]", "string"),
        ("{}", "string"),
        ('1,"v":1', "int64"),
        ('1,"w":1', "int64"),
        ("1,", "int64"),
        ("1}{", "int64"),
        ('1} {"v":1', "int64"),
        ("1}\0", "int64"),
        ("1} x", "int64"),
    ],
)
def test_what_a_column_does_not_hold_as_it_is_is_no_plain_message(text: str, type_: str) -> None:
    """It is left to what knows why."""
    assert value_of(text, type_) is ValueError


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("9223372036854775807", "int64", 2**63 - 1),
        ("-9223372036854775808", "int64", -(2**63)),
        ("-0", "int64", 0),
        ("18446744073709551615", "uint64", ValueError),  # of 20 digits
        ("9999999999999999999", "uint64", 9999999999999999999),
        ("-128", "int8", -128),
        ("127", "int8", 127),
        ("65535", "uint16", 65535),
        ("-32768", "int16", -32768),
        ("4294967295", "uint32", 2**32 - 1),
        ("-2147483648", "int32", -(2**31)),
        ("9007199254740992", "double", 2.0**53),
        ("1E+2", "double", 100.0),
        ("-0.0e309", "double", 0.0),
        ("0.1e-2", "double", 0.001),
        ("false", "bool", False),
        (" \r\n\tnull ", "bool", None),
        ('"\\"\\\\\\/\\b\\f\\n\\r\\t"', "string", '"\\/\b\f\n\r\t'),
        ('"\\u00e9\\u20AC\\ud83d\\ude00é€😀"', "string", "é€😀é€😀"),
        ('"a long text with é in it, and more"', "string", "a long text with é in it, and more"),
        ('"x"', "binary", b"x"),
    ],
)
def test_values_at_the_edge_of_what_is_plain(text: str, type_: str, value: Any) -> None:
    """They are held exactly."""
    assert value_of(text, type_) == value


def numbers(seed: int, count: int) -> list[str]:
    """Make texts of numbers: any bits, few and many digits, and those just between two doubles."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        (value,) = struct.unpack("d", struct.pack("Q", rng.getrandbits(64)))
        texts.append(repr(value) if np.isfinite(value) else "0.0")
        texts.append(f"{rng.random() * 10.0 ** rng.randint(-30, 30):.{rng.randrange(18)}e}")
        texts.append(f"{rng.getrandbits(rng.randint(1, 60))}e{rng.randint(-345, 312)}")
        texts.append(f"-{rng.randrange(10**6)}.{rng.randrange(10 ** rng.randint(1, 13)):013}")
        between = Fraction(2 * (rng.getrandbits(52) | 1 << 52) + 1, 2) * 2 ** rng.randint(1, 8)
        texts.append(f"{int(between)}.0")
    return texts


@pytest.mark.parametrize(
    "count",
    [pytest.param(2000, id="short"), pytest.param(200_000, id="long", marks=pytest.mark.faults)],
)
def test_doubles_are_the_nearest(count: int) -> None:
    """To the last bit, as Python reads them; only what is beyond normal doubles is left alone."""
    texts = numbers(count, count)
    plain = read([b'{"v":%s}' % text.encode() for text in texts], {"v": "double"})

    wanted = np.array([float(text) for text in texts])
    found = plain.values.field(0).to_numpy()
    assert found.tobytes() == wanted[plain.is_plain].tobytes()
    left = np.abs(wanted[~plain.is_plain])
    digits = [len(re.sub(r"e.*|[-.]|^-?[0.]+", "", text)) for text in texts]
    is_normal = (np.abs(wanted) >= sys.float_info.min) & np.isfinite(wanted)
    assert plain.is_plain[is_normal & (np.array(digits) <= 17)].all()
    assert len(left) < len(texts) / 5


def test_powers_of_five_are_those_of_the_method() -> None:
    """Exact where 128 bits hold them, else cut off; fractions are rounded up."""
    assert truncated_power(0) == (1 << 63, 0)
    assert truncated_power(1) == (0xA << 60, 0)
    assert truncated_power(-1) == (0xCCCCCCCCCCCCCCCC, 0xCCCCCCCCCCCCCCCD)
    for power in (-342, -65, -1, 1, 55, 56, 308):
        high, low = truncated_power(power)
        bits = (high << 64) + low
        exact = Fraction(5) ** power
        scale = Fraction(2) ** (127 - _floor_log2(exact))
        assert bits >> 127 == 1
        assert 0 <= exact * scale - bits < 1 if power >= 0 else 0 < bits - exact * scale <= 1


def _floor_log2(value: Fraction) -> int:
    power = value.numerator.bit_length() - value.denominator.bit_length()
    return power if Fraction(2) ** power <= value else power - 1


def test_names_that_are_sent_escaped_are_left_to_pyarrow() -> None:
    """A backslash in a column's name is two in a message."""
    assert plain_reader(to_arrow({"a\\b": "int64"})) is None
    assert plain_reader(to_arrow({"a": [{'"': "int64"}]})) is None
    done = decoded(b'{"a\\\\b":1}', b'{"a\\b":2}', known={"a\\b": "int64"})
    assert [row["a\\b"] for row in rows(done)] == [1, None]


def test_names_of_all_lengths_are_told_apart() -> None:
    """By each of their bytes."""
    for size in (*range(1, 26), 63, 64, 65):
        name = "abcdefgh" * 9
        types = {name[:size]: "int64"}
        assert read([b'{"%s":1}' % name[:size].encode()], types).is_plain.all()
        for place in range(size):
            other = f"{name[:place]}-{name[place + 1 : size]}".encode()
            assert not read([b'{"%s":1}' % other], types).is_plain.any()


def test_types_that_are_not_read_in_c_are_left_to_pyarrow() -> None:
    """Few use them."""
    assert plain_reader(to_arrow({"a": "float"})) is None
    assert rows(decoded(b'{"a":0.5}', pinned={"a": "float"})) == [{"a": 0.5}]


def test_an_instant_that_is_none_leaves_its_neighbours_to_pyarrow() -> None:
    """It becomes a dead letter, they become rows."""
    good = [b'{"t":"2026-01-01T00:00:0%dZ"}' % second for second in range(5)]
    done = decoded(*good, b'{"t":"yesterday"}', pinned={"t": "timestamp"})
    assert (done.rows.num_rows, done.dead_letters.num_rows) == (5, 1)
    assert read(good, {"t": "timestamp"}).is_plain.all()


def test_what_a_few_messages_add_makes_the_rest_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a field that is always null, which never becomes a column."""
    parsed: list[int] = []
    real = json_rows.parse

    def counted(values: pa.Array, *args: Any, **named: Any) -> Any:
        parsed.append(len(values))
        return real(values, *args, **named)

    monkeypatch.setattr(json_rows, "parse", counted)
    messages = [b'{"a":%d,"never":null,"list":[]}' % place for place in range(5000)]

    found = json_rows.read_json(chunk(*messages), Columns({}, {}), RowRules())

    assert found.schema == {"a": "int64"}
    assert sum(len(piece.messages) for piece in found.pieces) == 5000
    assert max(parsed) <= 64


FUZZED = """
import json, random, sys
import numpy as np
import pyarrow as pa
from batch_collection.schema.arrow import to_arrow
from tests.transforms.decoding.test_plain import EVERY
from transforms.decoding.plain import plain_reader
rng = random.Random(int(sys.argv[1]))
whole = json.dumps({
    "b": True, "i": -12, "u": 7, "d": -1.25e-7, "s": "a \\u00e9 b" * 9,
    "n": {"x": 1, "y": {"z": "c"}}, "l": [1, None, 2.5], "o": [{"k": "d", "m": [1, 2]}, {}, None],
}).encode()
texts = []
for _ in range(3000):
    text = bytearray(whole[: rng.randint(0, len(whole))] if rng.random() < 0.3 else whole)
    for _ in range(rng.randrange(3)):
        at = rng.randint(0, len(text))
        text[at : at + rng.randrange(4)] = rng.choice(
            [b"", b'"', b"[" * 9, b"{", b"\\\\u", b"9" * 40, b"e9", bytes([rng.randrange(256)])]
        )
    texts.append(bytes(text))
plain = plain_reader(to_arrow(EVERY)).read(pa.array(texts, pa.binary()), np.arange(len(texts)))
plain.values.validate(full=True)
print(plain.is_plain.sum())
del plain
"""


@pytest.mark.faults
def test_no_message_touches_memory_that_is_not_its_own(tmp_path: Path) -> None:
    """Valgrind sees nothing, whatever is sent."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    log = tmp_path / "valgrind.log"
    command = ["valgrind", "--leak-check=full", "--num-callers=40", f"--log-file={log}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", FUZZED, "1"],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 500 < int(done.stdout) < 3000
    assert [line for line in log.read_text().splitlines() if "plain_json" in line] == []
