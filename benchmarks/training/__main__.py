"""Training steps beside their peers, in one run: the recommender's, the generator's, and the soft IDs alone.

Enters: a shard folder and a T5. Leaves: Markdown tables, printed and written to docs/benchmarks/training.md. Must hold:
both sides of a table have the same model, samples, loss and cores, and take turns, so that a busy machine hurts both.

    python -m benchmarks.training --shards SHARDS --model T5 [--peers .venv-peers] [SECTION ...]

Sections: recommender generator soft (all by default). `recommender` needs the environment that `make test-peers` makes.
"""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.training.generator import generator, soft
from benchmarks.training.recommender import recommender

SECTIONS = ("recommender", "generator", "soft")


def header(options: argparse.Namespace) -> list[str]:
    parts = ["--shards SHARDS", "--model T5", *options.sections]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "deepspeed"))
    return [
        "# Training steps", "",
        f"`python -m benchmarks.training {' '.join(parts)}` on {options.cores} cores ({platform.machine()}, load "
        f"{os.getloadavg()[0]:.1f} when it began), Python {platform.python_version()}, {libraries}. float32.", "",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; none = all")
    parser.add_argument("--shards", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers"), help="environment of the older transformers")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=512, help="samples of a pass of the recommender")
    parser.add_argument("--rounds", type=int, default=1, help="passes of each side of the recommender")
    parser.add_argument("--repeats", type=int, default=3, help="generator steps of each side")
    parser.add_argument("--slice", type=int, default=8, help="samples that the plain generator step computes at a time")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training.md"))
    options = parser.parse_intermixed_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    makers = {"recommender": recommender, "generator": generator, "soft": soft}
    torch.set_num_threads(options.cores)
    lines = header(options)
    for section in options.sections or SECTIONS:
        found = makers[section](options)
        print("\n".join(found), flush=True)
        lines += found
        options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
