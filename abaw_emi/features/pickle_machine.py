"""A pickle's opcodes, carried out on values that can do nothing.

Python's own unpickler imports and calls what a pickle names; held back from that, it still reserves the
memory that a few bytes ask for, and hashes what they nest. Here a global is a name and no more, a call is
looked up among the caller's functions, a dictionary is a list of pairs, and every opcode that arrays have no
need of is refused. What a pickle costs is bounded: by `MAX_STEPS`, and by a budget in bytes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

MAX_STEPS = 2_000_000
"""Opcodes that are carried out; an array takes about 30."""

_SHOWN = 100
"""Characters of a foreign name that are shown."""


class RefusedError(ValueError):
    """A pickle asks for what arrays of numbers have no need of, or is damaged; says what."""


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, of which nothing was imported."""

    name: str


@dataclass(slots=True)
class Pairs:
    """A dictionary's entries; keys are never hashed."""

    pairs: list[tuple[object, object]] = field(default_factory=list)


class Recipe:
    """What the caller's functions return: notes of what is to be made once all of it was looked at."""

    __slots__ = ()

    def set_state(self, state: object) -> None:
        """Takes what a pickle hands to an object after it was made.

        Raises:
            RefusedError: nothing of the kind has such a state.
        """
        raise RefusedError(f"sets the state of {describe(self)}")


@dataclass(slots=True)
class Budget:
    """Bytes that may still be made of a file, so that no small one asks for much."""

    left: int

    def spend(self, size: int) -> None:
        """Takes `size` bytes off.

        Raises:
            RefusedError: there are not as many left.
        """
        self.left -= size
        if self.left < 0:
            raise RefusedError("asks for more memory than there are bytes in the file")


def describe(value: object) -> str:
    """What kind of value it is, in a word or two that are safe to print."""
    if isinstance(value, Global):
        return shorten(value.name)
    return {Pairs: "dict", type(None): "None"}.get(type(value), type(value).__name__.strip("_").lower())


def shorten(text: str) -> str:
    r"""A foreign text, safe to print.

    >>> shorten("a\x1b[31m")
    'a\\x1b[31m'
    """
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class Machine:
    """Carries out pickles.

    Args:
        globals_: The names that a pickle may hold, and the function called instead of each; None for names
            that are never called.
        persistent: What a persistent id stands for; None where there are none.
    """

    def __init__(
        self,
        globals_: Mapping[str, Callable[..., object] | None],
        persistent: Callable[[object], object] | None = None,
    ) -> None:
        self._globals = globals_
        self._persistent = persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: BytesIO) -> object:
        """The value of the pickle at the stream's place, which is behind it afterwards.

        Raises:
            RefusedError: it asks for what it may not have, or is damaged.
        """
        self._stack, self._below, self._memo = [], [], {}
        try:
            for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if step == MAX_STEPS:
                    raise RefusedError(f"has more than {MAX_STEPS:,} opcodes")
                if opcode.name in _LITERALS:
                    self._stack.append(argument)
                elif opcode.name in _OPCODES:
                    _OPCODES[opcode.name](self, argument)
                elif opcode.name != "STOP":
                    self._refuse(opcode.name, argument)
            return self._stack.pop()
        except RefusedError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError) as error:
            reason = shorten(str(error)) or describe(error)
            raise RefusedError(f"is damaged, or no pickle ({reason})") from error

    def _refuse(self, opcode: str, argument: object) -> None:
        if opcode == "INST" and isinstance(argument, str):  # of protocol 0: names a class and calls it
            self._name_global(*argument.split(" ", 1))
        raise RefusedError(f"uses the opcode {opcode}")

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, argument: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop_tuple(self, count: int) -> tuple[Any, ...]:
        if count > len(self._stack):
            raise IndexError("its stack is too short")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise RefusedError(f"appends to {describe(target)}")
        target += items

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, Pairs):
            raise RefusedError(f"sets items of {describe(target)}")
        target.pairs += zip(items[::2], items[1::2], strict=True)

    def _remember(self, index: int) -> None:
        if index > MAX_STEPS:
            raise RefusedError("has a damaged memo")
        self._memo[index] = self._stack[-1]

    def _name_global(self, module: str, name: str) -> None:
        # Both are text: genops sees to the opcode's own argument, the stack may hold anything.
        if not (isinstance(module, str) and isinstance(name, str)):
            raise RefusedError("names a global by something else than text")
        if module == "numpy.core" or module.startswith("numpy.core."):
            module = module.replace("numpy.core", "numpy._core", 1)  # as NumPy 2 calls it
        full = f"{module}.{name}"
        if full not in self._globals:
            raise RefusedError(f"names {shorten(full)}, which is neither imported nor called")
        self._push(Global(full))

    def _reduce(self, argument: object) -> None:
        function, arguments = self._pop_tuple(2)
        call = self._globals.get(function.name) if isinstance(function, Global) else None
        if call is None or not isinstance(arguments, tuple):
            raise RefusedError(f"calls {describe(function)}")
        self._push(call(*arguments))

    def _build(self, argument: object) -> None:
        target, state = self._pop_tuple(2)
        if not isinstance(target, Recipe):
            raise RefusedError(f"sets the state of {describe(target)}")
        target.set_state(state)
        self._push(target)

    def _find_persistent(self, argument: object) -> None:
        if self._persistent is None:
            raise RefusedError("names something outside the pickle")
        self._push(self._persistent(self._stack.pop()))


_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
"""Opcodes whose argument is the value."""

_OPCODES: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "NONE": lambda machine, argument: machine._push(None),
    "NEWTRUE": lambda machine, argument: machine._push(True),
    "NEWFALSE": lambda machine, argument: machine._push(False),
    "EMPTY_TUPLE": lambda machine, argument: machine._push(()),
    "EMPTY_LIST": lambda machine, argument: machine._push([]),
    "EMPTY_DICT": lambda machine, argument: machine._push(Pairs()),
    "MARK": Machine._mark,
    "TUPLE1": lambda machine, argument: machine._push(machine._pop_tuple(1)),
    "TUPLE2": lambda machine, argument: machine._push(machine._pop_tuple(2)),
    "TUPLE3": lambda machine, argument: machine._push(machine._pop_tuple(3)),
    "TUPLE": lambda machine, argument: machine._push(tuple(machine._pop_to_mark())),
    "LIST": lambda machine, argument: machine._push(machine._pop_to_mark()),
    "APPEND": lambda machine, argument: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine, argument: machine._append(machine._pop_to_mark()),
    "SETITEM": lambda machine, argument: machine._set_items(list(machine._pop_tuple(2))),
    "SETITEMS": lambda machine, argument: machine._set_items(machine._pop_to_mark()),
    "GET": lambda machine, argument: machine._push(machine._memo[argument]),
    "BINGET": lambda machine, argument: machine._push(machine._memo[argument]),
    "LONG_BINGET": lambda machine, argument: machine._push(machine._memo[argument]),
    "PUT": Machine._remember,
    "BINPUT": Machine._remember,
    "LONG_BINPUT": Machine._remember,
    "MEMOIZE": lambda machine, argument: machine._remember(len(machine._memo)),
    "GLOBAL": lambda machine, argument: machine._name_global(*argument.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, argument: machine._name_global(*machine._pop_tuple(2)),
    "REDUCE": Machine._reduce,
    "BUILD": Machine._build,
    "BINPERSID": Machine._find_persistent,
}
