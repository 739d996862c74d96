"""Hypothesis strategies over the wire's messages, made from their descriptors so that no field is forgotten."""

from __future__ import annotations

import random
from typing import TypeVar, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

SomeMessage = TypeVar("SomeMessage", bound=Message)
_Value = object

_CODES = st.sampled_from(["en", "en", "en", "de", "de", "de", "fr", "zh", "", "EN-us", "x" * 50, "de\n"])
_TEXTS = st.text(alphabet="I loveyu.\n", max_size=120) | st.text(max_size=60)
_BY_NAME: dict[str, st.SearchStrategy[_Value]] = {
    "source_language_code": st.just("en") | _CODES | st.text(max_size=8),
    "target_language_code": st.just("de") | _CODES | st.text(max_size=8),
    "model": st.sampled_from(["", "", "", "", "echo", "nobody", "projects/p/locations/l/models/echo"]),
    "model_version": st.sampled_from(["", "", "", "", "0123456789ab"]) | st.text(max_size=5),
    "parent": st.sampled_from(["projects/p", "projects/p/locations/l", "projects/p/locations/l", "x"]),
    "mime_type": st.sampled_from(["", "text/plain", "text/plain", "text/html", "x"]),
    "id": st.text(min_size=1, max_size=10) | st.sampled_from(["", "x" * 129]),
}
_INTEGERS = st.integers(1, 4) | st.integers(-2, 12) | st.integers(-(2**31), 2**31 - 1)
_FLOATS = st.floats(0, 2) | st.floats()
_BY_TYPE: dict[int, st.SearchStrategy[_Value]] = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: _INTEGERS,
    FieldDescriptor.TYPE_INT64: _INTEGERS | st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_DOUBLE: _FLOATS,
    FieldDescriptor.TYPE_ENUM: st.integers(-1, 5),
}
_KEPT = {"contents", "content", "request", "source_language_code", "target_language_code", "id", "parent"}
"""Fields without which a message is refused at once: hardly ever left out."""


@st.composite
def messages(draw: st.DrawFn, kind: type[SomeMessage]) -> SomeMessage:
    """Messages of a type: each field set or not, most values near what is allowed, some far from it."""
    values: dict[str, _Value] = {}
    for field in kind.DESCRIPTOR.fields:
        if draw(st.integers(0, 9)) < (9 if field.name in _KEPT else 2):
            values[field.name] = draw(_field(cast("FieldDescriptor", field)))
    return kind(**values)


def _field(field: FieldDescriptor) -> st.SearchStrategy[_Value]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)
    one = _one(field)
    return st.lists(one, min_size=0, max_size=3) if field.is_repeated else one


def _one(field: FieldDescriptor) -> st.SearchStrategy[_Value]:
    if field.message_type is not None:
        return messages(_class_of(field.message_type))
    return _BY_NAME[field.name] if field.name in _BY_NAME else _BY_TYPE[field.type]


def _class_of(descriptor: Descriptor) -> type[Message]:
    return message_factory.GetMessageClass(descriptor)


def mutated(data: bytes, numbers: random.Random) -> bytes:
    """`data` with a few bytes changed, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(numbers.randint(1, 4)):
        place = numbers.randint(0, len(changed))
        match numbers.randrange(4):
            case 0 if place < len(changed):
                changed[place] ^= 1 << numbers.randrange(8)
            case 1:
                del changed[place : place + numbers.randint(1, 8)]
            case 2:
                changed[place:place] = changed[place : place + 16]
            case _:
                changed[place:place] = numbers.randbytes(numbers.randint(1, 6))
    return bytes(changed)
