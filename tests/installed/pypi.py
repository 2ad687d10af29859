"""pip's judgement of a virtual environment: `pip check`, byte compilation, imports, console scripts, and pip's own installation."""

import base64
import csv
import hashlib
import json
import pathlib
import re
import shutil
import sys
import tomllib

import trees
from judges import INSTALL_SECONDS_MAX, sort_out

# Console scripts of one set that are run.
COMMANDS_MAX = 40
# The interpreter's own commands.
OWN = re.compile(r"(python|pip|activate|Activate)[\d.]*")

EXCEPTIONS = [
    (
        lambda path, what: path == ".gitignore" and what == "only ours",
        ".gitignore: what `venv` itself writes from Python 3.13 on, so that nobody commits an environment",
    ),
    (
        lambda path, _: "/__pycache__" in path or path.startswith("__pycache__"),
        "byte code: the interpreter writes it when it first imports a module; `venv` has pip's own compiled",
    ),
    (lambda path, what: path.endswith(".dist-info/INSTALLER") and "content" in what, "INSTALLER: it names who installed"),
    (
        lambda path, what: path.endswith(".dist-info/RECORD") and "content" in what,
        "RECORD: other order, and the line of INSTALLER; its lines are compared by themselves",
    ),
]

# Imports what a distribution says it brings. A module that misses an optional neighbour is the peer's finding as well.
LOAD = """
import importlib, importlib.metadata, json, sys, warnings
warnings.simplefilter("ignore")
found = {}
for module, owners in sorted(importlib.metadata.packages_distributions().items()):
    if not module.isidentifier() or module.startswith("_") or module in ("test", "tests", "antigravity"):
        continue
    try:
        importlib.import_module(module)
        found[module] = "loaded"
    except BaseException as error:
        found[module] = f"{type(error).__name__}: {error}"
sys.__stdout__.write("\\n" + json.dumps(found) + "\\n")
"""


def run(scratch, wanted):
    project = scratch.project
    (project / "requirements.txt").write_text("".join(f"{line}\n" for line in wanted))
    python = interpreter()
    scratch.install("--registry", f"pypi={scratch.url}simple/", "--python", python)
    place = project / ".venv"
    packages = tomllib.loads((project / "bolide.lock").read_text())["package"]
    ours = trees.snapshot(place)
    records = Records(place)
    judged = Tree(scratch, place)
    place.rename(scratch.place / "ours")
    with_pip(scratch, python, place, packages)
    kept = (project / "requirements.txt", project / "bolide.lock", scratch.place / "pins.txt")
    scratch.keep_project(*kept)
    theirs = trees.snapshot(place)
    other_records = Records(place)
    findings = judged.findings(Tree(scratch, place, judged))
    findings += records.wrong + records.differences(other_records)
    different, excepted = sort_out(trees.differences(ours, theirs), EXCEPTIONS)
    counts = {"packages": len(packages), "files": len(ours), "loaded": judged.loaded, "commands": judged.ran}
    return {"counts": counts, "findings": findings + different, "excepted": excepted}


def interpreter():
    """The one that runs this, by the name `python`: `venv` names its links after the name that it was called by."""
    here = pathlib.Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    named = here.with_name("python")
    return named if named.exists() else here


