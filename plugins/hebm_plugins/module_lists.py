"""Module lists that know the class of their modules.

`ModuleList` is `torch.nn.ModuleList`, name for name and key for key. For the type checker it is generic: iterating over
a `ModuleList[Cell]`, or indexing it, gives a `Cell`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, overload

from torch import nn

__all__ = ["ModuleList"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    M = TypeVar("M", bound=nn.Module)

    class ModuleList(nn.ModuleList, Generic[M]):
        """A list of registered modules of class M."""

        def __init__(self, modules: Iterable[M] | None = None) -> None: ...

        def __iter__(self) -> Iterator[M]: ...

        @overload
        def __getitem__(self, idx: slice) -> ModuleList[M]: ...

        @overload
        def __getitem__(self, idx: int) -> M: ...

        def __getitem__(self, idx: int | slice) -> M | ModuleList[M]: ...

else:
    ModuleList = nn.ModuleList
