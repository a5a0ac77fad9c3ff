"""Export: a checkpoint becomes two Hugging Face folders, its ID book and their model cards.

Enters: a checkpoint or a run folder, and an empty or new folder. Leaves: `recommender/`, `generator/` (safetensors,
configuration, tokenizer, README.md each), `book.arrow`, `settings.json`, `README.md`. Must hold: nothing is read
before its hash was checked; what is written is read back and has the weights of the checkpoint, bit by bit (rounded
where bf16 is asked for); the folder appears whole or not at all.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers.generation.configuration_utils import GenerationConfig
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from pretrain.export.card_facts import PARTS, Facts, Part, PhaseDone, Precision
from pretrain.export.model_card import model_card, part_card
from pretrain.ids.book import Book
from pretrain.ids.writer import greedy
from pretrain.model.t5 import content_hash, load_model, save_model
from pretrain.runtime.progress import SILENT, Reporter
from pretrain.tracking.tracker import read_lines
from pretrain.training import checkpoint
from shards.manifest import Manifest, file_sha256
from shards.tokenizer import EOS_ID, PAD_ID, load_tokenizer

BOOK, CARD, SETTINGS = "book.arrow", "README.md", "settings.json"
SETTLED = ("ids", "prompt", "search")
"""What of a run's configuration says how its models are asked; `idgenrec recommend` reads it."""
STEPS = len(PARTS) + 2
MOVED = "/share_of_weights_moved"
EXAMPLES = 3


