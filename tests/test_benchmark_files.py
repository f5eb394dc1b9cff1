"""`benchmarks/`: every file can be read and built, and those of the diffusion prior have its published settings."""

import itertools
import re
from pathlib import Path

import attrs
import pytest
import torch

import hebm
from hebm.config.experiment import load
from hebm.interfaces import ImageSpec
from hebm_plugins.priors.labels import couple

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FILES = sorted(BENCHMARKS.rglob("*.toml"))
SIDES = {hebm.Digits: (1, 8), hebm.MNIST: (1, 28), hebm.CIFAR10: (3, 32)}

# file: (figure, backbone's file, images, batch, decay per epoch, T, K, step size, net, channels, BatchNorm anew)
CIFAR = ("nvae/cifar10", 50_000, 50, 0.9)
DIFFUSION = {
    "cifar10-nvae": ("FID 8.93", *CIFAR, 3, 50, 3e-5, "residual", 128, True),
    "cifar10-nvae-k30": ("FID 9.98", *CIFAR, 3, 30, 3e-5, "residual", 128, True),
    "cifar10-nvae-k100": ("FID 8.13", *CIFAR, 3, 100, 3e-5, "residual", 128, True),
    "cifar10-nvae-t6": ("FID 8.13", *CIFAR, 6, 50, 3e-5, "residual", 128, True),
    "cifar10-conditional": ("No figure", *CIFAR, 3, 50, 3e-5, "residual", 128, True),
    "celeba-hq-256-nvae": ("FID 8.78", "nvae/celeba-hq-256", 27_000, 4, 0.98, 3, 30, 2e-5, "plain", 64, False),
    "lsun-church-64-nvae": (
        *("FID 7.34", "nvae/vaebm-lsun-church-64", 126_227, 50, 0.9, 3, 50, 3e-5),
        *("residual", 128, True),
    ),
    "celeba-64-attributes": ("No figure", "nvae/celeba-64", 162_770, 50, 0.9, 3, 50, 3e-5, "residual", 128, False),
}

LABELLED = [("cifar10-conditional", {0: 0, 1: 0, 2: 0}), ("celeba-64-attributes", {0: 0, 5: 1, 15: 2})]


def diffusion(name):
    return load(BENCHMARKS / "diffusion" / f"{name}.toml")


def images_of(data):
    """What a backbone knows of a data set that need not be here."""
    channels, side = SIDES.get(type(data)) or (data.channels or 3, getattr(data, "size", None) or 32)
    return ImageSpec(channels, side, side, binary=data.binarize != "off", attributes=tuple(data.attributes))


def header(path):
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


