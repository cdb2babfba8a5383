"""The options `mounts` and `tmpfs`, seen from both sides."""

import os
import pickle
import re
import uuid
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, SpecError
from support.launches import IGNORED, failures
from support.rootfs import make_rootfs, snapshot


@pytest.fixture
def data(tmp_path):
    """A directory outside with a file, and a subdirectory with another file."""
    (tmp_path / "data/below").mkdir(parents=True)
    (tmp_path / "data/file").write_text("outside\n")
    (tmp_path / "data/below/deep").write_text("deep\n")
    return tmp_path / "data"


def sh(script, **options):
    return minidocker.run(["/bin/sh", "-c", script], capture_output=True, text=True, **options)


def output(script, **options):
    done = sh(script, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def mounted_at(path, **options):
    """Return the mount points at and below a path inside: path to options and type."""
    rows = (line.split() for line in output("cat /proc/self/mountinfo", **options).splitlines())
    return {
        row[4]: (row[5].split(","), row[row.index("-") + 1])
        for row in rows
        if row[4] == path or row[4].startswith(f"{path}/")
    }


# --- binds ------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_bind_shows_the_directory_itself(data):
    target = "/mnt"
    assert output(f"cat {target}/file; echo new > {target}/made", mounts=[Mount(target, data)]) == (
        "outside"
    )
    assert (data / "made").read_text() == "new\n"
    assert not os.listdir("/mnt") or "file" not in os.listdir("/mnt")


def test_a_file_can_be_bound_on_a_file(data):
    assert output("cat /etc/passwd", mounts=[Mount("/etc/passwd", data / "file")]) == "outside"
    assert "root" in Path("/etc/passwd").read_text()


def test_a_missing_mount_point_is_made_only_inside(data, tmp_path):
    before = set(os.listdir("/"))
    here = tmp_path / "host/one/two"
    for target in ("/no-such-directory", "/no/such/directory", here, "/usr/no-such/directory"):
        mounts = [Mount(target, data)]
        assert output(f"cat {target}/file; ls -d /usr/bin /proc/1", mounts=mounts).split() == [
            "outside",
            "/proc/1",
            "/usr/bin",
        ]
    assert set(os.listdir("/")) == before
    assert not os.path.exists("/usr/no-such")
    assert os.listdir(tmp_path) == ["data"]


def test_a_missing_mount_point_for_a_file_is_a_file(data):
    mounts = [Mount("/no-such-file", data / "file"), Mount("/etc/no-such-file", data / "file")]
    assert output("cat /no-such-file /etc/no-such-file; ls -d /etc/passwd", mounts=mounts) == (
        "outside\noutside\n/etc/passwd"
    )


def test_the_siblings_of_a_missing_mount_point_are_the_hosts_files(data):
    (data / "link").symlink_to("file")
    mounts = [Mount(data / "missing/point", data / "below")]
    script = (
        f"cd {data} && cat missing/point/deep link && echo changed > below/deep && echo x > file"
    )
    assert output(script, mounts=mounts).split() == ["deep", "outside"]
    assert (data / "below/deep").read_text() == "changed\n"
    assert (data / "file").read_text() == "x\n"
    assert sorted(os.listdir(data)) == ["below", "file", "link"]


@pytest.mark.smoke
def test_read_only_holds_for_the_whole_subtree(data):
    inner = [Mount("/mnt", data), Mount("/mnt/below", type="tmpfs")]
    with minidocker.Container(mounts=inner) as box:
        # A bind includes the mounts below the directory, and makes them read-only too.
        box.run(["/bin/sh", "-c", "touch /mnt/below/writable"], check=True)
        script = "mount --rbind /mnt /srv && mount -o bind /mnt /opt"
        box.run(["/bin/sh", "-c", script], check=True)
    done = sh(
        "touch /mnt/x /mnt/below/x; cat /mnt/file", mounts=[Mount("/mnt", data, read_only=True)]
    )
    assert done.stdout == "outside\n"
    assert done.stderr.count("Read-only file system") == 2
    points = mounted_at("/mnt", mounts=[Mount("/mnt", "/dev", read_only=True)])
    assert len(points) > 1
    assert all("ro" in flags for flags, _ in points.values())


@pytest.mark.parametrize("options", [{}, {"rootfs": "/"}, {"read_only": True}])
def test_read_only_holds_where_a_mount_point_is_missing(data, options):
    mounts = [
        Mount("/mnt", data, read_only=True),
        Mount("/mnt/new/tmp", type="tmpfs"),
        Mount("/mnt/below/tmp", type="tmpfs"),
    ]
    script = """
for file in /mnt/made /mnt/new/made /mnt/below/made /mnt/below/deep; do
    (echo > $file) 2>/dev/null && echo $file
done
touch /mnt/new/tmp/made /mnt/below/tmp/made && cat /mnt/file /mnt/below/deep
"""
    assert output(script, mounts=mounts, **options) == "outside\ndeep"
    assert sorted(os.listdir(data)) == ["below", "file"]


def test_flags_hold_where_a_mount_point_is_missing(data):
    mounts = [Mount("/mnt", data, options="noexec"), Mount("/mnt/tmp", type="tmpfs")]
    script = "cp /bin/true /mnt/true && cp /bin/true /mnt/below/true; /mnt/true; /mnt/below/true"
    done = sh(script, mounts=mounts)
    assert (done.returncode, done.stderr.count("Permission denied")) == (126, 2)


def test_flags_hold_for_a_bind(data):
    script = data / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    assert output("/mnt/script", mounts=[Mount("/mnt", data)]) == "ran"
    done = sh("/mnt/script", mounts=[Mount("/mnt", data, options="noexec,nosuid")])
    assert done.returncode == 126
    assert {"noexec", "nosuid"} <= set(
        mounted_at("/mnt", mounts=[Mount("/mnt", data, options="noexec,nosuid")])["/mnt"][0]
    )


def test_a_source_is_the_hosts_even_if_a_mount_covers_it_inside(data, tmp_path):
    mark = Path(f"/dev/shm/minidocker-mounts-{os.getpid()}")
    mark.write_text("shared memory of the host\n")
    try:
        assert output("cat /mnt/*mounts*", mounts=[Mount("/mnt", "/dev/shm")]).startswith("shared")
        assert output(f"ls {mark.parent}") == ""
    finally:
        mark.unlink()
    mounts = [Mount(data, type="tmpfs"), Mount("/mnt", data)]
    assert output(f"ls {data}; cat /mnt/file", mounts=mounts) == "outside"


def test_a_relative_source_starts_at_the_callers_directory(data, monkeypatch):
    monkeypatch.chdir(data)
    assert output("cat /mnt/deep", mounts=[Mount("/mnt", "below")]) == "deep"


# --- order and overlap ------------------------------------------------------------------------


def test_mounts_are_made_in_the_given_order(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs").touch()
    mounts = [
        Mount("/mnt", data),
        Mount("/mnt/below", other),
        Mount("/mnt/below/new", type="tmpfs"),
    ]
    assert output("ls /mnt; ls /mnt/below", mounts=mounts).split() == [
        "below",
        "file",
        "new",
        "theirs",
    ]
    assert os.listdir(other) == ["theirs"]


def test_a_mount_point_is_made_in_an_earlier_mount(data):
    mounts = [Mount("/mnt", data), Mount("/mnt/no/such", type="tmpfs", options="exec")]
    assert output("touch /mnt/no/such/x; ls /mnt /mnt/no", mounts=mounts)
    assert sorted(os.listdir(data)) == ["below", "file"]
    assert (
        output("ls /mnt/a/b", tmpfs=["/mnt"], mounts=[Mount("/mnt/a/b/file", content="x")])
        == "file"
    )


def test_a_mount_that_hides_an_earlier_one_is_refused(data, leaks):
    for second in ("/mnt/below", "/mnt"):
        mounts = [Mount("/mnt/below", data), Mount(second, data)]
        with pytest.raises(SpecError, match="would hide the earlier mount at /mnt/below"):
            output("true", mounts=mounts)
    # A target behind a symbolic link is compared after the link is resolved.
    (data / "link").symlink_to("below")
    mounts = [Mount(data / "below", data), Mount(data / "link", data)]
    with pytest.raises(SpecError, match="would hide"):
        output("true", mounts=mounts)


# --- links ------------------------------------------------------------------------------------


def test_a_link_in_a_target_is_resolved_inside(tmp_path, data):
    rootfs = make_rootfs(tmp_path / "root")
    outside = tmp_path / "outside"
    outside.mkdir()
    (rootfs / "escape").symlink_to(outside)
    (rootfs / "relative").symlink_to("../../../../../../../tmp")
    before = snapshot(tmp_path)
    options = {"rootfs": rootfs, "env": {"PATH": "/bin"}}
    name = uuid.uuid4().hex
    for target, real in (
        (f"/escape/{name}", f"{outside}/{name}"),
        (f"/relative/{name}", f"/tmp/{name}"),
    ):
        mounts = [Mount(target, data)]
        assert output(f"cat {real}/file {target}/file", mounts=mounts, **options).split() == [
            "outside",
            "outside",
        ]
    assert snapshot(tmp_path) == before
    assert not os.path.exists(f"/tmp/{name}")


def test_a_magic_link_does_not_lead_out_of_a_root(tmp_path, data):
    rootfs = make_rootfs(tmp_path / "root")
    (rootfs / "trap").symlink_to("/proc/1/root")
    with pytest.raises(minidocker.SpawnError) as caught:
        output("true", rootfs=rootfs, env={}, mounts=[Mount("/trap/tmp", data)])
    assert caught.value.step == "mount"
    assert not Path("/tmp").samefile(data)


# --- other types ------------------------------------------------------------------------------


@pytest.mark.smoke
def test_content_makes_a_file():
    mounts = [
        Mount("/etc/passwd", content="inside:x:0:0::/:/bin/sh\n"),
        Mount("/no-such/script", content=b"#!/bin/sh\necho ran\n", mode=0o755),
        Mount("/opt", type="tmpfs"),
        Mount("/opt/empty", content=b"", read_only=True),
    ]
    script = (
        "cat /etc/passwd; /no-such/script; wc -c < /opt/empty; ls -l /no-such/script /etc/passwd"
    )
    lines = output(script, mounts=mounts).splitlines()
    assert lines[:3] == ["inside:x:0:0::/:/bin/sh", "ran", "0"]
    assert lines[3].startswith("-rw-r--r--")
    assert lines[4].startswith("-rwxr-xr-x")
    assert sh("echo x > /opt/empty", mounts=mounts).returncode != 0
    assert output("echo more >> /etc/passwd; wc -l < /etc/passwd", mounts=mounts) == "2"


def test_the_mode_of_content_ignores_the_callers_umask():
    before = os.umask(0o077)
    try:
        mounts = [Mount("/no-such", content="x", mode=0o644)]
        assert output("stat -c %a /no-such; umask", mounts=mounts).split() == ["644", "0077"]
    finally:
        os.umask(before)


@pytest.mark.smoke
def test_kernel_file_systems_are_the_containers(tmp_path):
    mounts = [
        Mount("/srv/p", type="proc"),
        Mount("/srv/s", type="sysfs", read_only=True),
        Mount("/srv/t", type="devpts"),
        Mount("/srv/q", type="mqueue"),
    ]
    script = "cat /srv/p/1/comm; ls /srv/s/class/net; ls /srv/t; ls /srv/q | wc -l"
    assert output(script, mounts=mounts).split() == ["sh", "lo", "ptmx", "0"]
    points = mounted_at("/srv", mounts=mounts)
    # Their mount points are missing, so the launch replaces /srv with a tmpfs that has them.
    assert points.pop("/srv")[1] == "tmpfs"
    assert {path: kind for path, (_, kind) in points.items()} == {
        "/srv/p": "proc",
        "/srv/s": "sysfs",
        "/srv/t": "devpts",
        "/srv/q": "mqueue",
    }
    assert "ro" in points["/srv/s"][0]


def test_an_overlay_leaves_its_lower_directories_unchanged(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("hidden\n")
    (other / "theirs").write_text("theirs\n")
    mounts = [Mount("/mnt", [data, other], type="overlay")]
    script = "cat /mnt/file /mnt/theirs; echo x > /mnt/file; rm /mnt/theirs; ls /mnt"
    assert output(script, mounts=mounts).split() == ["outside", "theirs", "below", "file"]
    assert (data / "file").read_text() == "outside\n"
    assert (other / "theirs").exists()


def test_an_overlay_keeps_its_writes_in_the_upper_directory(data, tmp_path):
    layer = tmp_path / "layer"
    layer.mkdir()
    mounts = [Mount("/mnt", data, type="overlay", upper=layer)]
    output("echo kept > /mnt/new; rm /mnt/file", mounts=mounts)
    assert output("cat /mnt/new; ls /mnt", mounts=mounts).split() == ["kept", "below", "new"]
    assert str(minidocker.changes(layer, rootfs=data)) == "D /file\nA /new"
    assert (data / "file").exists()


# --- tmpfs ------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("tmpfs", [{"/mnt": "size=1m,mode=700"}, ["/mnt:size=1m,mode=700"]])
def test_a_tmpfs_is_empty_and_has_its_options(tmpfs):
    script = "ls /mnt | wc -l; stat -c %a /mnt; df -k /mnt | tail -n 1 | tr -s ' ' | cut -d' ' -f2"
    assert output(script, tmpfs=tmpfs).split() == ["0", "700", "1024"]


def test_a_tmpfs_has_dockers_defaults():
    for tmpfs in ({"/mnt": ""}, {"/mnt": None}, ["/mnt"], [Path("/mnt")]):
        flags, kind = mounted_at("/mnt", tmpfs=tmpfs)["/mnt"]
        assert kind == "tmpfs"
        assert {"rw", "nosuid", "nodev", "noexec"} <= set(flags)
    flags, _ = mounted_at("/mnt", tmpfs={"/mnt": "exec,ro"})["/mnt"]
    assert "noexec" not in flags
    assert "ro" in flags


def test_a_tmpfs_can_be_a_mount_as_well():
    mounts = [Mount("/mnt", type="tmpfs", size="1m", mode=0o750)]
    script = "stat -c %a /mnt; df -k /mnt | tail -n 1 | tr -s ' ' | cut -d' ' -f2"
    assert output(script, mounts=mounts).split() == ["750", "1024"]


# --- invalid mounts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"target": 3, "source": "/"}, "give a path"),
        ({"target": "/mnt", "type": "bnid"}, "did you mean 'bind'"),
        ({"target": "/mnt", "type": "volume", "source": "x"}, "the types are bind, tmpfs"),
        ({"target": "/mnt"}, "a bind needs a source, or content"),
        ({"target": "/mnt", "source": "/", "content": "x"}, "give one"),
        ({"target": "/mnt", "type": "tmpfs", "content": "x"}, "give one"),
        ({"target": "/mnt", "type": "tmpfs", "source": "/"}, "leave it out"),
        ({"target": "/mnt", "type": "overlay"}, "an overlay needs a source"),
        ({"target": "/mnt", "source": "/", "size": 1}, "size is for a mount of type tmpfs"),
        ({"target": "/mnt", "source": "/", "mode": 0o755}, "a mode is for a tmpfs"),
        ({"target": "/mnt", "source": "/", "upper": "/x"}, "upper is for a mount of type overlay"),
        ({"target": "/mnt", "type": "tmpfs", "size": "64q"}, "'64m'"),
        ({"target": "/mnt", "type": "tmpfs", "size": 0}, "is not a size"),
        ({"target": "/mnt", "type": "tmpfs", "mode": "755"}, "0o755"),
        ({"target": "/mnt", "source": "/", "read_only": "yes"}, "not True or False"),
        ({"target": "/mnt", "content": 3}, "give bytes or a str"),
        ({"target": "/mnt", "source": "/", "options": ["ro"]}, "is not a str"),
    ],
)
def test_the_constructor_of_mount_refuses_invalid_fields(fields, why):
    with pytest.raises(SpecError, match=why):
        Mount(**fields)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"mounts": [Mount("mnt", "/tmp")]}, "not an absolute path"),
        ({"mounts": [Mount("/mnt/../etc", "/tmp")]}, 'contains ".."'),
        ({"mounts": [Mount("/", "/tmp")]}, "root itself"),
        ({"mounts": [Mount("/mnt", "/no-such-source")]}, "it does not exist"),
        ({"mounts": [Mount("/mnt", "/urs")]}, 'Did you mean "/usr"'),
        ({"mounts": [Mount("/etc/passwd", "/tmp")]}, "the target is a file"),
        ({"mounts": [Mount("/mnt", "/etc/passwd")]}, "the target is a directory"),
        ({"mounts": [Mount("/etc/passwd/x", "/tmp")]}, "Not a directory"),
        ({"mounts": [Mount("/mnt", "/", type="overlay")]}, "is mounted below it"),
        ({"mounts": [Mount("/mnt", "/tmp", options="noexce")]}, 'Did you mean "noexec"'),
        ({"mounts": [Mount("/mnt", "/tmp", read_only=True, options="rw")]}, "contradicts"),
        ({"mounts": [Mount("/mnt\0", "/tmp")]}, "NUL"),
        ({"tmpfs": {"/mnt": "sise=1m"}}, 'Did you mean "size"'),
        ({"tmpfs": {"/mnt": "exec,noexec"}}, "contradict each other"),
        ({"tmpfs": ["/mnt", "/mnt"]}, "would hide"),
        ({"tmpfs": "/mnt"}, "give a mapping"),
        ({"tmpfs": {"/mnt": 3}}, "not a str"),
        ({"mounts": ["/mnt"]}, "give a sequence of minidocker.Mount"),
        ({"mounts": Mount("/mnt", "/tmp")}, "give a sequence"),
    ],
)
def test_an_impossible_mount_is_refused_before_the_launch(options, why, leaks):
    with pytest.raises(SpecError, match=why) as caught:
        output("true", **options)
    assert caught.value.option in ("mounts", "tmpfs")


