"""Recipes of the multi-stage prior, with the keys of its nested tables given flat."""

import attrs

from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing

NESTED = {
    "drawing": {field.name for field in attrs.fields(Drawing)},
    "contrast": {field.name for field in attrs.fields(Contrast)},
}


def changed(recipe: MultiStage, **fields):
    """Return a recipe with other fields, those of `drawing` and `contrast` among them."""
    nested = {
        table: attrs.evolve(getattr(recipe, table), **{key: fields.pop(key) for key in list(fields) if key in keys})
        for table, keys in NESTED.items()
    }
    return attrs.evolve(recipe, **nested, **fields)
