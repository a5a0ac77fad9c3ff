"""Decoding beside its peers, in one run: users, the trie's step, ten million items, diverse search, a profile.

Enters: files of real IDs (recombined to catalogues of any size), a T5 tokenizer, and if given a T5 folder. Leaves:
Markdown tables, printed and written to docs/benchmarks/decoding.md. Must hold: both sides of a row have the same model,
threads, prompts and catalogue, and take turns, so that a busy machine hurts both.

    python -m benchmarks.decoding --ids FILE.txt.gz ... --tokenizer T5 [--model T5] [--peers .venv-peers] [SECTION ...]

Sections: users trie scale diverse profile (all by default). `diverse` needs the environment that `make test-peers`
makes: the newest transformers that still has diverse beam search.
"""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.decoding import diverse, trie, users
from benchmarks.decoding.setting import CATALOGUE, prepare

SECTIONS = ("users", "trie", "scale", "diverse", "profile")


def header(options: argparse.Namespace) -> list[str]:
    parts = ["--ids IDS...", "--tokenizer T5", *(["--model T5"] if options.model else []), *options.sections]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return [
        "# Decoding", "",
        f"`python -m benchmarks.decoding {' '.join(parts)}` on {options.threads} cores ({platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} when it began), Python {platform.python_version()}, {libraries}. float32. Times are "
        f"medians of {options.repeats} rounds in which both sides take turns.", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; none = all")
    parser.add_argument("--ids", type=Path, nargs="+", required=True, help="files of real IDs: item word word ...")
    parser.add_argument("--tokenizer", required=True, help="folder of a T5 tokenizer")
    parser.add_argument("--model", help="folder of a pretrained T5, as a second model")
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="environment of the older transformers")
    parser.add_argument("--items", type=int, default=CATALOGUE)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--largest", type=int, default=10_000_000, help="catalogue that `scale` ends with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/decoding.md"))
    options = parser.parse_intermixed_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(options.threads)
    makers = {
        "users": users.users, "trie": trie.step, "scale": trie.scale,
        "diverse": diverse.diverse, "profile": users.profile,
    }  # fmt: skip
    setting, lines = prepare(options), header(options)
    for section in options.sections or SECTIONS:
        found = makers[section](setting)
        print("\n".join(found), flush=True)
        lines += found
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
