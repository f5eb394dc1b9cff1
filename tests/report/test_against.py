"""New rows held against committed ones."""

import math

import attrs
import pytest
from scipy import stats

from hebm.errors import ConfigError
from hebm.evaluation.metric import Measurement
from hebm.report.against import held_against, noise
from hebm.report.measured_rows import Figure, Row


def figure(values, errors=None, name="fd", better="lower", **more):
    mean = sum(values) / len(values)
    measurement = Measurement(name, mean, name, kind="prior", better=better, **more)
    return Figure(measurement, tuple(values), tuple(errors or [None] * len(values)))


def row(*figures, name="joint", configuration=None, fingerprint="f00d", **conditions):
    seeds = tuple(range(len(figures[0].values)))
    conditions = {"n": 2000, "split": "train", **conditions}
    return Row(name, {}, seeds, figures, conditions, fingerprint, {}, (), configuration or {})


def verdicts(new, committed, **options):
    return [number.verdict for number in held_against([new], [committed], **options).numbers]


def test_the_same_measurements_are_within_noise():
    same = row(figure((1.0, 1.1, 1.3)), figure((0.5, 0.6, 0.6), name="gap-closed", better="higher"))
    assert verdicts(same, same) == ["within noise"] * 2


def test_a_difference_far_greater_than_the_spread_of_seeds_is_outside_and_has_a_direction():
    better = row(figure((1.0, 1.1, 0.9)), figure((0.5, 0.51, 0.52), name="gap-closed", better="higher"))
    before = row(figure((3.0, 3.1, 2.9)), figure((0.9, 0.91, 0.92), name="gap-closed", better="higher"))
    assert verdicts(better, before) == ["outside noise: better", "outside noise: worse"]


def test_noise_over_several_seeds_is_welchs():
    a, b = (1.0, 1.2, 1.5), (2.0, 2.4, 2.1, 2.8)
    found = noise(figure(a), figure(b))
    t = (sum(a) / 3 - sum(b) / 4) / found.deviation
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert (t, found.freedom) == (pytest.approx(expected.statistic), pytest.approx(expected.df))


def test_seeds_that_agree_by_chance_do_not_hide_the_standard_errors():
    found = noise(figure((1.0, 1.0), (0.3, 0.3)), figure((1.1, 1.1), (0.3, 0.3)))
    assert found.deviation == pytest.approx(0.3)


def test_a_single_seed_has_the_spread_of_the_other_side_and_of_two_only_standard_errors_count():
    one_side = noise(figure((1.0,), (0.01,)), figure((1.0, 1.1, 1.2)))
    assert one_side.deviation == pytest.approx(math.hypot(0.1, 0.1 / 3**0.5))
    assert one_side.freedom == 2
    assert noise(figure((1.0,), (0.3,)), figure((2.0,), (0.4,))) == (pytest.approx(0.5), math.inf)
    assert noise(figure((1.0,)), figure((2.0,), (0.4,))) is None
    alone = held_against([row(figure((1.0,)))], [row(figure((2.0,)))])
    assert [number.verdict for number in alone.numbers] == ["noise unknown"]
    assert alone.notes == ("one seed on both sides, so standard errors alone are the noise: joint",)


def test_among_many_numbers_one_that_is_rare_alone_is_no_mark():
    """A p-value of 0.03 is outside noise alone, and not as one of ten."""
    e, z = 0.1, float(stats.norm.isf(0.015))
    odd = figure((1.0 + z * math.hypot(e, e),), (e,), name="odd")
    before = figure((1.0,), (e,), name="odd")
    others = [figure((1.0,), (e,), name=f"m{i}") for i in range(9)]
    assert verdicts(row(odd), row(before)) == ["outside noise: worse"]
    assert set(verdicts(row(odd, *others), row(before, *others))) == {"within noise"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 50000}, "n: 50000 now, 2000 committed"),
        ({"split": "test"}, "split: test now, train committed"),
        ({"fingerprint": "beef"}, 'data fingerprint: "beef" now, "f00d" committed'),
        ({"extractors": {"classifier": {"name": "classifier", "sha256": "1"}}}, "extractor: classifier 1 now, class"),
    ],
)
def test_numbers_that_were_measured_differently_are_not_judged_unless_asked_for(changes, reason):
    of = {"conditions": {"extractor": "classifier"}}
    new, before = row(figure((1.0, 2.0), **of), **changes), row(figure((1.0, 2.0), **of))
    found = held_against([new], [before])
    assert [number.verdict for number in found.numbers] == ["not comparable"]
    assert reason in found.not_comparable[0]
    assert "1 could not be judged" in found.summary
    assert held_against([new], [before], anyway=True).not_comparable == ()


def test_rows_numbers_and_settings_of_one_side_alone_are_noted():
    new = row(figure((1.0, 2.0)), configuration={"prior": {"steps": 20}})
    more = figure((1.0, 2.0), name="kid")
    before = row(figure((1.0, 2.0)), more, configuration={"prior": {"steps": 10}}, chain_steps=5)
    found = held_against([new, attrs.evolve(new, name="new")], [before, attrs.evolve(before, name="old")])
    assert found.notes == (
        "new is not among the committed rows",
        "old is committed, and not among these rows",
        "joint: kid ↓, learned prior is not measured now",
        "joint: another setting: prior.steps: 10 → 20",
        "joint: another setting: chain_steps: 5 → None",
    )


def test_rows_without_a_common_name_are_an_error_with_both_lists():
    with pytest.raises(ConfigError, match="none of the rows a is among those committed: b;"):
        held_against([row(figure((1.0,)), name="a")], [row(figure((1.0,)), name="b")])


def test_the_table_shows_both_numbers_and_the_interval_of_their_difference():
    new, before = row(figure((1.0,), (0.3,))), row(figure((1.5,), (0.4,)))
    lines = str(held_against([new], [before])).splitlines()
    assert lines[2].split("  ")[-1].strip() == "within noise"
    assert "-0.500 [-1.48, +0.480]" in lines[2]
    assert lines[3].startswith("0 of 1 numbers are outside noise")
