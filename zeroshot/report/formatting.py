"""How numbers and texts are written in a report, for HTML and for Markdown.

Enters: a number or a text from the results. Leaves: text. What must hold: texts of items and users stay text, in the
page, in Markdown, and in a spreadsheet into which a cell is copied.
"""

import re
from typing import Any

SMALL = 1e-4
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def metric_text(value: float) -> str:
    """Four decimals, as the paper prints."""
    return f"{value:.4f}"


def signed_text(value: float) -> str:
    """Four decimals with a sign; a proper minus."""
    return f"{value:+.4f}".replace("-", "−")


def effect_text(value: float | None) -> str:
    """Two decimals with a sign, or a dash."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def share_text(value: float) -> str:
    """A share as a percentage with two decimals."""
    return f"{100 * value:.2f}%"


def p_text(value: float) -> str:
    """A p value with four decimals, `< 0.0001` below that."""
    return f"< {SMALL:.4f}" if value < SMALL else f"{value:.4f}"


def count_text(value: int) -> str:
    """A number with separators of thousands."""
    return f"{value:,}"


def duration_text(seconds: float) -> str:
    """`38 s`, `12 min` or `3 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def inert(text: Any) -> str:
    """Text that a spreadsheet takes for text: an apostrophe before what it would take for a formula."""
    shown = str(text)
    return f"'{shown}" if shown.lstrip(" ").startswith(FORMULA) else shown


def plain(text: Any) -> str:
    """Text that Markdown shows as it is, and that is no formula."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$!])", r"\\\1", inert(text)).replace("\r", " ").replace("\n", " ")
