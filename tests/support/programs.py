"""Programs that do some of their work, each as a script of the shell or of Python.

A script runs in an empty directory. Its output and its files are the same on every run.
"""

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

# A name's first word is the program that the script needs.
SHELL = {
    "bash": r"""
declare -A a=([x]=1 [y]=2); for k in "${!a[@]}"; do echo "$k=${a[$k]}"; done | sort
diff <(seq 3) <(seq 2 4); echo ~root ${BASH_VERSINFO[0]}; printf '%(%Y)T\n' 1000000000
bash --login -c 'echo $PATH; shopt login_shell; type cat'
""",
    "dash": r"""
dash -c 'i=0; while [ $i -lt 5 ]; do i=$((i+1)); echo $i; done | tac; trap "echo end" EXIT'
""",
    "awk": r"""
seq 100 | awk '{s+=$1; a[$1%7]++} END {print s, a[3]; printf "%.3f\n", exp(1)}'
""",
    "sed": r"""
seq 20 > f; sed -i -E 's/(.)(.)/\2\1/; 3d' f; sed -n '$=' f
""",
    "grep": r"""
printf 'alpha\nbeta\nGämma\n' > f; grep -nP '^\p{Lu}' f; grep -c . f; grep -o 'ä' f
""",
    "find": r"""
mkdir -p a/b/c; touch a/1 a/b/2; find . -newermt 2001-01-01 -type f -printf '%P %m\n' | sort
find . -name '[12]' -print0 | xargs -0 -P2 -n1 basename | sort
""",
    "tar": r"""
mkdir t; seq 1000 > t/f; ln -s f t/l
for z in z j J; do tar -c$z --mtime=@0 --owner=0 --group=0 -f t.$z t; tar -tf t.$z; done
mkdir out; tar -xf t.z -C out; touch -d @0 t/* out/t/*
""",
    "gzip": r"""
seq 10000 > f; touch -d @0 f; gzip -kn9 f; bzip2 -k f; xz -k f
zcat f.gz | cksum; bzcat f.bz2 | cksum; xzcat f.xz | cksum
""",
    "diff": r"""
seq 9 > a; sed s/5/five/ a > b; diff -u --label a --label b a b > p; patch a p; cmp a b; cat p
""",
    "sort": r"""
printf 'b 10\na 9\nÄ 1\n' | sort -k2n; seq 50000 | tac | sort -n --parallel=2 -S 200k | cksum
""",
    "date": r"""
for z in UTC Europe/Berlin America/New_York; do TZ=$z date -d @1700000000 '+%c %Z %z'; done
date -d @0 +%Z
""",
    "split": r"""
seq 100 | shuf --random-source=/bin/ls | sha256sum; seq 20 | split -l 7 - part
factor 600851475143; nproc; echo x | base64; stat -c '%a %s' partaa
install -m 750 -D partaa d/e/f; stat -c %a d/e/f; echo 1 2 | tee g | tr ' ' '\n'
""",
    "id": r"""
id -u; id -un; whoami; echo ~; getent passwd 0 | cut -d: -f 1,3; getent group root | cut -d: -f 1,3
touch own; stat -c '%u %U %g %G' own
""",
    "ldd": r"""
ldd /bin/bash | sed 's/ (0x.*//'; /sbin/ldconfig -p | wc -l
""",
    "git": r"""
git init -q -b main r; cd r; git config user.name x; git config user.email x@example.org
seq 9 > f; git add f; git commit -qm one; echo 10 >> f; git commit -qam two; git log --oneline
git diff HEAD~ --stat; git clone -q . ../c; git -C ../c fsck; git gc -q
git rev-parse HEAD; git archive HEAD | tar -t; rm -rf ../r ../c; echo done > ../out
""",
    "gcc": r"""
printf '#include <stdio.h>\n#include <math.h>\nint main(void){printf("%%f\\n",sqrt(2));}' > m.c
gcc -O1 -o /var/tmp/m m.c -lm && /var/tmp/m; gcc -M m.c | wc -l; echo 'int x;' | gcc -xc -c - -o o.o
""",
    "make": r"""
printf 'all: a b\n%%: ; @echo $@ > $@; echo made $@\n' > Makefile; make -j2 -s | sort; make -n all
""",
    "openssl": r"""
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x \
    -keyout /var/tmp/k -out /var/tmp/c 2>&1 | grep -v -e ---
openssl verify -CAfile /var/tmp/c /var/tmp/c
openssl x509 -in /var/tmp/c -noout -subject -ext basicConstraints
echo hi | openssl enc -aes-256-cbc -pbkdf2 -k x -S 0102030405060708 -base64
""",
    "gpg": r"""
mkdir -m 700 /var/tmp/gnupg; export GNUPGHOME=/var/tmp/gnupg; echo text > f
gpg -q --batch --passphrase '' --quick-gen-key x@example.org ed25519 sign never 2> /dev/null
gpg -q --batch --pinentry-mode loopback --passphrase '' -o /var/tmp/f.sig -b f
gpg --verify /var/tmp/f.sig f 2>&1 | grep -o 'Good signature.*'; gpgconf --kill all
""",
    "perl": r"""
perl -w -MPOSIX -MData::Dumper -MDigest::SHA=sha1_hex -MTime::Local -MFile::Temp=tempfile -e '
    $Data::Dumper::Indent = 0;
    print Dumper([floor(2.5), sha1_hex("x"), timegm(1, 2, 3, 4, 5, 100)]), "\n";
    print scalar(localtime(1e9)), "\n", (getpwuid($<))[0], "\n", join(":", @INC), "\n";
    print tempfile() ? "made\n" : "no\n"; open F, ">", "out"; print F 1'
""",
    "ruby": r"""
ruby -rjson -ropenssl -rtime -rtmpdir -retc -e '
    puts JSON.dump({a: 1}), Time.at(1e9).iso8601, Dir.tmpdir, Etc.getpwuid.name
    puts OpenSSL::Digest::SHA256.hexdigest("x"); File.write("out", 5)'
""",
    "php": r"""
php -r 'echo json_encode([PHP_OS, date_default_timezone_get(), php_ini_loaded_file(),
    get_loaded_extensions()]), "\n"; file_put_contents("out", sha1("x"));'
""",
    "node": r"""
cat > m.js <<'END'
const fs = require("fs"), crypto = require("crypto"), os = require("os");
const format = new Intl.DateTimeFormat("de", { timeZone: "Europe/Berlin", dateStyle: "full" });
console.log(crypto.createHash("sha1").update("x").digest("hex"), format.format(0));
console.log(os.userInfo().username, os.tmpdir(), os.cpus().length);
fs.writeFileSync("out", "1");
require("dns").lookup("localhost", { family: 4 }, (error, address) => {
    console.log(error, address);
    require("child_process").execFile("uname", (error, out) => console.log(error, out));
});
END
node m.js
""",
    "tclsh": r"""
echo 'puts [expr {6*7}]; puts [clock format 0 -timezone :Europe/Berlin]' | tclsh
""",
    "sqlite3": r"""
sqlite3 x.db 'create table t(a); insert into t values(1),(2); select sum(a) from t;
    pragma integrity_check;'
""",
    "jq": r"""
echo '[{"a":1},{"a":2}]' | jq -c 'map(.a) | add, (1e9|todate), (0|localtime|mktime)'
""",
    "bc": r"""
echo 'scale=30; 4*a(1); 2^200' | bc -l
""",
    "vim": r"""
seq 5 > f; vim -es -u NONE -c '%s/3/three/' -c wq f; cat f
vim -es -c 'redir! > out | echo $VIMRUNTIME &term | syntax | redir END' -c q; cat out
""",
    "ed": r"""
printf 'a\nhello\n.\nw f\nq\n' | ed -s; cat f
""",
    "tmux": r"""
tmux -f /dev/null new-session -d -x 60 -y 5 'echo out-$((6*7)); tty | tr -d 0-9; sleep 60'
for i in $(seq 200); do tmux capture-pane -p | grep -q dev && break; sleep 0.02; done
tmux capture-pane -p | head -2; tmux kill-server
""",
    "script": r"""
script -qec 'tty | tr -d 0-9; test -t 1 && echo terminal' /dev/null < /dev/null | tr -d '\r'
""",
    "curl": r"""
seq 5 > f; curl -sS file://$PWD/f; curl -s http://localhost:1/; echo $?
curl -s --cacert /etc/ssl/certs/ca-certificates.crt https://localhost:1/; echo $?
""",
    "wget": r"""
wget -q -O - http://localhost:1/; echo $?
""",
    "redis-server": r"""
redis-server --unixsocket /var/tmp/r --port 0 --save '' --daemonize yes --dir /var/tmp > /dev/null
for i in $(seq 200); do redis-cli -s /var/tmp/r ping 2> /dev/null && break; sleep 0.02; done
redis-cli -s /var/tmp/r incrby n 42; redis-cli -s /var/tmp/r shutdown
""",
    "fc-match": r"""
fc-match -f '%{family}\n' sans; fc-match -f '%{file}\n' monospace:bold; fc-list | sort | cksum
""",
    "convert-im6": r"""
convert-im6 -size 40x40 gradient:red-blue -resize 20x -colorspace Gray -depth 8 g.pgm
identify-im6 g.pgm; convert-im6 -list font | wc -l; convert-im6 -size 99x30 label:text label.pgm
convert-im6 g.pgm g.pdf 2>&1 | cut -c 1-60
""",
    "ffmpeg": r"""
ffmpeg -v error -f lavfi -i testsrc=d=0.2:s=64x64 -bitexact -y t.avi
ffmpeg -v error -i t.avi -f md5 -
""",
    "man": r"""
printf '.TH X 1\n.SH NAME\nx - \\fBbold\\fR text\n' > x.1; man -P cat -l x.1 | head -5
""",
    "groff": r"""
printf '.TS\nl l.\na\tb\n.TE\n' | groff -t -Tascii | head -3
""",
    "xxd": r"""
echo hello | xxd > f; xxd -r f; od -An -tx1 f | head -1
""",
    "file": r"""
printf '%%PDF-1.4\n' > p; file p /usr/share/zoneinfo/UTC | cut -c 1-60; file -b --mime-type p
""",
    "zip": r"""
seq 9 > f; touch -d @1000000000 f; zip -qX f.zip f; unzip -Z1 f.zip; unzip -p f.zip f | cksum
""",
    "zstd": r"""
seq 9999 > f; zstd -q -k f; zstd -dc f.zst | cksum
""",
    "iconv": r"""
printf 'h\303\244' | iconv -t ISO-8859-1 | od -An -tx1; printf '\202\240' | iconv -f SHIFT_JIS
iconv -l | wc -l
""",
    "locale": r"""
locale; locale -a; locale -k decimal_point
""",
    "msgfmt": r"""
printf 'msgid "a"\nmsgstr "b"\n' | msgfmt -o m.mo -; msgunfmt m.mo
echo 'x $FOO' | FOO=1 envsubst
""",
    "ssh-keygen": r"""
ssh-keygen -q -t ed25519 -N '' -C x -f /var/tmp/k; ssh-keygen -yf /var/tmp/k | cut -c 1-20
ssh-keygen -lf /var/tmp/k.pub | cut -d ' ' -f 1,3
""",
    "objdump": r"""
printf '.globl _start\n_start: mov $60,%%eax; mov $7,%%edi; syscall\n' | as -o s.o; ld -o s s.o
./s; echo $?; objdump -d s | tail -3; readelf -h s | grep Entry; nm s; strip s
""",
    "busybox": r"""
busybox seq 5 | busybox awk '{print $1*2}'; seq 9 > f; busybox tar -c f | busybox tar -t
busybox id -u
""",
    "dpkg-deb": r"""
mkdir -p p/DEBIAN; printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y>\n' > c
echo 'Description: d' >> c; mv c p/DEBIAN/control; dpkg-deb -b --root-owner-group p x.deb
dpkg-deb -f x.deb Package; dpkg-deb -c x.deb | wc -l
""",
    "zsh": r"""
zsh -fc 'a=(3 1 2); print ${(on)a} ~; zmodload zsh/datetime; strftime %F 0; touch f; print *(N)'
""",
    "fish": r"""
fish --no-config -c 'for i in (seq 3); math $i x 2; end; string upper x; echo ~'
""",
    "gdb": r"""
gdb -q -nx -batch -ex 'p 6*7' -ex 'p sizeof(long)' -ex 'show version' 2>&1 | head -3
""",
    "keytool": r"""
keytool -list -cacerts -storepass changeit 2>&1 | grep -c trustedCertEntry
""",
    "npm": r"""
echo '{"name": "x", "scripts": {"x": "echo ran"}}' > package.json; npm run -s x
""",
    "tput": r"""
for terminal in xterm linux vt100 screen; do
    tput -T $terminal colors; tput -T $terminal cup 3 4 | od -An -c
done
""",
    "getent": r"""
getent ahostsv4 localhost | head -1; getent passwd nobody | cut -d: -f 1,3; getent services https
getent protocols tcp; getent passwd no-such-user; echo $?
""",
}

# Programs whose subject is the host, the container or privileges. They work under "namespaces".
ABOUT_THE_HOST = {
    "dpkg-query": "dpkg-query -W bash",
    "findmnt": "findmnt -n -o FSTYPE,SOURCE /",
    "hostname": "hostname lab && hostname",
    "ip": "ip link add minidocker0 type bridge && ip -br link show minidocker0",
    "mount": "mount -t tmpfs tmpfs /mnt && echo mounted",
    "strace": "strace -e none echo traced",
    "unshare": "unshare -m echo unshared",
    "cat": "cat /proc/cmdline",
    "chroot": "chroot / echo entered",
    "sysctl": "sysctl -w net.ipv4.ip_forward=1",
    "grep": "grep CapEff /proc/self/status",
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
