"""Find all files that cannot be read as images, and report them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from hebm.data.decode import CorruptImage, ImageDecoder
from hebm.data.files import Files
from hebm.errors import DataError

SHOWN = 20
"""Number of files that a message names."""

SKIP = 'set data.corrupt = "skip" (image-folder) to leave such files out'


def decoded(files: Files, names: Sequence[str], decoder: ImageDecoder) -> Iterator[tuple[str, Tensor | CorruptImage]]:
    """Yield each file's name with its pixels or its error, in the fastest order.

    Arguments:
        files: the folder or archive.
        names: names of the files, without duplicates.
        decoder: decoder of the files.

    Raises `DataError` for a valid image that the decoder does not accept, and for a damaged archive.
    """
    for name, data in files.contents(names):
        if isinstance(data, CorruptImage):
            yield name, data
            continue
        try:
            pixels = decoder(data, files.describe(name))
        except CorruptImage as error:
            yield name, error
        else:
            yield name, pixels


def corrupt_files(
    files: Files, names: Sequence[str], decoder: ImageDecoder, told: Callable[[int, int], None] | None = None
) -> dict[str, CorruptImage]:
    """Return the errors of files that cannot be read as images, by name.

    Arguments:
        files: the folder or archive.
        names: names of the files, without duplicates.
        decoder: decoder of the files.
        told: called after each file with the number of tried files and of all files.

    Raises the errors of `decoded`.
    """
    bad = {}
    for i, (name, found) in enumerate(decoded(files, names, decoder), 1):
        if isinstance(found, CorruptImage):
            bad[name] = found
        if told is not None:
            told(i, len(names))
    return bad


def corrupt_error(bad: Mapping[str, CorruptImage], total: int, skip: str = SKIP) -> DataError:
    """Return one error that names all bad files, each with its reason.

    Arguments:
        bad: the errors by file name, at least one.
        total: number of tried files.
        skip: advice on how to leave the files out.
    """
    reasons = [error.reason for error in bad.values()]
    if len(bad) == 1:
        return CorruptImage(reasons[0], f"fix or remove it, or {skip}")
    what = f"{len(bad):,} of {total:,} files cannot be read as images; fix or remove them, or {skip}"
    return DataError(f"{what}:\n{_listed(reasons)}")


def corrupt_note(bad: Mapping[str, CorruptImage], total: int) -> str:
    """Return one note that names all files that are left out, each with its reason (see `corrupt_error`)."""
    reasons = [error.reason for error in bad.values()]
    return f"left out {len(bad):,} of {total:,} files, which cannot be read as images:\n{_listed(reasons)}"


def _listed(reasons: Sequence[str]) -> str:
    lines = [f"  {reason}" for reason in sorted(reasons)[:SHOWN]]
    more = len(reasons) - len(lines)
    return "\n".join([*lines, f"  and {more:,} more"] if more else lines)
