"""Groups of a phase: what they train, and how their gradients are clipped."""

import pytest
import torch
from torch import nn

from hebm.training.optimization import Optimization
from hebm.training.phases import Group
from hebm.training.state import GroupState, clip_gradients


class Half(nn.Module):
    """Two parameters, one of which was made to stay as it is."""

    def __init__(self):
        super().__init__()
        self.free = nn.Parameter(torch.tensor([3.0]))
        self.fixed = nn.Parameter(torch.tensor([5.0]), requires_grad=False)


def group(gradient, clip):
    module = Half()
    module.free.grad = torch.tensor([gradient])
    optimization = Optimization(clip=clip)
    made = Group(module, (module,), optimization)
    return GroupState(f"of {gradient:.0f}", made, optimization.build(made.parameters().values()), None), module


def test_parameters_that_were_made_to_stay_are_not_trained():
    module = Half()
    made = Group(module, (module,), Optimization())
    module.requires_grad_(True)  # as other phases may leave it
    assert list(made.parameters()) == ["free"]


def test_groups_are_clipped_each_by_its_own_norm():
    (one, a), (other, b) = group(3.0, 1.0), group(4.0, 2.0)
    norms = clip_gradients([one, other], together=False)
    assert {name: float(norm) for name, norm in norms.items()} == {"grad_norm_of 3": 3.0, "grad_norm_of 4": 4.0}
    assert [float(a.free.grad), float(b.free.grad)] == pytest.approx([1.0, 2.0], rel=1e-5)


def test_groups_of_one_loss_are_clipped_by_one_norm():
    (one, a), (other, b) = group(3.0, 1.0), group(4.0, 100.0)
    norms = clip_gradients([one, other], together=True)
    assert {name: float(norm) for name, norm in norms.items()} == {"grad_norm_together": 5.0}
    assert [float(a.free.grad), float(b.free.grad)] == pytest.approx([0.6, 0.8], rel=1e-5)


def test_one_group_has_its_own_name_whatever_its_phase_says():
    (one, _) = group(3.0, 1.0)
    assert list(clip_gradients([one], together=True)) == ["grad_norm_of 3"]
