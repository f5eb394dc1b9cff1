"""`benchmarks/`: every file can be read and built, and those of a paper's rows have its published settings."""

import functools
import itertools
import re
from pathlib import Path

import attrs
import pytest
import torch

import hebm
from hebm.config.experiment import Experiment
from hebm.config.sweep_file import Sweep
from hebm.interfaces import ImageSpec
from hebm.report.against import held_against
from hebm.report.measured_rows import read_rows
from hebm.sweeps.planning import plan
from hebm_plugins.priors.labels import couple
from hebm_plugins.vdvae.presets import PRESETS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SWEEPS = sorted((BENCHMARKS / "sweeps").glob("*.toml"))
FILES = sorted(set(BENCHMARKS.rglob("*.toml")) - set(SWEEPS))
LARGE_VARIANTS = sorted(BENCHMARKS.glob("multi-stage/celeba-hq-256-nvae-*.toml"))
SIDES = {
    hebm.Digits: (1, 8),
    hebm.MNIST: (1, 28),
    hebm.OmniglotIWAE: (1, 28),
    hebm.CIFAR10: (3, 32),
    hebm.SVHN: (3, 32),
}

# file: (figure, backbone's file, images, batch, decay per epoch, T, K, step size, net, channels, recalibrated)
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

# file: (figure, backbone's file, samples, recalibrated)
NVAE_CIFAR, NVAE_HQ = ("nvae/cifar10", 50_000, True), ("nvae/celeba-hq-256", 30_000, False)
VAEBM_CHURCH, VAEBM_CIFAR = ("nvae/vaebm-lsun-church-64", 50_000, True), ("nvae/vaebm-cifar10", 50_000, True)
TWO_PHASE = {
    "multi-stage/cifar10-nvae": ("FID 7.80", *NVAE_CIFAR),
    "multi-stage/cifar10-nvae-progressive": ("FID 7.62", *NVAE_CIFAR),
    "multi-stage/celeba-hq-256-nvae": ("FID 7.84", *NVAE_HQ),
    "multi-stage/celeba-hq-256-nvae-progressive": ("FID 7.71", *NVAE_HQ),
    "multi-stage/celeba-hq-256-nvae-k5": ("FID 11.15", *NVAE_HQ),
    "multi-stage/celeba-hq-256-nvae-k15": ("FID 7.11", *NVAE_HQ),
    "multi-stage/celeba-hq-256-nvae-m4": ("FID 7.05", *NVAE_HQ),
    "multi-stage/celeba-hq-256-nvae-3x5k": ("FID 9.48", *NVAE_HQ),
    "multi-stage/celeba-hq-256-nvae-1x15k": ("FID 15.15", *NVAE_HQ),
    "multi-stage/lsun-church-64-nvae": ("FID 6.65", *VAEBM_CHURCH),
    "multi-stage/lsun-church-64-nvae-progressive": ("FID 6.12", *VAEBM_CHURCH),
    "multi-stage/cifar10-nvae-gaussian": ("FID 14.04", *VAEBM_CIFAR),
    "multi-stage/cifar10-nvae-gaussian-ncp": ("FID 24.08", *VAEBM_CIFAR),
    "joint/cifar10-nvae": ("FID 11.34", *NVAE_CIFAR),
    "joint/celeba-hq-256-nvae": ("FID 9.89", *NVAE_HQ),
    "joint/lsun-church-64-nvae": ("FID 8.38", *VAEBM_CHURCH),
}
ROWS = [name for name in TWO_PHASE if name.startswith("multi-stage/") and not name.endswith("-ncp")]

# file: (figure, training images)
TOGETHER = {
    "multi-stage/svhn-two-layer": ("FID 20.42", 73_257),
    "multi-stage/celeba-64-two-layer": ("FID 29.12", 40_000),
    "multi-stage/cifar10-two-layer": ("FID 61.12", 50_000),
    "multi-stage/svhn-adaptive-ce": ("FID 26.19", 73_257),
    "multi-stage/celeba-64-adaptive-ce": ("FID 35.38", 40_000),
    "multi-stage/cifar10-adaptive-ce": ("FID 65.01", 50_000),
    "multi-stage/svhn-lebm": ("FID 29.44", 73_257),
    "multi-stage/celeba-64-lebm": ("FID 37.87", 40_000),
    "multi-stage/cifar10-lebm": ("FID 70.15", 50_000),
}

