"""Files and confinement on the command line: docker's options for them."""

import json
from pathlib import Path

import pytest

import minidocker
from minidocker.cli.completion import complete
from minidocker.cli.confinement import CAPABILITIES, ULIMITS
from minidocker.cli.options import COMMANDS
from minidocker.cli.parser import UsageError, parse
from support.command_line import cli, start
from support.rootfs import make_rootfs


def out(*arguments: str, **options) -> str:
    done = cli("run", *arguments, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def keywords(*words: str) -> dict:
    return parse(COMMANDS["run"], [*words, "true"]).keywords


# --- files ---------------------------------------------------------------------------------------


def test_a_volume_is_the_callers_directory_and_ro_makes_it_read_only(tmp_path):
    (tmp_path / "file").write_text("outside")
    target = "/srv/minidocker-test"
    script = f"cat {target}/file; echo inside > {target}/new && echo written"
    assert out("-v", f"{tmp_path}:{target}", "sh", "-c", script) == "outsidewritten\n"
    assert (tmp_path / "new").read_text() == "inside\n"
    (tmp_path / "new").unlink()
    done = cli("run", "--volume", f"{tmp_path}:{target}:ro", "sh", "-c", script)
    assert done.stdout == "outside"
    assert "Read-only file system" in done.stderr
    assert not (tmp_path / "new").exists()
    assert not Path(target).exists(), "the mount point is made inside only"


def test_a_volume_may_be_named_from_the_current_directory(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").touch()
    assert out("-v", "./data:/mnt:ro", "ls", "/mnt", cwd=tmp_path) == "file\n"


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (("-v", "/usr:/mnt:ro,noexec"), ("--mount", "src=/usr,dst=/mnt,ro,options=noexec")),
        (("-v", "/usr:/mnt"), ("--mount", "type=bind,source=/usr,target=/mnt,readonly=false")),
        (("-v", "/usr:/mnt:rw"), ("--mount", '"target=/mnt",source=/usr')),
    ],
)
def test_a_mount_can_describe_a_volume(words, same):
    assert keywords(*words) == keywords(*same)


def test_mounts_are_made_in_the_given_order(tmp_path):
    (tmp_path / "file").touch()
    outer, inner = ["--mount", "type=tmpfs,target=/mnt"], ["-v", f"{tmp_path}:/mnt/inner"]
    assert out(*outer, *inner, "ls", "/mnt/inner") == "file\n"
    done = cli("run", *inner, *outer, "true")
    assert done.returncode == 125
    assert "would hide the earlier mount at /mnt" in done.stderr


def test_a_mounted_tmpfs_has_the_given_size_and_mode():
    script = "stat -c %a /mnt; df -k --output=size /mnt | tail -1"
    both = (
        ("--mount", "type=tmpfs,destination=/mnt,tmpfs-size=64k,tmpfs-mode=700"),
        ("--tmpfs", "/mnt:size=64k,mode=700"),
    )
    for words in both:
        assert out(*words, "sh", "-c", script).split() == ["700", "64"]


def test_a_read_only_root_is_writable_only_in_a_tmpfs():
    words = ("--read-only", "--tmpfs", "/tmp")
    script = "touch /tmp/here && ls /tmp; touch /var/tmp/there"
    done = cli("run", *words, "sh", "-c", script)
    assert done.stdout == "here\n"
    assert "Read-only file system" in done.stderr


def test_a_rootfs_is_the_root(tmp_path):
    root = make_rootfs(tmp_path / "root")
    assert "busybox" in out("--rootfs", str(root), "--clearenv", "/bin/ls", "/bin")
    done = cli("run", "--rootfs", str(tmp_path / "none"), "true")
    assert done.returncode == 125
    assert "rootfs" in done.stderr


def test_an_overlay_is_thrown_away_or_kept(tmp_path):
    script = "echo x > /etc/minidocker-test; ls /etc/minidocker-test"
    layer = tmp_path / "layer"
    layer.mkdir()
    assert out("--overlay", "sh", "-c", script) == "/etc/minidocker-test\n"
    assert out("--overlay-dir", str(layer), "sh", "-c", script) == "/etc/minidocker-test\n"
    assert out("--overlay-dir", str(layer), "cat", "/etc/minidocker-test") == "x\n"
    assert not Path("/etc/minidocker-test").exists()
    assert keywords("--overlay-dir", "/a", "--overlay") == {"overlay": "/a"}


def test_an_error_about_a_layer_names_the_option_that_gave_it(tmp_path):
    done = cli("run", "--overlay-dir", str(tmp_path / "missing"), "true")
    assert done.returncode == 125
    assert done.stderr.startswith('minidocker: --overlay-dir "/')
    done = cli("run", "--overlay", "--read-only", "true")
    assert done.returncode == 125
    assert "--overlay-dir" not in done.stderr


# --- confinement ---------------------------------------------------------------------------------


def inside(*words: str, command: tuple[str, ...] = ("run",)) -> dict[str, str]:
    done = cli(*command[:1], *words, *command[1:], "cat", "/proc/self/status")
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("words", "bounding", "no_new_privileges", "filters"),
    [
        (("--profile", "docker"), 0xA80425FB, "0", "2"),
        (("--profile", "untrusted"), 0, "1", "2"),
        (("--profile", "docker", "--security-opt", "no-new-privileges"), 0xA80425FB, "1", "2"),
        (("--profile=docker", "--security-opt=seccomp=unconfined"), 0xA80425FB, "0", "0"),
        (("--cap-drop", "ALL", "--cap-add", "NET_ADMIN"), 1 << 12, "1", "0"),
        (("--cap-drop=all", "--cap-add=CAP_CHOWN", "--cap-add=kill"), 0b100001, "1", "0"),
    ],
)
def test_profiles_and_capabilities(words, bounding, no_new_privileges, filters):
    fields = inside(*words)
    assert int(fields["CapBnd"], 16) == bounding
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == (no_new_privileges, filters)


