"""The kit can fail for metrics: each broken one is caught by the check that names its promise, and by no other."""

import math

import pytest
import torch
from catching import catching, expect_caught, names_of

from hebm.config.recipes import recipe
from hebm.errors import ConfigError
from hebm.evaluation.kinds import DATA, PRIOR
from hebm.evaluation.metric import Measurement, MetricRecipe


def spread(evaluation, kind=PRIOR, **fields):
    """The mean over images of the standard deviation of their pixels."""
    each = evaluation.pixels(kind or PRIOR).double().flatten(1).std(1)
    defaults = {"name": "spread", "title": "spread", "error": float(each.std()) / len(each) ** 0.5, "kind": kind}
    return Measurement(value=float(each.mean()), **{**defaults, **fields})


def sound(evaluation):
    distance = Measurement("fd", evaluation.distance(PRIOR), "FD", kind=PRIOR, conditions=of_extractor(evaluation))
    return [spread(evaluation), spread(evaluation, DATA), distance]


def of_extractor(evaluation):
    return {"extractor": evaluation.extractor().name}


def not_measurements(evaluation):
    return [1.0]


def a_dict(evaluation):
    return {"spread": 1.0}


def nothing(evaluation):
    return []


def twice(evaluation):
    return [spread(evaluation), spread(evaluation)]


def silent(evaluation):
    return [spread(evaluation), Measurement("other", math.nan, "other")]


def infinite(evaluation):
    return [Measurement("other", math.inf, "other", note="it diverges")]


def negative_error(evaluation):
    return [spread(evaluation, error=-1.0)]


def error_alone(evaluation):
    return [Measurement("other", None, "other", error=1.0, note="not known")]


def untitled(evaluation):
    return [spread(evaluation, title="")]


def of_two_titles(evaluation):
    return [spread(evaluation), spread(evaluation, DATA, title="other")]


def named_as_a_column(evaluation):
    return [spread(evaluation, name="seconds", kind=None)]


def without_its_extractor(evaluation):
    return [Measurement("fd", evaluation.distance(PRIOR), "FD", kind=PRIOR)]


def of_another_extractor(evaluation):
    return [spread(evaluation, conditions={"extractor": "other"})]


CALLS = []


def counts(evaluation):
    CALLS.append(1)
    return [Measurement("calls", 1e-6 * len(CALLS), "calls")]


def draws_globally(evaluation):
    torch.rand(1)
    return [spread(evaluation)]


def sets_modes(evaluation):
    evaluation.model.backbone.eval()
    return [spread(evaluation)]


def moves_weights(evaluation):
    with torch.no_grad():
        next(evaluation.model.prior.parameters(), torch.zeros(1)).add_(1)
    return [spread(evaluation)]


def leaves_gradients(evaluation):
    parameters = [p for p in evaluation.model.backbone.parameters() if p.requires_grad]
    sum(p.sum() for p in parameters).backward()
    return [spread(evaluation)]


def needs_inference(evaluation):
    found = evaluation.per_image("test", lambda batch, noise: evaluation.model.backbone.infer(batch, noise).kl.sum(1))
    return [Measurement("kl", found.mean(), "KL")]


def needs_labels(evaluation):
    return [Measurement("labels", evaluation.splits["test"].labels.double().mean(), "mean label")]


def means_of_batches(evaluation):
    n, rows = evaluation.count(PRIOR), evaluation.rows
    parts = [evaluation.decoded(PRIOR, start, rows) for start in range(0, n, rows)]
    return [
        Measurement("range", sum(float(part.max() - part.min()) for part in parts), "range of the pixels", kind=PRIOR)
    ]


def of_the_first_batch(evaluation):
    pixels = evaluation.decoded(PRIOR, 0, evaluation.rows)
    return [Measurement("mean", float(pixels.double().mean()), "mean of the pixels", kind=PRIOR)]


def of_the_first_data(evaluation):
    pixels = evaluation.pixels(DATA)[: evaluation.rows]
    return [Measurement("mean", float(pixels.double().mean()), "mean of the pixels", kind=DATA)]


def infinite_condition(evaluation):
    return [spread(evaluation, conditions={"limit": math.inf})]


def collides(evaluation):
    return [spread(evaluation, kind=None), spread(evaluation, name="spread.error", title="error", kind=None)]


