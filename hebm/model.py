"""A backbone and a prior as one generative model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor, nn

from hebm import layerwise
from hebm.adaptation import Adaptation, Known, has_target
from hebm.arguments import require_at_least, require_counts
from hebm.batch_sizes import chosen_rows
from hebm.config.components import distributions
from hebm.data.decode import Picture
from hebm.data.given import converted_images, given_images
from hebm.data.images import Images, to_unit_range
from hebm.data.labels import Attributes, Label, asked_labels
from hebm.errors import ConfigError
from hebm.evaluation.kinds import RECONSTRUCTION
from hebm.evaluation.likelihood import Elbo, elbo_of
from hebm.evaluation.partition import Annealing, LogZ, log_z_of
from hebm.evaluation.scores import Scorer, Scores
from hebm.interfaces import Backbone, Batch, PriorLearner, Request
from hebm.kept_adaptations import KeptAdaptations
from hebm.labelled import check_labels, require_labelled
from hebm.latents import Latents, Posterior
from hebm.layerwise import Temperature, given_context, require_temperature, scaled
from hebm.model_images import Recipes, each_batch
from hebm.noise import BLOCK, Noise
from hebm.report.grids import grid
from hebm.report.model_table import count, model_html
from hebm.store.model_file import ModelFile, write_model_file
from hebm.trained import CHAINS, WEIGHTS, TrainedModel, count_nonfinite, finite
from hebm.transitions import ROOT

T = TypeVar("T")
Diagnose = Callable[[Mapping[str, Tensor]], None]

PARTS = ("backbone", "prior")


class Model(nn.Module):
    """The generative model p(x) = ∫ p(x|T(u)) p(u) du: draws images, and infers, reconstructs and scores given ones.

    All methods compute in eval mode, without gradients, on the model's device, `batch_size` images at a time, by
    default `default_batch_size`. Methods that take images expect `(N, C, H, W)`, uint8 or floats in [−1, 1], and raise
    `DataError` for others.

    Arguments:
        backbone: gives T and p(x|z).
        prior: gives p(u).
        recipes: the recipes that both were built from. Without them, a model cannot be saved or preprocess images, and
            does not know the names of classes.

    Example:
        >>> import hebm
        >>> backbone = hebm.TwoLayer(z_dims=(4, 8)).build(hebm.ImageSpec(channels=1, height=8, width=8))
        >>> model = hebm.Model(backbone, hebm.Joint().build(backbone))  # untrained; hebm.open_run(RUN).model is trained
        >>> images = model.sample(3, seed=0)
        >>> images.shape, model.reconstruct(images).shape
        (torch.Size([3, 1, 8, 8]), torch.Size([3, 1, 8, 8]))
        >>> model.infer(images).latents.u.shape
        torch.Size([3, 12])
        >>> model.score(images).total.shape, model.elbo(images).value.shape
        (torch.Size([3]), torch.Size([3]))
    """

    def __init__(self, backbone: Backbone, prior: PriorLearner, recipes: Recipes | None = None) -> None:
        super().__init__()
        self.backbone, self.prior, self.recipes = backbone, prior, recipes
        self.kept: KeptAdaptations | None = None
        self._adaptations: Known[str, Adaptation] = Known()
        self._log_z: Known[Annealing, LogZ] = Known()
        self._rows: dict[tuple[Any, ...], int] = {}

    # ------------------------------------------------------------ drawing

    def sample(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        *,
        label: Label = None,
        attributes: Attributes = None,
        after: str | None = None,
        steps: int | None = None,
        start_proposals: int | None = None,
        decode: str = "mean",
        temperature: Temperature = 1.0,
        given: Latents | None = None,
        given_layers: int = 0,
        batch_size: int | None = None,
        diagnose: Diagnose | None = None,
    ) -> Tensor:
        """Return n images `(n, C, H, W)` in [−1, 1].

        Arguments:
            n: number of images.
            seed: sample i is a function of (seed, i) alone, up to rounding that depends on the batch size.
            start: index of the first sample.
            label: the class of all images, by name or number, or one class for each image.
            attributes: a text such as "male,-eyeglasses", where "-" means without; or values `(n, A)`: 1, 0, or −1 for
                either.
            after: the transition of the prior to stop after, such as "stage 1"; "root" draws from the root.
            steps: length of the chains, in place of the prior's setting; 0 returns the points where the chains start.
            start_proposals: P of each chain's start, in place of the prior's setting; 1 starts at a draw of the root.
            decode: "mean" returns E[x|z], "sample" a draw from p(x|z).
            temperature: τ, or one τ for each layer, top first. It scales the drawn u, so that
                z_i = μ_i(z_above) + τ_i σ_i(z_above) u_i.
            given: latents of n samples, or of one for all, whose upper layers and context the samples share, such as
                `model.infer(images).latents`. The other layers are drawn given these; no temperature scales them.
            given_layers: the number of layers to take from `given`, from the top.
            batch_size: images at a time.
            diagnose: called with `Draw.diagnostics` of each batch, such as effective sample sizes.

        Raises:
            NonFiniteError: if a sample is not finite.
            ConfigError: for labels that the prior was not trained with, an unknown transition or a bad number.
        """
        draws = self.sample_batches(
            n,
            seed,
            start,
            label=label,
            attributes=attributes,
            after=after,
            steps=steps,
            start_proposals=start_proposals,
            decode=decode,
            temperature=temperature,
            given=given,
            given_layers=given_layers,
            batch_size=batch_size,
            diagnose=diagnose,
        )
        return torch.cat(list(draws))

    def sample_batches(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        *,
        label: Label = None,
        attributes: Attributes = None,
        after: str | None = None,
        steps: int | None = None,
        start_proposals: int | None = None,
        decode: str = "mean",
        temperature: Temperature = 1.0,
        given: Latents | None = None,
        given_layers: int = 0,
        batch_size: int | None = None,
        diagnose: Diagnose | None = None,
    ) -> Iterator[Tensor]:
        """Return an iterator over the images of `sample`, in batches. The arguments are those of `sample`."""
        require_counts(n=n, batch_size=batch_size, start_proposals=start_proposals)
        require_counts(0, steps=steps)
        require_at_least(0, seed=seed, start=start)
        require_temperature(temperature, len(self.backbone.layout))
        if decode not in ("mean", "sample"):
            raise ConfigError(f'decode: {decode!r} is not allowed; use "mean" or "sample"')
        if label is not None or attributes is not None:
            require_labelled(self.prior)
        labels = asked_labels(None if self.recipes is None else self.recipes.images, n, label, attributes)
        check_labels(self.prior, labels, n)
        fixed, context = layerwise.given_layers(self.backbone.layout, given, given_layers, n), given_context(given, n)
        request = Request(labels, context, steps=steps, after=after, start_proposals=start_proposals, fixed=fixed)
        model = self._trained(seed, batch_size, request, decode)
        model.check_request()
        return self._drawn(model, n, model.noise("prior", start), temperature, diagnose)

    @staticmethod
    def _drawn(
        model: TrainedModel, n: int, noise: Noise, temperature: Temperature, diagnose: Diagnose | None
    ) -> Iterator[Tensor]:
        for few in model.batches(n):
            at = noise.at(noise.start + few.start)
            request = model.request.rows(few)
            draw = model.draw(few.stop - few.start, at, request)
            if diagnose is not None:
                diagnose(draw.diagnostics)
            u = scaled(draw.u, temperature, model.backbone.layout)
            images = model.images(attrs.evolve(draw, u=u).fixed_as(request.fixed), at)
            yield finite(images, cause=_cause(model, at) if count_nonfinite(images) else CHAINS)

    @property
    def default_batch_size(self) -> int:
        """The number of images that methods compute at a time by default, chosen by memory (`hebm.batch_sizes`)."""
        return self._trained(0, None).rows

    @property
    def adaptations(self) -> Mapping[str, Adaptation]:
        """Step size and acceptance of each chain that was adapted so far, by the name of its transition."""
        return dict(self._adaptations.of(self))

    def assume_adapted(self) -> None:
        """Use the step sizes of the configuration in place of adapted ones, until the weights change."""
        found = self._adaptations.of(self)
        for transition in filter(has_target, self.prior.transitions(self.backbone)):
            sampler: Any = transition.sampler
            found[transition.name] = Adaptation(sampler.step_size, sampler.target_acceptance)

    # ------------------------------------------------------------ given images

    def infer(self, images: Tensor, seed: int = 0, batch_size: int | None = None) -> Posterior:
        """Draw the latents of each image as the training scheme infers them: z ~ q(z|x), or by MCMC.

        Arguments:
            images: `(N, C, H, W)`.
            seed: seed of the draws.
            batch_size: images at a time.

        Raises `ConfigError` if the backbone has no inference model and no training scheme is known.
        """
        model = self._trained(seed, batch_size)
        return Posterior.joined([*self._of_images(images, model, model.infer, "infer")])

    def reconstruct(self, images: Tensor, seed: int = 0, batch_size: int | None = None) -> Tensor:
        """Return E[x|z] of one posterior draw of each image, `(N, C, H, W)` in [−1, 1]; arguments as for `infer`."""
        model = self._trained(seed, batch_size)
        found = torch.cat([*self._of_images(images, model, model.reconstructed, RECONSTRUCTION)])
        return finite(found, "reconstructions", WEIGHTS)

    def score(self, images: Tensor | Images, seed: int = 0, draws: int = 1, batch_size: int | None = None) -> Scores:
        """Return the log tilt f of each image's latents; a high score means similar to the training data.

        Arguments:
            images: `(N, C, H, W)`, or a data set with the model's image shape.
            seed: seed of the posterior draws.
            draws: number of posterior draws that a score averages over.
            batch_size: images at a time; scores do not depend on it, up to rounding.

        Raises `ConfigError` for a prior without a tilt, `NonFiniteError` if a score is not finite.
        """
        tilts = torch.cat([*self._tilts(images, seed, draws, batch_size)]).double()
        return Scores.of(tilts, len(self.backbone.layout))

    def score_batches(
        self, images: Tensor | Images, seed: int = 0, start: int = 0, *, draws: int = 1, batch_size: int | None = None
    ) -> Iterator[Scores]:
        """Return an iterator over the scores of `score`, in batches.

        Arguments:
            images: as for `score`.
            seed: seed of the posterior draws.
            start: index of the first image to score; images before it are not read.
            draws: number of posterior draws that a score averages over.
            batch_size: images at a time.

        Raises `ConfigError` immediately for a prior without a tilt, and `NonFiniteError` during iteration for a batch
        with a score that is not finite.
        """
        require_at_least(0, start=start)
        layers = len(self.backbone.layout)
        return (Scores.of(tilts.double(), layers) for tilts in self._tilts(images, seed, draws, batch_size, start))

    def require_tilt(self) -> None:
        """Raise `ConfigError` for a prior without a tilt, since it cannot score."""
        Scorer(self._trained(0, BLOCK)).require_tilt()

    def _tilts(
        self, images: Tensor | Images, seed: int, draws: int, batch_size: int | None, start: int = 0
    ) -> Iterator[Tensor]:
        require_counts(draws=draws)
        model = self._trained(seed, batch_size)
        scorer = Scorer(model, draws)
        scorer.require_tilt()
        return self._of_images(images, model, scorer.tilts, "detect", start)

    def elbo(
        self,
        images: Tensor,
        seed: int = 0,
        draws: int = 1,
        batch_size: int | None = None,
        learned: Annealing | None = None,
    ) -> Elbo:
        """Return the ELBO of each image in nats, under the root or under the learned prior.

        Arguments:
            images: `(N, C, H, W)`.
            seed: seed of the posterior draws.
            draws: number of posterior draws of each image that the bound averages over.
            batch_size: images at a time.
            learned: the settings of `log_z`, such as `hebm.Annealing()`, for the bound under the learned prior, ELBO +
                E_q[f] − log Z. Where log Z is an estimate, this bound is too high on average, since the estimate is too
                low. None computes the bound under the root.

        Raises `ConfigError` if latents are inferred by MCMC, and in the same cases as `log_z`.
        """
        require_counts(draws=draws)
        model, log_z = self._trained(seed, batch_size), None if learned is None else self.log_z(learned, batch_size)
        bound = partial(elbo_of, model, draws=draws, log_z=log_z)
        return Elbo.joined([*self._of_images(images, model, bound, "elbo")])

    def log_z(self, annealing: Annealing | None = None, batch_size: int | None = None) -> LogZ:
        """Estimate log Z of the learned prior by sequential Monte Carlo from the root. The result is cached.

        A prior that is `hebm.interfaces.Normalised` returns its known log Z.

        Arguments:
            annealing: settings; None means `hebm.Annealing()`.
            batch_size: particles at a time.

        Raises `ConfigError` for a root, for a prior with a context, and for one without a density, such as a chain of
        conditionals.
        """
        how, found = annealing or Annealing(), self._log_z.of(self)
        if how not in found:
            found[how] = log_z_of(self._trained(0, batch_size), how)
        return found[how]

    def preprocess(self, images: Picture | str | Path | Sequence[Picture | str | Path]) -> Tensor:
        """Convert PIL images or image files as the run's data set does; return `(N, C, H, W)` in [−1, 1].

        Raises `DataError` for an image that cannot be converted to the model's shape.
        """
        recipes = self._recipes("preprocess images")
        return converted_images(images, recipes.experiment.data.decoder(recipes.images.shape), recipes.images.shape)

    def show(self, images: Tensor, columns: int = 8) -> Picture:
        """Arrange images `(N, C, H, W)` in a grid. A notebook displays it; `.save("grid.png")` writes it to a file."""
        return grid(to_unit_range(given_images(images, None).pixels), columns)

    # ------------------------------------------------------------ files and display

    def save(self, path: str | Path) -> None:
        """Write weights, recipes, image shape and preprocessing to a safetensors file, which `hebm.load` reads.

        An existing file is replaced.

        Raises `ConfigError` for a model that was not built from recipes, and `CheckpointError` if writing fails.
        """
        recipes = self._recipes("be saved")
        weights = {
            f"{name}.{key}": tensor for name in PARTS for key, tensor in getattr(self, name).state_dict().items()
        }
        write_model_file(
            Path(path),
            ModelFile(recipes.experiment.to_toml(), recipes.images, weights, distributions(recipes.experiment)),
        )

    def __repr__(self) -> str:
        layout = self.backbone.layout
        sizes = [f"{name} {type(part).__name__}, {count(part):,} parameters" for name, part in self.named_children()]
        return f"<model: {'; '.join(sizes)}; {len(layout)} latent layers, D = {layout.dim}>"

    def _repr_html_(self) -> str:
        """Show the layers with their shapes and the numbers of parameters in a notebook."""
        return model_html(self.backbone, self.prior)

    # ------------------------------------------------------------ internals

    def _recipes(self, what: str) -> Recipes:
        if self.recipes is None:
            raise ConfigError(
                f"this model cannot {what}: it was put together from modules, without the recipes that say how to "
                "build modules and read images; use the model of a run, or hebm.building.build(experiment, images)"
            )
        return self.recipes

    def _trained(
        self, seed: int, batch_size: int | None, request: Request = Request(), decode: str = "mean"
    ) -> TrainedModel:
        require_counts(batch_size=batch_size)
        require_at_least(0, seed=seed)
        scheme = None if self.recipes is None else self.recipes.experiment.train
        found = self._adaptations.of(self)
        rows = batch_size or BLOCK
        model = TrainedModel(self.backbone, self.prior, scheme, seed, request, rows, decode, found, self.kept)
        return model if batch_size else attrs.evolve(model, rows=self._chosen_rows(model))

    def _chosen_rows(self, model: TrainedModel) -> int:
        """Return the batch size that is chosen by memory. It is measured once for each device, type and transition."""
        key = model.device, model.dtype, model.request.after
        if key not in self._rows:
            self._rows[key] = chosen_rows(model)
        return self._rows[key]

    def _of_images(
        self, images: Any, model: TrainedModel, function: Callable[[Batch, Noise], T], kind: str, first: int = 0
    ) -> Iterator[T]:
        if self.recipes is None:
            return each_batch(images, self.backbone.layout.image, None, model, function, kind, first)
        return each_batch(images, self.recipes.images.shape, self.recipes.experiment.data, model, function, kind, first)


def _cause(model: TrainedModel, noise: Noise) -> str:
    """Return the cause of samples that are not finite: the backbone, if draws of the root are not finite either."""
    starts = model.draw(BLOCK, noise, Request(after=ROOT))
    return WEIGHTS if count_nonfinite(model.images(starts, noise)) else CHAINS
