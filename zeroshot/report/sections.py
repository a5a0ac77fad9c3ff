"""The parts of a report about one task: tables, plots, segments, sweeps, the paper's rows.

Enters: a results object and, for the calibration, the ranks. Leaves: plain values and SVG for a template. What must
hold: every number stands in the results (or the ranks, or the paper's tables); the paper stands beside the protocol it
was measured under and no other; a supervised baseline stands apart from those without training.
"""

from typing import Any

import polars as pl
from markupsafe import Markup

from zeroshot.judge import segments
from zeroshot.judge.calibration import calibration, calibration_error
from zeroshot.judge.rows import KINDS, USERS
from zeroshot.report import claims, figures, published_tables, results

FOOTNOTE_SIGNS = dict(zip(published_tables.FOOTNOTES, ("*", "†", "‡", "§"), strict=True))
USERS_WORDS = {"all": "all judged users", "new_target": "users with a new target only"}
PLOTTED_BASELINES = 4


def task_section(evaluation: dict[str, Any], ranks: pl.DataFrame | None, name: str) -> dict[str, Any]:
    """Tables and plots of one task."""
    protocols = list(dict.fromkeys(row["protocol"] for row in evaluation["rows"] if row["task"] == name))
    tables = task_tables(evaluation, name)
    supervised = paper_rows(4, name)
    return {
        "name": name,
        "counts": evaluation["tasks"][name],
        "tables": tables,
        "plots": task_plots(evaluation, ranks, name, protocols, tables),
        "segments": [table for protocol in protocols for table in segment_tables(evaluation, name, protocol)],
        "sweeps": sweep_tables(evaluation, name),
        "supervised": supervised,
        "footnotes": used_footnotes([row for table in tables for row in table["paper"]] + supervised),
    }


