"""The C library as ctypes sees it: structures, functions, codes. `ipc/c/include/bolide.h` is what this repeats."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any, Optional

from . import errors

OK, TIMEOUT, FULL, READY, LOST = 0, 1, 2, 3, 4
CLOSED, PEER_GONE, REVOKED, ROUTER_GONE, QUARANTINED = 10, 11, 12, 13, 14
NO_ROUTER, REFUSED, NO_ANSWER, PROTOCOL = 20, 21, 22, 23
ARGUMENT, BUSY, LIMIT, NO_GRANT, SYSTEM, PANICKED = 30, 31, 32, 33, 34, 35
REQUEST, CANCELLED, PROGRESS, DONE, FAILED, PLAIN = 1, 2, 3, 4, 5, 6
LINK_OFFERED, LINK_CLOSED, TOPIC_FOUND, READERS_CHANGED, DRAINING = 1, 2, 3, 4, 5
LOSSLESS, LOSSY = 1, 2
CRITICAL, HIGH, NORMAL = 0, 1, 2
CLASSES = ("critical", "high", "normal")
SPIN_ADAPTIVE, SPIN_NONE, SPIN_FOREVER = 0, 1, 2


class CLimits(ctypes.Structure):
    _fields_ = [
        ("links", c_uint64),
        ("bytes", c_uint64),
        ("descriptors", c_uint64),
        ("messages", c_uint64),
        ("passed", c_uint64),
    ]


class CManifest(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("version", c_char_p),
        ("category", c_char_p),
        ("capabilities", POINTER(c_char_p)),
        ("tools", POINTER(c_char_p)),
        ("subscriptions", POINTER(c_char_p)),
        ("tags", POINTER(c_char_p)),
        ("priority", c_uint8),
        ("limits", CLimits),
    ]


class CRequest(ctypes.Structure):
    _fields_ = [
        ("tool", c_char_p),
        ("payload", c_char_p),
        ("payload_length", c_size_t),
        ("descriptors", POINTER(c_int32)),
        ("descriptor_count", c_size_t),
        ("timeout_ms", c_int64),
        ("room_ms", c_int64),
    ]


class CMessage(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("source", c_uint32),
        ("request", c_uint64),
        ("tool", c_char_p),
        ("payload", c_void_p),
        ("payload_length", c_size_t),
        ("grants", c_uint64 * 2),
        ("deadline_ns", c_uint64),
        ("time_ns", c_uint64),
        ("lost", c_uint64),
    ]


class CAgent(ctypes.Structure):
    _fields_ = [
        ("id", c_uint32),
        ("pid", c_uint32),
        ("uid", c_uint32),
        ("priority", c_uint8),
        ("name", c_char_p),
        ("version", c_char_p),
        ("category", c_char_p),
        ("capabilities", POINTER(c_char_p)),
        ("tools", POINTER(c_char_p)),
        ("subscriptions", POINTER(c_char_p)),
        ("tags", POINTER(c_char_p)),
    ]


class CEvent(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("lane", c_uint32),
        ("subscription", c_uint32),
        ("policy", c_int32),
        ("code", c_char_p),
        ("reason", c_char_p),
        ("subject", c_char_p),
        ("from_", POINTER(CAgent)),
    ]


_H, _BYTES = c_void_p, c_char_p
_AGENT, _MESSAGE = POINTER(CAgent), POINTER(CMessage)

#: Functions that neither sleep nor speak with the router: called without giving the interpreter's lock away.
_QUICK = {
    "bolide_code_name": (c_char_p, [c_int32]),
    "bolide_code_text": (c_char_p, [c_int32]),
    "bolide_code_hint": (c_char_p, [c_int32]),
    "bolide_version": (c_char_p, []),
    "bolide_client_new": (_H, []),
    "bolide_client_error": (c_char_p, [_H]),
    "bolide_client_id": (c_uint32, [_H]),
    "bolide_client_set_lanes": (c_int32, [_H, c_size_t, c_size_t]),
    "bolide_client_descriptors": (c_int32, [_H, POINTER(c_int32), POINTER(c_int32)]),
    "bolide_client_clear_bell": (c_int32, [_H]),
    "bolide_link_error": (c_char_p, [_H]),
    "bolide_link_class": (c_int32, [_H]),
    "bolide_link_lane": (c_uint32, [_H]),
    "bolide_link_peer": (_AGENT, [_H]),
    "bolide_link_set_spin": (c_int32, [_H, c_int32]),
    "bolide_link_cancel": (c_int32, [_H, c_uint64]),
    "bolide_link_arm": (c_int32, [_H]),
    "bolide_link_disarm": (c_int32, [_H]),
    "bolide_publisher_error": (c_char_p, [_H]),
    "bolide_publisher_lane": (c_uint32, [_H]),
    "bolide_publisher_readers": (c_int32, [_H, POINTER(c_size_t)]),
    "bolide_publisher_try_send": (c_int32, [_H, _BYTES, c_size_t]),
    "bolide_subscriber_error": (c_char_p, [_H]),
    "bolide_subscriber_lane": (c_uint32, [_H]),
    "bolide_subscriber_policy": (c_int32, [_H]),
    "bolide_subscriber_subject": (c_char_p, [_H]),
    "bolide_subscriber_from": (_AGENT, [_H]),
    "bolide_subscriber_arm": (c_int32, [_H]),
    "bolide_subscriber_disarm": (c_int32, [_H]),
}

#: Functions that may sleep: other threads of the program go on meanwhile.
_SLOW = {
    "bolide_client_connect": (c_int32, [_H, c_char_p, POINTER(CManifest), _BYTES, c_size_t]),
    "bolide_client_close": (c_int32, [_H]),
    "bolide_client_agents": (c_int32, [_H, c_char_p, POINTER(_AGENT), POINTER(c_size_t)]),
    "bolide_client_open": (c_int32, [_H, c_char_p, POINTER(_H)]),
    "bolide_client_open_class": (c_int32, [_H, c_char_p, c_int32, POINTER(_H)]),
    "bolide_client_next_event": (c_int32, [_H, POINTER(CEvent), c_int64]),
    "bolide_client_accept": (c_int32, [_H, c_uint32, POINTER(_H)]),
    "bolide_client_decline": (c_int32, [_H, c_uint32, c_char_p]),
    "bolide_client_publisher": (c_int32, [_H, c_char_p, c_int32, POINTER(_H)]),
    "bolide_client_subscribe": (c_int32, [_H, c_char_p, POINTER(c_uint32)]),
    "bolide_client_join": (c_int32, [_H, c_uint32, c_int32, POINTER(_H)]),
    "bolide_client_wait": (
        c_int32,
        [_H, POINTER(_H), c_size_t, POINTER(_H), c_size_t, c_int64],
    ),
    "bolide_link_close": (c_int32, [_H, c_char_p]),
    "bolide_link_request": (c_int32, [_H, POINTER(CRequest), POINTER(c_uint64)]),
    "bolide_link_wait": (c_int32, [_H, c_uint64, _MESSAGE, c_int64]),
    "bolide_link_receive": (c_int32, [_H, _MESSAGE, c_int64]),
    "bolide_link_send": (c_int32, [_H, _BYTES, c_size_t, c_int64]),
    "bolide_link_progress": (c_int32, [_H, c_uint64, _BYTES, c_size_t, c_int64]),
    "bolide_link_answer": (c_int32, [_H, c_uint64, _BYTES, c_size_t, c_int64]),
    "bolide_link_fail": (
        c_int32,
        [_H, c_uint64, c_uint8, c_char_p, c_char_p, c_char_p, c_int32, c_int64],
    ),
    "bolide_link_take_grant": (c_int32, [_H, c_uint64, POINTER(c_int32), c_int64]),
    "bolide_link_discard_grant": (c_int32, [_H, c_uint64]),
    "bolide_publisher_close": (c_int32, [_H]),
    "bolide_publisher_update": (c_int32, [_H]),
    "bolide_publisher_send": (c_int32, [_H, _BYTES, c_size_t, c_int64]),
    "bolide_subscriber_close": (c_int32, [_H]),
    "bolide_subscriber_receive": (c_int32, [_H, _MESSAGE, c_int64]),
}

#: Those that are also called with a timeout of 0, where giving the lock away would cost more than the call.
_BOTH = ("bolide_link_receive", "bolide_link_send", "bolide_subscriber_receive")


class Library:
    """The functions of the library, without their prefix; `try_x` is `x` for calls that do not wait."""

    def __init__(self, path: str) -> None:
        quick, slow = ctypes.PyDLL(path), ctypes.CDLL(path)
        for name, shape in _QUICK.items():
            self._bind(quick, name, shape, "")
        for name, shape in _SLOW.items():
            self._bind(slow, name, shape, "")
        for name in _BOTH:
            self._bind(quick, name, _SLOW[name], "try_")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def _bind(self, library: Any, name: str, shape: Any, prefix: str) -> None:
        function = library[name]
        function.restype, function.argtypes = shape
        setattr(self, prefix + name[len("bolide_") :], function)

    def error(self, code: int, text: Optional[bytes]) -> errors.BolideError:
        """A code and a handle's text as an exception."""
        name = self.code_name(code).decode()
        message = (text or self.code_text(code)).decode(errors="replace")
        hint = self.code_hint(code).decode() or None
        if code == REFUSED:
            name, _, message = message.partition(": ")
            return errors.Refused(name, message, hint)
        kinds = {TIMEOUT: errors.Timeout, FULL: errors.Full}
        kinds.update(dict.fromkeys((CLOSED, PEER_GONE, REVOKED, ROUTER_GONE, QUARANTINED), errors.Ended))
        return kinds.get(code, errors.BolideError)(name, message, hint)


