"""The ten prompt templates, as words. No template names the data set; evaluation uses the first."""

SEPARATOR = ";"
USER = ("user", ":")
"""Before and after a user's ID, which comes first in any template."""
# (before the history, after it); worded by us in the manner of P5's sequential prompts.
TEMPLATES = (
    ("a customer has bought", "what will the customer buy next ?"),
    ("given the purchases", "predict the next item ."),
    ("history :", "next item :"),
    ("these items were chosen one after the other :", "which one follows ?"),
    ("someone who picked", "is likely to pick next"),
    ("purchase record , oldest first :", "continue the record with one item ."),
    ("after", "the following choice would be"),
    ("the shopper's list so far is", "name the item that comes after it ."),
    ("recommend an item to a person who has had", "recommendation :"),
    ("considering the sequence", "guess the item that comes next ."),
)


def tokenizer_lines() -> tuple[str, ...]:
    """The templates as lines of text, for a tokenizer that is trained together with the shards."""
    return tuple(f"{before} {SEPARATOR} {SEPARATOR} {after}" for before, after in TEMPLATES)
