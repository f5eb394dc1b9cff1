"""JSON is checked against annotations; what does not fit is named by its key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

import attrs
import pytest

from hebm.errors import CheckpointError, PluginError
from hebm.store.json_shapes import ShapeError, damaged, parsed, read_json, shaped


class Seal(TypedDict):
    size: int
    sha256: str


@attrs.frozen
class Point:
    x: float
    label: str | None = None
    tags: tuple[str, ...] = ()

    def __attrs_post_init__(self):
        if self.x < 0:
            raise PluginError("x must not be negative")


@attrs.frozen
class Open:
    MORE_KEYS: ClassVar[bool] = True

    points: tuple[Point, ...] = ()
    best: Point | None = None


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (float, 3, 3.0),
        (int | float, 3, 3),
        (bool, True, True),
        (list[int], [1, 2], [1, 2]),
        (tuple[float, ...], [1, 2.5], (1.0, 2.5)),
        (tuple[float, str], [1, "a"], (1.0, "a")),
        (Mapping[str, list[int]], {"a": [1]}, {"a": [1]}),
        (Literal["lower", "higher"] | None, None, None),
        (Seal, {"size": 1, "sha256": "ab"}, {"size": 1, "sha256": "ab"}),
        (Point, {"x": 1}, Point(1.0)),
        (Open, {"points": [{"x": 1, "tags": ["a"]}], "more": 3}, Open((Point(1.0, tags=("a",)),))),
        (Any, [{"a": None}], [{"a": None}]),
    ],
)
def test_what_fits_becomes_the_type(kind, value, found):
    assert shaped(kind, value) == found
    assert type(shaped(kind, value)) is type(found)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (str, 3, "it must be text, not 3"),
        (int, 1.0, "it must be a whole number, not 1.0"),
        (int, True, "it must be a whole number, not true"),
        (float, False, "it must be a number, not false"),
        (float, "1", "it must be a number, not '1'"),
        (float, 10**400, "it must be a number, not 1000000000000"),
        (bool, 1, "it must be true or false, not 1"),
        (str | None, {}, "it must be text or null, not a table"),
        (list[int], [1, "x"], "[1] must be a whole number, not 'x'"),
        (tuple[float, float], [1], "it must have 2 entries, not 1"),
        (Mapping[str, int], {"a b": None}, "'a b' must be a whole number, not null"),
        (Literal["lower", "higher"], "best", "it must be 'lower' or 'higher', not 'best'"),
        (Seal, {"size": 1}, "sha256 is missing"),
        (Point, [], "it must be a table, not a list"),
        (Point, {"x": 1, "colour": "red"}, "colour is an unknown key"),
        (Point, {"x": -1}, "it: x must not be negative"),
        (Open, {"points": [{"x": 1}, {"x": 1, "tags": [3]}]}, "points[1].tags[0] must be text, not 3"),
        (Open, {"best": {"label": "a"}}, "best.x is missing"),
        (Open, {"best": "\x1b[31m" + 100 * "x"}, r"best must be a table or null, not '\x1b[31mxxx"),
    ],
)
def test_what_does_not_fit_is_named_by_its_key(kind, value, message):
    with pytest.raises(ShapeError) as caught:
        shaped(kind, value)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"NaN", b'{"a": Infinity}', b"[" * 100_000, b'{"a": ' * 100_000, b"1" * 5000]
)
def test_what_is_not_json_is_an_error_that_names_the_file(tmp_path, data):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"x\.json is damaged, or from another version of hebm: it is .*; make it"
    ):
        read_json(path, "make it again")


def test_an_error_names_file_key_and_remedy():
    with pytest.raises(CheckpointError) as caught, damaged(Path("runs/a/metrics.json"), "make it again"):
        shaped(Open, parsed('{"points": [{"x": null}]}'))
    assert str(caught.value) == (
        "runs/a/metrics.json is damaged, or from another version of hebm: points[0].x must be a number, not null; "
        "make it again"
    )
