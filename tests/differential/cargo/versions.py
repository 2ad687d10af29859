"""Versions and requirements as cargo reads them, written a second time: a judge must not share the code that it judges."""

import functools
import re

VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$")
PARTIAL = re.compile(r"(\d+|[*xX])(?:\.(\d+|[*xX])(?:\.(\d+|[*xX])(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?)?)?$")


def identifiers(text):
    """A pre-release or build as something that compares: numbers before words."""
    return [(0, int(part), len(part), "") if part.isdigit() else (1, 0, 0, part) for part in text.split(".")] if text else []


@functools.lru_cache(maxsize=None)
def parse(text):
    found = VERSION.match(text)
    if not found:
        raise ValueError(text)
    return tuple(int(part) for part in found.group(1, 2, 3)), found.group(4) or "", found.group(5) or ""


def key(text):
    """Ascending order; a pre-release stands before its release."""
    numbers, pre, build = parse(text)
    return numbers, not pre, identifiers(pre), identifiers(build)


def bucket(text):
    """The range of compatible versions, of which a graph has one."""
    (major, minor, patch), _, _ = parse(text)
    if major:
        return (major,)
    return (0, minor) if minor else (0, 0, patch)


@functools.lru_cache(maxsize=None)
def comparators(requirement):
    found = []
    for part in requirement.split(","):
        part = part.strip()
        if part in ("", "*"):
            continue
        operator = re.match(r"(>=|<=|>|<|=|~|\^)?\s*", part)
        rest = PARTIAL.match(part[operator.end():])
        if not rest:
            raise ValueError(requirement)
        numbers = [None if part is None or part in "*xX" else int(part) for part in rest.group(1, 2, 3)]
        name = operator.group(1) or ("*" if re.search(r"[*xX]", part.split("-")[0]) else "^")
        found.append((name, numbers, rest.group(4) or ""))
    return found


def meets(comparator, text):
    name, (major, minor, patch), pre = comparator
    numbers, own_pre, _ = parse(text)
    base = (major or 0, minor or 0, patch or 0)
    own = numbers, not own_pre, identifiers(own_pre)
    low = base, not pre, identifiers(pre)
    given = tuple(number for number in (major, minor, patch) if number is not None)
    if name in ("=", "*"):
        return own == low if len(given) == 3 else numbers[: len(given)] == given
    if name == ">":
        return own > low if len(given) == 3 else numbers[: len(given)] > given
    if name == ">=":
        return own >= low
    if name == "<":
        return own < low if len(given) == 3 else numbers[: len(given)] < given
    if name == "<=":
        return own <= low if len(given) == 3 else numbers[: len(given)] <= given
    if name == "~":
        same = given[: min(len(given), 2)]
        return numbers[: len(same)] == same and own >= low
    # A caret: up to the first number that is not zero, or to the last that is given.
    kept = next((index for index, number in enumerate(given) if number), len(given) - 1) + 1
    return numbers[:kept] == given[:kept] and own >= low


def matches(requirement, text):
    wanted = comparators(requirement)
    if not all(meets(comparator, text) for comparator in wanted):
        return False
    numbers, pre, _ = parse(text)
    if not pre:
        return True
    # A pre-release is only meant where a comparator names one of the same three numbers.
    return any(own_pre and tuple(base) == numbers for _, base, own_pre in wanted)
