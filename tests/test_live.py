"""Controls with a twin: the kernel computes, the page shows the twin, errors are not swallowed."""

from __future__ import annotations

import ipywidgets
import pytest

from teachkit import figures
from teachkit.figures.live import WIDGET

TWIN = figures.Figure("<p>what the page shows</p>", "A twin.")


def test_output_holds_the_widget_and_the_twin():
    shown = figures.live(lambda n: None, TWIN, n=(1, 9))
    bundle = shown._repr_mimebundle_()
    assert bundle["text/html"] == TWIN.html
    assert bundle["text/plain"] == TWIN.alt
    assert bundle[WIDGET]["model_id"] == shown.controls.model_id


def test_draw_is_called_with_the_values_and_again_at_each_change():
    calls = []
    shown = figures.live(
        lambda **values: calls.append(values), TWIN, temperature=(0.0, 2.0, 0.5), prompt="def"
    )
    start = {"temperature": 1.0, "prompt": "def"}
    assert calls[0] == start
    slider, field = shown.controls.kwargs_widgets
    slider.value = 0.5
    assert calls[-1] == {**start, "temperature": 0.5}
    field.value = "import"
    assert calls[-1] == {"temperature": 0.5, "prompt": "import"}


def test_takes_a_widget_as_it_is():
    slider = ipywidgets.IntSlider(3, 1, 9)
    assert figures.live(lambda n: None, TWIN, n=slider).controls.kwargs_widgets == [slider]


def test_twin_can_stand_under_the_controls():
    shown = figures.live(lambda n: None, TWIN, with_twin=True, n=(1, 9))
    controls, below = shown.controls.children
    assert [widget._kwarg for widget in controls.kwargs_widgets] == ["n"]
    assert below.outputs[0]["data"]["text/html"] == TWIN.html
    assert shown._repr_mimebundle_()[WIDGET]["model_id"] == shown.controls.model_id


def test_computes_when_the_hand_has_come_to_rest():
    shown = figures.live(lambda n, text: None, TWIN, n=(1, 9), text="a")
    assert [widget.continuous_update for widget in shown.controls.kwargs_widgets] == [False, False]


def test_an_error_at_the_start_is_raised():
    """Left to the widget, it would stand in its output and no build would fail."""
    with pytest.raises(ZeroDivisionError):
        figures.live(lambda n: 1 // n, TWIN, n=ipywidgets.IntSlider(0))
