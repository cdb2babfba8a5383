"""`record`: `dataclasses.dataclass` for frozen classes, without its import.

Importing `dataclasses` imports `inspect`, `ast` and `tokenize`, and each class compiles its methods
again in every process. That takes longer than everything else that ``minidocker run`` does. A
record's methods are ordinary functions, and `dataclasses` is imported when it is asked about a
record: `dataclasses.fields`, `dataclasses.replace`, `inspect.signature` and the others work.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as record
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

__all__ = ["record", "replace"]

_MISSING = object()


class _Fields:
    """The fields of a record.

    Args:
        owner: the class. Its annotations are the fields; those after ``_: KW_ONLY`` are keywords.
        kw_only: whether all fields are keywords.
    """

    def __init__(self, owner: type, *, kw_only: bool) -> None:
        annotations = owner.__annotations__
        self.owner = owner
        self.names = tuple(name for name in annotations if name != "_")
        before = [] if kw_only else [*annotations, "_"]
        self.positional = tuple(before[: before.index("_")]) if before else ()
        self.defaults = {name: vars(owner).get(name, _MISSING) for name in self.names}
        self.required = [name for name in self.names if self.defaults[name] is _MISSING]
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.names)

    def state(self, args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
        """Return a value for each field, in their order.

        Raises:
            TypeError: as for a call of a function with these parameters.
        """
        call = f"{self.owner.__qualname__}.__init__()"
        if args:
            if len(args) > len(self.positional):
                most = len(self.positional) + 1
                raise TypeError(
                    f"{call} takes {most} positional arguments but {len(args) + 1} were given"
                )
            for name, value in zip(self.positional, args, strict=False):
                if name in given:
                    raise TypeError(f"{call} got multiple values for argument {name!r}")
                given[name] = value
        state = self.defaults | given
        if len(state) > len(self.defaults):
            unknown = next(name for name in given if name not in self.defaults)
            raise TypeError(f"{call} got an unexpected keyword argument {unknown!r}")
        for name in self.required:
            if name not in given:
                raise TypeError(f"{call} missing the required argument {name!r}")
        return state


class _Methods:
    """The methods of every record, which the decorator copies."""

    _fields: _Fields

    def __init__(self, *args: Any, **given: Any) -> None:
        self.__dict__.update(self._fields.state(args, given))
        check = getattr(self, "__post_init__", None)
        if check is not None:
            check()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields.names)
        return f"{type(self).__qualname__}({shown})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = self._fields.values
        return values(self) == values(other)

    def __hash__(self) -> int:
        return hash(self._fields.values(self))

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        _refuse("assign to", name)

    def __delattr__(self, name: str) -> NoReturn:
        _refuse("delete", name)

    def __replace__(self, /, **changes: Any) -> Any:
        return type(self)(**{name: getattr(self, name) for name in self._fields.names} | changes)


_COPIED = (
    "__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__",
)  # fmt: skip


def _refuse(verb: str, name: str) -> NoReturn:
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 - see the module's docstring

    raise FrozenInstanceError(f"cannot {verb} field {name!r}")


class _FromDataclasses:
    """An attribute that the same class, made by `dataclasses`, would have."""

    def __init__(self, fields: _Fields, read: Callable[[type], Any]) -> None:
        self._fields = fields
        self._read = read
        self._value: Any = None

    def __get__(self, _instance: object, _owner: type) -> Any:
        if self._value is None:
            self._value = self._read(_twin(self._fields))
        return self._value


def _twin(fields: _Fields) -> type:
    """Return the class, made by `dataclasses`."""
    import dataclasses  # noqa: PLC0415 - see the module's docstring

    owner = fields.owner
    rows = []
    for name, default in fields.defaults.items():
        given = {} if default is _MISSING else {"default": default}
        field: Any = dataclasses.field(kw_only=name not in fields.positional, **given)
        rows.append((name, owner.__annotations__[name], field))
    return dataclasses.make_dataclass(owner.__name__, rows, frozen=True)


def _signature(twin: type) -> Any:
    import inspect  # noqa: PLC0415 - see the module's docstring

    return inspect.signature(twin)


if not TYPE_CHECKING:

    def record(*, frozen: bool, kw_only: bool = False) -> Callable[[type], type]:
        """Return a decorator that makes a class what `dataclasses.dataclass` makes of it.

        A ``__repr__`` of the class stays.

        Args:
            frozen: True; a record is immutable.
            kw_only: whether all fields are keywords of the constructor.
        """
        assert frozen

        def decorate(owner: type) -> type:
            fields = owner._fields = _Fields(owner, kw_only=kw_only)
            for name in _COPIED:
                if name != "__repr__" or "__repr__" not in vars(owner):
                    setattr(owner, name, vars(_Methods)[name])
            owner.__match_args__ = fields.positional
            for name in ("__dataclass_fields__", "__dataclass_params__"):
                setattr(owner, name, _FromDataclasses(fields, attrgetter(name)))
            owner.__signature__ = _FromDataclasses(fields, _signature)
            return owner

        return decorate


def replace(value: T, /, **changes: Any) -> T:
    """Return a copy of a record with other values of some fields, as `dataclasses.replace` does."""
    copy: T = value.__replace__(**changes)  # type: ignore[attr-defined]
    return copy