def _find() -> Library:
    named = os.environ.get("BOLIDE_LIBRARY")
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libbolide.so")
    path = named or (beside if os.path.exists(beside) else "libbolide.so")
    try:
        return Library(path)
    except OSError as error:
        hint = "set BOLIDE_LIBRARY to the path of libbolide.so (`cargo build --release -p ipc-c` makes it)"
        raise errors.BolideError("no-library", f"cannot load `{path}`: {error}", hint) from None


_known: Optional[Library] = None


def library() -> Library:
    """The library, loaded once."""
    global _known
    if _known is None:
        _known = _find()
    return _known


view_of_memory = ctypes.pythonapi.PyMemoryView_FromMemory
view_of_memory.argtypes = [c_void_p, ctypes.c_ssize_t, ctypes.c_int]
view_of_memory.restype = ctypes.py_object
#: PyBUF_READ of CPython's C API.
READ_ONLY = 0x100


def words(values: Any) -> Any:
    """An array of texts that ends with NULL."""
    encoded = [value.encode() for value in values]
    return (c_char_p * (len(encoded) + 1))(*encoded, None)


def texts(pointer: Any) -> list:
    """The texts of an array that ends with NULL."""
    found = []
    index = 0
    while pointer and pointer[index] is not None:
        found.append(pointer[index].decode(errors="replace"))
        index += 1
    return found


def milliseconds(seconds: Optional[float]) -> int:
    """A timeout of Python's as one of the library's; None is without end."""
    return -1 if seconds is None else max(0, int(seconds * 1000 + 0.999))
