"""The options of a call that do not belong to its container."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from minidocker._errors import SpecError
from minidocker._run import timeouts
from minidocker._spec.typed import SpecOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CALL_OPTIONS", "CallOptions", "IsolatedOptions"]

JSON_LIMIT = 64 * 2**20
"""The default ``result_limit`` of untrusted functions, in bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CallOptions:
    """The keywords of `isolated` other than the fields of `Spec`.

    Args:
        method: ``"fork"``: the function runs in a copy of this process and sees its memory,
            `os.environ` included.
            ``"spawn"``: it runs in a clean interpreter; the function and its arguments are pickled.
        timeout: seconds until the whole container is killed; None: no limit.
        result: ``"pickle"``: the value or the exception is pickled. ``"json"``, for untrusted code:
            the caller unpickles nothing.
        result_limit: the maximum size of a result, and of each captured stream, in bytes. None: no
            limit with ``"pickle"``, 64 MiB with ``"json"``.
        preload: modules that the clean interpreter has imported (``"spawn"`` only).
        capture_output: whether to collect standard output and standard error.
        text: whether to decode the captured output as UTF-8.

    Raises:
        SpecError: a value has the wrong type, or options contradict each other.
    """

    method: Literal["fork", "spawn"] = "fork"
    timeout: float | None = None
    result: Literal["pickle", "json"] = "pickle"
    result_limit: int | None = None
    preload: Sequence[str] = ()
    capture_output: bool = False
    text: bool = False

    def __post_init__(self) -> None:
        _choose("method", self.method, "fork", "spawn")
        _choose("result", self.result, "pickle", "json")
        for option in ("capture_output", "text"):
            value = getattr(self, option)
            if value is not True and value is not False:
                raise SpecError("give True or False", option=option, value=value)
        object.__setattr__(self, "timeout", timeouts.seconds(self.timeout))
        if self.text and not self.capture_output:
            reason = "it needs captured output: give capture_output=True too"
            raise SpecError(reason, option="text", value=self.text)
        limit = self.result_limit
        if limit is not None and (type(limit) is not int or limit <= 0):
            raise SpecError("give a number of bytes", option="result_limit", value=limit)
        preload = _modules(self.preload)
        object.__setattr__(self, "preload", preload)
        if preload and self.method == "fork":
            reason = (
                "a fork has the modules that the caller has imported: import them here, or use "
                'method="spawn"'
            )
            raise SpecError(reason, option="preload", value=preload)

    @property
    def limit(self) -> int | None:
        """The maximum size of a result, or of a captured stream, in bytes; None: no limit."""
        if self.result_limit is None and self.result == "json":
            return JSON_LIMIT
        return self.result_limit


class IsolatedOptions(SpecOptions, total=False):
    """The fields of `CallOptions` and of `Spec` as keywords."""

    method: Literal["fork", "spawn"]
    timeout: float | None
    result: Literal["pickle", "json"]
    result_limit: int | None
    preload: Sequence[str]
    capture_output: bool
    text: bool


CALL_OPTIONS = frozenset(field.name for field in dataclasses.fields(CallOptions))


def _modules(preload: object) -> tuple[str, ...]:
    if not isinstance(preload, list | tuple) or not all(isinstance(name, str) for name in preload):
        raise SpecError("give a list of module names", option="preload", value=preload)
    return tuple(preload)


def _choose(option: str, value: object, *choices: str) -> None:
    if value not in choices:
        reason = f"give {' or '.join(map(repr, choices))}"
        raise SpecError(reason, option=option, value=value)
