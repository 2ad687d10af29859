"""Calls one tool and writes its answer to stdout as it came.

client.py SOCKET TOOL [KEY=VALUE...]

The arguments travel as a CBOR map of texts. The exit code is 0, 1 where the tool refused or failed, 3 otherwise.
"""

import sys

import bolide


def main(socket, tool, *pairs):
    arguments = bolide.cbor.dumps(dict(pair.split("=", 1) for pair in pairs))
    try:
        # One link is all that it needs; a mistake that opened more would be refused.
        with bolide.Client("demo.py.client", socket=socket, limits={"links": 1}) as client, client.open(tool) as link:
            answer = link.call(tool, arguments, timeout=60, progress=lambda _: print("progress", file=sys.stderr))
            sys.stdout.buffer.write(answer)
    except bolide.ToolError as error:
        print(f"client: {error.code}: {error.message}", file=sys.stderr)
        return 1
    except bolide.BolideError as error:
        print(f"client: {error.code}: {error.message}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
