"""A comparison as a page, as Markdown and as lines for a console.

Enters: the object of `zeroshot.compare.comparison`. Leaves: `compare.html`, `compare.md`, lines. What must hold: all
three say the same; "better" is said only where the interval leaves out zero and the corrected p value stays below the
level.
"""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from shards.files.atomic import write_whole
from zeroshot.compare.comparison import save
from zeroshot.judge.rows import COMPARED
from zeroshot.report import claims, figures
from zeroshot.report.formatting import effect_text, metric_text, p_text, plain, signed_text
from zeroshot.report.page import environment
from zeroshot.report.sections import caption


def write_comparison(comparison: dict[str, Any], out_folder: str | Path) -> list[Path]:
    """Writes compare.json, compare.html and compare.md into `out_folder`; returns their paths."""
    folder = Path(out_folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"compare.{ending}" for ending in ("json", "html", "md")]
    save(comparison, paths[0])
    write_whole(paths[1], render_html(comparison))
    write_whole(paths[2], render_markdown(comparison))
    return paths


def verdict(entry: dict[str, Any]) -> str:
    """`above`, `below` or `no clear difference`, by the rule of the report."""
    keys = ("difference", "low", "high", "p_holm", "effect")
    return claims.PairedDifference(entry["other"], *(entry[key] for key in keys)).verdict


def tables(comparison: dict[str, Any], users: str = "all") -> list[dict[str, Any]]:
    """One table per protocol: a line per task with the runs, the pooled recipes and the best baseline as columns."""
    runs = [run["run"] for run in comparison["runs"]]
    made: list[dict[str, Any]] = []
    for protocol in dict.fromkeys(row["protocol"] for row in comparison["rows"]):

        def at(entries: list[dict[str, Any]], protocol: str = protocol) -> list[dict[str, Any]]:
            return [entry for entry in entries if (entry["protocol"], entry["users"]) == (protocol, users)]

        rows, pooled = at(comparison["rows"]), at(comparison["pooled"])
        baselines = {row["task"]: row for row in at(comparison["baselines"])}
        lines = [
            {
                "task": task,
                "mark": claims.full_lists_mark(comparison, task, protocol),
                "runs": {run: one(rows, task=task, run=run) for run in runs},
                "pooled": {
                    name: one(pooled, task=task, recipe=name) for name in dict.fromkeys(row["recipe"] for row in pooled)
                },
                "baseline": baselines.get(task),
            }
            for task in dict.fromkeys(row["task"] for row in rows)
        ]
        pairs = [entry | {"verdict": verdict(entry)} for entry in at(comparison["comparisons"])]
        against = [entry | {"verdict": verdict(entry)} for entry in at(comparison["against"])]
        made.append(
            {"protocol": protocol, "title": caption(protocol, users), "lines": lines, "pairs": pairs}
            | {"against": against}
        )
    return made


def difference_text(entry: dict[str, Any]) -> str:
    """Who minus whom."""
    mine = entry["run"] if "run" in entry else f"{entry['recipe']}, all seeds"
    return f"{mine} minus {entry['other']}"


def one(entries: list[dict[str, Any]], **wanted: str) -> dict[str, Any] | None:
    """The entry with these values, or None."""
    return next((entry for entry in entries if wanted.items() <= entry.items()), None)


def render_html(comparison: dict[str, Any]) -> str:
    """The page as one string."""
    shown = tables(comparison)
    for table in shown:
        points = [
            {"run": run, "task": line["task"]} | {key: row[key] for key in ("metrics", "intervals")}
            for line in table["lines"]
            for run, row in line["runs"].items()
            if row is not None
        ]
        table["svg"] = Markup(figures.runs(figures.figure_name("runs", table["protocol"]), points))
    new = [table for table in tables(comparison, "new_target") if new_targets_differ(comparison, table)]
    return (
        environment()
        .get_template("compare.html.j2")
        .render(runs=comparison["runs"], tables=shown, new_tables=new, metrics=COMPARED)
    )


def new_targets_differ(comparison: dict[str, Any], table: dict[str, Any]) -> bool:
    """Whether the users with a new target are fewer than all, on a task of the table."""
    rows = [row for row in comparison["rows"] if row["protocol"] == table["protocol"]]
    everyone = {(row["task"], row["run"]): row["num_users"] for row in rows if row["users"] == "all"}
    return any(row["num_users"] < everyone[row["task"], row["run"]] for row in rows if row["users"] == "new_target")


def render_markdown(comparison: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = ["# Runs compared", ""]
    for run in comparison["runs"]:
        if run["failed_checks"]:
            lines += [f"> **{run['failed_checks']} failed checks of the audit** in {plain(run['run'])}", ""]
    for table in tables(comparison):
        heads, body = grid(table)
        lines += [f"**{table['title']}** (HR@10 / NDCG@10)", "", f"| {' | '.join(map(plain, heads))} |"]
        lines += [f"|---|{'--:|' * (len(heads) - 1)}"]
        lines += [f"| {' | '.join(map(plain, cells))} |" for cells in body]
        lines += ["", "| task | metric | runs | difference | 95% interval | p (Holm) | effect | |"]
        lines += ["|---|---|---|--:|--:|--:|--:|---|"]
        for entry in (*table["pairs"], *table["against"]):
            cells = [
                plain(entry["task"]), entry["metric"], plain(difference_text(entry)),
                signed_text(entry["difference"]), f"{signed_text(entry['low'])} to {signed_text(entry['high'])}",
                p_text(entry["p_holm"]), effect_text(entry["effect"]), entry["verdict"],
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def grid(table: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table of a protocol: HR@10 / NDCG@10 in each cell."""

    def cell(row: dict[str, Any] | None) -> str:
        return "–" if row is None else " / ".join(metric_text(row["metrics"][metric]) for metric in COMPARED)

    first = table["lines"][0]
    heads = ["unseen set", *first["runs"], *(f"{name}, all seeds" for name in first["pooled"]), "best baseline"]
    body = []
    for line in table["lines"]:
        baseline = line["baseline"]
        named = "–" if baseline is None else f"{cell(baseline)} ({baseline['recommender']})"
        body.append(
            [line["task"] + line["mark"], *map(cell, [*line["runs"].values(), *line["pooled"].values()]), named]
        )
    return heads, body


def console_lines(comparison: dict[str, Any]) -> list[str]:
    """The tables as lines of plain text."""
    lines: list[str] = []
    for table in tables(comparison):
        heads, body = grid(table)
        widths = [max(len(row[column]) for row in [heads, *body]) for column in range(len(heads))]
        lines += ["", f"{table['title']}: HR@10 / NDCG@10"]
        lines += ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
                  for row in [heads, *body]]  # fmt: skip
        lines.append("")
        lines += [
            f"{entry['task']}, {entry['metric']}: {difference_text(entry)} "
            f"{signed_text(entry['difference'])} ({signed_text(entry['low'])} to {signed_text(entry['high'])}), "
            f"p {p_text(entry['p_holm'])}, {entry['verdict']}"
            for entry in (*table["pairs"], *table["against"])
        ]
    return lines
