"""CBOR (RFC 8949) of plain data: maps, arrays, texts, bytes, integers, floats, booleans, null.

Definite lengths only, bounded depth, no tags; whatever else the bytes are is a `CborError`. Keys of maps are any plain
value that Python can hash. As a program, `python3 -m bolide.cbor` turns CBOR on stdin into JSON on stdout.
"""

from __future__ import annotations

import struct
from typing import Any, Tuple, Union

#: How deep maps and arrays may be nested; enough for people's data, far from the interpreter's own bound.
DEPTH_MAX = 64

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_MINOR_OF_WIDTH = {1: 24, 2: 25, 4: 26, 8: 27}


class CborError(ValueError):
    """The value is none of CBOR's plain ones, or the bytes are no CBOR."""


def dumps(value: Any) -> bytes:
    """A value as CBOR, in the shortest form."""
    out = bytearray()
    _write(out, value, 0)
    return bytes(out)


def loads(data: Union[bytes, bytearray, memoryview]) -> Any:
    """The one value that the bytes are."""
    data = bytes(data)
    value, end = _read(data, 0, 0)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes follow the value")
    return value


def _write(out: bytearray, value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise CborError(f"nested deeper than {DEPTH_MAX}")
    if value is None or value is False or value is True:
        out.append({None: 0xF6, False: 0xF4, True: 0xF5}[value])
    elif isinstance(value, int):
        major, number = (_UNSIGNED, value) if value >= 0 else (_NEGATIVE, -1 - value)
        _head(out, major, number)
    elif isinstance(value, float):
        out.append(0xFB)
        out += struct.pack(">d", value)
    elif isinstance(value, str):
        try:
            text = value.encode()
        except UnicodeEncodeError as error:
            raise CborError(f"a text is no Unicode: {error}") from None
        _head(out, _TEXT, len(text))
        out += text
    elif isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        _head(out, _BYTES, len(data))
        out += data
    elif isinstance(value, (list, tuple)):
        _head(out, _ARRAY, len(value))
        for entry in value:
            _write(out, entry, depth + 1)
    elif isinstance(value, dict):
        _head(out, _MAP, len(value))
        for key, entry in value.items():
            _write(out, key, depth + 1)
            _write(out, entry, depth + 1)
    else:
        raise CborError(f"cannot be written: {type(value).__name__}")


def _head(out: bytearray, major: int, number: int) -> None:
    if number < 24:
        out.append(major << 5 | number)
        return
    for width, minor in _MINOR_OF_WIDTH.items():
        if number < 1 << 8 * width:
            out.append(major << 5 | minor)
            out += number.to_bytes(width, "big")
            return
    raise CborError("an integer of more than 64 bits")


def _take(data: bytes, at: int, length: int) -> Tuple[bytes, int]:
    end = at + length
    if end > len(data):
        raise CborError(f"ends too early: {length} bytes are missing at {at}")
    return data[at:end], end


def _read(data: bytes, at: int, depth: int) -> Tuple[Any, int]:
    if depth > DEPTH_MAX:
        raise CborError(f"nested deeper than {DEPTH_MAX}")
    first, at = _take(data, at, 1)
    major, minor = first[0] >> 5, first[0] & 31
    if major == _SIMPLE:
        return _read_simple(data, at, minor)
    if minor < 24:
        number = minor
    elif minor < 28:
        digits, at = _take(data, at, 1 << (minor - 24))
        number = int.from_bytes(digits, "big")
    else:
        raise CborError("a length that is not given beforehand")
    if major == _UNSIGNED:
        return number, at
    if major == _NEGATIVE:
        return -1 - number, at
    if major == _BYTES:
        return _take(data, at, number)
    if major == _TEXT:
        text, at = _take(data, at, number)
        try:
            return text.decode(), at
        except UnicodeDecodeError:
            raise CborError("a text that is not UTF-8") from None
    if major == _ARRAY:
        return _read_array(data, at, number, depth)
    if major == _MAP:
        return _read_map(data, at, number, depth)
    raise CborError("a tag")


def _read_array(data: bytes, at: int, count: int, depth: int) -> Tuple[Any, int]:
    # Each entry takes a byte at least, so what is announced can be believed before it is read.
    if count > len(data) - at:
        raise CborError(f"announces {count} entries in {len(data) - at} bytes")
    entries = []
    for _ in range(count):
        entry, at = _read(data, at, depth + 1)
        entries.append(entry)
    return entries, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> Tuple[Any, int]:
    if count > (len(data) - at) // 2:
        raise CborError(f"announces {count} pairs in {len(data) - at} bytes")
    pairs: dict = {}
    for _ in range(count):
        key, at = _read(data, at, depth + 1)
        value, at = _read(data, at, depth + 1)
        if isinstance(key, (list, dict)):
            raise CborError("a key that is an array or a map")
        if key in pairs:
            raise CborError("a key that comes twice")
        pairs[key] = value
    return pairs, at


def _read_simple(data: bytes, at: int, minor: int) -> Tuple[Any, int]:
    if minor in (20, 21):
        return minor == 21, at
    if minor in (22, 23):
        return None, at
    form = {25: ">e", 26: ">f", 27: ">d"}.get(minor)
    if form is None:
        raise CborError(f"an unknown simple value: {minor}")
    digits, at = _take(data, at, struct.calcsize(form))
    return struct.unpack(form, digits)[0], at


if __name__ == "__main__":
    import json
    import sys

    json.dump(loads(sys.stdin.buffer.read()), sys.stdout, default=lambda value: value.hex())
    print()
