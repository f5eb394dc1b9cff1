"""Arrays in files are mapped, not read; what a header claims is compared with what the file holds."""

import zipfile

import numpy as np
import pytest

from hebm.data import array_files
from hebm.data.array_files import mapped_array
from hebm.errors import DataError

VALUES = np.random.default_rng(0).integers(0, 256, (7, 4, 5), dtype=np.uint8)


def saved(tmp_path, kind, values):
    if kind == "npy":
        np.save(tmp_path / "a.npy", values)
        return tmp_path / "a.npy", None
    (np.savez_compressed if kind == "compressed" else np.savez)(tmp_path / "a.npz", other=values[:1], x=values)
    return tmp_path / "a.npz", "x"


@pytest.mark.parametrize("values", [VALUES, np.asfortranarray(VALUES), VALUES.astype(">f4"), VALUES[:0]])
@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_arrays_are_the_same_however_they_are_saved(kind, values, tmp_path):
    found = mapped_array(*saved(tmp_path, kind, values))
    assert np.array_equal(found, values)
    assert found.dtype == values.dtype
    assert isinstance(found, np.memmap) == (kind != "compressed" and values.size > 0)


def lying(path, shape):
    """Write an .npy of few bytes that claims a shape."""
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))
    return path


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = lying(tmp_path / "a.npy", (10**12, 8, 8))
    with pytest.raises(DataError, match=r"claims 64,000,000,000,000 bytes for shape .*, but it holds 100"):
        mapped_array(path)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "b.npz", "w", compression) as archive:
            archive.write(path, "x.npy")
        with pytest.raises(DataError, match=r"b\.npz: .* claims 64,000,000,000,000 bytes"):
            mapped_array(tmp_path / "b.npz", "x")


def test_an_array_that_does_not_fit_unpacked_says_how_to_save_it(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "available_memory", lambda: 100)
    with pytest.raises(
        DataError,
        match=r"when it is unpacked, this machine has 0\.0 GiB available: save it uncompressed, by numpy\.savez",
    ):
        mapped_array(*saved(tmp_path, "compressed", VALUES))
    assert len(mapped_array(*saved(tmp_path, "npz", VALUES))) == 7


@pytest.mark.parametrize("kind", ["npz", "compressed"])
def test_a_flipped_bit_in_an_npz_is_an_error(kind, tmp_path):
    path, key = saved(tmp_path, kind, VALUES)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("x.npy").header_offset + 120
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz: cannot be read"):
        mapped_array(path, key)
