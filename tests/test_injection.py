"""Whatever fails, and wherever: the error says which step it was, and nothing is left behind."""

import concurrent.futures
import errno
import os

import pytest

import minidocker
from support.specs import HERE, call_counts

# What may fail without the container's failing: ping for groups, and the caller's directory, which
# may be absent inside.
OPTIONAL = {"ping", "chdir"}


def fail_at(noop, number, options, survivors):
    """Make call `number` fail, and return the step that it belongs to; None where it is optional."""
    try:
        minidocker.run([noop, survivors.mark], check=True, _inject=(number, errno.EPERM), **options)
    except minidocker.SpawnError as error:
        assert error.errno == errno.EPERM
        assert isinstance(error, PermissionError)
        assert error.step
        assert error.hint, f"{error.step}: {error}"
        assert error.hint in str(error)
        return error.step
    return None


@pytest.mark.parametrize("name", HERE)
def test_a_failure_at_any_call_is_named_and_leaves_nothing(name, noop, leaks, survivors):
    options = HERE[name]
    numbers = list(call_counts([noop], **options))
    steps = [fail_at(noop, number, options, survivors) for number in numbers]
    assert steps[-1] == "exec"
    optional = steps.count(None)
    if "namespaces" in options:
        assert optional <= 5
    leaks.assert_unchanged()
    # Which calls may fail is written in the plan, and these are the only ones.
    planned = [call for call in steps if call is not None]
    assert len(planned) == len(numbers) - optional
    assert optional in (0, 3, 4, 5), f"{optional} calls of {numbers} may fail"


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
    assert os.waitpid.__name__
