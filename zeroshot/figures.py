"""The plots of a report as inline SVG.

Enters: rows of results or ranks. Leaves: SVG text to be put into an HTML page that defines the CSS variables of
COLOURS. What must hold: the same numbers give the same bytes; ids are unique over the page, because each carries the
figure's name; colours follow the page, light or dark; labels are inert text (no math, escaped by matplotlib).
"""

import io
import re
from typing import Any

import matplotlib
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pretrain.metrics import hit_ratio
from zeroshot.stats import bootstrap_interval

# Stand-ins that matplotlib draws with; each becomes a CSS variable in the SVG.
INK, MUTED, RULE, MODEL = "#010203", "#040506", "#070809", "#0a0b0c"
SERIES = ("#0d0e0f", "#101112", "#131415", "#161718", "#191a1b")
COLOURS = {INK: "--ink", MUTED: "--bar", RULE: "--rule", MODEL: "--accent"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
MARKERS = ("s", "^", "D", "v", "P")
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
WIDTH = 4.5
LENGTH_BINS = ((1, 4), (5, 7), (8, 12), (13, 20), (21, None))
MIN_USERS = 20
"""Bins of history length with fewer users are left out: their rates mean nothing."""


def bars(name: str, rows: list[dict[str, Any]]) -> str:
    """HR@10 with 95% intervals of the recommenders of one (task, protocol, users), best on top."""
    ordered = sorted(rows, key=lambda row: row["metrics"]["HR@10"])
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(0.62 + 0.3 * len(ordered))
        for place, row in enumerate(ordered):
            value = row["metrics"]["HR@10"]
            low, high = row["intervals"].get("HR@10", (value, value))
            axes.barh(place, value, height=0.62, color=MODEL if row["kind"] == "model" else MUTED)
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
        axes.set_yticks(range(len(ordered)), [row["recommender"] for row in ordered])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.set_xlabel("HR@10, with 95% interval")
        return inline_svg(figure, name)


def by_history_length(name: str, ranks: pl.DataFrame, models: list[str], seed: int = 0) -> str | None:
    """HR@10 by history length for the ranks of one (task, protocol); None without the column or enough users."""
    if "history_length" not in ranks.columns:
        return None
    bins = [
        (f"{low}+" if high is None else f"{low}-{high}", low, 10**9 if high is None else high)
        for low, high in LENGTH_BINS
    ]
    lines: dict[str, list[tuple[int, float, float, float]]] = {}
    for (recommender,), own in ranks.group_by(["recommender"], maintain_order=True):
        for place, (_, low, high) in enumerate(bins):
            hits = hit_ratio(own.filter(pl.col("history_length").is_between(low, high))["rank"].to_numpy(), 10)
            if len(hits) >= MIN_USERS:
                point = (place, float(hits.mean()), *bootstrap_interval(hits, seed))
                lines.setdefault(str(recommender), []).append(point)
    if not lines:
        return None
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(2.9)
        plain = [recommender for recommender in lines if recommender not in models]
        for recommender, points in lines.items():
            places, values, lows, highs = zip(*points, strict=True)
            number = plain.index(recommender) if recommender in plain else 0
            colour = MODEL if recommender in models else SERIES[number % len(SERIES)]
            marker = "o" if recommender in models else MARKERS[number % len(MARKERS)]
            width = 2.0 if recommender in models else 1.1
            axes.plot(places, values, color=colour, marker=marker, markersize=4, linewidth=width, label=recommender)
            if recommender in models:
                axes.vlines(places, lows, highs, color=colour, linewidth=1.2)
        axes.set_xticks(range(len(bins)), [label for label, _, _ in bins])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("items in the history")
        axes.set_title("HR@10")
        figure.legend(loc="outside lower center", ncols=3)
        return inline_svg(figure, name)


def curve(name: str, points: list[dict[str, Any]], metric: str) -> str:
    """One line over the steps, such as the loss of a phase or the validation NDCG@10."""
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(2.2)
        steps, values = [point["step"] for point in points], [point[metric] for point in points]
        marker = "o" if len(points) < 30 else ""
        axes.plot(steps, values, color=MODEL, linewidth=1.4, marker=marker, markersize=3)
        axes.set_xlabel("step")
        axes.set_title(metric)
        return inline_svg(figure, name)


def length_histogram(name: str, counts: dict[str, int]) -> str:
    """Items by the number of tokens of their ID; keys are the numbers of tokens."""
    pairs = sorted((int(length), count) for length, count in counts.items())
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(2.2)
        axes.bar([length for length, _ in pairs], [count for _, count in pairs], width=0.8, color=MUTED)
        axes.grid(axis="x", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("tokens of the ID")
        axes.set_title("items")
        return inline_svg(figure, name)


def style(name: str) -> Any:
    """The settings to draw figure `name` with; the salt makes matplotlib's generated ids a function of the name."""
    return STYLE | {"svg.hashsalt": name}


def canvas(height: float) -> tuple[Figure, Axes]:
    """A transparent figure of the report's width, height in inches, with one pair of axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def inline_svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element for an HTML page: no XML header, no metadata, own ids, colours from the page."""
    assert re.fullmatch(r"[a-z][a-z0-9-]*", name), f"figure name {name!r} must be usable as the start of an id"
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r"font: (\d[\d.]*px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, variable in COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def figure_name(*parts: str) -> str:
    """A name for a figure's ids: lower-case letters, digits and dashes; other characters become their code."""
    return "-".join(re.sub(r"[^a-z0-9]", lambda match: f"-{ord(match[0])}-", part.lower()).strip("-") for part in parts)
