"""Read harmless objects of a pickle as plain values: paths, times, NumPy numbers and arrays, devices, types.

torch's restricted unpickler looks up classes by full name. A stand-in has the name of such a class and only stores its
arguments, so no code of the real class runs. `plain` then replaces each stand-in by a plain value.
"""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor


class StandIn:
    """An object of a pickle, with its arguments and state.

    Attributes:
        full_name: the full name of the class that it stands for.
    """

    full_name: ClassVar[str]
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def plain(self) -> Any:
        """Return the plain value. Raises `ValueError` or `TypeError` if it has none."""
        raise ValueError(f"calls {self.full_name}")

    def shown(self) -> str:
        """Return its name for notes."""
        return self.full_name


class _Path(StandIn):
    def plain(self) -> str:
        return str(PurePosixPath(*self.arguments))


class _WindowsPath(StandIn):
    def plain(self) -> str:
        return str(PureWindowsPath(*self.arguments))


class _Time(StandIn):
    def plain(self) -> str:
        return str(getattr(datetime, type(self).__name__)(*self.arguments))


class _Attributes(StandIn):
    def plain(self) -> dict[str, Any]:
        return dict(self.state or {})


class _ElementType(StandIn):
    """A NumPy dtype: its kind and width in bytes as arguments, and its byte order in the state."""

    def plain(self) -> str:
        return self.dtype().name

    def dtype(self) -> np.dtype[Any]:
        """Return the dtype. Raises `ValueError` or `TypeError` if its values are not plain."""
        found = np.dtype(str(self.arguments[0]))
        if found.kind not in "biufSU":
            raise ValueError(f"NumPy values of type {found} are not supported")
        return found.newbyteorder(self.state[1]) if self.state else found


class _Scalar(StandIn):
    def shown(self) -> str:
        return f"numpy.{_dtype_of(self.arguments[0]).name}"

    def plain(self) -> Any:
        kind, data = self.arguments
        (value,) = np.frombuffer(data, _dtype_of(kind))
        return float(value) if isinstance(value, np.floating) else value.item()


class _Array(StandIn):
    def shown(self) -> str:
        return "numpy.ndarray"

    def plain(self) -> Any:
        """Return a tensor, or a list of text."""
        _, shape, kind, by_columns, data = self.state
        if isinstance(data, list):  # an array of objects
            return data
        dtype = _dtype_of(kind)
        values = np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")
        if dtype.kind in "SU":
            return values.tolist()
        native = np.float64 if dtype.itemsize > 8 else dtype.newbyteorder("=")
        return torch.from_numpy(np.array(values, native, order="C"))


def _dtype_of(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, _ElementType):
        raise TypeError(f"{kind!r} is not an element type of NumPy")
    return kind.dtype()


def _standing_for(full_name: str, base: type[StandIn]) -> type[StandIn]:
    module, _, name = full_name.rpartition(".")
    return type(name, (base,), {"__module__": module, "__qualname__": name, "full_name": full_name})


def _default_dict(*_: Any) -> dict[Any, Any]:
    """Return a dict for the entries of a `defaultdict`, without its factory."""
    return {}


_default_dict.__module__, _default_dict.__qualname__ = "collections", "defaultdict"

_KINDS: dict[str, type[StandIn]] = {"numpy.dtype": _ElementType, "numpy.ndarray": StandIn}
for _pathlib in ("pathlib", "pathlib._local"):  # pathlib._local in Python 3.13
    _KINDS |= {f"{_pathlib}.{name}": _Path for name in ("PosixPath", "PurePosixPath")}
    _KINDS |= {f"{_pathlib}.{name}": _WindowsPath for name in ("WindowsPath", "PureWindowsPath")}
_KINDS |= {f"numpy.{core}.multiarray.scalar": _Scalar for core in ("core", "_core")}
_KINDS |= {f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")}
_KINDS |= {f"datetime.{name}": _Time for name in ("date", "datetime", "timedelta")}
_KINDS |= {"types.SimpleNamespace": _Attributes}
_KINDS |= {f"builtins.{name}": StandIn for name in ("bool", "dict", "float", "int", "list", "str", "tuple")}
_KINDS |= {f"numpy.{name}": StandIn for name in ("bool_", "float16", "float32", "float64", "int32", "int64", "uint8")}

STAND_INS: tuple[Any, ...] = (_default_dict,)
STAND_INS += tuple(_standing_for(name, base) for name, base in _KINDS.items())
"""The classes that any file may look up, by `__module__` and `__qualname__`."""


def plain(content: Any, most: int) -> tuple[Any, list[str]]:
    """Return the content with harmless objects replaced by plain values, and the names of their classes.

    Arguments:
        content: the content of a file. Its dicts and lists are changed in place.
        most: maximum total bytes of its tensors.

    Raises `ValueError` or `TypeError` for an object without a plain value, and for tensors that claim more bytes, for
    example by repeating their storage.
    """
    walk = _Walk(most)
    return walk.plain(content), list(walk.said)


class _Walk:
    """The state of a walk that visits each object of the content once.

    Arguments:
        most: bytes that its tensors may have together.

    Attributes:
        said: names of the replaced classes, in order.
    """

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self.said: dict[str, None] = {}
        self._done: dict[int, tuple[Any, Any]] = {}  # keeps the objects alive, so that their ids stay unique

    def plain(self, value: Any) -> Any:
        if id(value) not in self._done:
            self._done[id(value)] = (value, value)
            self._done[id(value)] = (value, self._replaced(value))
        return self._done[id(value)][1]

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._counted(value)
        if isinstance(value, StandIn):
            return self._saying(value.shown(), self.plain(value.plain()))
        if isinstance(value, type) and issubclass(value, StandIn):
            return self._saying(value.full_name, value.full_name)
        if isinstance(value, (torch.device, torch.dtype, torch.layout)):
            return self._saying(f"torch.{type(value).__name__}", str(value))
        if isinstance(value, torch.Size):
            return self._saying("torch.Size", tuple(value))
        if isinstance(value, Counter):
            return self._saying("collections.Counter", self.plain(dict(value)))
        if type(value) in (tuple, set, frozenset):
            return type(value)(map(self.plain, value))
        self._fill(value)
        return value

    def _fill(self, value: Any) -> None:
        """Replace the values in a dict, in a list, or in the attributes of an object by plain ones."""
        if hasattr(value, "__dict__") and not isinstance(value, type):
            self.plain(vars(value))
        if isinstance(value, dict):
            items = [(self.plain(key), self.plain(inner)) for key, inner in value.items()]
            value.clear()
            value.update(items)
        elif isinstance(value, list):
            value[:] = map(self.plain, value)

    def _counted(self, tensor: Tensor) -> Tensor:
        """Return a tensor detached from its graph, and count its bytes."""
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes > self._most:
            raise ValueError(f"its tensors claim more than {self._most:,} bytes, which the file does not hold")
        return tensor if type(tensor) is Tensor and not tensor.requires_grad else tensor.detach()

    def _saying(self, name: str, value: Any) -> Any:
        self.said[name] = None
        return value
