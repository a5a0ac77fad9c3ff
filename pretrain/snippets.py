"""The programs in a model card: both models at work with transformers alone, no code of ours.

Enters: what a run's configuration and book decide. Leaves: Python source as text. Pure. Must hold: a program runs as it
stands, in the exported folder, and writes what the ID job and the ranking write (the tests run them out of the cards).
"""

from __future__ import annotations

from string import Template

from pretrain.prompt_config import UserId
from pretrain.ranking import EVALUATION_TEMPLATE
from pretrain.templates import SEPARATOR, TEMPLATES, USER

EXAMPLE_TEXT = "title: red desk lamp; brand: acme; categories: home, lighting"

_WRITE_ID = """\
inputs = tokenizer(text, truncation=True, max_length=$text_tokens, return_tensors="pt")
tokens = generator.generate(**inputs)[0]
words = tokenizer.decode(tokens, skip_special_tokens=True).split()
if tokens[-1] != tokenizer.eos_token_id:
    words = words[:-1]  # cut at the cap: the last word may be half a word
written = " ".join(re.findall(r"\\w+", " ".join(words).lower()))
print("ID:", written)
"""

_BOTH = Template(
    """\
import re

import pyarrow as pa
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

FOLDER = "."  # the folder of this card
tokenizer = AutoTokenizer.from_pretrained(f"{FOLDER}/recommender")
generator = AutoModelForSeq2SeqLM.from_pretrained(f"{FOLDER}/generator")
recommender = AutoModelForSeq2SeqLM.from_pretrained(f"{FOLDER}/recommender")

# The text of an item becomes an ID: the first wish of the generator. A book settles who gets it.
text = $text
"""
    + _WRITE_ID
    + """
# A history becomes the next item: beam search over the IDs of its category and nothing else.
with pa.memory_map(f"{FOLDER}/book.arrow") as file:
    book = [row for row in pa.ipc.open_file(file).read_all().to_pylist() if row["item"].startswith($category)]
start, eos = recommender.config.decoder_start_token_id, tokenizer.eos_token_id
item_of, children = {}, {}
for row in book:
    path = (start, *row["token_ids"], eos)
    item_of[path] = row["item"]
    for end in range(1, len(path)):
        children.setdefault(path[:end], set()).add(path[end])
history = [row["text"] for row in book[:3]]  # IDs of what was bought, oldest first
prompt = $user$before + $items + $after
inputs = tokenizer(prompt, return_tensors="pt")
found = recommender.generate(
    **inputs,
    num_return_sequences=$shown,
    prefix_allowed_tokens_fn=lambda _, path: list(children.get(tuple(path.tolist()), {tokenizer.pad_token_id})),
    return_dict_in_generate=True,
    output_scores=True,
)
for path, score in zip(found.sequences.tolist(), found.sequences_scores.tolist()):
    path = tuple(path[: path.index(eos) + 1])
    print(f"next: {item_of[path]}: {tokenizer.decode(path, skip_special_tokens=True)} ({score:.3f})")
"""
)

_GENERATOR = Template(
    """\
import re

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

FOLDER = "."  # the folder of this card
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
generator = AutoModelForSeq2SeqLM.from_pretrained(FOLDER)
text = $text
"""
    + _WRITE_ID
)

_RECOMMENDER = Template("""\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

FOLDER = "."  # the folder of this card
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
recommender = AutoModelForSeq2SeqLM.from_pretrained(FOLDER)
history = $history  # IDs of what was bought, oldest first
prompt = $user$before + $items + $after
tokens = recommender.generate(**tokenizer(prompt, return_tensors="pt"))[0]
# Nothing holds it to the IDs of a book, so it need not be an item.
print("next:", tokenizer.decode(tokens, skip_special_tokens=True))
""")


def both(text_tokens: int, max_history: int, user_id: UserId, category: str, shown: int) -> str:
    """An ID for a text, and the `shown` best next items of a history among the items of a category. Where the run named
    users, the text stands for those of the history, and its ID for the user's."""
    return _BOTH.substitute(
        _prompt(max_history, user_id, "written"),
        text=_quoted(EXAMPLE_TEXT),
        text_tokens=text_tokens,
        category=_quoted(f"{category}/"),
        shown=shown,
    )


def generator_alone(text_tokens: int) -> str:
    """An ID for a text."""
    return _GENERATOR.substitute(text=_quoted(EXAMPLE_TEXT), text_tokens=text_tokens)


def recommender_alone(max_history: int, user_id: UserId, history: list[str]) -> str:
    """The next ID of a history of IDs, not held to a catalogue; where the run named users, of one whose ID is the
    history's first."""
    quoted = "[" + ", ".join(map(_quoted, history)) + "]"
    return _RECOMMENDER.substitute(_prompt(max_history, user_id, "history[0]"), history=quoted)


def _prompt(max_history: int, user_id: UserId, user: str) -> dict[str, object]:
    """The parts of a prompt as Python; `user`: what stands for the user's ID."""
    before, after = TEMPLATES[EVALUATION_TEMPLATE]
    return {
        "user": "" if user_id == "none" else f"{_quoted(USER[0] + ' ')} + {user} + {_quoted(f' {USER[1]} ')} + ",
        "before": _quoted(before + " "),
        "items": '""' if user_id == "alone" else f"{_quoted(f' {SEPARATOR} ')}.join(history[-{max_history}:])",
        "after": _quoted(" " + after),
    }


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
