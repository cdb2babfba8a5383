"""Fail every call of a launch in turn: the error names the step, and nothing is left behind."""

import concurrent.futures
import errno

import pytest

import minidocker
from support.launches import Launch, run_by
from support.specs import HERE, call_counts


def fail_at(noop, number, options, survivors):
    """Make a call fail, and return the step that the error names; None if the call is optional."""
    failure = None
    try:
        launch = Launch(inject=(number, errno.EPERM))
        run_by(launch, [noop, survivors.mark], check=True, **options)
    except minidocker.SpawnError as error:
        failure = error
    if failure is None:
        return None
    assert failure.errno == errno.EPERM
    assert isinstance(failure, PermissionError)
    assert failure.step
    assert failure.hint, f"{failure.step}: {failure}"
    assert failure.hint in str(failure)
    return failure.step


@pytest.mark.parametrize("name", HERE)
def test_a_failure_at_any_call_is_named_and_leaves_nothing(name, noop, leaks, survivors):
    options = HERE[name]
    numbers = list(call_counts([noop], **options))
    steps = [fail_at(noop, number, options, survivors) for number in numbers]
    assert steps[-1] == "exec"
    # The optional calls open ping to every group, and enter the caller's directory, which may be
    # absent inside.
    assert steps.count(None) in (0, 3), steps
    leaks.assert_unchanged()


@pytest.mark.parametrize("name", ["all", "init", "names"])
def test_failures_in_many_threads_leave_nothing(name, noop, leaks, survivors):
    options = HERE[name]
    numbers = list(call_counts([noop], **options))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        steps = list(
            pool.map(lambda number: fail_at(noop, number, options, survivors), numbers * 3)
        )
    third = len(numbers)
    assert steps[:third] == steps[third : 2 * third] == steps[2 * third :]
