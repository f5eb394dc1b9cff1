import base64

import pytest

from hebm.report.curves import thinned, training_curves


def records(**plots):
    return [
        {"phase": "prior", "step": i, "total_step": 100 + i, **{key: values[i] for key, values in plots.items()}}
        for i in range(len(next(iter(plots.values()))))
    ]


def svg(panel):
    return base64.b64decode(panel.source.partition(",")[2]).decode()


def test_no_records_thin_to_no_records():
    assert thinned([], []) == ([], [])


def test_each_phase_has_its_own_curves_in_the_order_of_training():
    log = [
        {"phase": "b", "step": 1, "total_step": 1, "loss": 1.0},
        {"phase": "a", "step": 1, "total_step": 2, "loss": 2.0},
    ]
    assert [phase.name for phase in training_curves(log)] == ["b", "a"]


def test_the_loss_comes_first_and_figures_of_one_family_share_a_panel():
    log = records(f_positive=[1.0, 2.0], f_negative=[0.0, 1.0], grad_norm_prior=[1.0, 3.0], loss=[2.0, 1.0])
    (phase,) = training_curves(log)
    assert [panel.title for panel in phase.panels] == ["loss", "f", "grad norm prior"]
    assert all(panel.source.startswith("data:image/svg+xml;base64,") for panel in phase.panels)


def test_a_validation_loss_is_drawn_with_the_loss():
    (phase,) = training_curves(records(loss=[2.0, 1.0], validation_loss=[2.0, 1.5], validation_auroc=[0.5, 0.6]))
    assert [panel.title for panel in phase.panels] == ["loss", "validation auroc"]


@pytest.mark.parametrize("layers", [3, 20])
def test_a_figure_of_each_layer_has_a_panel_over_time_and_one_of_its_end(layers):
    of_layers = {f"kl_layer_{i}": [1.0 + i, 2.0 * i] for i in range(layers)}
    (phase,) = training_curves(records(kl=[5.0, 6.0], kl_coefficient=[0.1, 1.0], **of_layers))
    assert [panel.title for panel in phase.panels] == ["kl", "kl layers", "kl layers at the end"]
    over_time = svg(phase.panels[1])
    assert ("<image" in over_time) == (layers > 8)


def test_one_changing_layer_is_one_curve():
    (phase,) = training_curves(records(bce_layer_0=[1.0, 2.0]))
    assert [panel.title for panel in phase.panels] == ["bce layers"]


def test_what_never_changed_is_said_and_not_drawn():
    (phase,) = training_curves(records(loss=[2.0, 1.0], skipped=[0, 0], note=["a", "b"], flag=[True, True]))
    assert phase.constant == {"skipped": 0.0}
    assert [panel.title for panel in phase.panels] == ["loss"]


def test_a_figure_that_was_never_finite_is_said():
    (phase,) = training_curves(records(loss=[2.0, 1.0], f_positive=[None, None]))
    assert phase.constant == {"f_positive": None}


def test_long_logs_are_thinned_to_means_and_a_divergence_is_not_averaged_away():
    values = [float(i) for i in range(1000)]
    values[500] = None
    steps, means = thinned(range(1, 1001), values)
    assert len(steps) == len(means) == 334
    assert steps[-1] == 1000
    assert means[0] == 1.0
    assert means[500 // 3] is None
    assert sum(mean is None for mean in means) == 1


def test_short_logs_are_drawn_as_they_are():
    assert thinned([5, 10], [1.0, None]) == ([5, 10], [1.0, None])


def test_an_empty_log_has_no_phases():
    assert training_curves([]) == []
