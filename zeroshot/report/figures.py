"""The plots of a report as inline SVG.

Enters: rows of results, bins of calibration. Leaves: SVG text to be put into an HTML page that defines the CSS
variables of COLOURS. What must hold: the same numbers give the same bytes; ids are unique over the page, because each
carries the figure's name; colours follow the page, light or dark; labels are inert text (no math, escaped by
matplotlib).
"""

import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from zeroshot.judge.calibration import CalibrationBin

# Stand-ins that matplotlib draws with; each becomes a CSS variable in the SVG.
INK, MUTED, RULE, MODEL = "#010203", "#040506", "#070809", "#0a0b0c"
SERIES = ("#0d0e0f", "#101112", "#131415", "#161718", "#191a1b")
COLOURS = {INK: "--ink", MUTED: "--bar", RULE: "--rule", MODEL: "--accent"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
MARKERS = ("s", "^", "D", "v", "P")
SERIES_OF_RUNS = (MODEL, *SERIES)
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
KIND_COLOURS = {"model": MODEL, "blend": SERIES[0], "supervised": SERIES[1], "control": SERIES[2]}
"""Of bars; baselines are grey."""


def bars(name: str, rows: list[dict[str, Any]]) -> str:
    """HR@10 with 95% intervals of the recommenders of one (task, protocol, users), best on top."""
    ordered = sorted(rows, key=lambda row: row["metrics"]["HR@10"])
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(0.62 + 0.3 * len(ordered))
        for place, row in enumerate(ordered):
            value = row["metrics"]["HR@10"]
            low, high = row["intervals"].get("HR@10", (value, value))
            axes.barh(place, value, height=0.62, color=KIND_COLOURS.get(row["kind"], MUTED))
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2)
        axes.set_yticks(range(len(ordered)), [row["recommender"] for row in ordered])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.set_xlabel("HR@10, with 95% interval")
        return inline_svg(figure, name)


def by_bin(name: str, rows: list[dict[str, Any]], words: str, bins: list[str]) -> str:
    """HR@10 of recommenders over the bins of one segment of one (task, protocol); models thick and with intervals."""
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(2.9)
        names = list(dict.fromkeys(row["recommender"] for row in rows))
        others = [other for other in names if not is_model(rows, other)]
        for recommender in names:
            points = [row for row in rows if row["recommender"] == recommender]
            places = [bins.index(row["bin"]) for row in points]
            values = [row["metrics"]["HR@10"] for row in points]
            model = recommender not in others
            number = 0 if model else others.index(recommender)
            colour, marker = (MODEL, "o") if model else (SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)])
            width = 2.0 if model else 1.1
            axes.plot(places, values, color=colour, marker=marker, markersize=4, linewidth=width, label=recommender)
            if model:
                lows, highs = zip(*(row["intervals"]["HR@10"] for row in points), strict=True)
                axes.vlines(places, lows, highs, color=colour, linewidth=1.2)
        axes.set_xticks(range(len(bins)), bins)
        axes.set_xlim(-0.4, len(bins) - 0.6)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(words)
        axes.set_title("HR@10")
        figure.legend(loc="outside lower center", ncols=3)
        return inline_svg(figure, name)


def is_model(rows: list[dict[str, Any]], recommender: str) -> bool:
    """Whether the rows call a recommender a model."""
    return any(row["recommender"] == recommender and row["kind"] == "model" for row in rows)


def calibration_plot(name: str, bins: list[CalibrationBin]) -> str:
    """Share of users whose first item is right over its probability, log axes; on the line a model is as right as sure.

    A bin without any right item stands as an open mark at the bottom, its interval above it.
    """
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(2.9)
        probabilities = [one.probability for one in bins]
        shares = [one.right for one in bins if one.right > 0]
        left, right = min(probabilities) / 1.6, min(1.0, max(probabilities) * 1.6)
        bottom, top = min([*shares, left]) / 1.6, max(min(1.0, 1.3 * max(one.high for one in bins)), right)
        axes.plot([left, right], [left, right], color=MUTED, linewidth=1.2, linestyle="--")
        for one in bins:
            axes.plot([one.probability] * 2, [max(one.low, bottom), one.high], color=MODEL, linewidth=1.2)
            face = MODEL if one.right > 0 else "none"
            axes.plot(
                [one.probability], [max(one.right, bottom)], color=MODEL, marker="o", markersize=5,
                markerfacecolor=face, clip_on=False,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_xlabel("probability of the first item")
        axes.set_title("share of users for whom it is right")
        return inline_svg(figure, name)


def sweep(name: str, rows: list[dict[str, Any]]) -> str:
    """HR@10 with 95% intervals over the values of one setting, such as the beam; one line per protocol."""
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    values = list(dict.fromkeys(row["value"] for row in rows))
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(2.2)
        for number, protocol in enumerate(protocols):
            mine = [row for row in rows if row["protocol"] == protocol]
            colour, marker = (MODEL, "o") if number == 0 else (SERIES[number % len(SERIES)], MARKERS[number])
            places = [values.index(row["value"]) + 0.06 * number for row in mine]
            heights = [row["metrics"]["HR@10"] for row in mine]
            axes.plot(places, heights, color=colour, marker=marker, markersize=4, linewidth=1.4, label=protocol)
            lows, highs = zip(*(row["intervals"]["HR@10"] for row in mine), strict=True)
            axes.vlines(places, lows, highs, color=colour, linewidth=1.2)
        axes.set_xticks(range(len(values)), [str(value) for value in values])
        axes.set_xlim(-0.4, len(values) - 0.5)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(rows[0]["setting"])
        axes.set_title("HR@10")
        if len(protocols) > 1:
            figure.legend(loc="outside lower center", ncols=len(protocols))
        return inline_svg(figure, name)


def runs(name: str, points: list[dict[str, Any]]) -> str:
    """HR@10 with 95% intervals of several runs, grouped by task."""
    tasks = list(dict.fromkeys(point["task"] for point in points))
    names = list(dict.fromkeys(point["run"] for point in points))
    with matplotlib.rc_context(style(name)):
        figure, axes = canvas(1.0 + len(tasks) * (0.2 + 0.18 * len(names)))
        for number, run in enumerate(names):
            mine = [point for point in points if point["run"] == run]
            places = [-tasks.index(point["task"]) - (number + 0.5) / len(names) * 0.7 + 0.35 for point in mine]
            colour = SERIES_OF_RUNS[number % len(SERIES_OF_RUNS)]
            marker = ("o", *MARKERS)[number % (len(MARKERS) + 1)]
            values = [point["metrics"]["HR@10"] for point in mine]
            axes.plot(values, places, color=colour, marker=marker, markersize=5, linestyle="", label=run)
            lows, highs = zip(*(point["intervals"]["HR@10"] for point in mine), strict=True)
            axes.hlines(places, lows, highs, color=colour, linewidth=1.2)
        axes.set_yticks([-place for place in range(len(tasks))], tasks)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.set_xlabel("HR@10, with 95% interval")
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
