"""Step 1: every opcode of a pickle is looked at before any is carried out."""

from __future__ import annotations

import pickletools
from typing import BinaryIO

from abaw_emi.features.pickles.refusal import RefusedError

MAX_OPCODES = 1_000_000  # of a pickle; an array takes about 30
_MAX_BITS = 128  # of an integer; torch's magic number has 77

_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"),
    *("GET", "BINGET", "LONG_BINGET"),
}


def check_opcodes(stream: BinaryIO) -> None:
    """Reads one pickle, and makes nothing of it.

    Raises:
        RefusedError: it has an opcode, an integer or a key that arrays do not need.
        Exception: it is damaged.
    """
    stack: list[bool] = []  # of each value above the last mark: whether it is text
    below: list[list[bool]] = []  # the same below each mark
    memo: dict[int, bool] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name, popped, keys = opcode.name, opcode.stack_before, stack[-2:-1]
        if name not in _OPCODES:
            raise RefusedError(f"uses the opcode {name}")
        if number == MAX_OPCODES:
            raise RefusedError(f"has more than {MAX_OPCODES:,} opcodes", "save it with numpy.save")
        if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
            raise RefusedError(f"holds an integer of more than {_MAX_BITS} bits")
        if name == "MARK":
            below.append(stack)
            stack = []
            continue
        if name == "MEMOIZE" or name.endswith("PUT"):
            index = len(memo) if argument is None else argument
            if index > number:  # the unpickler reserves memory for all numbers up to it
                raise RefusedError("has a damaged memo")
            memo[index] = stack[-1]
            continue
        if pickletools.markobject in popped:
            keys, stack = stack[::2], below.pop()
            popped = popped[: popped.index(pickletools.markobject)]
        # To hash tuples within tuples can take forever, or overflow the stack.
        if name in {"SETITEM", "SETITEMS"} and not all(keys):
            raise RefusedError("holds a dict with a key that is no text")
        if len(popped) > len(stack):
            raise ValueError("its stack is too short")
        del stack[len(stack) - len(popped) :]
        if name.endswith("GET"):
            stack.append(memo[argument or 0])
        elif opcode.stack_after:
            stack.append(opcode.stack_after[0].name in {"str", "bytes_or_str"})
