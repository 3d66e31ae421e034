"""Colours of figures and page: Okabe and Ito's (2008), told apart by the colour-blind, one for each shot group."""

INK = "#1c1e21"
MUTED = "#5d6168"
RULE = "#d5d7da"
GROUP_COLOURS = {"many": "#0072b2", "medium": "#009e73", "few": "#d55e00"}
# also by shape and dash, for print in black and white
GROUP_MARKERS = {"many": "o", "medium": "s", "few": "^"}
GROUP_DASHES = {"many": "-", "medium": "--", "few": ":"}

# what each colour of a figure becomes inside the page, which knows a light and a dark theme
THEME_NAMES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    **{colour: f"--{name}" for name, colour in GROUP_COLOURS.items()},
}
