# Calls one hook of a build backend (PEP 517) and writes its answer down. Runs in the sandbox; plain standard library, Python 3.7 and later.
import importlib
import json
import os
import sys


def backend(name, places):
    sys.path[:0] = places
    module, _, path = name.partition(":")
    found = importlib.import_module(module)
    if places:
        # The project's own backend, not one of the same name from elsewhere.
        file = os.path.realpath(getattr(found, "__file__", None) or os.sep)
        inside = [os.path.realpath(place) for place in places]
        if not any(os.path.commonpath([file, place]) == place for place in inside):
            raise ImportError("the backend `{}` does not lie in backend-path".format(module))
    for part in filter(None, path.split(".")):
        found = getattr(found, part)
    return found


def main():
    task = json.loads(sys.argv[1])
    sys.argv[1:] = []
    places = [os.path.join(os.getcwd(), place) for place in task["backend_path"]]
    found = backend(task["backend"], places)
    if task["hook"] == "build_wheel":
        answer = found.build_wheel(task["into"], {}, None)
    elif task["hook"] == "build_editable":
        if not hasattr(found, "build_editable"):
            raise SystemExit("the backend makes nothing editable (PEP 660)")
        answer = found.build_editable(task["into"], {}, None)
    else:
        hook = getattr(found, task["hook"], None)
        answer = [] if hook is None else list(hook({}))
    with open(task["answer"], "w", encoding="utf-8") as file:
        json.dump(answer, file)


main()