def task_tables(evaluation: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """One table per (users, protocol): the recommenders by kind, and the paper's rows where they belong."""
    rows = [row for row in evaluation["rows"] if row["task"] == name and row["kind"] in KINDS]
    tables: list[dict[str, Any]] = []
    for users in USERS:
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            chosen = [row for row in rows if (row["protocol"], row["users"]) == (protocol, users)]
            if not chosen or (users != "all" and same_users(rows, chosen[0])):
                continue
            # The paper ranks every item for every user: its rows stand beside no other table.
            paper = paper_rows(7, name) if (protocol, users) == ("all", "all") else []
            chosen = sorted(chosen, key=lambda row: KINDS.index(row["kind"]))
            mark = claims.full_lists_mark(evaluation, name, protocol)
            tables.append({"protocol": protocol, "users": users, "rows": chosen, "paper": paper, "mark": mark})
    return tables


def task_plots(
    evaluation: dict[str, Any],
    ranks: pl.DataFrame | None,
    name: str,
    protocols: list[str],
    tables: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Bars of every table, lines over history lengths, calibration of the models."""
    plots: list[dict[str, Any]] = []
    for table in tables:
        figure = figures.figure_name("bars", name, table["protocol"], table["users"])
        title = caption(table["protocol"], table["users"]) + table["mark"]
        plots.append({"title": title, "svg": Markup(figures.bars(figure, table["rows"]))})
    rows = [row for row in evaluation["rows"] if row["task"] == name]
    for protocol in protocols:
        plots += length_plots(evaluation, name, protocol)
        plots += calibration_plots(ranks, rows, name, protocol)
    return plots


def same_users(rows: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    """Whether the row's group of users is everybody: then its table would only repeat the first one."""
    return any(
        (other["users"], other["protocol"], other["recommender"]) == ("all", row["protocol"], row["recommender"])
        and other["num_users"] == row["num_users"]
        for other in rows
    )


def length_plots(evaluation: dict[str, Any], name: str, protocol: str) -> list[dict[str, Any]]:
    """HR@10 by history length: models, the strongest baselines and the ceiling; none without enough users in a bin."""
    standing = [
        row for row in evaluation["rows"] if (row["task"], row["protocol"], row["users"]) == (name, protocol, "all")
    ]
    plain = [row for row in standing if row["kind"] in ("control", "baseline")]
    strongest = sorted(plain, key=lambda row: -row["metrics"]["HR@10"])[:PLOTTED_BASELINES]
    chosen = {row["recommender"] for row in standing if row["kind"] in ("model", "blend", "supervised")}
    chosen |= {row["recommender"] for row in strongest}
    rows = [
        row
        for row in evaluation["segments"]
        if (row["task"], row["protocol"], row["segment"]) == (name, protocol, "history_length")
        and row["recommender"] in chosen
    ]
    if not rows:
        return []
    bins = [label for segment, label, _ in segments.conditions() if segment == "history_length"]
    used = [label for label in bins if any(row["bin"] == label for row in rows)]
    figure = figures.figure_name("length", name, protocol)
    svg = figures.by_bin(figure, rows, segments.NAMES["history_length"], used)
    return [{"title": f"by history length, {caption(protocol, 'all')}", "svg": Markup(svg)}]


def calibration_plots(
    ranks: pl.DataFrame | None, rows: list[dict[str, Any]], name: str, protocol: str
) -> list[dict[str, Any]]:
    """One plot per model with scores."""
    plots: list[dict[str, Any]] = []
    models = dict.fromkeys(row["recommender"] for row in rows if row["kind"] == "model")
    for model in models if ranks is not None else ():
        assert ranks is not None
        own = ranks.filter(task=name, protocol=protocol, recommender=model).sort("user")
        bins = calibration(own)
        if bins:
            svg = figures.calibration_plot(figures.figure_name("calibration", name, protocol, model), bins)
            users = [one.num_users for one in bins]
            words = (
                f"is {model} as right as it is sure? {caption(protocol, 'all')}; mean distance from the dashed line "
            )
            words += f"{calibration_error(bins):.4f}, {len(bins)} bins of {min(users):,} to {max(users):,} users"
            plots.append({"title": words, "svg": Markup(svg)})
    return plots


def segment_tables(evaluation: dict[str, Any], name: str, protocol: str) -> list[dict[str, Any]]:
    """One table per segment: bins as columns with their users, a row of HR@10 and NDCG@10 per recommender."""
    tables: list[dict[str, Any]] = []
    mine = [row for row in evaluation["segments"] if (row["task"], row["protocol"]) == (name, protocol)]
    order = [(segment, label) for segment, label, _ in segments.conditions()]
    for segment in dict.fromkeys(segment for segment, _ in order):
        rows = [row for row in mine if row["segment"] == segment]
        bins = [label for part, label in order if part == segment and any(row["bin"] == label for row in rows)]
        if len(bins) < 2:
            continue  # one bin is everybody: the table would repeat the first one
        by_name: dict[str, dict[str, Any]] = {}
        for row in rows:
            line = by_name.setdefault(row["recommender"], {"kind": row["kind"], "cells": dict.fromkeys(bins)})
            line["cells"][row["bin"]] = row
        lines = sorted(by_name.items(), key=lambda line: KINDS.index(line[1]["kind"]))
        tables.append({"segment": segments.NAMES[segment], "protocol": protocol, "bins": bins, "lines": lines})
    return tables


def sweep_tables(evaluation: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """One table and plot per setting, such as the beam, both protocols in it."""
    mine = [row for row in evaluation["sweeps"] if row["task"] == name]
    tables: list[dict[str, Any]] = []
    for setting in dict.fromkeys(row["setting"] for row in mine):
        rows = [row for row in mine if row["setting"] == setting]
        svg = figures.sweep(figures.figure_name("sweep", name, setting), rows)
        tables.append({"setting": setting, "rows": rows, "svg": Markup(svg)})
    return tables


def paper_rows(table: int, dataset: str) -> list[dict[str, Any]]:
    """The paper's rows about a data set: model, and per metric the cell; empty when the paper does not have it."""
    rows: dict[str, dict[str, published_tables.Cell]] = {}
    for cell in published_tables.cells([table]):
        if cell.dataset == dataset:
            rows.setdefault(cell.model, {})[cell.metric] = cell
    return [{"model": model, "cells": cells, "table": table} for model, cells in rows.items()]


def used_footnotes(paper: list[dict[str, Any]]) -> dict[str, str]:
    """Sign -> text of the marks that occur in rows of the paper, in their fixed order."""
    marks = {mark for row in paper for cell in row["cells"].values() for mark in cell.marks}
    return {FOOTNOTE_SIGNS[mark]: text for mark, text in published_tables.FOOTNOTES.items() if mark in marks}


def audit_section(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The failed checks, all of them with the worst first, and how many have each verdict."""
    checks = sorted(evaluation["audit"], key=lambda check: results.VERDICTS.index(check["verdict"]))
    verdicts = [check["verdict"] for check in checks]
    return {
        "failed": [check for check in checks if check["verdict"] == "failed"],
        "checks": checks,
        "counts": {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
    }


def training_figures(training: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A loss curve per phase and a validation curve per phase, in the order in which the phases appear."""
    plots: list[dict[str, Any]] = []
    for key, metric in (("losses", "loss"), ("validation", "NDCG@10")):
        for number, phase in enumerate(dict.fromkeys(point["phase"] for point in training[key])):
            points = [point for point in training[key] if point["phase"] == phase and point.get(metric) is not None]
            if points:
                svg = figures.curve(f"{key}-{number}", points, metric)
                plots.append(
                    {"title": f"{phase}: {'validation ' if key == 'validation' else ''}{metric}", "svg": Markup(svg)}
                )
    return plots


def caption(protocol: str, users: str) -> str:
    """Words for one table or plot."""
    words = f"{protocol}: {claims.PROTOCOL_WORDS.get(protocol, protocol)}"
    return words if users == "all" else f"{words}; {USERS_WORDS[users]}"