# ablation: (the row it is of, the keys in which it differs)
ABLATIONS = {
    "cifar10-nvae-progressive": ("cifar10-nvae", {"prior.drawing.mode": "progressive"}),
    "celeba-hq-256-nvae-progressive": ("celeba-hq-256-nvae", {"prior.drawing.mode": "progressive"}),
    "lsun-church-64-nvae-progressive": ("lsun-church-64-nvae", {"prior.drawing.mode": "progressive"}),
    "celeba-hq-256-nvae-k5": ("celeba-hq-256-nvae", {"prior.sampler.steps": 5}),
    "celeba-hq-256-nvae-k15": ("celeba-hq-256-nvae", {"prior.sampler.steps": 15}),
    "celeba-hq-256-nvae-m4": ("celeba-hq-256-nvae", {"prior.stages": 4}),
    "celeba-hq-256-nvae-3x5k": ("celeba-hq-256-nvae", {"train.prior.steps": 5000}),
    "celeba-hq-256-nvae-1x15k": ("celeba-hq-256-nvae-3x5k", {"prior.stages": 1, "train.prior.steps": 15_000}),
}

LABELLED = [("cifar10-conditional", {0: 0, 1: 0, 2: 0}), ("celeba-64-attributes", {0: 0, 5: 1, 15: 2})]


def diffusion(name):
    return Experiment.load(BENCHMARKS / "diffusion" / f"{name}.toml")


def file_of(name):
    return BENCHMARKS / f"{name}.toml"


def images_of(data):
    """What a backbone knows of a data set that need not be here."""
    channels, side = SIDES.get(type(data)) or (data.channels or 3, getattr(data, "size", None) or 32)
    return ImageSpec(channels, side, side, binary=data.binarize != "off", attributes=tuple(data.attributes))


def header(path):
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)


def marked_files():
    """All files; those that differ from another in a few keys of a large prior are slow."""
    return [pytest.param(path, marks=pytest.mark.slow if path in LARGE_VARIANTS else ()) for path in FILES]


@functools.cache
def backbone_of(recipe, images):
    """Built once for all files that share it: the deep ones take seconds even without data."""
    return recipe.build(images)


