import attrs
import pytest

from hebm.config.recipes import option, recipe, unfit_field
from hebm.errors import ConfigError, PluginError


@recipe
class Ball:
    radius: float = option(1.0, above=0, doc="of the ball")
    colours: tuple[str, ...] = option((), choices=("red", "blue"), doc="of its parts")


def test_a_recipe_is_frozen_compared_by_value_and_hashable():
    assert Ball(radius=2) == Ball(radius=2.0) != Ball()
    assert len({Ball(), Ball()}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Ball().radius = 3.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"radius": 0},
        {"radius": True},
        {"radius": "1"},
        {"radius": float("nan")},
        {"radius": None},
        {"colours": ["red"]},
        {"colours": ("green",)},
        {"colours": ("red", 1)},
    ],
)
def test_a_wrong_value_in_python_is_an_error_that_names_class_and_field(wrong):
    with pytest.raises(ConfigError, match=rf"Ball\.{next(iter(wrong))}: "):
        Ball(**wrong)


def test_evolving_checks_again():
    with pytest.raises(ConfigError, match="must be more than 0"):
        attrs.evolve(Ball(), radius=-1.0)


def test_a_subclass_inherits_fields_and_their_bounds():
    @recipe
    class Big(Ball):
        radius: float = option(9.0, low=5, doc="larger")

    assert Big(colours=("red",)).radius == 9
    with pytest.raises(ConfigError, match="at least 5"):
        Big(radius=1)
    with pytest.raises(ConfigError, match="expected one of 'red', 'blue'"):
        Big(colours=("green",))


def test_fields_that_no_toml_key_can_hold_are_found():
    @recipe
    class Wrong:
        table: dict[str, int] = option(factory=dict, doc="no")

    @recipe
    class Typed:
        type: str = option("x", doc="taken")

    @recipe
    class Unset:
        clip: float | None = option(1.0, doc="None could not be written")

    assert "'table'" in unfit_field(Wrong)
    assert "'type'" in unfit_field(Typed)
    assert "default must be None" in unfit_field(Unset)
    assert unfit_field(Ball) is None


def test_an_annotation_that_cannot_be_resolved_is_a_plugin_error():
    @recipe
    class Lost:
        x: "Nowhere" = option(1, doc="an unknown name")  # noqa: F821

    with pytest.raises(PluginError, match="Nowhere"):
        Lost()
