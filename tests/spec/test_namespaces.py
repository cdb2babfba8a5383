"""NamespaceOptions, and namespaces() seen from both sides."""

import copy
import html.parser
import os
import pickle
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker import NamespaceOptions, Namespaces, SpecError, linux, namespaces
from minidocker.linux import CloneFlags
from support.child import in_child, raised_by, unshare_as_root

KINDS = ["pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time"]
SEVEN = KINDS[:-1]
FLAGS = {
    "pid": CloneFlags.NEWPID,
    "net": CloneFlags.NEWNET,
    "mount": CloneFlags.NEWNS,
    "uts": CloneFlags.NEWUTS,
    "ipc": CloneFlags.NEWIPC,
    "user": CloneFlags.NEWUSER,
    "cgroup": CloneFlags.NEWCGROUP,
    "time": CloneFlags.NEWTIME,
}
FILES = {kind: "mnt" if kind == "mount" else kind for kind in KINDS}

kinds = st.sampled_from(KINDS)
options = st.builds(NamespaceOptions, **dict.fromkeys(KINDS, st.booleans()))


# --- NamespaceOptions --------------------------------------------------------------------------


def test_all_has_seven_kinds_and_none_is_empty():
    assert list(NamespaceOptions.all()) == SEVEN
    assert list(NamespaceOptions.none()) == []
    assert NamespaceOptions.none().flags == CloneFlags(0)


def test_the_kinds_that_are_not_given_stay_isolated():
    assert NamespaceOptions() == NamespaceOptions.all()
    assert NamespaceOptions(net=False) == NamespaceOptions.all().without_net()
    assert NamespaceOptions(time=True) == NamespaceOptions.all().with_time()


@given(options, kinds)
def test_with_and_without_change_one_kind_of_a_new_value(value, kind):
    before = set(value)
    with_it, without_it = getattr(value, f"with_{kind}")(), getattr(value, f"without_{kind}")()
    assert set(with_it) == before | {kind}
    assert set(without_it) == before - {kind}
    assert set(value) == before


@given(st.sets(kinds))
def test_a_chain_from_none_has_only_its_kinds(chosen):
    value = NamespaceOptions.none()
    for kind in chosen:
        value = getattr(value, f"with_{kind}")()
    assert list(value) == [kind for kind in KINDS if kind in chosen]
    assert value.flags == sum(FLAGS[kind] for kind in chosen)


@given(options)
def test_repr_is_an_expression_for_the_value(value):
    assert eval(repr(value), {"NamespaceOptions": NamespaceOptions}) == value


def test_repr_starts_from_all_or_none_whichever_is_shorter():
    assert repr(NamespaceOptions()) == "NamespaceOptions.all()"
    assert repr(NamespaceOptions(net=False)) == "NamespaceOptions.all().without_net()"
    assert repr(NamespaceOptions.none().with_uts()) == "NamespaceOptions.none().with_uts()"


@given(options)
def test_a_value_survives_pickle_and_copy_and_can_be_a_key(value):
    for again in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert again == value
        assert {value: "found"}[again] == "found"


def test_a_value_cannot_be_changed():
    with pytest.raises(AttributeError):
        NamespaceOptions().net = False


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
def test_only_true_and_false_say_whether_a_namespace_is_new(value):
    with pytest.raises(SpecError, match="it is not a bool") as caught:
        NamespaceOptions(uts=value)
    assert (caught.value.option, caught.value.value) == ("uts", value)


def test_the_documentation_names_every_kind_and_its_manual_page():
    names = {"pid": "pid", "net": "network", "mount": "mount", "uts": "uts", "ipc": "ipc"}
    for kind in KINDS:
        rows = [row for row in NamespaceOptions.__doc__.splitlines() if row.split()[:1] == [kind]]
        assert len(rows) == 1
        assert f"{names.get(kind, kind)}_namespaces(7)" in rows[0]


# --- namespaces() ------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_kernel():
    mine = namespaces()
    assert set(SEVEN) <= set(mine)
    for kind, inode in mine.items():
        assert os.stat(f"/proc/thread-self/ns/{FILES[kind]}").st_ino == inode


def test_a_new_namespace_is_not_shared_and_the_others_are():
    def inside():
        unshare_as_root(CloneFlags.NEWUTS | CloneFlags.NEWNET)
        return namespaces()

    mine, theirs = namespaces(), in_child(inside)
    assert set(mine) - mine.shared_with(theirs) == {"uts", "net", "user"}
    assert theirs.shared_with(mine) == mine.shared_with(theirs)
    assert theirs != mine
    assert mine == namespaces()


