"""The caller of minidocker on a machine of `machine.py`.

It reads an order from each line of its standard input, and writes a line of JSON for each.
"""

import json
import sys
from contextlib import ExitStack
from typing import Any

import minidocker

LOOK = r"""
import errno, json, os, socket, stat, sys
WORD, names, doors = b"CANARY", json.loads(sys.argv[1]), json.loads(sys.argv[2])
read, exist, special, through = set(), set(), set(), set()

def look_at(path):
    try:
        status = os.lstat(path)
        if stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode):
            special.add(path)
        elif stat.S_ISLNK(status.st_mode):
            if WORD in os.fsencode(os.readlink(path)):
                read.add(path)
        elif stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20:
            with open(path, "rb") as file:
                if WORD in file.read():
                    read.add(path)
    except OSError:
        pass

# The programs below /usr are the host's; /proc is checked by its own tests.
SKIP = {"/usr", "/proc", "/dev", "/sys", "/package", "/tests", sys.argv[3]}
for top, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(top, name) not in SKIP]
    for name in directories + files:
        if WORD in os.fsencode(name):
            read.add(os.path.join(top, name))
        look_at(os.path.join(top, name))
# A name in a directory that cannot be listed.
for name in names:
    for prefix in ("/", "/proc/self/root/", "/proc/1/root/", "/proc/self/cwd/../../../"):
        if os.path.lexists(prefix + name):
            exist.add(name)
        look_at(prefix + name)
for door in doors:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(f"/{door}/socket")
        through.add(f"/{door}/socket")
    except OSError:
        pass
    try:
        os.close(os.open(f"/{door}/fifo", os.O_RDWR | os.O_NONBLOCK))
        through.add(f"/{door}/fifo")
    except OSError:
        pass
found = {"read": read, "exist": exist, "special": special, "through": through}
print(json.dumps({kind: sorted(paths) for kind, paths in found.items()}))
"""


def main() -> None:
    """Obey the orders of the test."""
    with ExitStack() as stack:
        boxes: dict[str, minidocker.Container] = {}
        for line in sys.stdin:
            order, arguments = json.loads(line)
            answer: Any = None
            if order == "start":
                box = minidocker.Container(**arguments["options"])
                boxes[arguments["name"]] = stack.enter_context(box)
            elif order == "look":
                words = [arguments["python"], "-I", "-S", "-c", LOOK]
                words += [
                    json.dumps(arguments["names"]),
                    json.dumps(arguments["doors"]),
                    sys.base_prefix,
                ]
                box = arguments["box"]
                start = minidocker.run if box is None else boxes[box].run
                done = start(words, capture_output=True, text=True, **arguments["options"])
                if done.returncode != 0 or done.stderr:
                    raise AssertionError(done.stderr)
                answer = json.loads(done.stdout)
            print(json.dumps(answer), flush=True)
