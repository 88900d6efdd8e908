"""All styles by name."""

from training.data.style import Style
from training.data.styles_popular import POPULAR
from training.data.styles_traditional import TRADITIONAL

STYLES: dict[str, Style] = {style.name: style for style in (*POPULAR, *TRADITIONAL)}
