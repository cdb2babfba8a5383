"""The host's view beside the container's: the snapshot and its picture."""

import dataclasses
import html.parser
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions


@pytest.fixture
def box():
    with minidocker.Container(hostname="lab") as box:
        yield box


class Page(html.parser.HTMLParser):
    """A parsed page: the rows of its tables, its tags and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open, self.tags, self.attributes = [], [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open:
            self.rows[-1][-1] += data

    def link(self, host):
        """Return the link and the other side of the row that begins with `host`."""
        return next((row[1], row[2]) for row in self.rows if row[0].startswith(host))


def lines(view):
    """Return the lines of the text: host, link, container."""
    rows = (re.fullmatch(r"│ (.*?) +│(.{20})│ (.*?) +│", line) for line in str(view).splitlines())
    return [tuple(part.strip() for part in row.groups()) for row in rows if row]


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_the_same_processes_have_a_pid_on_each_side(box):
    with box.popen(["sleep", "1000"]) as sleeper:
        try:
            view = box.view()
        finally:
            sleeper.kill()
    first, second = view.processes
    assert (first.pid, first.container_pid) == (box.pid, 1)
    assert (second.pid, second.command) == (sleeper.pid, "sleep 1000")
    assert second.container_pid != second.pid
    assert view.others >= 1
    joined = f"{sleeper.pid}  sleep 1000  (uid {os.geteuid()})"
    assert (
        joined, "┄┄┄ same process ┄┄┄", f"{second.container_pid}  sleep 1000  (uid 0)"
    ) in lines(view)  # fmt: skip
    page = Page(view._repr_html_())
    assert page.link(f"{sleeper.pid}  sleep") == (
        "same process", f"{second.container_pid}  sleep 1000  (uid 0)"
    )  # fmt: skip


def test_hostnames_are_the_current_ones_of_each_side(box):
    rename = "import socket; socket.sethostname('renamed')"
    box.run([sys.executable, "-c", rename], check=True)
    view = box.view()
    assert (view.host.hostname, view.container.hostname) == (socket.gethostname(), "renamed")
    assert (socket.gethostname(), "", "renamed") in lines(view)
    assert "renamed" in view._repr_html_()


def test_interfaces_and_mounts_are_those_of_each_side(box):
    box.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
    view = box.view()
    assert [interface.name for interface in view.container.interfaces] == ["lo"]
    names = {name for _, name in socket.if_nameindex()}
    assert {interface.name for interface in view.host.interfaces} == names
    assert "/mnt" in {mount.target for mount in view.container.mounts}
    assert ("", "", "/mnt  tmpfs") in lines(view)
    # /proc is mounted at the same path on both sides, but is another file system.
    assert ("", "", "/proc  proc") in lines(view)
    assert any("same files" in between for _, between, _ in lines(view))


def test_ids_are_shown_with_their_map():
    ids = {"uid_map": [(1000, os.geteuid(), 1)], "gid_map": [(1000, os.getegid(), 1)]}
    with minidocker.Container(user="1000:1000", **ids) as box:
        view = box.view()
    assert view.uid_map == ((1000, os.geteuid(), 1),)
    assert (f"uid {os.geteuid()}", "┄┄┄┄┄ same uid ┄┄┄┄┄", "uid 1000") in lines(view)
    assert (f"gid {os.getegid()}", "┄┄┄┄┄ same gid ┄┄┄┄┄", "gid 1000") in lines(view)
    assert view.processes[0].uid == os.geteuid()
    assert view.processes[0].container_uid == 1000


def test_only_shared_namespaces_are_joined_by_a_line():
    wanted = NamespaceOptions.none().with_user().with_uts()
    with minidocker.Container(namespaces=wanted, hostname="lab") as box:
        view, theirs = box.view(), box.namespaces()
    ours = minidocker.namespaces()
    assert view.shared == set(ours) - {"user", "uts"}
    found, page = lines(view), Page(view._repr_html_())
    for kind, inode in ours.items():
        title, between, container = next(row for row in found if f"{kind}:[" in row[0])
        assert title.endswith(f"{kind}:[{inode}]")
        assert container.endswith(f"{kind}:[{theirs[kind]}]")
        expected = "own" if kind in ("user", "uts") else "━━━━━━ shared ━━━━━━"
        assert between == expected
        drawn = next(row for row in page.rows if f"{kind}:[{inode}]" in row[0])
        assert drawn[1] == expected.strip("━ ")
    # In a shared PID namespace a process has one pid, and sees the others too.
    assert view.processes[0].pid == view.processes[0].container_pid
    others = next(row for row in found if row[0].endswith(" others"))
    assert others == (others[0], "━" * 20, others[0])


def test_a_container_of_another_program_has_a_view_too():
    command = [shutil.which("unshare"), "--user", "--map-root-user", "--uts", "--pid", "--fork"]
    with subprocess.Popen(
        [*command, "sh", "-c", "echo $$; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout.readline() == b"1\n"
        children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
        pid = int(children.read_text())
        with minidocker.attach(pid) as box:
            view = box.view()
            assert f"pid {pid}" in box._repr_html_()
        starter.stdin.close()
    assert view.pid == pid
    assert {"mount", "net", "ipc"} <= view.shared
    assert (pid, 1) == view.processes[0][:2]
    assert view.container.hostname == socket.gethostname()


def test_text_from_inside_cannot_inject_html_or_control_the_terminal(box):
    name = "<script>alert(1)</script>\x1b[31m\u202e&amp;"
    with box.popen([sys.executable, "-c", "input()", name], stdin=subprocess.PIPE) as process:
        view, card = box.view(), box._repr_html_()
        process.stdin.close()
    assert any(name.encode() in row.command.encode() for row in view.processes)
    for text in (view._repr_html_(), card, str(view)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    for text in (view._repr_html_(), card):
        assert "script" not in Page(text).tags
        assert "&lt;script&gt;" in card


def test_the_html_is_self_contained_and_takes_the_colours_of_its_page(box):
    text = box.view()._repr_html_()
    page = Page(text)
    assert page.tags <= {"style", "table", "caption", "tbody", "tr", "th", "td", "span", "b", "br",
                         "code"}  # fmt: skip
    assert {name for name, _ in page.attributes} <= {"class", "scope"}
    style = re.search("<style>(.*)</style>", text, re.DOTALL)[1]
    # It loads nothing and sets no colour: lines have the colour of the text.
    assert "url(" not in style
    assert "@import" not in style
    assert set(re.findall(r"(?:color|background)[\w-]*: *([^;!]*?) *[;!]", style)) <= {
        "inherit", "none"
    }  # fmt: skip
    assert "currentColor" in style
    # Every row has three cells, so it is a readable table without a style sheet.
    assert {len(row) for row in page.rows} == {3}


def test_boxes_stay_aligned_with_wide_letters():
    with minidocker.Container(hostname="容器") as box:
        text = str(box.view())
    wide = sum(2 if letter in "容器" else 1 for letter in text.splitlines()[1])
    assert wide == len(text.splitlines()[0])


def test_long_lists_are_counted_and_the_data_is_complete(box):
    sleepers = [box.popen(["sleep", "1000"]) for _ in range(8)]
    view = box.view()
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()
    assert len(view.processes) == 9
    assert ("and 3 more", "┄┄ same processes ┄┄", "and 3 more") in lines(view)


def test_a_view_is_a_value(box):
    view = box.view()
    assert pickle.loads(pickle.dumps(view)) == view
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.pid = 1
    box.kill()
    # It is a snapshot, and stays valid after the end of the container.
    assert "CONTAINER lab" in str(view)


def test_a_view_leaves_nothing_behind_and_changes_nothing(box, leaks):
    before = box.namespaces(), [process.pid for process in box.processes()]
    box.view()
    leaks.assert_unchanged()
    assert (box.namespaces(), [process.pid for process in box.processes()]) == before


def test_a_container_that_does_not_run_has_no_view():
    box = minidocker.Container(hostname="<lab>")
    with pytest.raises(ProcessLookupError, match="start it"):
        box.view()
    assert box._repr_html_() == "<b>&lt;Container &#x27;&lt;lab&gt;&#x27; created&gt;</b>"
    with box:
        assert "running" in box._repr_html_()
        attached = minidocker.attach(box.pid)
        assert "<AttachedContainer running pid" in repr(attached)
    assert "exited" in box._repr_html_()
    assert "exited" in repr(attached)
    attached.close()
    assert "closed" in attached._repr_html_()


def test_a_container_shows_its_processes_and_namespaces(box):
    page = Page(box._repr_html_())
    assert [str(box.pid), "1"] == page.rows[1][:2]
    assert ["shared namespaces", "time"] in page.rows
    assert ["own namespaces", "pid, net, mount, uts, ipc, user, cgroup"] in page.rows


def test_the_page_of_a_view_keeps_each_line_whole(box):
    """In a narrow page, it scrolls; a column that may break anywhere would become a letter wide."""
    page = box.view()._repr_html_()
    assert "anywhere" not in page
    assert "max-width: 24em; white-space: nowrap" in page
    assert "overflow: hidden; text-overflow: ellipsis" in page
    assert "display: block; max-width: 100%; overflow-x: auto" in page


def test_the_helper_is_shown_by_its_name_alone(box):
    assert [process.command for process in box.processes()] == ["minidocker-init"]
    assert re.search(r"1  minidocker-init  \(uid 0\)", str(box.view()))
