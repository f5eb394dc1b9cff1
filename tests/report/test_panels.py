import base64
import warnings

import matplotlib
import pytest
from matplotlib import cbook
from matplotlib.figure import Figure

from hebm.report.panels import band, bars, curves, heat, histogram, literal
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


NAMES = ["$x$", r"\$\frac$", "$$", "_hidden", "a\x1b\u202e\udcff", "$\\frac{"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_drawn_as_it_is_and_spelled_out(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a character that the font lacks
        assert svg(curves(name, {name: ([1, 2], [1.0, 2.0]), "b": ([1, 2], [2.0, 1.0])}, xlabel=name))
        assert svg(heat(name, {name: ([1, 2], [1.0, 2.0]), f"{name}b": ([1, 2], [2.0, 1.0])}))
        assert svg(bars(name, {name: 1.0}, name))
        assert svg(histogram(name, {name: [1.0, 2.0]}, name))


def test_a_name_is_neither_mathematics_nor_hidden_from_legends():
    shown = [literal(name) for name in NAMES]
    assert not any(cbook.is_math_text(text) for text in shown)
    axes = Figure().subplots()
    for text in shown:
        axes.plot([0], [0], label=text)
    assert axes.get_legend_handles_labels()[1] == shown
    assert literal("a\nb c_d") == "a\nb c_d"


def test_series_without_any_finite_value_are_no_failure():
    nothing = [None, None]
    assert svg(curves("f", {"f": ([1, 2], nothing)}))
    assert svg(band("f", Band([0, 1], nothing, nothing, nothing)))
    assert svg(histogram("f", {"prior": nothing, "gaussian": []}, "f"))


def test_equal_values_make_a_histogram():
    assert svg(histogram("f", {"prior": [1.0, 1.0], "posterior": [1.0]}, "f"))


VALUES = [1.5e-9, -2.5e-4, 1234.5678, -1.25e9, 1e30]


@pytest.mark.parametrize("value", VALUES)
def test_title_and_tick_labels_of_a_curve_fit_into_the_picture(monkeypatch, value):
    drawn = []
    monkeypatch.setattr("hebm.report.panels._svg", lambda figure: drawn.append(figure) or "")
    several = [value * (1 + i / 7) for i in range(24)]
    x = [10_000_000 * i // 23 for i in range(24)]
    curves("gradient norm", {"a": (x, several), "b": (x, [10 * abs(y) ** 2 for y in several])})
    curves("close to each other", {"a": (x, [value + abs(value) * 1e-6 * i for i in range(24)])})
    band("log p(u) of a chain", Band(tuple(x), tuple(several), tuple(several), tuple(several)))
    histogram("f", {"prior": several}, "f(u)")
    for figure in drawn:
        inside, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(inside.x0, inside.y0, width - inside.x1, height - inside.y1) >= 0
