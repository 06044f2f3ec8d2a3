"""Controls that make the kernel compute; where there is no kernel, a picture of what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teachkit.figures.html import Figure

WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Live:
    """Something a notebook can display: `controls` where a kernel answers, `twin` everywhere else."""

    controls: Any
    twin: Figure

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        view = self.controls._repr_mimebundle_()
        return {**self.twin._repr_mimebundle_(), WIDGET: view[WIDGET]}


def live(draw: Callable[..., Any], twin: Figure, *, with_twin: bool = False, **controls: Any) -> Live:
    """Controls above what `draw` makes of their values, computed anew at each change.

    draw       called as `draw(**values)`; returns anything that a cell can display
    twin       shown by the book, on paper and in a notebook that nobody has run: no page holds a widget
    with_twin  show the twin under the controls, too: for a figure that says more than one setting does
    controls   by argument of `draw`: an ipywidget, or what `ipywidgets.interact` makes one of: (0, 2, 0.1)
               is a slider, True a tick box, "text" a field, a list a menu
    Raises     whatever `draw` raises for the values that the controls start with
    Why        both in one output: Jupyter prefers the widget, a page without a kernel knows only HTML
    """
    from ipywidgets import Layout, Output, VBox, interactive  # type: ignore[import-untyped]

    box = interactive(draw, **controls)
    for widget in box.kwargs_widgets:
        widget.style.description_width = "initial"
        widget.layout = Layout(width="min(100%, 480px)")
        if hasattr(widget, "continuous_update"):
            widget.continuous_update = False  # compute when the hand has come to rest
    # A widget shows errors in its own output, where no build would see them.
    draw(**{widget._kwarg: widget.value for widget in box.kwargs_widgets})
    if not with_twin:
        return Live(box, twin)
    below = Output()  # and not an HTML widget: that would leave out the figure's script
    below.append_display_data(twin)
    return Live(VBox([box, below]), twin)
