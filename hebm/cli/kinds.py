"""The kinds of components that `hebm init --plugin` writes."""

from __future__ import annotations

import attrs

from hebm.defaults import EXAMPLE


@attrs.frozen
class Kind:
    """A kind of component, and its skeleton.

    Arguments:
        group: entry-point group of the component.
        title: the name of the kind in texts.
        does: a description of the component in the skeleton.
        table: the table that names it in an experiment's file, with brackets; "" for a kind that files do not name.
        call: the command that uses it, for a kind that files do not name; `NAME` stands for its name.
    """

    group: str
    title: str
    does: str
    table: str = ""
    call: str = ""

    @property
    def use(self) -> str:
        """The text or command that uses the component `NAME`."""
        return self.call or f'{self.table} type = "NAME"'


KINDS = {
    "backbone": Kind("hebm_backbones", "backbone", "a VAE with one layer of latents", "[backbone]"),
    "vae": Kind("hebm_backbones", "backbone", "a VAE of your own that is already trained", "[backbone]"),
    "energy": Kind("hebm_energies", "energy", "a net with one hidden layer over all latents", "[prior.energy]"),
    "prior": Kind("hebm_priors", "prior", "a Gaussian over u with a learned mean and scale", "[prior]"),
    "sampler": Kind("hebm_samplers", "sampler", "the unadjusted Langevin algorithm", "[prior.sampler]"),
    "dataset": Kind("hebm_datasets", "data set", "images of horizontal and vertical bars", "[data]"),
    "extractor": Kind("hebm_extractors", "extractor", "pixels averaged over a grid", "[[evaluate.extractors]]"),
    "metric": Kind("hebm_metrics", "metric", "the contrast of images", "[[evaluate.metrics]]"),
    "scheme": Kind("hebm_schemes", "scheme", "backbone and prior trained at the same time", "[train]"),
    "analysis": Kind("hebm_analyses", "analysis", "mean images", call="hebm analyse RUN NAME"),
    "command": Kind("hebm_commands", "command", "a command that counts parameters", call="hebm NAME FILE"),
    "format": Kind("hebm_formats", "checkpoint format", "files of two-layer VAEs", call="hebm import NAME FILE -o RUN"),
}
"""The kinds by their name in `--kind`."""


def example(kind: Kind, name: str) -> str:
    """Return the file of an experiment that uses the component `name`."""
    types = {**EXAMPLE, **({kind.table: name} if kind.table else {})}
    tables = [f'{table}\ntype = "{component}"\n' for table, component in types.items()]
    return "\n".join([f'name = "{name}"\n', *tables])


def tries(kind: Kind, name: str) -> list[str]:
    """Return commands that try out the component `name`."""
    shown = [f"hebm plugins {name}"]
    if kind.table:
        return [*shown, "hebm check example.toml", "hebm run example.toml"]
    if kind.group == "hebm_analyses":
        return [*shown, "hebm run example.toml", f"hebm analyse runs/{name} {name}"]
    return [*shown, kind.call.replace("NAME", name).replace("FILE", "example.toml")]
