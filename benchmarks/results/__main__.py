"""Keeps reports of judged runs, and writes the tables that README and docs make of them.

python -m benchmarks.results keep NAME REPORT
python -m benchmarks.results
"""

import argparse
from pathlib import Path

from benchmarks.results.kept import keep
from benchmarks.results.pages import pages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    keeping = commands.add_parser("keep", help="keep a report folder")
    keeping.add_argument("name")
    keeping.add_argument("report", type=Path)
    options = parser.parse_args()
    if options.command == "keep":
        print(keep(options.name, options.report))
        return
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
        print(page)


if __name__ == "__main__":
    main()
