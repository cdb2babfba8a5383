"""The doctor: its report on this machine and on broken surroundings."""

import errno
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions
from minidocker._doctor import outer
from minidocker._doctor.checks import CHECKS
from minidocker._inspect.proc import MountEntry
from support import surroundings
from support.command_line import cli
from support.examination import broken, examined, refused
from support.mounts import own_mounts
from support.surroundings import report_in

CONTROLLERS = {row.name for row in CHECKS if row.name.startswith("cgroup-")}
KINDS = {"pid", "net", "mount", "uts", "ipc", "cgroup", "time"}
#: Rows that do not depend on namespaces.
OUTSIDE = {"linux", "proc", "pidfd", "close-range", "memfd-exec"}


@pytest.fixture(scope="module")
def report():
    return minidocker.doctor()


def mounted(target, root="/"):
    return MountEntry(
        target=target,
        source="tmpfs",
        type="tmpfs",
        root=root,
        options=("rw",),
        propagation=(),
        device="0:99",
    )


# --- this machine --------------------------------------------------------------------------------


def test_everything_essential_works_here(report):
    assert report.ok, str(report)
    assert bool(report)
    assert report.why() is None


def test_everything_else_works_here_except_what_this_user_may_not_do(report):
    missing = {row.name for row in report if not row.works}
    forbidden = CONTROLLERS if os.geteuid() != 0 else set()
    assert missing <= forbidden | {"subordinate-ids"}, str(report)


@pytest.mark.plain(reason="root needs no subordinate ids")
def test_a_plain_user_with_rows_and_the_programs_has_subordinate_ids(report):
    user = pwd.getpwuid(os.geteuid()).pw_name
    rows = [line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines()]
    works = user in rows and shutil.which("newuidmap") is not None
    assert report["subordinate-ids"].works == works


@pytest.mark.root(reason="the groups of this machine belong to root")
def test_root_can_make_control_groups(monkeypatch):
    # Other runs of the doctor make groups at the same time, with other names.
    mark, number = uuid.uuid4().hex, itertools.count()
    monkeypatch.setattr(secrets, "token_hex", lambda _: f"{mark}-{next(number)}")
    report = minidocker.doctor()
    for name in CONTROLLERS:
        assert report[name].works, str(report)
        directory = report[name].detail.partition("below ")[2]
        assert Path(directory).is_dir()
        assert list(Path(directory).glob(f"*{mark}*")) == []
    assert next(number) > 0


def test_everything_essential_works_inside_a_container():
    inside = report_in(surroundings.unbroken, hostname="inside")
    assert inside.failing == set()
    assert inside.report["ok"] is True


def test_it_is_quick():
    def once():
        # The CPU time of this process and its children depends little on the machine's load.
        began = os.times()
        minidocker.doctor()
        return sum(os.times()[:4]) - sum(began[:4])

    assert min(once() for _ in range(5)) < 0.5


@pytest.mark.smoke
def test_it_leaves_nothing_behind(leaks):
    minidocker.doctor()
    leaks.assert_unchanged()


def test_it_does_not_change_the_caller():
    def own():
        names = ("uid_map", "status", "cgroup", "limits")
        found = {name: Path("/proc/self", name).read_text() for name in names}
        counted = ("ctxt_switches", "Vm", "Rss", "SigQ", "Threads", "Hugetlb")
        found["status"] = "\n".join(
            line
            for line in found["status"].splitlines()
            if not any(word in line for word in counted)
        )
        handler = signal.getsignal(signal.SIGCHLD)
        return found, own_mounts(), os.getcwd(), minidocker.namespaces(), handler

    before = own()
    minidocker.doctor()
    assert own() == before


def test_threads_may_run_it_at_the_same_time():
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(minidocker.doctor())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(found) for found in reports] == [str(reports[0])] * 4


def test_the_report_on_another_system_names_linux_as_missing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    (row,) = minidocker.doctor()
    assert (row.name, row.status) == ("linux", "fails")
    assert "namespaces exist only on Linux" in row.detail
    assert "WSL 2" in row.remedy


def test_ignoring_sigchld_does_not_disturb_it():
    code = (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "import minidocker; print(minidocker.doctor().summary)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Everything"), done.stdout


# --- the command line ----------------------------------------------------------------------------