@pytest.fixture
def shapes_alone(monkeypatch):
    """Tensors without data, and without the seconds that drawing initial weights takes on them."""
    for name in ("kaiming_uniform_", "uniform_", "normal_", "zeros_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    monkeypatch.setattr(torch.nn.functional, "normalize", lambda tensor, *_, **__: tensor)
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.parametrize("path", marked_files(), ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_every_file_is_read_and_its_prior_fits_its_backbone(path):
    experiment = Experiment.load(path)
    backbone = backbone_of(experiment.backbone, images_of(experiment.data))
    prior = experiment.prior.build(backbone)
    phases = experiment.train.phases(backbone, prior)
    assert sum(phase.steps for phase in phases) > 0


@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.filterwarnings("error::hebm.errors.ConfigWarning")
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_variant_of_a_sweep_is_read_takes_the_shared_backbone_and_fits_it(path):
    runs = plan(Sweep.load(path))
    for run in runs:
        if run.seed == 0:
            backbone = backbone_of(run.experiment.backbone, images_of(run.experiment.data))
            run.experiment.train.phases(backbone, run.experiment.prior.build(backbone))
    backbones = {(run.seed, type(run.experiment.backbone)) for run in runs}
    assert [run.needs for run in runs].count(None) == len(backbones)


@pytest.mark.parametrize("folder", sorted((BENCHMARKS / "sweeps").glob("*.measurements")), ids=lambda path: path.name)
def test_committed_measurements_are_rows_of_their_sweep_and_can_be_held_against_themselves(folder):
    seeds = {}
    for run in plan(sweep := Sweep.load(folder.with_suffix(".toml"))):
        seeds.setdefault(f"{sweep.name}-{run.variant}", []).append(run.seed)
    rows = read_rows(folder)
    assert [row.name for row in rows if not set(row.seeds) <= set(seeds.get(row.name, ()))] == []
    assert (held_against(rows, rows).outside, held_against(rows, rows).not_comparable) == ((), ())
    assert not re.search(r"\"/\w", "".join(path.read_text() for path in folder.glob("*.json")))


@pytest.mark.parametrize("variant", ["joint", "score", "image-contrast", "feature-contrast"])
def test_the_sweep_on_the_small_nvae_has_the_settings_of_the_files(variant):
    runs = {run.variant: run for run in plan(Sweep.load(BENCHMARKS / "sweeps" / "nvae-tiny-mnist.toml"))}
    ours, theirs = runs[variant].experiment, Experiment.load(BENCHMARKS / "nvae" / f"nvae-tiny-mnist-{variant}.toml")
    assert (ours.prior, ours.train.prior, ours.backbone) == (theirs.prior, theirs.train.prior, theirs.backbone)
    assert attrs.evolve(ours.evaluate, extractors=theirs.evaluate.extractors) == theirs.evaluate
    assert ours.train.posterior_draws == theirs.train.posterior_draws
    assert attrs.evolve(ours.data, limit=theirs.data.limit) == theirs.data


@pytest.mark.parametrize(("variant", "pool"), [("image-contrast", 48_000), ("feature-contrast", 24_000)])
def test_the_sweep_on_the_hvae_has_the_energies_and_samplers_of_the_file(variant, pool):
    runs = {run.variant: run for run in plan(Sweep.load(BENCHMARKS / "sweeps" / "hvae-mnist.toml"))}
    changes = {"prior.type": variant, "prior.contrast.pool": pool}
    theirs = Experiment.load(BENCHMARKS / "hvae-mnist-image-contrast.toml", changes)
    assert runs[variant].experiment.prior == theirs.prior


def test_no_two_files_write_to_the_same_run_folder():
    names = [Experiment.load(path).name for path in FILES]
    assert len(names) == len(set(names))


def test_every_file_says_first_what_it_is():
    assert [path.name for path in (*FILES, *SWEEPS) if len(header(path)) < 40] == []


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
    experiment, origin = diffusion(name), Experiment.load(BENCHMARKS / f"{row[1] if row else 'hvae-cifar'}.toml")
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


@pytest.mark.parametrize("folder", ["multi-stage", "joint"])
def test_every_file_of_the_multi_stage_papers_rows_is_in_a_table(folder):
    named = {name.removeprefix(f"{folder}/") for name in (*TWO_PHASE, *TOGETHER) if name.startswith(f"{folder}/")}
    assert {path.stem for path in (BENCHMARKS / folder).glob("*.toml")} == named


@pytest.mark.parametrize(("name", "figure"), [(name, row[0]) for name, row in (TWO_PHASE | TOGETHER).items()])
def test_such_a_file_starts_with_the_figure_it_aims_at_and_says_where_that_is_from(name, figure):
    first = header(file_of(name))
    assert re.match(rf"Aims at {re.escape(figure)}\b", first)
    assert ("the multi-stage EBM paper" if name.startswith("multi-stage/") else "2306.06323") in first
    assert re.search(r"\bTables? \d|IS 8\.99", first)


@pytest.mark.parametrize("name", TWO_PHASE)
def test_its_frozen_nvae_is_that_of_the_run_it_is_taken_from(name):
    _, file, samples, recalibrated = TWO_PHASE[name]
    experiment, origin = Experiment.load(file_of(name)), Experiment.load(file_of(file))
    assert experiment.train.backbone_from == f"runs/{origin.name}"
    assert f"benchmarks/{file}.toml" in header(file_of(name))
    backbone = experiment.backbone
    if recalibrated:
        assert (backbone.recalibration.passes, backbone.recalibration.rows) == (500, 25)
        backbone = attrs.evolve(backbone, recalibration=origin.backbone.recalibration)
    assert backbone == origin.backbone
    assert images_of(experiment.data) == images_of(origin.data)
    assert (experiment.evaluate.samples, experiment.evaluate.decode) == (samples, "sample")


@pytest.mark.parametrize("name", ["multi-stage/cifar10-nvae", "multi-stage/celeba-hq-256-nvae"])
def test_the_multi_stage_prior_has_the_papers_stages_steps_and_nets(name):
    prior = Experiment.load(file_of(name)).prior
    assert (prior.stages, prior.drawing.mode, prior.contrast.loss, prior.contrast.negatives) == (
        3,
        "joint",
        "joint",
        "chain",
    )
    assert prior.sampler == hebm.ULA(steps=10, step_size=0.05)
    assert prior.energy == hebm.ConvResidual(channels=128, width=256, blocks=8, dense_blocks=8)
    assert prior.energy.zero_init


@pytest.mark.parametrize("name", ROWS)
def test_all_rows_of_the_multi_stage_prior_on_nvae_train_alike(name):
    experiment, row = Experiment.load(file_of(name)), Experiment.load(file_of("multi-stage/cifar10-nvae"))
    assert experiment.data.batch_size == row.data.batch_size == 32
    assert attrs.evolve(experiment.train.prior, steps=row.train.prior.steps) == row.train.prior
    changed = {"stages": row.prior.stages, "drawing": row.prior.drawing, "sampler": row.prior.sampler}
    assert attrs.evolve(experiment.prior, **changed) == row.prior
    training = row.train.prior
    assert (training.optimizer, training.learning_rate, training.betas) == ("adam", 1e-4, (0.9, 0.999))
    assert (training.weight_decay, training.schedule) == (3e-5, "constant")
    assert (training.clip, training.ema, training.warmup) == (0.0, 0.0, 0)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_of_the_multi_stage_prior_differs_from_its_row_in_what_it_says(name):
    row, changes = ABLATIONS[name]
    ablation, path = Experiment.load(file_of(f"multi-stage/{name}")), file_of(f"multi-stage/{row}")
    overrides = [f"{key}={value}" for key, value in changes.items()]
    assert Experiment.load(path, [*overrides, f"name={ablation.name}"]) == ablation
    assert ablation.prior != Experiment.load(path).prior or ablation.train != Experiment.load(path).train
    assert f"{row}.toml" in header(file_of(f"multi-stage/{name}"))
    assert all(key in header(file_of(f"multi-stage/{name}")) for key in changes)


def test_one_stage_and_three_have_the_same_budget():
    budgets = [Experiment.load(file_of(f"multi-stage/celeba-hq-256-nvae-{name}")) for name in ("3x5k", "1x15k")]
    assert {run.prior.stages * run.train.prior.steps for run in budgets} == {15_000}


def test_the_noise_contrastive_row_stands_on_the_backbone_of_the_row_it_is_compared_with():
    ncp, row = (Experiment.load(file_of(f"multi-stage/cifar10-nvae-gaussian{end}")) for end in ("-ncp", ""))
    assert (ncp.backbone, ncp.train.backbone_from) == (row.backbone, row.train.backbone_from)
    assert ncp.backbone.likelihood == "gaussian"
    assert (ncp.prior.sampling, ncp.prior.proposals, ncp.prior.energy.coordinate) == ("sir", 5000, "z-given-above")
    assert row.prior.stages == 2


@pytest.mark.parametrize("name", [name for name in TWO_PHASE if name.startswith("joint/")])
def test_the_joint_prior_on_nvae_has_the_published_settings(name):
    experiment = Experiment.load(file_of(name))
    prior, training = experiment.prior, experiment.train.prior
    assert (prior.sampler, prior.target) == (hebm.ULA(steps=10, step_size=1e-5), "official")
    assert prior.energy == hebm.Conv(channels=64, width=200, zero_init=False)
    assert (experiment.data.batch_size, training.steps) == (4 if "hq" in name else 50, 6500)
    assert (training.optimizer, training.learning_rate, training.betas) == ("adam", 2e-5, (0.99, 0.999))
    assert (training.weight_decay, training.schedule) == (3e-5, "constant")
    assert (training.clip, training.ema) == (0.0, 0.0)


@pytest.mark.parametrize("name", TOGETHER)
def test_joint_learning_takes_201_epochs_over_all_stages(name):
    _, images = TOGETHER[name]
    experiment = Experiment.load(file_of(name))
    stages = getattr(experiment.prior, "stages", 1)
    assert experiment.train.steps * stages == 201 * (images // experiment.data.batch_size)
    assert experiment.data.limit == (40_000 if "celeba" in name else None)
    assert (experiment.train.posterior_sampler.h, experiment.backbone.pixel_std) == (pytest.approx(0.01), 0.3)
    assert experiment.evaluate.samples == 50_000


@pytest.mark.parametrize("data", ["svhn", "celeba-64", "cifar10"])
def test_joint_learning_of_the_multi_stage_prior_has_the_papers_nets_and_gradient(data):
    experiment = Experiment.load(file_of(f"multi-stage/{data}-two-layer"))
    prior, scheme, widths = experiment.prior, experiment.train, (512, 256, 128) + (64,) * (data == "celeba-64")
    assert experiment.backbone == hebm.TwoLayerMultiStage(widths=widths)
    assert (prior.stages, prior.contrast.negatives, prior.contrast.infer_under, scheme.beta_grad) == (
        3,
        "chain",
        "previous",
        "posterior",
    )
    assert (prior.sampler.steps, prior.sampler.h) == (10, pytest.approx(0.16))
    assert prior.energy == hebm.MLP(width=200, depth=4, activation="leaky-relu")
    assert scheme.posterior_sampler.steps == 40
    assert scheme.backbone.learning_rate == scheme.prior.learning_rate == 1e-4


@pytest.mark.parametrize("kind", ["lebm", "adaptive-ce"])
@pytest.mark.parametrize("data", ["svhn", "celeba-64", "cifar10"])
def test_flat_rows_have_one_layer_and_the_latent_space_ebms_settings(data, kind):
    experiment = Experiment.load(file_of(f"multi-stage/{data}-{kind}"))
    prior, scheme = experiment.prior, experiment.train
    assert (experiment.backbone.z_dims, experiment.backbone.sigma_offset) == ((100,), 0.0)
    assert prior.energy == hebm.MLPConcat(width=200, depth=2, activation="leaky-relu", zero_init=kind != "lebm")
    assert (prior.sampler.steps, prior.sampler.h, scheme.posterior_sampler.steps) == (60, pytest.approx(0.16), 20)
    assert (scheme.backbone.learning_rate, scheme.prior.learning_rate) == (1e-4, 2e-5)
    assert scheme.backbone.betas == scheme.prior.betas == (0.5, 0.999)
    if kind == "lebm":
        epoch = scheme.steps // 201
        for passed in (0, 1, 100):
            assert scheme.prior.rate(passed * epoch, scheme.steps) == pytest.approx(2e-5 * 0.998**passed)
    else:
        assert (prior.stages, prior.contrast.negatives) == (3, "posterior")


@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.parametrize("data", ["svhn", "celeba-64", "cifar10"])
def test_the_generators_of_joint_learning_start_at_4x4_and_end_at_the_images_size(data):
    experiment = Experiment.load(file_of(f"multi-stage/{data}-two-layer"))
    images = images_of(experiment.data)
    backbone = experiment.backbone.build(images)
    assert backbone.generator[1].kernel_size == (4, 4)
    assert tuple(backbone.generator(torch.empty(2, 100)).shape) == (2, *images.shape)


# file: (parameters, of the encoder, layers, images an epoch, batch, epochs, warm-up epochs, rate, last rate, clip)
DVP = {
    "mnist": (648_579, 123_712, 8, 55_000, 250, 300, 2, 0.01, 1e-5, 5.0),
    "omniglot": (1_298_563, 212_560, 8, 23_345, 250, 500, 2, 0.01, 1e-4, 2.0),
    "cifar10": (19_478_162, 3_054_592, 28, 45_000, 128, 3000, 5, 3e-3, 1e-4, 150.0),
}
LADDERS = {"mnist": 600_673, "omniglot": 1_058_425}
"""Parameters of the published plain ladder of the same sizes."""


def dvp(name, **backbone):
    experiment = Experiment.load(BENCHMARKS / "dvp" / f"{name}.toml")
    return attrs.evolve(experiment, backbone=attrs.evolve(experiment.backbone, **backbone))


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("name", DVP)
def test_dvp_has_the_published_number_of_parameters(name):
    experiment, images = dvp(name), images_of(dvp(name).data)
    backbone = experiment.backbone.build(images)
    total, encoder, layers, *_ = DVP[name]
    assert parameters(backbone, experiment.prior.build(backbone)) == total
    assert parameters(backbone.encoder) == encoder
    assert len(backbone.layout.shapes) == layers


@pytest.mark.parametrize("name", LADDERS)
def test_the_plain_ladder_has_the_published_number_of_parameters(name):
    experiment = dvp(name, pseudo_input="none")
    assert parameters(experiment.backbone.build(images_of(experiment.data))) == LADDERS[name]


@pytest.mark.parametrize("name", DVP)
def test_dvp_trains_as_published(name):
    *_, images, batch, epochs, warmup, rate, last, clip = DVP[name]
    experiment = dvp(name)
    training = experiment.train.backbone
    assert (experiment.seed, experiment.data.batch_size, training.steps) == (123, batch, epochs * (-(-images // batch)))
    assert training.warmup == warmup * (-(-images // batch))
    assert (training.optimizer, training.weight_decay, training.ema) == ("adamax", 1e-6, 0.999)
    assert (training.clip, experiment.train.unit) == (clip, "bits/dim")
    assert training.rate(training.warmup, training.steps) == pytest.approx(rate, rel=1e-2)
    assert training.rate(training.steps, training.steps) == pytest.approx(last, rel=1e-2)


@pytest.mark.parametrize("name", DVP)
def test_the_context_starts_with_the_variance_that_its_diffusion_ends_with(name):
    experiment = dvp(name)
    assert experiment.backbone.context_log_var == experiment.prior.gamma_min


def test_the_composition_stands_on_the_backbone_and_the_root_of_the_run_it_is_taken_from():
    alone, on_top = dvp("mnist-small"), dvp("mnist-small-multi-stage")
    assert on_top.train.backbone_from == f"runs/{alone.name}"
    assert (on_top.backbone, on_top.prior.root) == (alone.backbone, alone.prior)


@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("cifar10", "cifar10"),
        ("imagenet-32", "imagenet32"),
        ("imagenet-64", "imagenet64"),
        ("ffhq-256", "ffhq256"),
        ("ffhq-1024", "ffhq1024"),
    ],
)
def test_the_files_of_vdvae_have_the_published_settings(file, preset):
    experiment, published = Experiment.load(file_of(f"vdvae/{file}")), PRESETS[preset]
    phase = experiment.train.backbone
    assert experiment.backbone == hebm.VDVAE(**published.backbone)
    assert experiment.data.batch_size == published.batch_size
    assert not experiment.data.flip
    assert experiment.train.unit == "nats/dim"
    found = (phase.learning_rate, phase.ema, phase.clip, phase.skip_above)
    assert found == (published.learning_rate, published.ema, published.clip, published.skip)
    assert (phase.optimizer, phase.betas, phase.weight_decay) == ("adamw", (0.9, 0.9), 0.01)
    assert (phase.warmup, phase.warmup_from_zero, phase.ema_warmup, phase.schedule) == (100, True, False, "constant")
    assert getattr(experiment.data, "size", 32) == published.side


def test_the_backbones_of_the_sweep_on_vdvae_are_those_of_their_files():
    runs = {run.variant: run for run in plan(Sweep.load(BENCHMARKS / "sweeps" / "vdvae-tiny-mnist.toml"))}
    for variant, file in (("nvae-tiny", "nvae/nvae-tiny-mnist"), ("hvae", "hvae-mnist")):
        ours, theirs = runs[variant].experiment, Experiment.load(file_of(file))
        assert ours.backbone == theirs.backbone
        assert ours.data == theirs.data
        assert attrs.evolve(ours.train.backbone, steps=theirs.train.backbone.steps) == theirs.train.backbone
