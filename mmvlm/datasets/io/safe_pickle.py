"""Pickles of plain data: read without running what they name.

A pickle is a program: ``pickle.load`` calls whatever the file asks for. Here only
the steps that build lists, dicts, tuples, sets, texts and numbers are known, so a
foreign file can at worst be refused.
"""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any, ClassVar

import numpy as np

#: Steps that build plain data, and the four that numpy's numbers need.
_OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
    *("LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE"),
    *("TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_SET", "ADDITEMS", "FROZENSET"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
)
#: What damaged bytes make the steps raise.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError),
    *(AttributeError, OverflowError, MemoryError, RecursionError, struct.error),
)


class _NumberType:
    """Stands for numpy's dtype of a number; everything else is refused."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(code if isinstance(code, str) else "O")
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"numpy type {code!r:.40} is no number")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def _number(kind: _NumberType, data: str | bytes) -> bool | int | float:
    """Return what ``numpy.core.multiarray.scalar`` would, as Python's number."""
    if not isinstance(kind, _NumberType):
        raise pickle.UnpicklingError("a numpy number without its type")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind.dtype, 1)[0].item()


def _bytes(text: str, codec: str) -> bytes:
    """Return bytes as Python 3 writes them into old pickles."""
    if codec not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the code {codec!r:.40}")
    return text.encode("latin1")


_STAND_INS = {
    ("_codecs", "encode"): _bytes,
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("__builtin__", "set"): set,
    ("__builtin__", "frozenset"): frozenset,
}


# The unpickler written in C keeps its memo in an array that one damaged byte makes
# 30 GB large, and its steps cannot be chosen. This one has been in the standard
# library, under this name, since Python 3.0; tests hold what is used of it.
class _PlainUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict] = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _OPCODES)
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for '{module}.{name}', which is no plain data"
            )
        return _STAND_INS[module, name]


def load_plain_pickle(path: str | os.PathLike) -> Any:
    """Return what a pickle of plain data holds.

    Files of Python 2 are read too, their texts as latin-1. Numpy's numbers become
    Python's. An object of any other class is refused, and nothing is called.

    Raises:
        ValueError: naming the file, and the class that it asks for, when it holds
            anything else, is cut or is no pickle.
    """
    with open(path, "rb") as file:
        try:
            return _PlainUnpickler(file, encoding="latin1").load()
        except _DAMAGE as error:
            reason = str(error) or "it ends too early"
            if isinstance(error, KeyError) and type(error.args[0]) is int:
                reason = f"it holds step {bytes(error.args)!r}, or is no pickle"
            raise ValueError(
                f"pickle '{os.fspath(path)}' cannot be read: {reason}. Only lists, "
                "dicts, texts and numbers are read; fetch the file again from its "
                "official source."
            ) from error
