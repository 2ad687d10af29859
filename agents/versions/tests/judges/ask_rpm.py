# Asks librpm through its Python module.
import sys

import rpm

SENSES = {
    "=": rpm.RPMSENSE_EQUAL,
    "<": rpm.RPMSENSE_LESS,
    ">": rpm.RPMSENSE_GREATER,
    "<=": rpm.RPMSENSE_LESS | rpm.RPMSENSE_EQUAL,
    ">=": rpm.RPMSENSE_GREATER | rpm.RPMSENSE_EQUAL,
}


def parts(text):
    digits = len(text) - len(text.lstrip("0123456789"))
    epoch, rest = (text[:digits] or "0", text[digits + 1 :]) if text[digits : digits + 1] == ":" else (None, text)
    version, dash, release = rest.rpartition("-")
    return (epoch, version, release) if dash else (epoch, rest, None)


def answer(kind, left, right):
    if kind == "c":
        return "<=>"[rpm.labelCompare(parts(left), parts(right)) + 1]
    operator, bound = right.split(" ")
    own = rpm.ds(("a", rpm.RPMSENSE_EQUAL, left), rpm.RPMTAG_PROVIDENAME)
    wanted = rpm.ds(("a", SENSES[operator], bound), rpm.RPMTAG_REQUIRENAME)
    return str(own.Search(wanted) >= 0).lower()


for line in sys.stdin:
    print(answer(*line.rstrip("\n").split("\t")))