def test_the_command_prints_the_report_and_succeeds():
    done = cli("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("Everything")
    assert "\x1b" not in done.stdout


def test_the_command_fails_if_something_essential_fails():
    done = minidocker.run(
        [sys.executable, "-m", "minidocker", "doctor"],
        namespaces=NamespaceOptions.all().without_mount(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "FAIL  proc " in done.stdout


# --- hidden parts of /proc and /sys --------------------------------------------------------------


def test_a_masked_proc_is_named_with_the_masking_mount():
    found = report_in(surroundings.masked_proc, "/proc/tty")
    row = found["fresh-proc"]
    assert row["status"] == "fails"
    assert "mounts hide parts of the caller's /proc" in row["detail"]
    assert "/proc/tty (tmpfs): mount(" in row["detail"]
    assert row["remedy"] == "umount /proc/tty"
    assert found.failing == {"fresh-proc", "run"}
    assert found["run"]["remedy"] == row["remedy"]
    # A check that needs a fresh /proc is not made, and has the same remedy.
    assert found["ping"]["status"] == "missing-optional"
    assert found["ping"]["remedy"] == row["remedy"]


def test_a_masked_sys_is_distinguished_from_a_masked_proc():
    found = report_in(surroundings.masked_proc, "/sys/kernel")
    assert found.failing == {"fresh-sys", "run"}
    assert "/sys/kernel (tmpfs)" in found["fresh-sys"]["detail"]


def test_a_read_only_sys_does_not_matter():
    found = report_in(surroundings.read_only, "/sys")
    assert found.failing == set()


@pytest.mark.parametrize("engine", ["docker", "podman", "kubernetes"])
def test_inside_an_engine_the_remedy_is_the_engines_own(engine):
    mount = mounted("/proc/kcore", root="/null")
    failure = refused('mount("proc", "/proc")', errno.EPERM)
    examination = broken(engine=engine, mounts=(mount,), refuse={"fresh-proc": failure})
    row = examined(examination, "pid", "mount", "fresh-proc")["fresh-proc"]
    assert "/proc/kcore (tmpfs /null)" in row.detail
    assert row.remedy.startswith(("start that container with", "set securityContext"))


def test_mounts_on_places_that_are_always_empty_hide_nothing():
    targets = ["/proc/sys/fs/binfmt_misc", "/proc/scsi", "/proctor", "/proc"]
    mounts = tuple(map(mounted, targets))
    assert [entry.target for entry in outer.hiding(mounts, "/proc")] == ["/proc/scsi"]


# --- limits and permissions for namespaces -------------------------------------------------------


def test_a_limit_of_zero_user_namespaces_is_named():
    found = report_in(surroundings.sysctl, "user.max_user_namespaces", "0")
    assert "user.max_user_namespaces is 0" in found["user"]["detail"]
    assert found["user"]["remedy"] == "as root: sysctl -w user.max_user_namespaces=15000"
    # Root inside needs no user namespace for the other kinds.
    assert {found[kind]["status"] for kind in KINDS} == {"works"}
    assert found.failing == {"user", "run"}
    assert found["run"]["remedy"] == found["user"]["remedy"]


def test_a_limit_of_another_kind_is_named_by_its_own_name():
    found = report_in(surroundings.sysctl, "user.max_net_namespaces", "0")
    assert "user.max_net_namespaces is 0" in found["net"]["detail"]
    assert found.failing == {"net", "fresh-sys", "loopback", "run"}
    assert found["loopback"]["detail"] == "this needs net (network namespace), which does not work"


def test_a_reached_limit_is_distinguished_from_a_limit_of_zero():
    failure = refused("clone(CLONE_NEWUSER)", errno.ENOSPC)
    examination = broken(sysctls={"user.max_user_namespaces": 40000}, refuse={"user": failure})
    row = examined(examination, "user")["user"]
    assert "user.max_user_namespaces (40000)" in row.detail
    assert row.remedy == "as root: sysctl -w user.max_user_namespaces=80000"


@pytest.mark.parametrize("chroot", ["chroot_to_mount", "chroot_to_directory"])
def test_a_chroot_is_the_reason_for_no_user_namespace(tmp_path, chroot):
    found = report_in(getattr(surroundings, chroot), tmp_path, init=True)
    assert "the caller is in a chroot" in found["user"]["detail"]
    assert "pivot_root" in found["user"]["remedy"]
    assert "in a chroot" in found.report["surroundings"]
    assert "user" in found.failing
    # The kernel has every kind of namespace.
    assert not [row for row in found.rows.values() if "CONFIG_" in row["detail"]]


@pytest.mark.root(reason="only root may make a mount namespace in a chroot")
def test_a_root_that_is_no_mount_point_is_named(tmp_path):
    """A mount in a chroot to a plain directory is EINVAL, as for a kernel without namespaces."""
    shared = NamespaceOptions.all().without_user()
    found = report_in(surroundings.chroot_to_directory, tmp_path, init=True, namespaces=shared)
    assert "is not a mount point, as after chroot" in found["mount"]["detail"]
    assert found["mount"]["remedy"] == "make it one before the chroot: mount --bind DIR DIR"


@pytest.mark.root(reason="only root can become another user")
@pytest.mark.parametrize("hide", ["", "hide"], ids=["visible", "hidden"])
def test_a_caller_that_is_not_dumpable_is_told_so(hide):
    """Root owns the files in /proc of its children; with hidepid they are not even visible."""
    found = report_in(surroundings.not_dumpable, hide)
    assert "the caller is not dumpable" in found["user"]["detail"]
    assert "PR_SET_DUMPABLE" in found["user"]["remedy"]


def test_in_an_empty_root_each_row_has_its_cause_and_nothing_is_raised(tmp_path):
    found = report_in(surroundings.chroot_to_nothing, tmp_path)
    assert found["proc"]["detail"] == "/proc is not mounted"
    assert found["proc"]["remedy"] == "mount -t proc proc /proc"
    assert "the caller is in a chroot" in found["user"]["detail"]
    assert {"proc", "user", "run"} <= found.failing


def test_ids_that_are_not_mapped_are_the_reason_for_no_user_namespace():
    found = report_in(surroundings.unmapped)
    assert "the caller's own ids (65534 and 65534) are not mapped" in found["user"]["detail"]
    assert "unshare --map-current-user" in found["user"]["remedy"]


def test_another_pid_namespaces_proc_is_named():
    shared = NamespaceOptions.all().without_mount()
    found = report_in(surroundings.unbroken, namespaces=shared)
    assert found["proc"]["detail"] == "/proc shows another PID namespace than the caller's"
    assert found["user"]["detail"] == found["proc"]["detail"]


def test_debians_sysctl_is_named():
    failure = refused("clone(CLONE_NEWUSER)", errno.EPERM)
    examination = broken(sysctls={"kernel.unprivileged_userns_clone": 0}, refuse={"user": failure})
    row = examined(examination, "user")["user"]
    assert "kernel.unprivileged_userns_clone is 0" in row.detail
    assert row.remedy == "as root: sysctl -w kernel.unprivileged_userns_clone=1"


def test_apparmors_restriction_is_named_once_and_causes_all_other_failures():
    denied = {
        name: refused("sethostname", errno.EPERM) for name in ("capabilities", "mount", "loopback")
    }
    name = "kernel.apparmor_restrict_unprivileged_userns"
    report = examined(
        broken(sysctls={name: 1}, refuse=denied), "user", "capabilities", "net", "mount", "loopback"
    )
    assert report["user"].works
    assert report["net"].works
    assert f"({name} is 1" in report["capabilities"].detail
    assert (
        report["mount"].detail
        == "this needs capabilities (capabilities inside), which does not work"
    )
    remedies = {row.remedy for row in report if not row.works}
    assert remedies == {f"as root: sysctl -w {name}=0"}


@pytest.mark.root(reason="needs more than one id inside")
def test_without_a_user_namespace_a_plain_user_cannot_make_others():
    found = report_in(surroundings.nothing_left)
    assert found["user"]["status"] == "fails"
    assert found["net"]["detail"] == "this needs user (user namespace), which does not work"


# --- seccomp filters around the caller -----------------------------------------------------------


def test_the_filter_of_a_container_engine_is_distinguished_from_other_causes():
    found = report_in(surroundings.filtered_as_docker_does)
    assert "behind a seccomp filter" in found.report["surroundings"]
    for name in ("user", "unshare"):
        assert found[name]["detail"].startswith("a seccomp filter around the caller refuses it: ")
    assert "clone(CLONE_NEWUSER): Operation not permitted (EPERM)" in found["user"]["detail"]
    assert found["net"]["detail"] == "this needs user (user namespace), which does not work"
    assert found.failing.isdisjoint(OUTSIDE)
    assert len({found[name]["remedy"] for name in found.failing}) == 1


def test_with_a_filter_of_mounts_namespaces_still_work():
    found = report_in(surroundings.filter_of_mounts)
    assert found["user"]["status"] == found["net"]["status"] == found["capabilities"]["status"]
    assert found["mount"]["status"] == "fails"
    assert "a seccomp filter around the caller refuses it: mount(" in found["mount"]["detail"]
    assert found["fresh-proc"]["remedy"] == found["mount"]["remedy"]


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_filter_of_landlock_is_distinguished_from_a_kernel_without_it(refusal):
    if reason := minidocker.doctor().why("landlock"):
        pytest.skip(reason)
    found = report_in(surroundings.filter_of_landlock, str(refusal))
    row, profile = found["landlock"], found["profile-untrusted"]
    assert row["detail"].startswith("a seccomp filter around the caller refuses it: landlock_")
    assert "cannot enter the Landlock domain" in profile["detail"]
    # Without an engine both remedies are to change the filter.
    assert "landlock_*" in row["remedy"]
    assert "landlock_*" in profile["remedy"]
    assert found["profile-docker"]["status"] == "works"


def test_a_filter_that_kills_for_landlock_does_not_kill_the_caller():
    found = report_in(surroundings.filter_that_kills_for_landlock)
    assert "killed by SIGSYS" in found["landlock"]["detail"]
    assert found["profile-untrusted"]["detail"] == (
        "this needs landlock (Landlock), which does not work"
    )
    assert found.failing == set()


def test_a_filter_that_kills_does_not_kill_the_caller():
    found = report_in(surroundings.filter_that_kills)
    assert "killed by SIGSYS" in found["user"]["detail"]
    assert "killed by SIGSYS" in found["landlock"]["detail"]
    assert "killed by SIGSYS" in found["memfd-exec"]["detail"]
    assert found["run"]["status"] == "fails"
    assert found["unshare"]["status"] == "works"


def test_a_filter_that_does_not_know_a_call_is_distinguished_from_an_old_kernel():
    found = report_in(surroundings.filter_of_pidfds)
    assert "a seccomp filter around the caller refuses it: pidfd_open(" in found["pidfd"]["detail"]
    assert {"pidfd", "run"} <= found.failing


def test_an_old_kernel_is_named_with_the_release_that_has_the_call():
    failure = refused("close_range(3, 4294967295, CLOSE_RANGE_CLOEXEC)", errno.EINVAL)
    row = examined(broken(refuse={"close-range": failure}), "close-range")["close-range"]
    assert row.status == "fails"
    assert row.detail.startswith("this kernel does not support it: close_range(")
    assert row.remedy == "use Linux 5.11 or newer"


# --- executing from memory -----------------------------------------------------------------------


@pytest.mark.root(reason="the kernel lets only root set it")
def test_vm_memfd_noexec_is_named_if_it_forbids_the_helper():
    found = report_in(surroundings.sysctl, "vm.memfd_noexec", "2")
    row = found["memfd-exec"]
    assert row["status"] == "fails"
    assert row["detail"].startswith("vm.memfd_noexec is 2")
    assert row["remedy"].endswith("sysctl -w vm.memfd_noexec=1")
    assert found.failing == {"memfd-exec", "watchdog", "run"}


@pytest.mark.root(reason="the kernel lets only root set it")
def test_with_vm_memfd_noexec_1_everything_works():
    """This value is the remedy: the helper's memfd is created as executable."""
    found = report_in(surroundings.sysctl, "vm.memfd_noexec", "1")
    assert found.failing == set()


# --- subordinate ids -----------------------------------------------------------------------------


@pytest.mark.plain(reason="root writes its maps itself")
def test_programs_that_are_not_in_path_are_named(tmp_path, monkeypatch):
    if (reason := minidocker.doctor().why("subordinate-ids")) and "has no row" in reason:
        pytest.skip(reason)
    monkeypatch.setenv("PATH", str(tmp_path))
    row = minidocker.doctor()["subordinate-ids"]
    assert row.status == "missing-optional"
    assert row.detail == "no directory of PATH has newuidmap"
    assert "package uidmap" in row.remedy


@pytest.mark.plain(reason="root writes its maps itself")
def test_programs_that_gain_no_privileges_are_named(tmp_path, monkeypatch):
    if (reason := minidocker.doctor().why("subordinate-ids")) and "has no row" in reason:
        pytest.skip(reason)
    for name in ("newuidmap", "newgidmap"):
        source = shutil.which(name)
        assert source is not None
        shutil.copyfile(source, tmp_path / name)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    row = minidocker.doctor()["subordinate-ids"]
    assert row.detail.startswith(f"{tmp_path}/newuidmap is neither set-user-ID root")
    assert row.remedy == f"as root: chmod u+s {tmp_path}/newuidmap"


def test_missing_rows_are_named_with_the_command_that_adds_them():
    found = report_in(surroundings.file_over, "/etc/subuid", "nobody-here:100000:65536\n")
    row = found["subordinate-ids"]
    assert row["detail"] == "/etc/subuid has no row for the caller (id 0)"
    assert row["remedy"].startswith("as root: usermod --add-subuids 100000-165535")
    assert found.failing == set()


@pytest.mark.root(reason="only root may map other ids")
def test_rows_for_root_are_really_mapped():
    for file in ("subuid", "subgid"):
        if not Path("/etc", file).exists():
            pytest.skip(f"there is no /etc/{file} to mount over")
    shared = NamespaceOptions.none().with_mount()
    found = report_in(surroundings.subordinate_rows_of_root, namespaces=shared)
    assert found["subordinate-ids"]["status"] == "works"


# --- control groups ------------------------------------------------------------------------------


def test_control_groups_that_are_not_mounted_are_named():
    found = report_in(surroundings.masked_proc, "/sys/fs/cgroup")
    row = found["cgroup-memory"]
    assert row["status"] == "missing-optional"
    assert "no hierarchy of control groups with the memory controller is mounted" in row["detail"]
    # A mount there hides nothing of a fresh /sys.
    assert found["fresh-sys"]["status"] == "works"
