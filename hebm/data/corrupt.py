"""Find every file that cannot be read as an image, so that a user learns of all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from hebm.data.decode import CorruptImage, ImageDecoder
from hebm.data.files import Files
from hebm.errors import DataError

SHOWN = 20
"""How many files a message names."""

SKIP = 'set data.corrupt = "skip" (image-folder) to leave such files out'


def decoded(files: Files, names: Sequence[str], decoder: ImageDecoder) -> Iterator[tuple[str, Tensor | CorruptImage]]:
    """Yield each file's name with its pixels, or with what is wrong with it, in the order that is quickest to read.

    Arguments:
        files: where they are.
        names: of the files, each once.
        decoder: makes pixels of a file.

    Raises `DataError` for a file that is an image and does not fit, and for a damaged archive.
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
    """Return what is wrong with each file that cannot be read as an image, by name.

    Arguments:
        files: where they are.
        names: of the files, each once.
        decoder: makes pixels of a file.
        told: how many files were tried, of how many; after each.

    Raises as `decoded` does.
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
        bad: what is wrong with each, at least one.
        total: how many files were tried.
        skip: how they are left out.
    """
    reasons = [error.reason for error in bad.values()]
    if len(bad) == 1:
        return CorruptImage(reasons[0], f"fix or remove it, or {skip}")
    what = f"{len(bad):,} of {total:,} files cannot be read as images; fix or remove them, or {skip}"
    return DataError(f"{what}:\n{_listed(reasons)}")


def corrupt_note(bad: Mapping[str, CorruptImage], total: int) -> str:
    """Return one note that names all files that are left out, each with its reason; see `corrupt_error`."""
    reasons = [error.reason for error in bad.values()]
    return f"left out {len(bad):,} of {total:,} files, which cannot be read as images:\n{_listed(reasons)}"


def _listed(reasons: Sequence[str]) -> str:
    lines = [f"  {reason}" for reason in sorted(reasons)[:SHOWN]]
    more = len(reasons) - len(lines)
    return "\n".join([*lines, f"  and {more:,} more"] if more else lines)
