"""Reading the pickles of MANO and HO-3D without running code from them, and without chumpy.

A pickle may name any function of any module and have it called; here a name is looked up in a short table and
everything else is refused. Arrays, dtypes and sparse matrices are rebuilt by stand-ins from checked parts, because even
numpy's own rebuilding trusts what the file says of the memory. Nothing here knows what a MANO model is (``model``).
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse

from hojoint.errors import InputError

_DEEPEST = 50  # nesting of the containers in an honest file is three or four


def load_restricted(source: str | Path | bytes) -> object:
    """Read a pickle written by Python 2 or 3 that holds plain values, numpy arrays, sparse matrices and chumpy arrays.

    Chumpy arrays come back as numpy arrays. Strings of Python 2 are read as latin-1.

    Raises:
        InputError: the file cannot be read, is damaged, or names anything that is not in the table.
    """
    name = "the pickle" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from None
    try:
        return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load(), {}, 0)
    except _Refused as refused:
        raise InputError(
            f"{name} asks for {refused}, which is not among the few types that a MANO or HO-3D file needs; "
            "it is refused and not run. Download the file again from its official source."
        ) from None
    except Exception as error:  # a damaged pickle can raise anything at all
        raise InputError(
            f"{name} is not a complete pickle of arrays ({type(error).__name__}: {error}). Download it again."
        ) from None


class _Refused(Exception):
    """A global outside the table."""


class _Dtype:
    """Stands in for ``numpy.dtype``: keeps the type's letter and byte order, drops flags and fields."""

    def __init__(self, code: str | bytes | type = "", *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else str(code)
        if not re.fullmatch(r"[<>|=]?([biufcSUO]\d*|\?)", text):
            raise ValueError(f"arrays of type {text!r} are not read")
        self._dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        order, described = state[1], state[2:5]
        if any(part is not None for part in described):
            raise ValueError("arrays of records are not read")
        if order in (">", b">"):
            self._dtype = self._dtype.newbyteorder(">")

    @property
    def dtype(self) -> np.dtype:
        return self._dtype


def _sealed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that a pickle may call but not change: BUILD sets attributes (``__defaults__``) of a bare one."""

    def refuse(_: Any) -> None:
        raise ValueError(f"{function.__name__} is not to be changed")

    function.__setstate__ = refuse  # type: ignore[attr-defined]
    return function


class _Array(np.ndarray):
    """An array being rebuilt; numpy fills it, from a dtype that numpy made and data of the size that it needs."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, by_columns, raw = state
        if not isinstance(dtype, _Dtype):
            raise ValueError("an array's type must be a numpy.dtype")
        _check_size(shape, dtype.dtype, raw)
        super().__setstate__((version, shape, dtype.dtype, by_columns, raw))


def _check_size(shape: Any, dtype: np.dtype, raw: Any) -> None:
    """Refuse data of another length than the shape's: numpy reads a list of objects beyond its end."""
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"an array's shape must be whole numbers, found {shape!r}")
    count = math.prod(shape)  # Python's integers do not overflow
    if dtype.hasobject:
        if not isinstance(raw, list) or len(raw) != count:
            raise ValueError(f"an array of {shape} objects needs a list of {count}")
    elif not isinstance(raw, bytes | str) or len(raw) != count * max(dtype.itemsize, 1):
        raise ValueError(f"an array of {shape} {dtype} needs {count * dtype.itemsize} bytes")


@_sealed
def _ndarray(*_: Any) -> None:
    """Stands in for ``numpy.ndarray``, which files name but never call: its constructor lays arrays over any bytes."""
    raise ValueError("numpy.ndarray is not to be called; arrays are rebuilt by _reconstruct")


@_sealed
def _reconstruct_array(*_: Any) -> np.ndarray:
    return _Array((0,), dtype=np.uint8)


@_sealed
def _scalar(dtype: _Dtype, raw: bytes | str = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.dtype.hasobject:
        raise ValueError("scalars that are Python objects are not read")
    _check_size((1,), dtype.dtype, raw)
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype.dtype)[0]


