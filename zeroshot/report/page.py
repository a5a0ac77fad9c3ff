"""The report: one self-contained HTML file and one Markdown file.

Enters: a results object and, for the plots of calibration, the ranks. Leaves: `report.html` and `report.md`. What must
hold: every number comes from the results (or the ranks, or the paper's tables); the page asks the network for nothing;
every text is escaped, so item texts with markup stay text; the same input gives the same bytes; a failed check of the
audit stands above everything else.
"""

from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import pyarrow as pa

from pretrain.runtime.progress import SILENT, Reporter
from shards.files.atomic import write_whole
from zeroshot.report import claims, formatting, id_quality, results
from zeroshot.report.claims import HEADLINE_METRICS, headline_rows
from zeroshot.report.markdown import render_markdown
from zeroshot.report.sections import (
    FOOTNOTE_SIGNS,
    USERS_WORDS,
    audit_section,
    task_section,
    training_figures,
    used_footnotes,
)

TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    found: dict[str, Any],
    ranks: pl.DataFrame | pa.Table | None,
    out_folder: str | Path,
    reporter: Reporter = SILENT,
) -> tuple[Path, Path]:
    """Writes report.html and report.md into `out_folder`, which is made if need be; returns their paths.

    Args:
        found: a results object of this version (`results.VERSION`).
        ranks: the table of ranks.parquet; its column `top_score` feeds the plots of calibration.
        out_folder: where the two files go.
        reporter: hears how many data sets are drawn.

    Raises:
        ValueError: the results are of another version or lack a part.
    """
    results.validate(found)
    frame = pl.DataFrame(pl.from_arrow(ranks)) if isinstance(ranks, pa.Table) else ranks
    folder = Path(out_folder)
    folder.mkdir(parents=True, exist_ok=True)
    html, markdown = folder / "report.html", folder / "report.md"
    write_whole(html, render_html(found, frame, reporter))
    write_whole(markdown, render_markdown(found))
    return html, markdown


def environment() -> jinja2.Environment:
    """The templates with the filters they use; everything is escaped and a missing value is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "metric": formatting.metric_text,
        "signed": formatting.signed_text,
        "share": formatting.share_text,
        "effect": formatting.effect_text,
        "p": formatting.p_text,
        "number": formatting.count_text,
        "duration": formatting.duration_text,
        "inert": formatting.inert,
    }
    return made


def render_html(found: dict[str, Any], ranks: pl.DataFrame | None, reporter: Reporter = SILENT) -> str:
    """The page as one string."""
    sections = []
    for number, name in enumerate(found["tasks"], start=1):
        reporter.progress("report", number - 1, len(found["tasks"]), "data sets", name)
        sections.append(task_section(found, ranks, name) | {"number": number})
    reporter.progress("report", len(sections), len(sections), "data sets")
    protocols = list(dict.fromkeys(row["protocol"] for row in found["rows"]))
    tables = [{"protocol": protocol, "rows": headline_rows(found, protocol)} for protocol in protocols]
    headline_paper = [{"cells": cells} for table in tables for row in table["rows"] for cells in row["paper"].values()]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            audit=audit_section(found),
            headline=claims.headline(found),
            headline_tables=[table for table in tables if table["rows"]],
            headline_metrics=HEADLINE_METRICS,
            headline_footnotes=used_footnotes(headline_paper),
            claims=claims.claims(found),
            sections=sections,
            signs=FOOTNOTE_SIGNS,
            training=training_figures(found["training"]),
            ids=id_quality.sections(found["ids"]),
            paper_shares=id_quality.PAPER_SHARES,
            users=found["users"],
            titles=found["titles"],
            provenance=found["provenance"],
            tasks=found["tasks"],
            users_words=USERS_WORDS,
            protocol_words=claims.PROTOCOL_WORDS,
            metrics=results.METRICS,
        )
    )
