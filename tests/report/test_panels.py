import base64

import matplotlib

from hebm.report.panels import band, curves, histogram
from hebm.report.plot_data import Band


def svg(panel):
    return base64.b64decode(panel.source.partition("base64,")[2]).decode()


def test_a_plot_is_the_same_every_time_and_changes_no_global_setting():
    before = dict(matplotlib.rcParams)
    panels = [curves("loss", {"loss": ([1, 2, 3], [3.0, None, 1.0])}) for _ in range(2)]
    assert panels[0] == panels[1]
    assert dict(matplotlib.rcParams) == before


def test_a_plot_refers_to_nothing_outside():
    text = svg(curves("loss", {"a": ([1, 2], [1.0, 2.0]), "b": ([1, 2], [2.0, 1.0])}))
    assert 'xlink:href="http' not in text
    assert "url(http" not in text


def test_series_without_any_finite_value_are_no_failure():
    nothing = [None, None]
    assert svg(curves("f", {"f": ([1, 2], nothing)}))
    assert svg(band("f", Band([0, 1], nothing, nothing, nothing)))
    assert svg(histogram("f", {"prior": nothing, "gaussian": []}, "f"))


def test_equal_values_make_a_histogram():
    assert svg(histogram("f", {"prior": [1.0, 1.0], "posterior": [1.0]}, "f"))
