import pickle
from typing import Any

import attrs
import pytest

from hebm.config.document import Document
from hebm.config.live_values import with_live
from hebm.config.recipes import fields_of, live, live_fields, option, recipe, unfit_field
from hebm.config.structure import structure
from hebm.config.writing import differences, to_table
from hebm.errors import ConfigError


@recipe
class Held:
    size: int = option(1, doc="a key")
    images: Any = live(doc="not a key")
    more: Any = live(doc="not a key either")


@recipe
class Holder:
    name: str = option("a", doc="a key")
    inner: Held = option(factory=Held, doc="a table")


def read(cls, table):
    return structure(cls, Document("file.toml", "", table=table))


def test_a_live_field_is_neither_compared_nor_hashed_nor_shown():
    assert Held(images=[1]) == Held(images=[2])
    assert hash(Held(images=[1])) == hash(Held())
    assert repr(Held(images=[1])) == "Held(size=1)"


def test_a_live_field_is_not_a_key():
    assert [field.name for field in fields_of(Held)] == ["size"]
    assert [field.name for field in live_fields(Held)] == ["images", "more"]
    assert to_table(Held(images=object())) == {"size": 1}
    assert differences(Held(images=1), Held(images=2)) == []
    assert unfit_field(Held) is None


def test_live_fields_may_be_given_by_position_and_keys_may_not():
    held = Held("x", "y", size=3)
    assert (held.images, held.more, held.size) == ("x", "y", 3)
    with pytest.raises(TypeError, match="positional"):
        Held("x", "y", 3)


def test_a_changed_recipe_keeps_its_live_values():
    images = object()
    assert attrs.evolve(Held(images), size=4).images is images
    assert pickle.loads(pickle.dumps(Held([1, 2]))).images == [1, 2]


def test_a_file_that_sets_a_live_field_is_told_to_pass_it_in_python():
    with pytest.raises(ConfigError, match=r"images: is a Python value.*Held\(images=…\) \(allowed: size\)"):
        read(Held, {"images": "a.npy"})
    with pytest.raises(ConfigError, match=r"unknown key.*did you mean 'size'"):
        read(Held, {"sizes": 2})


def test_live_values_are_carried_to_a_recipe_from_a_file_at_any_depth():
    images = object()
    found = with_live(read(Holder, {"name": "b", "inner": {"size": 7}}), Holder(inner=Held(images)))
    assert (found.name, found.inner.size, found.inner.images) == ("b", 7, images)


def test_a_recipe_without_live_values_takes_none_away():
    held = Held("x")
    assert with_live(held, Held()).images == "x"
    assert with_live(held, Holder()) is held


def test_a_list_given_in_python_is_told_to_be_a_tuple():
    @recipe
    class Pair:
        ends: tuple[float, float] = option((0, 1), doc="two numbers")

    with pytest.raises(ConfigError, match=r"Pair\.ends: expected a tuple, \(0, 2\), got the list \[0, 2\]"):
        Pair(ends=[0, 2])