def refuses_late(evaluation):
    if evaluation.splits["train"].labels is None:
        raise ConfigError("labels are needed")
    return [spread(evaluation)]


def needs_many(evaluation):
    if evaluation.settings.samples < 16:
        raise ConfigError("16 samples are needed")
    return [spread(evaluation)]


def counts_nan_as_zero(evaluation):
    mean = evaluation.decoded(PRIOR, 0, evaluation.settings.samples).double().nan_to_num().mean()
    return [Measurement("mean", float(mean), "mean of the pixels", kind=PRIOR)]


def fails_on_nan(evaluation):
    if evaluation.decoded(PRIOR, 0, 8).isnan().any():
        raise ValueError("math domain error")
    return [spread(evaluation)]


def returns_no_notes(self, plan):
    return None


def notes_of_two_lines(self, plan):
    return ["one\ntwo"]


def fails_in_its_check(self, plan):
    return [plan.images["train"].labels.double().mean() and "labelled"]


def changes_the_model(self, plan):
    with torch.no_grad():
        next(plan.prior.parameters(), torch.zeros(1)).add_(1)
    return []


def looks_for_the_prior(evaluation):
    found = {kind: spread(evaluation, kind) for kind in evaluation.kinds}
    return [found[PRIOR]]


def of(compute, label=None, check=None):
    """A metric that computes, and checks, by functions."""

    @recipe
    class Made(MetricRecipe):
        """A metric that calls a function."""

        def compute(self, evaluation):
            return compute(evaluation)

    if check is not None:
        Made.check = check
    return Made()


EVERYTHING = names_of(of(sound)) - {"measurements"}
EARLY = ("notes", "few-images", "given-images")
UNACCEPTABLE = ("results-file", "shown")

CONTROLS = [
    (not_measurements, "measurements", EVERYTHING - {"repeats", "no-global-rng", "leaves-the-model", *EARLY}),
    (a_dict, "measurements", EVERYTHING - {"repeats", "no-global-rng", "leaves-the-model", *EARLY}),
    (nothing, "measurements", ()),
    (twice, "measurements", ()),
    (silent, "values", ("lacking",)),
    (infinite, "values", ()),
    (negative_error, "values", ()),
    (error_alone, "values", ()),
    (untitled, "titles", ()),
    (of_two_titles, "titles", UNACCEPTABLE),
    (named_as_a_column, "titles", ()),
    (without_its_extractor, "conditions", ()),
    (of_another_extractor, "conditions", ()),
    (counts, "repeats", ("undefined",)),
    (means_of_batches, "batch-size", ()),
    (of_the_first_batch, "batch-size", ()),
    (of_the_first_data, "batch-size", ()),
    (draws_globally, "no-global-rng", ()),
    (sets_modes, "leaves-the-model", ()),
    (moves_weights, "leaves-the-model", ()),
    (leaves_gradients, "leaves-the-model", ()),
    (needs_inference, "lacking", ()),
    (looks_for_the_prior, "given-images", ()),
    (needs_labels, "lacking", ()),
    (refuses_late, "lacking", ()),
    (needs_many, "few-images", ()),
    (counts_nan_as_zero, "undefined", ()),
    (fails_on_nan, "undefined", ()),
    (infinite_condition, "results-file", ()),
    (collides, "shown", ()),
]


@pytest.mark.parametrize(("compute", "name", "also"), CONTROLS, ids=[f"{c[0].__name__}-{c[1]}" for c in CONTROLS])
def test_the_named_check_alone_catches(compute, name, also):
    expect_caught(of(compute), name, also)


CHECKS = [(returns_no_notes, ()), (notes_of_two_lines, ()), (changes_the_model, ("leaves-the-model",))]


@pytest.mark.parametrize(("check", "also"), CHECKS, ids=[check.__name__ for check, _ in CHECKS])
def test_a_check_that_returns_anything_but_notes_or_changes_the_model_is_caught(check, also):
    expect_caught(of(sound, check=check), "notes", also)


def test_a_check_that_fails_is_caught():
    expect_caught(of(sound, check=fails_in_its_check), "notes", ("lacking",))


def test_the_sound_original_passes():
    assert catching(of(sound)) == set()


def test_every_check_has_a_control():
    assert names_of(of(sound)) == {name for _, name, _ in CONTROLS} | {"notes"}
