"""`hebm check`: build everything, take two steps, report what would stop a run."""

from __future__ import annotations

import inspect
import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hebm.cli.options import config_argument, set_option

if TYPE_CHECKING:
    from hebm.interfaces import Backbone, PriorLearner


@click.command()
@config_argument
@set_option
def command(config: Path, overrides: tuple[str, ...]) -> None:
    """Build everything that CONFIG names, take two training steps of every phase, draw 64 samples.

    Writes nothing. Exits with 0 if the run can start.
    """
    from hebm.config.experiment import Experiment

    experiment = Experiment.load(config, overrides)
    from hebm import pipeline

    accelerator = pipeline.make_accelerator(experiment.run)
    assembly = pipeline.assemble(experiment, accelerator.device)
    click.echo(f"{experiment.name}, seed {experiment.seed}, on {accelerator.device}")
    for component in (experiment.data, experiment.backbone, experiment.prior, experiment.train):
        _describe(component)
    _sizes(assembly)
    _try_steps(assembly, accelerator)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    click.echo(f"memory: {peak:.0f} MiB at most so far\nready: start it with  hebm run {config}")


def _describe(recipe: Any, indent: int = 0) -> None:
    """Describe a component and the components in its fields, each with the file that defines it."""
    from hebm.config.recipe import fields_of, group_of
    from hebm.registry import name_of

    cls = type(recipe)
    group = group_of(cls)
    if group:
        place = f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
        kind = group.removeprefix("hebm_").removesuffix("s").replace("energie", "energy")
        click.echo(f"{'  ' * indent}{kind} {name_of(cls)}  {place}")
    for field in fields_of(cls):
        value = getattr(recipe, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if group_of(type(part)):
                _describe(part, indent + 1)


def _sizes(assembly: Any) -> None:
    for split, images in assembly.images.items():
        click.echo(f"{split}: {len(images)} images of {'x'.join(map(str, images.shape))}")
    model = assembly.model
    click.echo(
        f"latents, top first: {', '.join(map(str, model.backbone.layout.shapes))}; D = {model.backbone.layout.dim}"
    )
    for name in ("backbone", "prior"):
        parameters = sum(p.numel() for p in getattr(model, name).parameters())
        click.echo(f"{name}: {parameters:,} parameters")


def _try_steps(assembly: Any, accelerator: Any) -> None:
    """Take two steps of every phase in a temporary folder, then draw samples."""
    import attrs

    from hebm import pipeline
    from hebm.store.run_folder import RunFolder

    lengths = {phase.name: phase.steps for phase in assembly.phases}
    for phase in assembly.phases:
        phase.steps = min(phase.steps, 2)
    settings = attrs.evolve(assembly.experiment.run, log_every=1, sample_every=0)
    short = attrs.evolve(assembly, experiment=attrs.evolve(assembly.experiment, run=settings))
    with tempfile.TemporaryDirectory() as scratch:
        pipeline.train(short, RunFolder(Path(scratch)), "check", accelerator, _Losses(lengths))
    _ = pipeline.make_evaluation(assembly, accelerator)  # its settings may not fit the prior
    assembly.model.sample(64)
    click.echo("64 samples drawn")


class _Losses:
    """Prints the loss of every step.

    Arguments:
        lengths: how many steps a phase will have in a run.
    """

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.lengths = lengths

    def started(self, phase: str, step: int, steps: int) -> None:
        """Say how long the phase will be."""
        click.echo(f"phase {phase}: {self.lengths[phase]} steps in a run")

    def stepped(self, loss: float | None) -> None:
        """Print nothing: `logged` tells of the same step."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Print the loss of the step."""
        click.echo(f"  step {record['step']}: loss {record['loss']:.4g}")

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Print nothing: a check draws no previews."""

    def said(self, message: str) -> None:
        """Print a warning on the terminal's error stream."""
        click.echo(f"note: {message}", err=True)