@_sealed
def _from_buffer(raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not isinstance(raw, bytes | bytearray):  # bytes(n) of a number n would be n bytes of memory
        raise ValueError(f"an array's buffer must be bytes, found {type(raw).__name__}")
    array = np.frombuffer(bytes(raw), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.dtype.newbyteorder("="))  # a copy, so that it can be written to


class _Holder:
    """Stands in for a class with attributes: keeps what ``__setstate__`` is given."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict) -> None:
        self.state = dict(state)

    def value(self, plain: Callable[[Any], Any]) -> Any:
        raise NotImplementedError


class _Ch(_Holder):
    """``chumpy.ch.Ch``: an array in ``x``."""

    def value(self, plain: Callable[[Any], Any]) -> np.ndarray:
        return np.asarray(plain(self.state["x"]))


class _Select(_Holder):
    """``chumpy.reordering.Select``: chosen elements of another array, in a new shape."""

    def value(self, plain: Callable[[Any], Any]) -> np.ndarray:
        array, chosen = np.asarray(plain(self.state["a"])), np.asarray(plain(self.state["idxs"]))
        return array.ravel()[chosen].reshape(plain(self.state["preferred_shape"]))


class _Sparse(_Holder):
    """A scipy sparse matrix of any era, built anew so that its indices are checked."""

    kind: ClassVar[type]

    def value(self, plain: Callable[[Any], Any]) -> Any:
        state = {key.lstrip("_"): plain(part) for key, part in self.state.items()}
        if self.kind is scipy.sparse.coo_matrix:
            coordinates = state["coords"] if "coords" in state else (state["row"], state["col"])
            return self.kind((state["data"], tuple(coordinates)), shape=state["shape"])
        matrix = self.kind((state["data"], state["indices"], state["indptr"]), shape=state["shape"])
        matrix.check_format(full_check=True)
        return matrix


class _Csc(_Sparse):
    kind = scipy.sparse.csc_matrix


class _Csr(_Sparse):
    kind = scipy.sparse.csr_matrix


class _Coo(_Sparse):
    kind = scipy.sparse.coo_matrix


@_sealed
def _reconstruct_object(cls: type, base: type, state: None) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, _Holder) and base is object and state is None):
        raise ValueError("copy_reg may rebuild chumpy arrays and sparse matrices only")
    return cls()


@_sealed
def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding.replace("-", "").lower() not in ("latin1", "iso88591"):
        raise ValueError(f"bytes in {encoding!r} are not read")
    return text.encode("latin1")


@_sealed
def _no_bytes() -> bytes:
    return b""  # Python 3 writes empty bytes for protocol 2 as a call of bytes()


# Dotted names ('a.b' of STACK_GLOBAL) never match: nothing is looked up inside a module.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("chumpy.ch", "Ch"): _Ch,
    ("chumpy.reordering", "Select"): _Select,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(module, "_reconstructor"): _reconstruct_object for module in ("copy_reg", "copyreg")},
    **{(module, "set"): set for module in ("__builtin__", "builtins")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    **{(module, "bytes"): _no_bytes for module in ("__builtin__", "builtins")},
    **{
        (f"scipy.sparse{sub}", f"{kind}_{form}"): cls
        for kind, cls in (("csc", _Csc), ("csr", _Csr), ("coo", _Coo))
        for form in ("matrix", "array")  # newer SciPy has both; they are the same to us
        for sub in ("", f".{kind}", f"._{kind}")
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"'{module}.{name}'") from None


def _plain(value: Any, done: dict[int, tuple[Any, Any]], depth: int) -> Any:
    """The value with stand-ins replaced by what they stand for; ``done`` keeps shared parts shared."""
    if depth > _DEEPEST:
        raise ValueError("its values are nested too deeply")
    if id(value) in done:
        return done[id(value)][1]

    def inner(part: Any) -> Any:
        return _plain(part, done, depth + 1)

    result = value
    if isinstance(value, _Holder):
        result = value.value(inner)
    elif isinstance(value, np.ndarray):
        result = np.asarray(value)
    elif isinstance(value, dict):
        # dict's own items: a file may give an OrderedDict attributes
        result = type(value)((inner(key), inner(part)) for key, part in dict.items(value))
    elif isinstance(value, list | tuple):
        result = type(value)(inner(part) for part in value)
    elif isinstance(value, _Dtype):
        result = value.dtype
    done[id(value)] = (value, result)  # the value too, so that its id is not given away
    return result
