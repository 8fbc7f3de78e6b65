"""The page's colours and letters: Gradio's parts take those of the report."""

from __future__ import annotations

from typing import Any

import gradio as gr

# Fonts that are there already: nothing is fetched.
_FONT = [
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "DejaVu Sans",
    "sans-serif",
]
_MONO = ["ui-monospace", "DejaVu Sans Mono", "monospace"]
# Gradio's names on the left, names of `light.css` and `dark.css` on the right.
_COLOURS = {
    "background_fill_primary": "--card",
    "background_fill_secondary": "--paper",
    "block_background_fill": "--card",
    "block_border_color": "--line",
    "block_info_text_color": "--soft",
    "block_label_background_fill": "--card",
    "block_label_text_color": "--ink",
    "block_title_text_color": "--ink",
    "body_background_fill": "--paper",
    "body_text_color": "--ink",
    "body_text_color_subdued": "--soft",
    "border_color_accent": "--accent",
    "border_color_primary": "--line",
    "button_cancel_background_fill": "--card",
    "button_primary_background_fill": "--accent",
    "button_primary_background_fill_hover": "--accent",
    "button_primary_border_color": "--accent",
    "button_primary_text_color": "--card",
    "button_primary_text_color_hover": "--card",
    "button_secondary_background_fill": "--card",
    "button_secondary_background_fill_hover": "--accent-soft",
    "button_secondary_border_color": "--soft",
    "button_secondary_text_color": "--ink",
    "button_secondary_text_color_hover": "--ink",
    "color_accent_soft": "--accent-soft",
    "input_background_fill": "--card",
    "input_background_fill_focus": "--card",
    "input_border_color": "--soft",
    "input_border_color_focus": "--accent",
    "input_placeholder_color": "--soft",
    "panel_background_fill": "--card",
}


def theme() -> gr.themes.Base:
    """Gradio's plainest theme in our colours; they change with the page between light and dark."""
    values: dict[str, Any] = {}
    for name, colour in _COLOURS.items():
        values[name] = values[f"{name}_dark"] = f"var({colour})"
    made = gr.themes.Base(font=_FONT, font_mono=_MONO, radius_size="md", text_size="md")
    return made.set(
        **values,
        color_accent="var(--accent)",
        block_border_width="1px",
        button_border_width="1px",
        button_border_width_dark="1px",
        input_border_width="1px",
        input_border_width_dark="1px",
        button_small_text_size="0.92rem",
    )