@pytest.fixture
def shapes_alone(monkeypatch):
    """Tensors without data, and without the seconds that drawing initial weights takes on them."""
    for name in ("kaiming_uniform_", "uniform_", "normal_", "zeros_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    monkeypatch.setattr(torch.nn.functional, "normalize", lambda tensor, *_, **__: tensor)
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_every_file_is_read_and_its_prior_fits_its_backbone(path):
    experiment = load(path)
    backbone = experiment.backbone.build(images_of(experiment.data))
    prior = experiment.prior.build(backbone)
    phases = experiment.train.phases(backbone, prior)
    assert sum(phase.steps for phase in phases) > 0


def test_no_two_files_write_to_the_same_run_folder():
    names = [load(path).name for path in FILES]
    assert len(names) == len(set(names))


def test_every_file_says_first_what_it_is():
    assert [path.name for path in FILES if len(header(path)) < 40] == []


def test_every_file_of_the_diffusion_prior_is_in_the_table():
    assert {path.stem for path in (BENCHMARKS / "diffusion").glob("*.toml")} == {*DIFFUSION, "cifar10-hvae"}


@pytest.mark.parametrize(
    ("name", "figure"), [*((k, v[0]) for k, v in DIFFUSION.items()), ("cifar10-hvae", "FID 35.13")]
)
def test_a_file_of_the_diffusion_prior_starts_with_the_figure_it_aims_at(name, figure):
    first = header(BENCHMARKS / "diffusion" / f"{name}.toml")
    start = "No figure is published" if figure == "No figure" else rf"Aims at {re.escape(figure)}\b"
    assert re.match(start, first)
    assert "2405.13910" in first


@pytest.mark.parametrize("name", [*DIFFUSION, "cifar10-hvae"])
def test_its_backbone_is_that_of_the_run_it_is_taken_from(name):
    row = DIFFUSION.get(name)
    experiment, origin = diffusion(name), load(BENCHMARKS / f"{row[1] if row else 'hvae-cifar'}.toml")
    assert experiment.train.backbone_from == f"runs/{origin.name}"
    assert f"benchmarks/{row[1] if row else 'hvae-cifar'}.toml" in header(BENCHMARKS / "diffusion" / f"{name}.toml")
    backbone = experiment.backbone
    if row and row[-1]:
        assert (backbone.recalibration.passes, backbone.recalibration.rows) == (500, 25)
        backbone = attrs.evolve(backbone, recalibration=origin.backbone.recalibration)
    assert backbone == origin.backbone
    assert images_of(attrs.evolve(experiment.data, attributes=())) == images_of(origin.data)


@pytest.mark.parametrize("name", DIFFUSION)
def test_prior_and_chains_are_the_published_ones(name):
    *_, levels, steps, step_size, net, channels, _ = DIFFUSION[name]
    prior = diffusion(name).prior
    assert (prior.levels, prior.step_size) == (levels, step_size)
    assert prior.sampler == hebm.ULA(steps=steps, step_size=1.0)
    assert (prior.energy.net, prior.energy.channels, prior.energy.spectral_norm) == (net, channels, True)
    assert {prior.energy_scale, prior.last_level, prior.first_level} == {"official"}


@pytest.mark.parametrize("name", DIFFUSION)
def test_training_is_the_published_one_and_its_rate_falls_by_the_published_factor_each_epoch(name):
    _, _, images, batch, decay, *_ = DIFFUSION[name]
    experiment, training = diffusion(name), diffusion(name).train.prior
    epoch = images // batch
    assert (experiment.data.batch_size, training.steps) == (batch, 200 * epoch)
    assert (training.optimizer, training.betas, training.weight_decay) == ("adam", (0.99, 0.999), 3e-5)
    assert (training.clip, training.ema, training.warmup) == (0.0, 0.0, 0)
    for passed in (0, 1, 10, 199):
        assert training.rate(passed * epoch, training.steps) == pytest.approx(4e-5 * decay**passed)


@pytest.mark.parametrize("name", ["k30", "k100", "t6"])
def test_an_ablation_differs_from_its_row_in_one_setting(name):
    row, ablation = diffusion("cifar10-nvae"), diffusion(f"cifar10-nvae-{name}")
    prior = attrs.evolve(ablation.prior, sampler=row.prior.sampler) if name != "t6" else ablation.prior
    assert attrs.evolve(ablation, name=row.name, prior=attrs.evolve(prior, levels=3)) == row
    assert ablation.prior != row.prior


@pytest.mark.parametrize(("name", "columns"), LABELLED)
def test_labels_are_coupled_at_the_layers_asked_for(name, columns):
    experiment = diffusion(name)
    prior, layout = experiment.prior, experiment.backbone.layout(images_of(experiment.data))
    coupling = couple(prior.classes, prior.attributes, prior.label_layers, len(layout))
    assert {layer: column for layer, column in enumerate(coupling.columns) if column is not None} == columns
    assert prior.label_levels == "first"
    assert prior.attributes == len(experiment.data.attributes)
    first = [layout.shapes.index(shape) for shape in dict.fromkeys(layout.shapes)]
    assert name != "celeba-64-attributes" or list(columns) == first  # the uppermost of each resolution
