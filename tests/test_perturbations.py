"""Dropout, shifts and rounding: identities outside of a training view, numbers of a derived noise inside it."""

import pytest
import torch
from torch import nn

from hebm.data.images import to_unit_range
from hebm.interfaces import EnergyFn, Loss
from hebm.noise import Noise
from hebm.perturbations import Dropout, Rounding, Shift, view
from hebm.testing.subjects import ReferenceBackbone, contexts, points, seeded
from hebm.tilts import seen_by


def images(rows=6, channels=2, height=5, width=4):
    return Noise(0, "images").uniform(rows, channels, height, width) * 2 - 1


@pytest.mark.parametrize("perturbation", [Dropout(0.5), Shift(1), Rounding()], ids=lambda p: type(p).__name__)
def test_a_perturbation_changes_nothing_outside_of_a_view_in_train_mode_too(perturbation):
    x = images()
    assert perturbation.train()(x) is x
    assert not torch.equal(view(perturbation, Noise(0, "step"))(x), x)
    assert perturbation(x) is x


def test_dropout_drops_its_share_and_keeps_the_mean():
    x = torch.ones(640, 50)
    dropped = view(Dropout(0.2), Noise(0, "step"))(x)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert abs(float(dropped.mean()) - 1) < 0.01
    assert torch.equal(view(Dropout(0.0), Noise(0, "step"))(x), x)


def test_a_shift_moves_every_row_by_its_own_pixels_and_repeats_the_edge():
    x = images(rows=40)
    moved = view(Shift(1), Noise(0, "step"))(x)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    by = Noise(0, "step").integers(3, 40, 2) - 1
    for row, (down, right) in enumerate(by.tolist()):
        assert torch.equal(moved[row], padded[row, :, 1 - down : 6 - down, 1 - right : 5 - right])
    assert len(by.unique(dim=0)) == 9
    assert torch.equal(view(Shift(0), Noise(0, "step"))(x), x)


def test_rounding_gives_what_an_8_bit_image_becomes_and_passes_gradients_on():
    x = images().requires_grad_()
    rounded = view(Rounding(), Noise(0, "step"))(x)
    pixels = ((x.detach() + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(rounded, to_unit_range(pixels))
    assert torch.equal(view(Rounding(), Noise(0, "step"))(to_unit_range(pixels)), to_unit_range(pixels))
    (grad,) = torch.autograd.grad(rounded.sum(), x)
    assert torch.equal(grad, torch.ones_like(x))


def net():
    return seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.SiLU(), Dropout(0.5)), nn.Linear(4, 1)))


def test_a_view_shares_parameters_and_draws_on_with_every_forward():
    whole, x = net(), points(70, 3)
    before = whole(x)
    twin = view(whole, Noise(0, "step"))
    assert [id(p) for p in twin.parameters()] == [id(p) for p in whole.parameters()]
    first, second = twin(x), twin(x)
    assert not torch.equal(first, second)
    again = view(whole, Noise(0, "step"))
    assert torch.equal(again(x), first)
    assert torch.equal(again(x), second)
    assert torch.equal(whole(x), before)
    second.sum().backward()
    assert all(p.grad is not None for p in whole.parameters())


def test_rows_are_global_so_that_any_number_of_processes_agrees():
    whole, x = net(), points(70, 3)
    together = view(whole, Noise(0, "step"))(x)
    parts = [view(whole, Noise(0, "step", start=start))(x[start:end]) for start, end in ((0, 30), (30, 70))]
    torch.testing.assert_close(torch.cat(parts), together)


def test_a_module_without_perturbations_is_its_own_view():
    plain = nn.Linear(3, 1)
    assert view(plain, Noise(0, "step")) is plain


class Seeing(EnergyFn):
    """f_k = a_k · (z², image, last feature): its gradient is known."""

    sees = ("latents", "image", "last-feature")
    gradient_penalty = 3.0

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[0.5, 2.0, -1.0], [1.0, 0.0, 3.0]]))

    def forward(self, latents, t=None):
        parts = (latents.flat_z.square(), latents.image.flatten(1), latents.last_feature.flatten(1))
        sums = torch.stack([part.sum(1) for part in parts], dim=1)
        return (sums @ self.a.T.to(sums)).unsqueeze(1)


def test_the_penalty_is_half_the_weighted_squared_gradient_by_all_that_f_reads():
    backbone, energy = seeded(ReferenceBackbone), Seeing()
    u = points(5, backbone.layout.dim)
    latents = seen_by(energy, backbone, u, contexts(backbone.layout, 5, u.dtype)).detach()
    z, pixels, feature = latents.flat_z, latents.image[0].numel(), latents.last_feature[0].numel()
    squares = [4 * a[0] ** 2 * z.square().sum(1).mean() + a[1] ** 2 * pixels + a[2] ** 2 * feature for a in energy.a]
    penalty = energy.penalty(latents)
    torch.testing.assert_close(penalty, 1.5 * sum(squares))
    (grad,) = torch.autograd.grad(penalty, energy.a)
    torch.testing.assert_close(grad[:, 1], 3 * pixels * energy.a.detach()[:, 1])
    energy.gradient_penalty = 0.0
    assert energy.penalty(latents) is None


def test_a_loss_takes_a_weighted_term_and_logs_it_and_none_leaves_it_alone():
    loss = Loss(torch.tensor(2.0), {"elbo": torch.tensor(1.0)})
    assert loss.plus("penalty", None) is loss
    more = loss.plus("penalty", torch.tensor(3.0, requires_grad=True), 0.5)
    assert float(more.total.detach()) == 3.5
    assert more.terms == {"elbo": torch.tensor(1.0), "penalty": torch.tensor(3.0)}
    assert not more.terms["penalty"].requires_grad