@pytest.mark.parametrize("kind", [*SEVEN, "time"])
def test_the_flag_of_each_option_makes_only_that_kind_new(kind):
    def inside():
        alone = getattr(NamespaceOptions.none(), f"with_{kind}")()
        linux.unshare(CloneFlags.NEWUSER | alone.flags)
        # Only children enter new PID and time namespaces.
        return in_child(namespaces)

    if kind == "time" and not Path("/proc/self/ns/time").exists():
        pytest.skip("this kernel has no time namespaces")
    mine = namespaces()
    assert set(mine) - mine.shared_with(in_child(inside)) == {kind, "user"}


def test_a_process_is_given_by_its_pid_or_by_an_object_that_has_one():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert namespaces(process) == namespaces(process.pid) == namespaces()


@pytest.mark.root(reason="a process with threads cannot make a user namespace first")
def test_self_is_the_calling_thread():
    def inside():
        def in_thread():
            linux.unshare(CloneFlags.NEWUTS)
            return namespaces()

        with ThreadPoolExecutor(1) as pool:
            theirs = pool.submit(in_thread).result()
        mine = namespaces()
        return set(mine) - mine.shared_with(theirs), mine == namespaces(os.getpid())

    assert in_child(inside) == ({"uts"}, True)


def test_a_process_that_has_ended_is_a_process_lookup_error():
    process = subprocess.Popen(["true"])
    # Until wait() it is a zombie, which has left its namespaces.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError, match=rf"process {process.pid} .* Remedy: "):
        namespaces(process)
    process.wait()
    with pytest.raises(ProcessLookupError, match=rf"process {process.pid} .* Remedy: "):
        namespaces(process)


def test_a_process_with_more_privileges_is_a_permission_error():
    pid = os.getpid()

    def inside():
        # The child's capabilities are limited to its user namespace, and this process is outside.
        linux.unshare(CloneFlags.NEWUSER)
        return namespaces(pid)

    error = raised_by(inside)
    assert isinstance(error, PermissionError)
    assert f"process {pid} belongs to another user" in str(error)
    assert "Remedy: run this as root" in str(error)


def test_without_proc_the_error_says_so(tmp_path):
    def inside():
        linux.unshare(CloneFlags.NEWUSER)
        linux.chroot(tmp_path)
        return namespaces()

    error = raised_by(inside)
    assert isinstance(error, FileNotFoundError)
    assert "/proc is not mounted. Remedy: " in str(error)


@pytest.mark.parametrize("pid", [0, -1, 2**31, "1", "me"])
def test_an_invalid_pid_is_a_spec_error(pid):
    with pytest.raises(SpecError, match="pid=") as caught:
        namespaces(pid)
    assert (caught.value.option, caught.value.value) == ("pid", pid)


@pytest.mark.parametrize("pid", [None, 1.0, True, [1]])
def test_a_pid_of_another_type_is_a_type_error(pid):
    with pytest.raises(TypeError, match="an int or an object with a pid"):
        namespaces(pid)


# --- Namespaces --------------------------------------------------------------------------------

made_up = st.builds(Namespaces, st.dictionaries(kinds, st.integers(1, 2**32 - 1)))


@given(made_up, made_up)
def test_shared_kinds_are_those_with_the_same_number(one, other):
    shared = one.shared_with(other)
    assert shared == other.shared_with(one)
    assert shared == {kind for kind in set(one) & set(other) if one[kind] == other[kind]}
    assert one.shared_with(one) == set(one)
    assert (one == other) == (dict(one) == dict(other))


@given(made_up)
def test_namespaces_survive_pickle_and_can_be_a_key(value):
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)
    assert eval(repr(value), {"Namespaces": Namespaces}) == value


@given(made_up)
def test_text_is_a_table_with_one_aligned_row_for_each_kind(value):
    head, *rows = str(value).splitlines()
    assert [row.split()[:2] for row in rows] == [[kind, str(value[kind])] for kind in value]
    column = head.index("isolates")
    assert all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)


class Rows(html.parser.HTMLParser):
    """A parser that collects the cells of a table, its open tags and all attributes."""

    def __init__(self):
        super().__init__()
        self.cells, self.open, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.cells.append(data)


@given(made_up)
def test_html_is_well_formed_and_has_the_same_rows_and_no_colours(value):
    rows = Rows()
    rows.feed(value._repr_html_())
    rows.close()
    assert rows.open == []
    assert rows.cells[:3] == ["kind", "inode", "isolates"]
    assert rows.cells[3::3] == list(value)
    assert rows.cells[4::3] == [str(inode) for inode in value.values()]
    assert {name for name, _ in rows.attributes} <= {"style"}
    assert all("color" not in style for _, style in rows.attributes)


def test_namespaces_can_be_read_from_many_threads_at_once():
    start = threading.Barrier(4)

    def read():
        start.wait()
        return [namespaces() for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(read) for _ in range(4)]
    assert {one for future in futures for one in future.result()} == {namespaces()}