def export(path: Path, out: Path, precision: Precision, shards: str | None, reporter: Reporter = SILENT) -> Path:
    """Write the folder and return the checkpoint that was exported.

    Args:
        path: a checkpoint, or a run folder (then its best checkpoint).
        out: must not exist, or be an empty folder.
        precision: of the weights that are written.
        shards: the shard folder of the run, so that the cards can say what it was trained on; None: they say less.
        reporter: hears which step is under way.

    Raises:
        ValueError: `out` is taken; the checkpoint is incomplete, damaged or has no ID book yet; other shards.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder; give another --out")
    source = checkpoint.resolve(path)
    reporter.progress("export", 0, STEPS, "steps", f"the hashes of {source.name}")
    state = checkpoint.verify(source)
    if not (source / BOOK).is_file():
        raise ValueError(f"{source} has no ID book yet: it is older than the run's first; give a later one")
    manifest = None if shards is None else _manifest_of(state, source, shards)
    tokenizer: Any = load_tokenizer(source / "generator")
    book = Book.load(source / BOOK, tokenizer)
    draft = out.with_name(f".{out.name}.writing")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        shutil.copyfile(source / BOOK, draft / BOOK)
        settings = {name: state["config"][name] for name in SETTLED}
        (draft / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        parameters: dict[Part, int] = {}
        hashes: dict[Part, str] = {}
        for done, part in enumerate(PARTS, start=1):
            reporter.progress("export", done, STEPS, "steps", f"{part}: written and read back")
            model = load_model(str(source / part), tokenizer)
            hashes[part] = content_hash(model)
            parameters[part] = sum(parameter.numel() for parameter in model.parameters())
            model.generation_config = generation_config(part, model, tokenizer, state["config"], book)
            _write(model, tokenizer, draft / part, precision)
        reporter.progress("export", len(PARTS) + 1, STEPS, "steps", "hashes and cards")
        facts = _facts(source, state, manifest, book, draft, precision, parameters, hashes)
        for part in PARTS:
            (draft / part / CARD).write_text(part_card(facts, part), encoding="utf-8")
        (draft / CARD).write_text(model_card(facts), encoding="utf-8")
        os.replace(draft, out)
        reporter.progress("export", STEPS, STEPS, "steps")
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return source


def _facts(
    source: Path, state: Mapping[str, Any], manifest: Manifest | None, book: Book, draft: Path, precision: Precision,
    parameters: dict[Part, int], hashes: dict[Part, str],
) -> Facts:  # fmt: skip
    """What the cards say of the export in `draft`."""
    return Facts(
        checkpoint=source.name,
        config=state["config"],
        validation=state["validation"],
        finished=state["finished"],
        manifest_sha256=state["manifest_sha256"],
        manifest=manifest,
        precision=precision,
        parameters=parameters,
        items=items_by_category(book.items),
        book=book.summary(),
        generator_hash=hashes["generator"],
        book_is_current=hashes["generator"] == book.generator_hash,
        history=book.texts[:EXAMPLES],
        phases=_phases(source),
        files={str(file.relative_to(draft)): file_sha256(file) for file in sorted(_hashed(draft))},
        versions=_versions(),
    )


def generation_config(
    part: Part, model: T5ForConditionalGeneration, tokenizer: T5Tokenizer, config: Mapping[str, Any], book: Book
) -> GenerationConfig:
    """What `generate` does where nothing is said: it searches as the run did.

    The generator writes the first candidate of Algorithm 1. The recommender searches with the run's beam, for IDs
    as long as the book's.
    """
    if part == "generator":
        return GenerationConfig(**greedy(tokenizer, model, config["ids"]["tier_tokens"] - 1))
    return GenerationConfig(
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=model.config.decoder_start_token_id,
        max_new_tokens=max(len(ids) for ids in book.token_ids) + 1,
        num_beams=config["search"]["beam"],
        length_penalty=config["search"]["length_penalty"],
    )


def phases_done(lines: Iterable[Mapping[str, Any]], step: int) -> list[PhaseDone]:
    """The phases that had ended at a global step, from the figures of a run (a phase ended twice counts once)."""
    ends = {
        line["step"]: (line["group"], line[f"{line['group']}{MOVED}"])
        for line in lines
        if f"{line.get('group')}{MOVED}" in line and line["step"] <= step
    }
    phases, before = [], 0
    for end, (kind, share) in sorted(ends.items()):
        phases.append(PhaseDone(kind, end - before, share))
        before = end
    return phases


def items_by_category(items: Iterable[str]) -> dict[str, int]:
    """Items of each category, in the order of their first: the shards name an item `category/item`."""
    counts: dict[str, int] = {}
    for item in items:
        category = item.partition("/")[0]
        counts[category] = counts.get(category, 0) + 1
    return counts


def _manifest_of(state: Mapping[str, Any], source: Path, shards: str) -> Manifest:
    manifest = Manifest.load(shards)
    if manifest.sha256() != state["manifest_sha256"]:
        raise ValueError(f"{source} was not trained on {shards}: the manifests differ; give the run's own --shards")
    return manifest


def _write(model: T5ForConditionalGeneration, tokenizer: T5Tokenizer, folder: Path, precision: Precision) -> None:
    """Save, read back as anyone would, compare."""
    if precision == "bf16":
        model.bfloat16()
    save_model(model, tokenizer, folder)
    for file in folder.iterdir():  # safetensors shuts out all but the owner; an export is there to be given away
        shutil.copymode(folder / "config.json", file)
    expected = content_hash(model.float())
    assert content_hash(load_model(str(folder), tokenizer)) == expected, f"{folder} was not read back as written"


def _phases(source: Path) -> list[PhaseDone] | None:
    """From `metrics.jsonl` of the run folder, where the checkpoint lies in one."""
    figures, step = source.parent.parent / "metrics.jsonl", source.name.removeprefix("step-")
    if not figures.is_file() or not step.isdigit():
        return None
    try:
        return phases_done(read_lines(figures), int(step))
    except json.JSONDecodeError as error:
        raise ValueError(f"{figures} has a line that is not JSON ({error}); take that line out") from error


def _hashed(folder: Path) -> Iterable[Path]:
    return (file for file in folder.rglob("*") if file.suffix in (".safetensors", ".arrow", ".json"))


def _versions() -> dict[str, str]:
    libraries = ("idgenrec", "torch", "transformers", "safetensors")
    return {library: importlib.metadata.version(library) for library in libraries} | {
        "Python": platform.python_version()
    }
