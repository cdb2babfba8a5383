"""Options of docker that change nothing here, so that its command lines can be used unchanged.

A value that would change something is refused with a sentence.
"""

from __future__ import annotations

from minidocker.cli.parser import Option

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.cli.parser import Parsed


def _only(accepted: tuple[str, ...], otherwise: str) -> Callable[[str], str]:
    """Accept the values of one of docker's options that change nothing here.

    Args:
        accepted: these values.
        otherwise: why each other value is refused.
    """

    def convert(text: str) -> str:
        if text not in accepted:
            raise ValueError(otherwise)
        return text

    return convert


def _change_nothing(_parsed: Parsed, _value: Any) -> None:
    """Store nothing: the value describes what a container is like in any case."""


def _always(otherwise: str) -> Callable[[Parsed, bool], None]:
    """Accept one of docker's flags that changes nothing here, and refuse its opposite.

    Args:
        otherwise: why false is refused.
    """

    def store(_parsed: Parsed, value: bool) -> None:
        if not value:
            raise ValueError(otherwise)

    return store


#: Options of docker that change nothing here, of ``run`` and ``explain``.
DOCKER_OPTIONS = (
    Option(
        "--disable-content-trust",
        store=_change_nothing,
        summary="Change nothing: there is no image to verify",
        example="minidocker run --disable-content-trust true",
    ),
    Option(
        "--expose",
        metavar="PORT",
        store=_change_nothing,
        summary="Change nothing: every port is open to the processes of the same network",
        example="minidocker run --expose 80 true",
    ),
    Option(
        "--no-healthcheck",
        store=_always("there is no daemon that checks the health of a command"),
        summary="Change nothing: there are no health checks",
        example="minidocker run --no-healthcheck true",
    ),
    Option(
        "--pull",
        metavar="missing|never",
        convert=_only(("missing", "never"), "there is no image to pull; leave it out"),
        store=_change_nothing,
        words=("missing", "never"),
        summary="Change nothing: there is no image to pull",
        example="minidocker run --pull never true",
    ),
    Option(
        "-q",
        "--quiet",
        store=_change_nothing,
        summary="Change nothing: there is no progress to show",
        example="minidocker run --quiet true",
    ),
    Option(
        "--restart",
        metavar="no",
        convert=_only(("no",), "there is no daemon that restarts a command; start it in a loop"),
        store=_change_nothing,
        words=("no",),
        summary="Change nothing: a command that ends is not restarted",
        example="minidocker run --restart no true",
    ),
    Option(
        "--rm",
        store=_always("a container leaves nothing behind that could be kept"),
        summary="Change nothing: a container leaves nothing behind",
        example="minidocker run --rm true",
    ),
    Option(
        "--sig-proxy",
        store=_always("signals go on to the command in any case"),
        summary="Change nothing: signals go on to the command",
        example="minidocker run --sig-proxy=true true",
    ),
)
