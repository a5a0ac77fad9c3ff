"""The report: one self-contained HTML file and one Markdown file.

Enters: a results object and, for the plot over history lengths, the ranks. Leaves: `report.html` and `report.md`.
What must hold: every number comes from the results (or the ranks, or the paper's tables); the page asks the network
for nothing; every text is escaped, so item texts with markup stay text; the same input gives the same bytes.
"""

import re
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import pyarrow as pa
from markupsafe import Markup

from zeroshot import claims, figures, id_tables, published, results

TEMPLATES = Path(__file__).parent / "templates"
FOOTNOTE_SIGNS = dict(zip(published.FOOTNOTES, ("*", "†", "‡", "§"), strict=True))
USERS_WORDS = {"all": "all judged users", "new_target": "users with a new target only"}


def write_report(
    found: dict[str, Any], ranks: pl.DataFrame | pa.Table | None, out_folder: str | Path
) -> tuple[Path, Path]:
    """Writes report.html and report.md into `out_folder`, which is made if need be; returns their paths.

    Args:
        found: a results object of version 1.
        ranks: the table of ranks.parquet; only its optional column `history_length` is needed here.
        out_folder: where the two files go.

    Raises:
        ValueError: the results are not of version 1 or lack a part.
    """
    results.validate(found)
    frame = pl.DataFrame(pl.from_arrow(ranks)) if isinstance(ranks, pa.Table) else ranks
    folder = Path(out_folder)
    folder.mkdir(parents=True, exist_ok=True)
    html, markdown = folder / "report.html", folder / "report.md"
    html.write_text(render_html(found, frame), encoding="utf-8")
    markdown.write_text(render_markdown(found), encoding="utf-8")
    return html, markdown


def render_html(found: dict[str, Any], ranks: pl.DataFrame | None) -> str:
    """The page as one string."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"metric": metric_text, "signed": signed_text, "share": share_text}
    sections = [task_section(found, ranks, name) for name in found["tasks"]]
    return environment.get_template("report.html.j2").render(
        claims=claims.claims(found),
        headline=claims.headline(found),
        sections=sections,
        sentences=[claims.sentence(claim) for claim in claims.claims(found)],
        signs=FOOTNOTE_SIGNS,
        training=training_figures(found["training"]),
        ids=id_tables.sections(found["ids"]),
        paper_shares=id_tables.PAPER_SHARES,
        users=found["users"],
        provenance=found["provenance"],
        users_words=USERS_WORDS,
        protocol_words=claims.PROTOCOL_WORDS,
        metrics=results.METRICS,
    )


def task_section(found: dict[str, Any], ranks: pl.DataFrame | None, name: str) -> dict[str, Any]:
    """Tables and plots of one task."""
    rows = [row for row in found["rows"] if row["task"] == name]
    models = [row["recommender"] for row in rows if row["kind"] == "model"]
    tables, plots = [], []
    for users in results.USERS:
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            chosen = [row for row in rows if (row["protocol"], row["users"]) == (protocol, users)]
            if not chosen or (users != "all" and same_users(rows, chosen[0])):
                continue
            # The paper ranks every item for every user: its rows stand beside no other table.
            paper = paper_rows(7, name) if (protocol, users) == ("all", "all") else []
            tables.append({"protocol": protocol, "users": users, "rows": chosen, "paper": paper})
            figure = figures.bars(figures.figure_name("bars", name, protocol, users), chosen)
            plots.append({"title": caption(protocol, users), "svg": Markup(figure)})
    if ranks is not None:
        for (protocol,), part in ranks.filter(pl.col("task") == name).group_by(["protocol"], maintain_order=True):
            svg = figures.by_history_length(figures.figure_name("length", name, str(protocol)), part, models)
            if svg is not None:
                plots.append({"title": f"by history length, {caption(str(protocol), 'all')}", "svg": Markup(svg)})
    supervised = paper_rows(4, name)
    shown = [row for table in tables for row in table["paper"]] + supervised
    return {
        "name": name,
        "counts": found["tasks"][name],
        "tables": tables,
        "plots": plots,
        "supervised": supervised,
        "footnotes": used_footnotes(shown),
    }


def same_users(rows: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    """Whether the row's group of users is everybody: then its table would only repeat the first one."""
    everybody = [other for other in rows if other["users"] == "all" and other["protocol"] == row["protocol"]]
    return any(other["num_users"] == row["num_users"] for other in everybody)


