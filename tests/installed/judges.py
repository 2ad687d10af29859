"""What the judges of all ecosystems share: a scratch place, programs with a limit, and findings."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from registry import HERE

# Seconds that installing one set may take, and one program of it.
INSTALL_SECONDS_MAX = 600
PROGRAM_SECONDS_MAX = 60


def told(file):
    file.seek(0)
    return file.read().decode(errors="replace")


class Refused(Exception):
    """The set could not be judged at all."""


class Scratch:
    """A home of its own for one set: nothing of the user's is read but the toolchains, and nothing is left."""

    def __init__(self, place, program, served):
        self.place, self.program, self.url, self.recordings = place, program, served.url, served.place
        self.project = place / "project"
        self.project.mkdir(parents=True)
        kept = {key: text for key, text in os.environ.items() if not key.lower().startswith(("npm_", "pip_", "cargo_", "uv_"))}
        self.environment = {
            **kept,
            "HOME": str(place / "home"),
            "XDG_CACHE_HOME": str(place / "cache"),
            "XDG_STATE_HOME": str(place / "state"),
            "XDG_CONFIG_HOME": str(place / "config"),
            "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(pathlib.Path.home() / ".rustup")),
            "npm_config_cache": str(place / "npm"),
            "npm_config_registry": served.url,
            "npm_config_update_notifier": "false",
            "PIP_CACHE_DIR": str(place / "pip"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "CARGO_HOME": str(place / "cargo"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CI": "true",
        }
        (place / "home").mkdir()

    def run(self, *command, seconds_max=PROGRAM_SECONDS_MAX, **how):
        """Exit code, output and errors; a program that takes too long has code -1."""
        words = [str(word) for word in command]
        how = {"cwd": self.project, "env": self.environment, **how}
        # In files: node drops what is behind the 64 KiB of a pipe that is not read at once, and some bundles' last words are longer.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            try:
                child = subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, **how)
            except OSError as error:
                return -2, "", f"cannot be started: {error.strerror}"
            with child:
                try:
                    child.wait(timeout=seconds_max)
                except subprocess.TimeoutExpired:
                    return -1, "", f"no end within {seconds_max} s"
                finally:
                    # What it has started, too.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
            return child.returncode, told(out), told(errors)

    def need(self, *command, **how):
        """The output of what has to succeed."""
        code, out, errors = self.run(*command, seconds_max=INSTALL_SECONDS_MAX, **how)
        if code != 0:
            text = f"{out}\n{errors}".strip()[-1_500:]
            raise Refused(f"`{pathlib.Path(str(command[0])).name} {command[1]}` ended with {code}: {text}")
        return out

    def install(self, *options):
        """Bolide's answer; the store is this set's own."""
        directories = ("--state-dir", self.place / "bolide", "--runtime-dir", self.place / "run")
        command = (self.program, "install", "--standalone", "--json", *directories, *options)
        return json.loads(self.need(*command))

    def keep_project(self, *files):
        """Keeps what says what is installed, with the recorded registry in the place of this one: `bolide bench install` uses it."""
        place = self.recordings / ".projects" / self.place.name
        place.mkdir(parents=True, exist_ok=True)
        for file in files:
            (place / file.name).write_text(file.read_text().replace(self.url, HERE))

    def remove(self):
        shutil.rmtree(self.place, ignore_errors=True)


def sort_out(found, exceptions):
    """Findings that stay, and how many each exception took: a list of (applies to path and what, reason)."""
    left, excepted = [], {}
    for path, what in found:
        reason = next((reason for applies, reason in exceptions if applies(path, what)), None)
        if reason is None:
            left.append(f"{path}: {what}")
        else:
            excepted[reason] = excepted.get(reason, 0) + 1
    return left, excepted
