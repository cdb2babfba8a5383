"""An outer container, and what is expected inside it."""

import dataclasses
import json
from collections.abc import Mapping

#: The variable that carries the expectations to the tests inside.
VARIABLE = "MINIDOCKER_OUTER"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment:
    """An outer container.

    Attributes:
        name: how a person would start it.
        plain: whether a plain user starts it, or is the user inside.
        prefix: the command line that runs the command at its end inside.
        cannot: the rows of the doctor that cannot work, each with words of its remedy: the setting
            of the outer container.
        temporary: a directory that is writable inside.
        arguments: further arguments of pytest.
    """

    name: str
    plain: bool
    prefix: tuple[str, ...]
    cannot: Mapping[str, str] = dataclasses.field(default_factory=dict)
    temporary: str = "/tmp"
    arguments: tuple[str, ...] = ()

    @property
    def refuses(self) -> bool:
        """Whether no container can be made inside."""
        return "run" in self.cannot

    @property
    def variable(self) -> str:
        """The assignment that tells the tests inside what to expect."""
        return f"{VARIABLE}={json.dumps(dict(self.cannot))}"

    def __str__(self) -> str:
        return f"{'plain' if self.plain else 'root ':<5}  {self.name}"
