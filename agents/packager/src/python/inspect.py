# Describes the interpreter that runs it as one JSON object. Plain standard library, Python 3.7 and later.
import json
import os
import platform
import struct
import sys
import sysconfig


def implementation_version():
    info = sys.implementation.version
    version = "{0.major}.{0.minor}.{0.micro}".format(info)
    if info.releaselevel != "final":
        version += info.releaselevel[0] + str(info.serial)
    return version


def glibc():
    try:
        name, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
    except (AttributeError, OSError, ValueError):
        return None
    return version if name == "glibc" else None


def elf():
    # The program header table of the executable: word size, machine, flags, path of the dynamic loader.
    try:
        with open(os.path.realpath(sys.executable), "rb") as file:
            ident = file.read(16)
            if ident[:4] != b"\x7fELF":
                return None
            wide, order = ident[4] == 2, "<" if ident[5] == 1 else ">"
            header = order + ("HHIQQQIHHH" if wide else "HHIIIIIHHH")
            _, machine, _, _, offset, _, flags, _, size, count = struct.unpack(
                header, file.read(struct.calcsize(header))
            )
            entry = order + ("IIQQQQ" if wide else "IIIII")
            loader = None
            for index in range(count):
                file.seek(offset + size * index)
                fields = struct.unpack(entry, file.read(struct.calcsize(entry)))
                if fields[0] == 3:
                    start, length = (fields[2], fields[5]) if wide else (fields[1], fields[4])
                    file.seek(start)
                    loader = os.fsdecode(file.read(length)).strip("\0")
            return {"bits": 64 if wide else 32, "machine": machine, "flags": flags, "loader": loader}
    except (OSError, struct.error):
        return None


def musl(loader):
    if not loader or "musl" not in os.path.basename(loader):
        return None
    import subprocess

    answer = subprocess.run([loader], stderr=subprocess.PIPE, universal_newlines=True).stderr
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0][:4] != "musl" or not lines[1].startswith("Version "):
        return None
    return lines[1][len("Version "):]


def manylinux_overrides():
    # Distributions may veto manylinux wheels with a module (PEP 600).
    try:
        import _manylinux
    except ImportError:
        return None
    names = ("manylinux1_compatible", "manylinux2010_compatible", "manylinux2014_compatible")
    found = {name: bool(getattr(_manylinux, name)) for name in names if hasattr(_manylinux, name)}
    if hasattr(_manylinux, "manylinux_compatible"):
        arch = sysconfig.get_platform().replace("-", "_").replace(".", "_").partition("_")[2]
        found["versions"] = [
            [2, minor]
            for minor in range(0, 100)
            if _manylinux.manylinux_compatible(2, minor, arch) in (False,)
        ]
    return found


executable = elf() or {}
full_version = platform.python_version()
print(
    json.dumps(
        {
            "markers": {
                "implementation_name": sys.implementation.name,
                "implementation_version": implementation_version(),
                "os_name": os.name,
                "platform_machine": platform.machine(),
                "platform_python_implementation": platform.python_implementation(),
                "platform_release": platform.release(),
                "platform_system": platform.system(),
                "platform_version": platform.version(),
                # Distributions build from a branch and leave a plus sign, which no version may end with.
                "python_full_version": full_version.rstrip("+"),
                "python_version": ".".join(platform.python_version_tuple()[:2]),
                "sys_platform": sys.platform,
            },
            "version": list(sys.version_info[:3]),
            "executable": sys.executable,
            "base_executable": getattr(sys, "_base_executable", None) or sys.executable,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "paths": sysconfig.get_paths(),
            "platform": sysconfig.get_platform(),
            "is_32bit": sys.maxsize <= 2**32,
            "is_debug": bool(sysconfig.get_config_var("Py_DEBUG")) or hasattr(sys, "gettotalrefcount"),
            "is_free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            "extension_suffix": sysconfig.get_config_var("EXT_SUFFIX"),
            "glibc": glibc(),
            "musl": musl(executable.get("loader")),
            "elf": executable or None,
            "manylinux": manylinux_overrides(),
        }
    )
)
