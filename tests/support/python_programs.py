"""Scripts of Python that do some work, with the same output and files on every run."""

PYTHON = {
    "trust store": """
import os, ssl
context = ssl.create_default_context()
paths = ssl.get_default_verify_paths()
names = sorted(os.listdir(paths.capath)) if paths.capath else []
print(context.cert_store_stats(), len(names), len(context.get_ca_certs()))
for name in names[:20]:
    ssl.create_default_context(cafile=os.path.join(paths.capath, name))
""",
    "locale": """
import locale, time
print(locale.setlocale(locale.LC_ALL, ""), locale.localeconv()["decimal_point"])
print(locale.getpreferredencoding(), time.strftime("%A", (1,) * 9))
for name in ("german", "de_DE.UTF-8", "C"):
    try:
        print(locale.setlocale(locale.LC_ALL, name))
    except locale.Error as error:
        print(name, error)
""",
    "time zones": """
import os, time, zoneinfo
from datetime import datetime
print(time.tzname, time.localtime(10**9))
print(datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).isoformat())
for name in ("Asia/Tokyo", "America/Lima"):
    os.environ["TZ"] = name
    time.tzset()
    print(time.tzname, time.localtime(10**9).tm_hour)
""",
    "sqlite": """
import sqlite3
with sqlite3.connect("squares.db") as db:
    db.execute("create table squares (n integer primary key, square integer)")
    db.executemany("insert into squares values (?, ?)", ((n, n * n) for n in range(1000)))
print(sqlite3.connect("squares.db").execute("select sum(square) from squares").fetchone())
""",
    "processes": """
import math, multiprocessing, os
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    print(sum(pool.map(math.factorial, range(10))))
queue, value = context.Queue(), context.Value("i", 5)
queue.put(value.value)
print(queue.get(), os.cpu_count(), len(os.sched_getaffinity(0)))
""",
    "libraries": """
import ctypes, ctypes.util
print(ctypes.util.find_library("m"), ctypes.util.find_library("z"))
print(ctypes.CDLL("libm.so.6").abs(-3))
""",
    "network names": """
import mimetypes, socket
print(socket.gethostbyname("localhost"), mimetypes.guess_type("x.svg"))
for find, name in ((socket.getservbyname, "https"), (socket.getprotobyname, "tcp")):
    try:
        print(find(name))
    except OSError as error:
        print(error)
""",
    "curses": """
import curses
curses.setupterm("xterm", 1)
print(curses.tigetnum("colors"), curses.tparm(curses.tigetstr("cup"), 3, 4))
""",
    "asyncio": """
import asyncio
async def echo(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
async def talk(reader, writer):
    writer.write(b"hello\\n")
    print(await reader.read())
    writer.close()
async def main():
    async with await asyncio.start_unix_server(echo, "/var/tmp/socket"):
        await talk(*await asyncio.open_unix_connection("/var/tmp/socket"))
    async with await asyncio.start_server(echo, "localhost", 8888):
        await talk(*await asyncio.open_connection("localhost", 8888))
    child = await asyncio.create_subprocess_exec("tr", "a", "b", stdin=-1, stdout=-1)
    print(await child.communicate(b"banana"))
asyncio.run(main())
""",
    "files": """
import mmap, os, shutil, tempfile
with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "file")
    with open(path, "wb+") as file:
        file.truncate(1 << 16)
        with mmap.mmap(file.fileno(), 0) as memory:
            memory[:5] = b"hello"
    os.link(path, path + "2")
    print(sorted(os.listdir(directory)), os.stat(path).st_nlink)
    shutil.copy2(path, "copy")
for place in ("/var/tmp", "/dev/shm", os.path.expanduser("~")):
    print(place, os.access(place, os.W_OK))
os.mkfifo("fifo")
os.symlink("fifo", "link")
os.chmod("copy", 0o640)
""",
}

# Programs of a virtual environment: the module that each needs, and its script.
ENVIRONMENT = {
    "numpy": """
import numpy as np
matrix = np.arange(10_000, dtype=float).reshape(100, 100) + np.eye(100) * 1e5
print(abs(np.linalg.solve(matrix, matrix @ np.ones(100)) - 1).max() < 1e-9)
print(np.random.default_rng(1).integers(100, size=5))
np.save("array.npy", np.arange(5))
""",
    "pip": """
import runpy, sys, zipfile
sys.dont_write_bytecode = True
with zipfile.ZipFile("x-1-py3-none-any.whl", "w") as wheel:
    for name, text in {
        "x.py": "print('imported')",
        "x-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: x\\nVersion: 1\\n",
        "x-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "x-1.dist-info/RECORD": "x.py,,\\n",
    }.items():
        wheel.writestr(zipfile.ZipInfo(name), text)
sys.argv = "pip install -q --no-index --no-compile -t target x-1-py3-none-any.whl".split()
try:
    runpy.run_module("pip", run_name="__main__")
except SystemExit as end:
    print(end.code)
sys.path.insert(0, "target")
import x
""",
    "pytest": """
import pathlib, sys, pytest
sys.dont_write_bytecode = True
pathlib.Path("test_x.py").write_text("def test_x(tmp_path): (tmp_path / 'x').write_text('x')")
print(int(pytest.main(["-qq", "-p", "no:cacheprovider", "--disable-plugin-autoload", "test_x.py"])))
""",
    "jinja2": """
import jinja2
print(jinja2.Template("{% for n in range(3) %}{{ n }}{% endfor %}").render())
""",
    "yaml": """
import yaml
print(yaml.safe_load("a: [1, 2]"), yaml.__with_libyaml__)
""",
    "certifi": """
import certifi, ssl
print(len(ssl.create_default_context(cafile=certifi.where()).get_ca_certs()) > 10)
""",
    "psutil": """
import psutil
print(psutil.cpu_count(), psutil.virtual_memory().total, psutil.Process().pid)
""",
    "zmq": """
import zmq
context = zmq.Context()
one, two = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
one.bind("ipc:///var/tmp/zmq")
two.connect("ipc:///var/tmp/zmq")
two.send(b"hello")
print(one.recv())
context.destroy()
""",
    "IPython": """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
print(shell.run_cell("6 * 7").result, shell.run_line_magic("pwd", ""))
""",
}
