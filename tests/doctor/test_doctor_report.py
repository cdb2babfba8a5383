"""The doctor's report as text, HTML and data, and the phrases for causes."""

import errno
import html
import json
import pickle

import pytest

import minidocker
from minidocker import SpecError
from minidocker._doctor.causes import Failure
from minidocker._doctor.checks import CHECKS
from minidocker._doctor.report import Report, Row
from support import surroundings
from support.examination import broken, examined, refused
from support.surroundings import report_in

KINDS = {"pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time"}


@pytest.fixture(scope="module")
def report():
    return minidocker.doctor()


ROWS = (
    Row(
        name="user",
        title="user namespace",
        status="fails",
        detail="<b>évil</b> & co",
        remedy="sysctl -w a-very-long-name.that-must-not-be-broken=1",
        essential=True,
    ),
    Row(
        name="overlay",
        title="overlay",
        status="missing-optional",
        detail="none",
        remedy="modprobe overlay",
        essential=False,
    ),
    Row(
        name="net",
        title="network namespace",
        status="works",
        detail="ports",
        remedy=None,
        essential=True,
    ),
)
SICK = Report(ROWS, ("Linux <6>",))


def test_only_a_row_that_does_not_work_has_a_remedy(report, tmp_path):
    elsewhere = report_in(surroundings.chroot_to_nothing, tmp_path)
    for row in [*report.to_dict()["rows"], *elsewhere.rows.values()]:
        assert (row["remedy"] is None) == (row["status"] == "works"), row
        assert row["remedy"] != ""
        assert row["detail"] or row["status"] == "works", row
        if row["status"] != "works":
            assert row["status"] == ("fails" if row["essential"] else "missing-optional")
            assert not row["remedy"].endswith("."), row


def test_the_report_is_true_only_if_everything_essential_works():
    assert not SICK
    assert not SICK.ok
    assert Report(ROWS[1:], ()).ok


def test_why_returns_a_reason_to_skip_or_none():
    assert SICK.why("net") is None
    assert SICK.why("overlay") == ("overlay does not work here: none. Remedy: modprobe overlay")
    assert SICK.why("net", "user") == SICK.why()
    assert "user namespace does not work here" in (SICK.why() or "")


def test_an_unknown_row_is_refused_with_the_nearest_name():
    with pytest.raises(SpecError, match="did you mean 'overlay'"):
        SICK.why("overlays")
    with pytest.raises(SpecError, match="user, overlay, net"):
        SICK["zzz"]


def test_the_report_is_a_sequence_of_rows(report):
    assert len(report) == len(list(report)) == len(CHECKS)
    assert report[0].name == "linux"
    assert len({row.name for row in report}) == len(report)
    assert {row.name for row in report} >= KINDS


def test_the_text_is_ascii_and_keeps_commands_whole():
    text = str(SICK)
    assert text.isascii()
    assert "FAIL  user     user namespace\n" in text
    assert "<b>\\xe9vil</b> & co" in text
    assert "a-very-long-name.that-must-not-be-broken=1" in text
    assert text.endswith("1 of 2 essential steps fails: user.")


def test_the_html_shows_nothing_unescaped_and_has_no_colour():
    text = SICK._repr_html_()
    assert html.escape("<b>évil</b> & co") in text
    assert "évil</b>" not in text
    assert "Linux &lt;6&gt;" in text
    assert "color" not in text
    assert "background" not in text
    assert "missing (optional)" in text


def test_the_report_goes_through_json_and_pickle(report):
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is report.ok
    assert [row["name"] for row in data["rows"]] == [row.name for row in report]
    assert pickle.loads(pickle.dumps(report)) == report


def test_a_step_that_hangs_is_a_row():
    row = examined(broken(refuse={"landlock": Failure("hung", "", 0, None)}), "landlock")[0]
    assert row.status == "missing-optional"
    assert row.detail == "it took longer than two seconds"
    assert "strace" in row.remedy


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EMFILE, "too many open files"),
        (errno.EAGAIN, "limit of processes"),
        (errno.ENOMEM, "memory is short"),
        (errno.EIO, "Input/output error (EIO)"),
    ],
)
def test_a_shortage_is_distinguished_from_a_missing_feature(number, words):
    examination = broken(refuse={"pidfd": refused("pidfd_open(<fd>, 0)", number)})
    assert words in examined(examination, "pidfd")["pidfd"].detail


def test_a_report_is_shown_as_its_text():
    report = Report((), ("Linux 6.18",))
    shown = []

    class Printer:
        text = shown.append

    report._repr_pretty_(Printer(), cycle=False)
    assert repr(report) == str(report) == shown[0]
    assert report.summary in repr(report)
