import pytest

from hebm.data.labels import attribute_values, class_index
from hebm.errors import ConfigError

NAMES = ("5_o_Clock_Shadow", "Blond_Hair", "Male", "No_Beard")


@pytest.mark.parametrize("asked", ["Blond_Hair", "blond hair", " BLOND_hair ", "blond  hair"])
def test_names_match_whatever_their_case_and_spacing(asked):
    assert attribute_values(asked, NAMES) == (-1, 1, -1, -1)
    assert class_index(asked, NAMES) == 1


def test_a_minus_sign_asks_for_images_without():
    assert attribute_values("male, -no beard,-5 o clock shadow", NAMES) == (0, -1, 1, 0)


def test_a_name_that_begins_with_a_minus_sign_is_that_name():
    assert attribute_values("-x,y", ("-x", "y")) == (1, 1)
    assert attribute_values("--x", ("-x", "y")) == (0, -1)


def test_a_class_has_a_name_before_it_has_a_number():
    assert class_index("1", ("cat", "dog")) == 1
    assert class_index("1", ("5", "3", "1")) == 2
    assert class_index("2", ("5", "3", "1")) == 2


def test_names_that_differ_in_their_case_alone_are_told_apart():
    assert class_index("a", ("A", "a")) == 1
    assert attribute_values("A,-a", ("A", "a")) == (1, 0)


@pytest.mark.parametrize("asked", ["cut", "2", "-1", ""])
def test_an_unknown_class_lists_all(asked):
    with pytest.raises(ConfigError, match="give 0 to 1, or one of: cat, dog"):
        class_index(asked, ("cat", "dog"))


def test_a_mistyped_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'cat'"):
        class_index("cut", ("cat", "dog"))
    with pytest.raises(ConfigError, match=r"no 'blond hare'; did you mean 'Blond_Hair'.*Shadow, Blond_Hair, Male"):
        attribute_values("male,-blond hare", NAMES)


@pytest.mark.parametrize("asked", ["", "-", "male,", "male,,no beard", "- -male"])
def test_an_empty_or_unknown_attribute_lists_all(asked):
    with pytest.raises(ConfigError, match="Blond_Hair, Male, No_Beard"):
        attribute_values(asked, NAMES)


def test_an_attribute_is_asked_for_once():
    with pytest.raises(ConfigError, match="'Male' is named twice"):
        attribute_values("male,-Male", NAMES)


def test_images_without_names_say_so():
    with pytest.raises(ConfigError, match="no classes"):
        class_index("3", ())
    with pytest.raises(ConfigError, match="no attributes"):
        attribute_values("male", ())