def test_mounts_without_a_new_mount_namespace_are_refused(data):
    shared = minidocker.NamespaceOptions.all().without_mount()
    with pytest.raises(SpecError, match="mount namespace is shared"):
        output("true", namespaces=shared, mounts=[Mount("/mnt", data)])
    assert os.listdir("/mnt") != sorted(os.listdir(data))


def test_a_command_that_enters_a_container_gets_its_files(data):
    with minidocker.Container(mounts=[Mount("/mnt", data)]) as box:
        assert box.run(["cat", "/mnt/file"], capture_output=True, text=True).stdout == "outside\n"
        with pytest.raises(SpecError, match="give it to Container"):
            box.run(["true"], mounts=[Mount("/mnt", data)])


def test_a_failure_at_any_step_leaves_nothing(data, tmp_path, leaks):
    layer = tmp_path / "layer"
    layer.mkdir()
    options = {
        "tmpfs": ["/srv/new"],
        "mounts": [
            Mount("/no-such", data, read_only=True),
            Mount("/mnt", data, type="overlay", upper=layer),
            Mount("/etc/no-such", content="x"),
        ],
    }
    before = snapshot(tmp_path)

    def choose(calls):
        steps = {call.step for call in calls}
        assert {"mount", "mount-source", "mount-point", "pivot-root"} <= steps
        # Many calls differ only in a name, as for the entries of /etc: try the first and the last.
        alike = {}
        for index, call in enumerate(calls):
            tried = ("mount", "mount-source", "mount-point", "make-root", "pivot-root")
            if call.step in tried and not call.call.startswith(IGNORED):
                text = re.sub(r'"[^"/]*"', "NAME", call.call)
                alike.setdefault((call.step, text), []).append(index)
        return sorted({at for found in alike.values() for at in (found[0], found[-1])})

    for call, error in failures(["true"], choose, **options):
        assert error is not None
        assert error.step == call.step
    after = snapshot(tmp_path)
    # The launch made and removed entries in the layer, which changes the directory's mtime.
    before.pop("layer"), after.pop("layer")
    assert after == before


def test_a_mount_and_its_spec_can_be_pickled_and_compared(data):
    spec = minidocker.Spec(mounts=[Mount("/mnt", data)], tmpfs={"/srv": "size=1m"})
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert Mount("/mnt", data) == Mount("/mnt", data)
    assert hash(Mount("/mnt", content="x")) == hash(Mount("/mnt", content="x"))
