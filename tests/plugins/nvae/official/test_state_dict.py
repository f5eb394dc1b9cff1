"""A published state dict is taken strictly; every complaint names what it is about."""

from collections import OrderedDict

import pytest
import torch
from official_files import content, edited

from hebm.errors import CheckpointError
from hebm.published_weights import listed
from hebm_plugins.nvae.official.arguments import experiment_of
from hebm_plugins.nvae.official.names import official_names
from hebm_plugins.nvae.official.state_dict import check_state, keys_of, own_aliases, parameters_in


@pytest.fixture(scope="module")
def found():
    """(state dict, model, names) of the small colour model."""
    file = content("tiny_cifar")
    experiment, images = experiment_of(vars(file["args"]), 0)
    backbone = experiment.backbone.build(images)
    return file["state_dict"], backbone, official_names(backbone)


def complaint(state, found):
    with pytest.raises(CheckpointError) as caught:
        check_state(state, *found[1:])
    return str(caught.value).splitlines()[1:]


def test_the_published_one_fits_with_or_without_aliases(found):
    state, backbone, names = found
    check_state(state, backbone, names)
    check_state({key: state[key] for key in names.values()}, backbone, names)
    assert keys_of(names, backbone) == list(state)


def test_missing_surplus_and_misshaped_names_are_all_said_at_once(found):
    state = edited({"state_dict": found[0]}, **{"stem.bias": None, "x": torch.ones(1), "stem.weight": torch.ones(1)})
    assert complaint(state["state_dict"], found) == [
        "  missing: stem.bias",
        "  surplus: x",
        "  other shape: stem.weight (1,), expected (3, 3, 3, 3)",
    ]


def test_a_long_list_is_cut_and_counted(found):
    renamed = OrderedDict((f"module.{key}", value) for key, value in found[0].items())
    missing, surplus = complaint(renamed, found)
    assert missing.startswith("  missing: prior_ftr0, stem.weight, ")
    assert surplus.endswith(f"and {len(found[2]) - 20} more")
    assert listed([1, 2]) == "1, 2"


@pytest.mark.parametrize("value", [[0.0], None, "x", {}])
def test_what_is_no_tensor_is_said(value, found):
    assert complaint({**found[0], "stem.bias": value}, found) == ["  not a tensor: stem.bias"]
    assert complaint({**found[0], "stem.weight_normalized": value}, found) == ["  not a tensor: stem.weight_normalized"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(3, dtype=torch.float64), "torch.float64"),
        (torch.ones(3, dtype=torch.int64), "torch.int64"),
        (torch.ones(3).to_sparse(), "torch.float32 torch.sparse_coo on cpu"),
        (torch.ones(3, device="meta"), "torch.float32 torch.strided on meta"),
    ],
)
def test_other_element_types_and_storages_are_said(value, kind, found):
    said = complaint({**found[0], "stem.bias": value}, found)
    assert said == [f"  other type: stem.bias {kind}, expected torch.float32"]


def test_parameters_are_counted_as_the_published_optimiser_counts_them(found):
    state, backbone, names = found
    own = parameters_in(state, names)
    assert set(own) == {name for name, _ in backbone.named_parameters()}
    assert own[:3] == ["decoder.feature", "encoder.stem.weight", "encoder.stem.bias"]


def test_only_aliases_with_values_of_their_own_are_kept(found):
    state = found[0]
    assert own_aliases(state) == {}
    other = {**state, "stem.weight_normalized": torch.ones(1), "gone.weight_normalized": torch.zeros(1)}
    assert set(own_aliases(other)) == {"stem.weight_normalized", "gone.weight_normalized"}