def with_pip(scratch, python, place, packages):
    """The same versions by `venv` and pip, which has to need nothing more and nothing else."""
    scratch.need(python, "-m", "venv", place)
    pins = scratch.place / "pins.txt"
    named = [package["purl"].removeprefix("pkg:pypi/").split("?")[0].split("@") for package in packages]
    pins.write_text("".join(f"{name}=={version.replace('%2B', '+')}\n" for name, version in named))
    pip = (place / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:")
    where = ("--index-url", f"{scratch.url}simple/", "-r", "requirements.txt", "-c", pins)
    scratch.need(*pip, *where)


class Tree:
    """What pip and Python make of the environment that stands there now; of a second one only what the first failed at."""

    def __init__(self, scratch, place, first=None):
        self.scratch, self.python = scratch, place / "bin" / "python"
        self.checked = scratch.run(self.python, "-m", "pip", "check")[:2]
        self.installed = scratch.run(self.python, "-m", "pip", "list", "--format=freeze")[1]
        self.compiled = self.compile(place)
        code, out, errors = scratch.run(self.python, "-c", LOAD, seconds_max=INSTALL_SECONDS_MAX)
        self.modules = json.loads(out.strip().rsplit("\n", 1)[-1]) if code == 0 and out.strip() else {"all": errors[-300:]}
        self.loaded = sum(one == "loaded" for one in self.modules.values())
        self.results, self.ran = {}, 0
        names = sorted(path.name for path in (place / "bin").iterdir() if not OWN.fullmatch(path.name))
        for name in names[:COMMANDS_MAX] if first is None else first.failed():
            self.results[name] = self.command(place / "bin" / name)
            self.ran += self.results[name] == "ran"

    def compile(self, place):
        """Files that do not compile; the byte code goes elsewhere and is not looked at."""
        away = self.scratch.place / "bytecode"
        environment = {key: text for key, text in self.scratch.environment.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(away)
        _, out, _ = self.scratch.run(
            self.python, "-m", "compileall", "-q", place / "lib", seconds_max=INSTALL_SECONDS_MAX, env=environment
        )
        shutil.rmtree(away, ignore_errors=True)
        return sorted(line for line in out.splitlines() if line.startswith("***"))

    def command(self, path):
        """What a console script answers to `--help`, or else to `--version`."""
        for flag in ("--help", "--version"):
            code, out, errors = self.scratch.run(path, flag)
            if code == 0:
                return "ran"
        return f"ended with {code}: {(errors or out).strip().splitlines()[-1:]}"

    def failed(self):
        return [name for name, result in self.results.items() if result != "ran"]

    def findings(self, theirs):
        found = []
        for what in ("checked", "installed", "compiled"):
            ours, others = getattr(self, what), getattr(theirs, what)
            if ours != others:
                found.append(f"{what}: {ours}, with pip's environment {others}")
        modules = self.modules.keys() | theirs.modules.keys()
        for module in sorted(modules):
            ours, others = self.modules.get(module), theirs.modules.get(module)
            if ours != others:
                found.append(f"import {module}: {ours}, with pip's environment {others}")
        for name in self.failed():
            if self.results[name] != theirs.results[name]:
                found.append(f"{name}: {self.results[name]}, with pip's environment: {theirs.results[name]}")
        return found


class Records:
    """Every RECORD of an environment: what it says is compared with the files, and with the peer's."""

    def __init__(self, place):
        self.rows, self.wrong = {}, []
        for site in place.glob("lib/*/site-packages"):
            for record in site.glob("*.dist-info/RECORD"):
                self.read(site, record)

    def read(self, site, record):
        rows = set()
        for path, digest, size in csv.reader(record.read_text().splitlines()):
            if "__pycache__" in path:
                continue
            # What INSTALLER holds is an exception; that it is listed is not.
            rows.add((path, *(("", "") if path.endswith("/INSTALLER") else (digest, size))))
            if not (site / path).is_file():
                self.wrong.append(f"{record.parent.name}/RECORD: `{path}` is not there")
            elif digest and digest != hashed(site / path, digest.split("=")[0]):
                self.wrong.append(f"{record.parent.name}/RECORD: `{path}` has another digest")
        self.rows[record.parent.name] = rows

    def differences(self, theirs):
        found = []
        for name in sorted(self.rows.keys() & theirs.rows.keys()):
            for row in sorted(self.rows[name] ^ theirs.rows[name]):
                found.append(f"{name}/RECORD: only {'ours' if row in self.rows[name] else 'theirs'}: {','.join(row)}")
        return found


def hashed(path, algorithm):
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
