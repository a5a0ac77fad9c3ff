"""The model card of an exported checkpoint: what the hub shows and what a person must know before using the models.

Enters: facts. Leaves: Markdown with the hub's YAML front matter. Pure. Must hold: nothing is said that the facts do
not say; what is not known (licences, counts, steps) is said to be unknown; no user, host or absolute path is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pretrain.config.prompt import PromptConfig
from pretrain.export import example_programs
from pretrain.export.card_facts import PARTS, Facts, Part
from shards.registry import terms_for

PAPER = "https://doi.org/10.1145/3626772.3657821"
SHOWN = 5
READ = {"ids": "textual IDs", "texts": "items' texts"}
# What of a configuration stands in the text; everything stands in the list below it.
SETTINGS = {
    "batch_size": "Samples per optimiser step",
    "teaching_lr": "Peak learning rate, teaching the generator",
    "recommender_lr": "Peak learning rate, recommender phases",
    "generator_lr": "Peak learning rate, generator phases",
    "warmup_share": "Share of a model's steps with rising learning rate, then linear decay",
    "weight_decay": "Weight decay (AdamW, decoupled)",
    "clip_norm": "Largest gradient norm",
    "interpolated_share": "Share of what training changed in the recommender that is kept (weights interpolated)",
    "zero_stage": "DeepSpeed ZeRO stage",
    "seed": "Seed",
}


def model_card(facts: Facts) -> str:
    """The card of the whole: both models and the book."""
    category = next(iter(facts.items))
    shown = min(SHOWN, facts.items[category], facts.config["search"]["beam"])
    program = example_programs.both(_text_tokens(facts), _prompt(facts), category, shown)
    parts = "\n".join(
        f"* `{part}/` {_role(facts, part)} ({count:,} parameters)." for part, count in facts.parameters.items()
    )
    return _join(
        _front_matter(PARTS),
        "# IDGenRec: a recommender and the ID generator it was trained with",
        f"Two T5 models, trained in turn ([IDGenRec]({PAPER})), as plain Hugging Face folders, and the ID book that "
        f"joins them:\n\n{parts}\n* `book.arrow`: the textual ID of each item of the pretraining catalogue.",
        f"{_weights(facts)} Checkpoint `{facts.checkpoint}` of {_run(facts)}.",
        _use(program, "transformers, torch and pyarrow"),
        *_common(facts),
        _book(facts),
        _limits(),
        _licence(facts),
        _files(facts, facts.files),
    )


def part_card(facts: Facts, part: Part) -> str:
    """The card of one model, for a repository of its own."""
    if part == "generator":
        program = example_programs.generator_alone(_text_tokens(facts))
    else:
        program = example_programs.recommender_alone(_prompt(facts), list(facts.history))
    other = "generator" if part == "recommender" else "recommender"
    own = {name.partition("/")[2]: digest for name, digest in facts.files.items() if name.startswith(f"{part}/")}
    return _join(
        _front_matter((part,)),
        f"# IDGenRec {part}",
        f"A T5 of {facts.parameters[part]:,} parameters that {_role(facts, part)} ([IDGenRec]({PAPER})). It was "
        f"trained in turn with a {other} and belongs together with it and with the ID book of the same export.",
        f"{_weights(facts)} Checkpoint `{facts.checkpoint}` of {_run(facts)}.",
        _use(program, "transformers and torch"),
        *_common(facts),
        _limits(),
        _licence(facts),
        _files(facts, own),
    )


def _front_matter(parts: Sequence[str]) -> str:
    tags = ["idgenrec", "t5", "recommender-system", "generative-recommendation", "sequential-recommendation"]
    tags += ["id-generator"] if "generator" in parts else []
    lines = ["library_name: transformers", "pipeline_tag: text2text-generation", "license: unknown", "tags:"]
    return "\n".join(["---", *lines, *(f"- {tag}" for tag in tags), "---"])


def _weights(facts: Facts) -> str:
    if facts.precision == "bf16":
        return (
            "The weights are bfloat16, rounded from the float32 of the checkpoint (8 significant bits): logits differ "
            "from those of the checkpoint; validation and ID book below are those of the float32 weights."
        )
    return "The weights are float32, those of the checkpoint to the bit."


def _run(facts: Facts) -> str:
    return "a run that had ended" if facts.finished else "a run that had not ended: phases were still to come"


def _use(program: str, needs: str) -> str:
    return f"## Use\n\nWith {needs}, in this folder:\n\n```python\n{program}```"


def _common(facts: Facts) -> Iterator[str]:
    yield _data(facts)
    yield _training(facts)
    yield _validation(facts)


def _data(facts: Facts) -> str:
    named = f"The shards' manifest has the SHA-256 `{facts.manifest_sha256}`."
    if facts.manifest is None:
        rows = [[name, f"{count:,}"] for name, count in facts.items.items()]
        unknown = "Users, interactions and sources are not in the checkpoint; the data card of the shards has them."
        return f"## Data it was trained on\n\n{_table(['category', 'items'], rows)}\n\n{unknown} {named}"
    rows = [
        [member.name, member.source, f"{member.num_users:,}", f"{member.num_items:,}", f"{member.num_interactions:,}"]
        for member in facts.manifest.train_members
    ]
    table = _table(["category", "from", "users", "items", "interactions"], rows)
    split = (
        f"{facts.manifest.num_samples:,} training samples an epoch; each user's last two items were held out. "
        f"Unseen in training: {', '.join(member.name for member in facts.manifest.test_members) or 'no data set'}."
    )
    return f"## Data it was trained on\n\n{table}\n\n{split} {named}"


def _training(facts: Facts) -> str:
    config = facts.config
    lines = [f"* {part}: {_origin(config[part])}." for part in PARTS]
    lines.append(f"* Precision of training: {config['engine']['precision']}.")
    lines += [
        f"* {meaning[0].upper()}{meaning[1:]}: {config[key]}." for key, meaning in SETTINGS.items() if key in config
    ]
    if facts.phases is None:
        steps = "The steps of each phase are not known here: the run's figures were not beside the checkpoint."
    elif not facts.phases:
        steps = "No phase had ended."
    else:
        rows = [[phase.kind, f"{phase.steps:,}", f"{phase.share_moved:.2%}"] for phase in facts.phases]
        steps = _table(["phase", "optimiser steps", "weights moved"], rows) + (
            "\n\nWeights moved: the share of the phase's model whose value at its end was not the one at its start."
        )
    everything = "\n".join(f"{name} = {value}" for name, value in _flat(config))
    details = f"<details><summary>The whole configuration</summary>\n\n```\n{everything}\n```\n\n</details>"
    return "\n\n".join(["## How it was trained", "\n".join(lines), steps, details])


def _origin(model: Mapping[str, Any]) -> str:
    start = model["start_from"]
    if start is None:
        shape = ", ".join(f"{name} {model[name]}" for name in ("d_model", "d_ff", "num_layers", "num_heads"))
        return f"a T5 from scratch ({shape})"
    return f"started from `{_nameable(start)}`"


def _validation(facts: Facts) -> str:
    if facts.validation is None:
        sentence = "This checkpoint was not validated: it was saved inside a phase, or after one of the generator."
        return f"## Validation\n\n{sentence}"
    users = facts.config["schedule"]["validation_users"]
    rows = [[name, f"{value:.4f}"] for name, value in facts.validation.items()]
    sentence = (
        f"On the second last items of {users:,} users (fewer where there are fewer) of the pretraining categories, "
        "all items of the category ranked. These users' earlier items were trained on, and these figures pick the "
        "checkpoint: they are no zero-shot result."
    )
    return f"## Validation\n\n{_table(['metric', 'value'], rows)}\n\n{sentence}"


def _book(facts: Facts) -> str:
    figures = facts.book
    origin = (
        "The exported generator wrote it."
        if facts.book_is_current
        else "An earlier state of the generator wrote it: the exported one has been trained since."
    )
    return (
        f"## ID book\n\n{int(figures['num_items']):,} items, each with an ID of its own, "
        f"{figures['mean_tokens']:.2f} tokens long in the mean. {figures['second_attempt_share']:.2%} needed more than "
        f"one attempt, {figures['longer_share']:.2%} a longer ID, {figures['suffixed_share']:.2%} a number at the end. "
        f"{origin} Books that the checkpoint's generator wrote carry its hash `{facts.generator_hash}`."
    )


def _limits() -> str:
    return (
        "## Intended use and limits\n\n"
        "* For research on generative and zero-shot recommendation.\n"
        "* The catalogue is closed: an answer is an item only where decoding is held to the IDs of a book. For another "
        "catalogue, first make its book with this generator (`idgenrec ids`).\n"
        "* What it learnt are purchases and reviews of the categories above, with the biases, the language and the "
        "years of those data. It knows nothing of stock, price or whether an item suits a person.\n"
        "* It was not examined for fairness, privacy or harm; IDs may repeat words of item texts as they were found."
    )


def _licence(facts: Facts) -> str:
    lines = ["The licence of these weights is unknown: nobody has chosen one. The terms of the data may bind them."]
    if facts.manifest is None:
        lines.append("* The terms of the data are unknown here; the data card of the shards has them.")
    else:
        for source in dict.fromkeys(member.source for member in facts.manifest.train_members):
            terms = terms_for(source)
            lines.append(f"* {source}: {terms.terms} Home: {terms.homepage}. Cite: {terms.citation}")
    for part in PARTS:
        start = facts.config[part]["start_from"]
        if start is not None:
            lines.append(f"* The {part} was started from `{_nameable(start)}`, whose licence applies too.")
    return "## Licence\n\n" + lines[0] + "\n\n" + "\n".join(lines[1:])


def _files(facts: Facts, files: Mapping[str, str]) -> str:
    rows = [[f"`{name}`", f"`{digest}`"] for name, digest in files.items()]
    made = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return f"## Files\n\n{_table(['file', 'SHA-256'], rows)}\n\nExported with {made}."


def _text_tokens(facts: Facts) -> int:
    return facts.config["ids"]["item_text_tokens"]


def _prompt(facts: Facts) -> PromptConfig:
    return PromptConfig(**facts.config["prompt"])  # older checkpoints lack options, and did what the defaults do


def _role(facts: Facts, part: Part) -> str:
    if part == "generator":
        return "reads the text of an item and writes a short textual ID for it"
    return f"reads the {READ[_prompt(facts).history]} of a history and writes the ID of the next item"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _nameable(value) if key == "start_from" and value else value


def _nameable(start_from: str) -> str:
    """A hub name as it is, of an absolute path its last part alone: paths name people and machines."""
    return PurePath(start_from).name if PurePath(start_from).is_absolute() else start_from


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _join(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"