def paper_rows(table: int, dataset: str) -> list[dict[str, Any]]:
    """The paper's rows about a data set: model, and per metric the cell; empty when the paper does not have it."""
    rows: dict[str, dict[str, published.Cell]] = {}
    for cell in published.cells([table]):
        if cell.dataset == dataset:
            rows.setdefault(cell.model, {})[cell.metric] = cell
    return [{"model": model, "cells": cells, "table": table} for model, cells in rows.items()]


def used_footnotes(paper: list[dict[str, Any]]) -> dict[str, str]:
    """Sign -> text of the marks that occur in rows of the paper, in their fixed order."""
    marks = {mark for row in paper for cell in row["cells"].values() for mark in cell.marks}
    return {FOOTNOTE_SIGNS[mark]: text for mark, text in published.FOOTNOTES.items() if mark in marks}


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


def metric_text(value: float) -> str:
    """Four decimals, as the paper prints."""
    return f"{value:.4f}"


def signed_text(value: float) -> str:
    """Four decimals with a sign; a proper minus."""
    return f"{value:+.4f}".replace("-", "−")


def share_text(value: float) -> str:
    """A share as a percentage with two decimals."""
    return f"{100 * value:.2f}%"


def render_markdown(found: dict[str, Any]) -> str:
    """The headline and the tables as Markdown."""
    lines = ["# Zero-shot report", "", *(f"- {plain(sentence)}" for sentence in claims.headline(found)), ""]
    sections = [task_section(found, None, name) for name in found["tasks"]]
    for section in sections:
        counts = section["counts"]
        lines += [f"## {plain(section['name'])}", ""]
        lines += [
            f"{counts['users_judged']:,} of {counts['num_users']:,} users judged, {counts['num_items']:,} items"
            + (f", of which {counts['candidates']:,} are ranked." if "candidates" in counts else "."),
            "",
        ]
        for table in section["tables"]:
            lines += [f"**{caption(table['protocol'], table['users'])}**", ""]
            lines += [
                f"| recommender | {' | '.join(results.METRICS)} | HR@10, 95% interval |",
                "|---|--:|--:|--:|--:|--:|",
            ]
            for row in table["rows"]:
                values = " | ".join(metric_text(row["metrics"][metric]) for metric in results.METRICS)
                interval = " to ".join(metric_text(value) for value in row["intervals"].get("HR@10", ()))
                name = plain(row["recommender"])
                lines.append(f"| {f'**{name}**' if row['kind'] == 'model' else name} | {values} | {interval} |")
            lines += [markdown_paper_row(row) for row in table["paper"]] + [""]
        lines += [
            f"- {plain(claims.sentence(claim))}" for claim in claims.claims(found) if claim.task == section["name"]
        ]
        beside = [row for table in section["tables"] for row in table["paper"]]
        lines += ["", *(f"{plain(sign)} {text}  " for sign, text in used_footnotes(beside).items()), ""]
    provenance = found["provenance"]
    dirty = " (with uncommitted changes)" if provenance["dirty"] else ""
    lines += [
        "",
        f"Made {plain(provenance['created'])}, git {plain(provenance['git'])}{dirty}, seed {provenance['seed']}.",
        "",
    ]
    return "\n".join(lines)


def markdown_paper_row(row: dict[str, Any]) -> str:
    """One row of the paper with its marks."""
    values = [
        metric_text(cell.value) + plain("".join(FOOTNOTE_SIGNS[mark] for mark in cell.marks))
        for cell in row["cells"].values()
    ]
    return f"| *{row['model']}, paper's Table {row['table']}* | {' | '.join(values)} | |"


def plain(text: Any) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", str(text)).replace("\n", " ")