def test_a_filter_is_read_from_a_file_as_docker_reads_it(tmp_path):
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}],
    }
    (tmp_path / "filter.json").write_text(json.dumps(document))
    assert out("hostname", "lab") == ""
    done = cli("run", "--security-opt", "seccomp=filter.json", "hostname", "lab", cwd=tmp_path)
    assert done.returncode != 0
    assert "hostname" in done.stderr


def test_limits_are_the_given_ones():
    words = ("--ulimit", "nofile=64:128", "--ulimit", "core=0")
    assert out(*words, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c").split() == [
        "64",
        "128",
        "0",
    ]
    assert keywords("--ulimit", "nofile=64:unlimited") == {"ulimits": {"nofile": (64, -1)}}


def test_a_command_that_enters_is_confined_by_its_own_options(survivors):
    script = f"echo $$; sleep 100; : {survivors.mark}"
    with start("run", "--profile", "untrusted", "sh", "-c", script) as process:
        process.stdout.readline()
        listed = json.loads(cli("ps", "--json").stdout)
        # Containers of other tests run too.
        pid, *others = [row["pid"] for row in listed if survivors.mark in row["command"]]
        assert not others
        entered = ("exec", str(pid))
        assert inside(command=entered)["Seccomp"] == "0"
        assert inside("--profile", "untrusted", command=entered)["Seccomp"] == "2"
        process.terminate()
        process.wait(10)


def test_explain_shows_all_of_it():
    words = ["--profile", "untrusted", "--read-only", "-v", "/usr:/mnt:ro", "--ulimit", "core=0"]
    done = cli("explain", *words, "true")
    assert done.returncode == 0
    for call in ("seccomp(", "landlock_restrict_self(", "capset(", "mount_setattr(", "prlimit64("):
        assert call in done.stdout


def test_every_word_that_completion_offers_is_accepted():
    for name in CAPABILITIES:
        assert is_known("--cap-drop", name)
    for name in ULIMITS:
        assert is_known("--ulimit", f"{name}=0")


def is_known(*words: str) -> bool:
    return len(minidocker.explain(["/bin/true"], **keywords(*words))) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-v", "data:/data"), "write ./data"),
        (("-v", "/data"), "SOURCE:TARGET"),
        (("-v", "/usr::ro"), "SOURCE:TARGET"),
        (("-v", "/usr:/x:ro:z"), "SOURCE:TARGET"),
        (("--mount", "type=bind,source=/usr"), "target is missing"),
        (("--mount", "typ=bind,target=/x"), "did you mean type?"),
        (("--mount", "type=bind,target=/x"), "source is missing, as in type=bind,source="),
        (("--mount", "target=/x"), "source is missing, as in type=bind,source="),
        (("--mount", "type=volume,target=/x"), "minidocker has no volumes"),
        (("--mount", "type=bin,source=/usr,target=/x"), "'bind'"),
        (("--mount", "source=/usr,target=/x,readonly=maybe"), "is a flag"),
        (("--mount", "source=/a,source=/b,target=/x"), "source is given twice"),
        (("--mount", "target=/x,target=/y"), "target is given twice"),
        (("--mount", "source,target=/x"), "source needs a value"),
        (("--mount", "type=tmpfs,target=/x,tmpfs-mode=9"), "octal"),
        (("--mount", ""), "target is missing"),
        (("--tmpfs", ":size=1"), "TARGET"),
        (("--security-opt", "seccomp"), "seccomp=FILE"),
        (("--security-opt", "apparmor=unconfined"), "leave it out"),
        (("--security-opt", "no-new-privileges=maybe"), "no-new-privileges"),
        (("--security-opt", "nonsense"), "seccomp=FILE"),
        (("--ulimit", "nofile"), "NAME=SOFT"),
        (("--ulimit", "nofile=1:"), "NAME=SOFT"),
        (("--ulimit", "nofile=many"), "'many'"),
    ],
)
def test_a_wrong_value_is_refused_with_a_remedy(words, message):
    with pytest.raises(UsageError) as caught:
        keywords(*words)
    assert message in str(caught.value)
    assert words[0] in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--profile", "untrustd"), 'Did you mean "untrusted"?'),
        (("--cap-add", "NET_ADMN"), 'Did you mean "NET_ADMIN"?'),
        (("--ulimit", "nofiles=3"), 'Did you mean "nofile"?'),
        (("--security-opt", "seccomp=/no/such"), "/no/such"),
        (("--security-opt", "seccomp=/etc/passwd"), "/etc/passwd"),
        (("-v", "/no/such:/x"), "/no/such"),
        (("-v", "/usr:relative"), "relative"),
    ],
)
def test_an_error_of_the_core_is_one_line_with_status_125(words, message):
    done = cli("run", *words, "true")
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert message in line


def test_completion_offers_names_after_each_option():
    def offered(*words: str) -> set[str]:
        return {word for word, _ in complete(["run", *words])[0]}

    assert offered("--profile", "un") == {"untrusted"}
    assert offered("--cap-add", "NET_A") == {"NET_ADMIN"}
    assert offered("--security-opt=no") == {"--security-opt=no-new-privileges"}
    assert offered("--mount", "type=bind,so") == {"type=bind,source="}
    assert complete(["run", "--rootfs", ""])[1] == "directories"
    assert {"--volume", "--mount", "--ulimit"} <= offered("--")
