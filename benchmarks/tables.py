"""Markdown tables of the benchmarks.

Enters: names of columns and rows of text. Leaves: lines of a page.
"""


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, marks, *rows)] + [""]
