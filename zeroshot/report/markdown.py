"""The report as Markdown for a README.

Enters: a results object. Leaves: one text. What must hold: it says what the page says (failed audit first, the
headline, the tables of every task with the paper beside them); every text from outside is shown as it is and is no
formula.
"""

from typing import Any

from zeroshot.report import claims, results
from zeroshot.report.claims import HEADLINE_METRICS, PAPER_MODELS, headline_rows
from zeroshot.report.formatting import metric_text, p_text, plain, signed_text
from zeroshot.report.sections import FOOTNOTE_SIGNS, audit_section, caption, task_tables, used_footnotes


def render_markdown(found: dict[str, Any]) -> str:
    """The headline and the tables as Markdown."""
    lines = ["# Zero-shot report", ""]
    for check in audit_section(found)["failed"]:
        lines.append(f"> **Audit failed** on {plain(check['task'])}, {plain(check['check'])}: {plain(check['words'])}")
    lines += ["", *(f"- {plain(sentence)}" for sentence in claims.headline(found)), ""]
    for protocol in dict.fromkeys(row["protocol"] for row in found["rows"]):
        lines += headline_table(found, protocol)
    for name in found["tasks"]:
        lines += task_lines(found, name)
    provenance = found["provenance"]
    dirty = " (with uncommitted changes)" if provenance["dirty"] else ""
    lines += [
        "",
        f"Made {plain(provenance['created'])}, git {plain(provenance['git'])}{dirty}, seed {provenance['seed']}, "
        f"configuration {provenance['config_sha256'][:12]}, shards {provenance['manifest_sha256'][:12]}.",
        "",
    ]
    return "\n".join(lines)


def headline_table(found: dict[str, Any], protocol: str) -> list[str]:
    """One row per unseen set and model; nothing where no model was judged."""
    rows = headline_rows(found, protocol)
    if not rows:
        return []
    paper = PAPER_MODELS if protocol == "all" else ()
    heads = [
        "unseen set",
        "model",
        "HR@10 / NDCG@10",
        "95% interval",
        "best without training",
        "difference",
        "p (Holm)",
    ]
    heads += [f"{model}, paper's Table 7" for model in paper] + ["trained on the set itself"]
    lines = [f"**{caption(protocol, 'all')}**", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        best = [row["best"][metric] for metric in HEADLINE_METRICS if row["best"][metric] is not None]
        ceiling = [row["ceiling"][metric] for metric in HEADLINE_METRICS if row["ceiling"][metric] is not None]
        cells = [
            plain(row["task"]) + row["mark"],
            plain(row["model"]),
            " / ".join(f"**{metric_text(row['values'][metric][0])}**" for metric in HEADLINE_METRICS),
            " / ".join(f"{metric_text(low)} to {metric_text(high)}" for _, low, high in row["values"].values()),
            " / ".join(f"{plain(one.baseline)} {metric_text(value)}" for value, one in best),
            " / ".join(signed_text(one.difference) for _, one in best),
            " / ".join(p_text(one.p_holm) for _, one in best),
        ]
        for model in paper:
            cells.append(" / ".join(paper_cell(cell) for cell in row["paper"][model].values()) or "–")
        cells.append(" / ".join(f"{plain(name)} {metric_text(value)}" for name, value in ceiling) or "–")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def task_lines(found: dict[str, Any], task: str) -> list[str]:
    """Heading, tables, sentences and footnotes of one task."""
    counts, tables = found["tasks"][task], task_tables(found, task)
    lines = [f"## {plain(task)}", ""]
    lines += [
        f"{counts['users_judged']:,} of {counts['num_users']:,} users judged, {counts['num_items']:,} items"
        + (f", of which {counts['candidates']:,} are ranked." if "candidates" in counts else "."),
        "",
    ]
    for table in tables:
        lines += [f"**{caption(table['protocol'], table['users'])}{table['mark']}**", ""]
        heads = ["recommender", *results.METRICS, "HR@10, 95% interval", "coverage", "novelty, bits"]
        lines += [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
        for row in table["rows"]:
            values = " | ".join(metric_text(row["metrics"][metric]) for metric in results.METRICS)
            interval = " to ".join(metric_text(value) for value in row["intervals"].get("HR@10", ()))
            name = plain(row["recommender"]) + (" (trained on this set)" if row["kind"] == "supervised" else "")
            coverage = "–" if row["coverage@10"] is None else metric_text(row["coverage@10"])
            novelty = "–" if row["novelty@10"] is None else f"{row['novelty@10']:.2f}"
            name = f"**{name}**" if row["kind"] == "model" else name
            lines.append(f"| {name} | {values} | {interval} | {coverage} | {novelty} |")
        lines += [paper_line(row) for row in table["paper"]] + [""]
    lines += [f"- {plain(claims.sentence(claim))}" for claim in claims.claims(found) if claim.task == task]
    beside = [row for table in tables for row in table["paper"]]
    return [*lines, "", *(f"{plain(sign)} {text}  " for sign, text in used_footnotes(beside).items()), ""]


def paper_line(row: dict[str, Any]) -> str:
    """One row of the paper with its marks; a metric that it does not have is a dash."""
    cells = row["cells"]
    values = [paper_cell(cells[metric]) if metric in cells else "–" for metric in results.METRICS]
    return f"| *{row['model']}, paper's Table {row['table']}* | {' | '.join(values)} | | | |"


def paper_cell(cell: Any) -> str:
    """A printed value with its marks."""
    return metric_text(cell.value) + plain("".join(FOOTNOTE_SIGNS[mark] for mark in cell.marks))
