"""The programs in a model card: both models at work with transformers alone, no code of ours.

Enters: what a run's configuration and book decide. Leaves: Python source as text. Pure. Must hold: a program runs as it
stands, in the exported folder, and writes what the ID job and the ranking write (the tests run them out of the cards).
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from pretrain.config.prompt import SEPARATOR, TEMPLATES, USER, PromptConfig
from pretrain.ranking.generate import EVALUATION_TEMPLATE

EXAMPLE_TEXT = "title: red desk lamp; brand: acme; categories: home, lighting"
EXAMPLE_TEXTS = ("title: oak desk; categories: home, furniture", "title: led bulb, pack of 4", EXAMPLE_TEXT)

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
history = $history
${inputs}found = recommender.generate(
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
history = $history
${inputs}tokens = recommender.generate(**inputs)[0]
# Nothing holds it to the IDs of a book, so it need not be an item.
print("next:", tokenizer.decode(tokens, skip_special_tokens=True))
""")


_OF_IDS = Template("""\
prompt = $user$before + $items + $after
inputs = tokenizer(prompt, return_tensors="pt")
""")

# Cut by tokens, so token ids are joined: words that were cut and written out again may become other tokens.
_OF_TEXTS = Template("""\


def ids_of(words):
    return tokenizer(words, add_special_tokens=False)["input_ids"]


prompt = $user$before
for place, told in enumerate($told):
    prompt += (ids_of($separator) if place else []) + ids_of(told)[:$item_tokens]
prompt += $after + [tokenizer.eos_token_id]
inputs = tokenizer.pad({"input_ids": [prompt]}, return_tensors="pt")
""")


def both(text_tokens: int, prompt: PromptConfig, category: str, shown: int) -> str:
    """An ID for a text, and the `shown` best next items of a history among the items of a category. Where the run named
    users, the text stands for those of the history, and its ID for the user's."""
    return _BOTH.substitute(
        text=_quoted(EXAMPLE_TEXT),
        text_tokens=text_tokens,
        category=_quoted(f"{category}/"),
        shown=shown,
        history=_history(prompt, '[row["text"] for row in book[:3]]'),
        inputs=_inputs(prompt, "written"),
    )


def generator_alone(text_tokens: int) -> str:
    """An ID for a text."""
    return _GENERATOR.substitute(text=_quoted(EXAMPLE_TEXT), text_tokens=text_tokens)


def recommender_alone(prompt: PromptConfig, ids: list[str]) -> str:
    """The next ID of a history of `ids`, or of texts where the run read those; not held to a catalogue. Where the run
    named users, of one whose ID is the first."""
    return _RECOMMENDER.substitute(history=_history(prompt, _listed(ids)), inputs=_inputs(prompt, _quoted(ids[0])))


def _history(prompt: PromptConfig, ids: str) -> str:
    if prompt.history == "ids":
        return f"{ids}  # IDs of what was bought, oldest first"
    lines = "".join(f"    {_quoted(text)},\n" for text in EXAMPLE_TEXTS)
    limit = f"the oldest left out where a prompt has more than {prompt.max_tokens} tokens"
    return f"[  # texts of what was bought, oldest first; {limit}\n{lines}]"


def _inputs(prompt: PromptConfig, user: str) -> str:
    """The lines that make `inputs` of `history`; `user`: Python for the user's ID."""
    before, after = TEMPLATES[EVALUATION_TEMPLATE]
    told = f"history[-{prompt.max_history}:]"
    if prompt.history == "ids":
        return _OF_IDS.substitute(
            user=""
            if prompt.user_id == "none"
            else f"{_quoted(USER[0] + ' ')} + {user} + {_quoted(f' {USER[1]} ')} + ",
            before=_quoted(before + " "),
            items='""' if prompt.user_id == "alone" else f"{_quoted(f' {SEPARATOR} ')}.join({told})",
            after=_quoted(" " + after),
        )
    parts = [] if prompt.user_id == "none" else [_quoted(USER[0]), user, _quoted(USER[1])]
    return _OF_TEXTS.substitute(
        user="".join(f"ids_of({part}) + " for part in parts),
        before=f"ids_of({_quoted(before)})",
        told="[]" if prompt.user_id == "alone" else told,
        separator=_quoted(SEPARATOR),
        item_tokens=prompt.item_tokens,
        after=f"ids_of({_quoted(after)})",
    )


def _listed(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, texts)) + "]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
