# Asks `packaging`, the installed one or else the one inside pip. Before 26 it read some clauses otherwise than the standard.
import sys

try:
    import packaging
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version
except ImportError:
    import pip._vendor.packaging as packaging
    from pip._vendor.packaging.specifiers import SpecifierSet
    from pip._vendor.packaging.version import Version

if Version(packaging.__version__).major < 26:
    sys.exit(f"this is packaging {packaging.__version__}; name a Python with 26 or later: BOLIDE_JUDGE_PYPI='PYTHON {sys.argv[0]}'")


def answer(kind, left, right):
    try:
        if kind == "c":
            a, b = Version(left), Version(right)
            return "<" if a < b else ">" if a > b else "="
        specifiers = SpecifierSet(right)
        # Pre-releases where a clause names one: releases of `packaging` differ in what they do without being told.
        return str(specifiers.contains(str(Version(left)), prereleases=bool(specifiers.prereleases))).lower()
    except Exception:
        return "invalid"


for line in sys.stdin:
    print(answer(*line.rstrip("\n").split("\t")))
