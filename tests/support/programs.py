"""Programs that do some of their work, each as a script of the shell.

A script runs in an empty directory. Its output and its files are the same on every run.
"""

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
identify-im6 -format '%m %w %h %z\n' g.pgm
convert-im6 -list font | wc -l; convert-im6 -size 99x30 label:text label.pgm
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
    "java": r"""
cat > M.java <<'END'
class M { public static void main(String[] words) throws Exception {
    var zone = java.time.ZoneId.of("Europe/Berlin");
    System.out.println(java.time.ZonedDateTime.of(2024, 7, 1, 0, 0, 0, 0, zone));
    for (var name : new String[] {"user.name", "java.io.tmpdir", "file.encoding"})
        System.out.println(System.getProperty(name));
    System.out.println(javax.net.ssl.SSLContext.getDefault().getProvider());
    System.out.println(java.net.InetAddress.getByName("localhost"));
    java.nio.file.Files.writeString(java.nio.file.Path.of("out"), "x");
} }
END
java -XX:TieredStopAtLevel=1 M.java
""",
    "go": r"""
printf 'package main\n\nfunc main() { println(6 * 7) }\n' > m.go
export GOCACHE=/var/tmp/go GO111MODULE=off
go build -o /var/tmp/m m.go && /var/tmp/m; gofmt -l .; go env GOROOT; go list std | wc -l
""",
    "rsync": r"""
mkdir a; seq 5 > a/f; ln -s f a/l; touch -d @0 a/f; rsync -a a/ b/; rsync -ain --checksum a/ b/
""",
    "gs": r"""
printf '%%!PS\n/Helvetica findfont 9 scalefont setfont 9 9 moveto (hi) show showpage' > a.ps
gs -q -dNOPAUSE -dBATCH -sDEVICE=pgmraw -r20 -sOutputFile=a.pgm a.ps
gs -q -dNODISPLAY -dBATCH -c '/Ryumin-Light /Identity-H findfont pop (found) = quit'
""",
    "pdflatex": r"""
printf '\\documentclass{article}\\begin{document}Hi $a^2$\\end{document}' > a.tex
pdflatex -interaction=batchmode a.tex; kpsewhich article.cls; rm a.log
""",
    "Rscript": r"""
Rscript -e 'cat(summary(lm(dist ~ speed, cars))$r.squared, R.home(), .libPaths(), sep = "\n");
    cat(Sys.timezone(), getOption("papersize"), l10n_info()$`UTF-8`, "\n"); writeLines("x", "out")'
""",
    "emacs": r"""
emacs -Q --batch --eval '(princ (format "%s %s\n" (user-login-name) (current-time-string 0)))'
emacs -Q --batch --eval '(progn (princ load-path) (write-region "x" nil "out"))' 2>&1
""",
    "dot": r"""
echo 'digraph { a -> b; b -> "ä" }' > a.dot; dot -Tplain a.dot; dot -Tsvg -o a.svg a.dot
""",
    "pandoc": r"""
printf '# T\n\n*x* $a^2$\n\n| a | b |\n|---|---|\n| 1 | 2 |\n' > a.md
pandoc a.md; pandoc -t man a.md
""",
    "xsltproc": r"""
echo '<list><item>x</item></list>' > a.xml
cat > a.xsl <<'END'
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template match="item"><p><xsl:value-of select="."/>&#xfc;</p></xsl:template>
</xsl:stylesheet>
END
xsltproc -o a.html a.xsl a.xml; cat a.html
""",
    "ghc-pkg": r"""
ghc-pkg list --simple-output
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
