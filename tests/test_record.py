"""A record is what `dataclasses.dataclass` makes of the same class."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from dataclasses import KW_ONLY

import pytest

import minidocker
from minidocker import Mount, NamespaceOptions, Seccomp, Spec, Usage
from minidocker._record import record, replace


@record(frozen=True)
class Point:
    """A record."""

    x: int
    y: int = 0
    _: KW_ONLY
    name: str = "point"


@dataclasses.dataclass(frozen=True)
class Model:
    """The same class, made by dataclasses."""

    x: int
    y: int = 0
    _: KW_ONLY
    name: str = "point"


CALLS = {
    "positions": lambda kind: kind(1, 2),
    "keywords": lambda kind: kind(x=1, name="a"),
    "too many positions": lambda kind: kind(1, 2, "a"),
    "an unknown keyword": lambda kind: kind(1, colour="red"),
    "a value twice": lambda kind: kind(1, x=2),
    "no value": lambda kind: kind(),
    "a change": lambda kind: setattr(kind(1), "x", 2),
    "a new attribute": lambda kind: setattr(kind(1), "colour", "red"),
    "a deletion": lambda kind: delattr(kind(1), "x"),
    "a copy with another value": lambda kind: dataclasses.replace(kind(1), y=3),
    "a copy with an unknown field": lambda kind: dataclasses.replace(kind(1), z=3),
    "a dictionary": lambda kind: dataclasses.asdict(kind(1)),
    "the parameters": inspect.signature,
    "the fields": lambda kind: [(f.name, f.type, f.default) for f in dataclasses.fields(kind)],
    "the positions of a pattern": lambda kind: kind.__match_args__,
    "equality": lambda kind: (kind(1) == kind(1), kind(1) == kind(2), kind(1) == (1, 0, "point")),
    "hashes": lambda kind: hash(kind(1, 2)) == hash(kind(1, 2)),
    "a value without a hash": lambda kind: hash(kind([])),
}


def outcome(call, kind):
    try:
        return repr(call(kind)).replace(kind.__name__, "Class")
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_record_and_a_dataclass_answer_alike(call):
    assert outcome(call, Point) == outcome(call, Model)


def test_a_record_can_be_pickled_copied_and_matched():
    point = Point(1, name="a")
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == copy.copy(point) == point
    assert replace(point, y=2) == Point(1, 2, name="a")
    match point:
        case Point(1, y):
            assert y == 0


def test_a_dataclass_can_extend_a_record():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Named(Spec):
        purpose: str = "none"

    named = Named(hostname="lab", purpose="test")
    assert (named.hostname, named.purpose) == ("lab", "test")
    done = minidocker.run(["hostname"], spec=named, capture_output=True, text=True)
    assert done.stdout == "lab\n"


@pytest.mark.parametrize("kind", [Spec, NamespaceOptions, Mount, Seccomp, Usage])
def test_each_public_record_is_a_frozen_dataclass(kind):
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    names = {field.name for field in dataclasses.fields(kind)}
    assert names == set(inspect.signature(kind).parameters)


def test_the_flags_of_the_kinds_are_those_of_the_kernel():
    for kind in NamespaceOptions.all().with_time():
        name = "NEWNS" if kind == "mount" else f"NEW{kind.upper()}"
        only = getattr(NamespaceOptions.none(), f"with_{kind}")()
        assert only.flags == minidocker.linux.CloneFlags[name]


def test_making_records_does_not_import_dataclasses():
    code = (
        "import sys; from minidocker import Mount, Spec; Spec(mounts=[Mount('/a', '/b')]);"
        "sys.exit('dataclasses' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
