"""Builds the wheel of `bolide`: pure Python, plus `libbolide.so` where one lies in the package. Nothing else is needed.

Only what an installation from this directory asks for (PEP 517, wheels); no source archives.
"""

import base64
import hashlib
import os
import zipfile

NAME, VERSION = "bolide", "0.1.0"
PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), NAME)
SUFFIXES = (".py", ".so", ".typed")


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    files = {}
    for name in sorted(os.listdir(PACKAGE)):
        if name.endswith(SUFFIXES):
            with open(os.path.join(PACKAGE, name), "rb") as file:
                files[f"{NAME}/{name}"] = file.read()
    # A wheel that carries a compiled library is for machines like this one.
    native = any(name.endswith(".so") for name in files)
    tag = f"py3-none-linux_{os.uname().machine}" if native else "py3-none-any"
    information = f"{NAME}-{VERSION}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nRequires-Python: >=3.9\n"
    pure = "false" if native else "true"
    wheel = f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    files[f"{information}/METADATA"] = metadata.encode()
    files[f"{information}/WHEEL"] = wheel.encode()
    record = "".join(f"{name},{digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    built = f"{NAME}-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, built), "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            # One date for all, so that the same sources give the same wheel.
            out.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return built


def digest(data):
    hashed = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + hashed.rstrip(b"=").decode()
