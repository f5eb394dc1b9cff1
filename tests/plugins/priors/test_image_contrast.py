"""The preset for deep hierarchies: one ratio of the decoded image, negatives kept, SIR and then pCN-MALA."""

import attrs
import torch

from hebm.interfaces import Progress, RowCache
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm.tilts import sees_of
from hebm.training.kept_latents import Kept
from hebm_plugins.energies.image_conv import FeatureConv, ImageConv
from hebm_plugins.priors.image_contrast import FeatureContrast, ImageContrast
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Contrast
from hebm_plugins.samplers.pcn_mala import PCNMALA


def test_it_is_multi_stage_with_other_defaults():
    sampler = PCNMALA(steps=30, step_size=0.3, target_acceptance=0.5)
    contrast = Contrast(negatives="pool", pool=24_000)
    general = MultiStage(stages=1, energy=ImageConv(), sampler=sampler, contrast=contrast, start_proposals=8)
    assert attrs.asdict(ImageContrast()) == attrs.asdict(general)


def test_with_the_feature_only_the_energy_differs():
    assert attrs.asdict(FeatureContrast()) == attrs.asdict(ImageContrast(energy=FeatureConv()))


def test_a_stage_stores_8_bit_images_alone_and_a_step_decodes_nothing(tmp_path, monkeypatch):
    backbone = seeded(ReferenceBackbone).requires_grad_(False)
    recipe = ImageContrast(energy=ImageConv(channels=2, width=5), contrast=Contrast(negatives="pool", pool=64))
    prior = seeded(lambda: recipe.build(backbone))
    (stage,) = prior.stages()
    assert Kept.by(stage).reads == {"image"}
    assert sees_of(stage.module) == ("image",)
    stage.start(backbone, Noise(0, "start"), RowCache(tmp_path))
    kept = Kept.by(stage)
    with torch.no_grad():
        rows = kept.packed(backbone, Posterior(backbone.latents(points(6, backbone.layout.dim))))
    posterior = kept.unpacked(backbone, rows, points(6, 1))
    losses = []
    for _ in range(2):
        losses.append(stage.objective(backbone, posterior, Noise(0, "step"), Progress(0, 10)).total)
        monkeypatch.setattr(backbone, "latents", None)  # the second step finds all it needs
    assert torch.equal(*losses)
    assert [transition.name for transition in prior.transitions(backbone)] == ["start stage 1", "stage 1"]
