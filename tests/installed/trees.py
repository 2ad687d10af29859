"""Two installed trees compared: the same names, kinds, modes, contents and targets of links, but for listed exceptions."""

import hashlib
import os
import pathlib
import stat


def snapshot(root):
    """Everything below `root`: relative path to (kind, mode, content or target)."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = pathlib.Path(directory, name)
            status = path.lstat()
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                entry = ("link", 0o777, os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                entry = ("directory", mode, "")
            else:
                entry = ("file", mode, hashlib.sha256(path.read_bytes()).hexdigest())
            found[str(path.relative_to(root))] = entry
    return found


def differences(ours, theirs):
    """Path and what differs there, of two snapshots."""
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        left, right = ours.get(path), theirs.get(path)
        if left == right:
            continue
        if left is None or right is None:
            found.append((path, "only ours" if right is None else "only theirs"))
        elif left[0] != right[0]:
            found.append((path, f"{left[0]}, theirs is a {right[0]}"))
        elif left[2] != right[2]:
            found.append((path, "another target" if left[0] == "link" else "another content"))
        else:
            found.append((path, f"mode {left[1]:o}, theirs {right[1]:o}"))
    return found
