"""Does the model know more than the words? How it ranks the items that the text match finds nearest.

Enters: a run, shards with one unseen set, that set's ID book. Leaves: a Markdown table, printed and written to
docs/benchmarks/near-items.md. Must hold: model and text match rank the same items of the same users: the nearest by
`tfidf-decayed` without the history, for users whose target is among them; so no search can miss anything.

    python -m benchmarks.zeroshot.near_items --run RUN --shards SHARDS --book REPORT/book-Office.arrow
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import table
from pretrain.config.prompt import PromptConfig
from pretrain.config.serialization import from_dict
from pretrain.data.prompts import PromptBuilder
from pretrain.decoding.decoder import T5Decoder
from pretrain.decoding.prior import num_blocks, prior_blocks
from pretrain.ids.book import Book
from pretrain.model.t5 import DTYPES, load_model
from pretrain.ranking.generate import EVALUATION_TEMPLATE
from pretrain.ranking.metrics import mid_ranks
from pretrain.training import checkpoint as checkpoints
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.tokenizer import EOS_ID, load_tokenizer
from zeroshot.baselines import TfidfDecayed, item_vectors
from zeroshot.judge.judge import answers
from zeroshot.judge.significance import paired_difference
from zeroshot.report.formatting import signed_text
from zeroshot.tasks.suite import resolve
from zeroshot.tasks.task import load_task

NEAREST = 50
SHARES = (0.0, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--users", type=int, default=1_000, help="a seeded sample")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/near-items.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    [spec] = resolve((), Manifest.load(options.shards))
    task = load_task(options.shards, spec, options.users)
    tokenizer = load_tokenizer(options.shards / TOKENIZER_FOLDER)
    ids, folder = Book.load(options.book, tokenizer).token_ids, checkpoints.resolve(options.run)
    prompt = from_dict(PromptConfig, checkpoints.verify(folder)["config"]["prompt"])
    if prompt.history != "ids":
        parser.error(f"{options.run} reads histories as {prompt.history}; this compares runs that read IDs")
    prompts = PromptBuilder(tokenizer, prompt)

    match = TfidfDecayed(item_vectors(task.texts))
    scores_NI = answers(match, task.histories, ("new",), len(task.items))["new"].scores_NK
    near_NK = np.argsort(-scores_NI, axis=1, kind="stable")[:, :NEAREST]
    users = np.flatnonzero((near_NK == task.targets[:, None]).any(axis=1))

    def log_probs(model: T5Decoder, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        near = [ids[item] for item in items]
        prompt_S = prompts.build([ids[item] for item in history], EVALUATION_TEMPLATE).tokens_S
        blocks = prior_blocks(model, prompt_S, near, EOS_ID, range(num_blocks(near)))
        return np.array([values.sum() for _, block in sorted(blocks.items()) for values in block])

    def hits(scores_UK: np.ndarray) -> np.ndarray:
        """Of all users, those without their target among the nearest included."""
        hits_N = np.zeros(len(task.users))
        place_U = (near_NK[users] == task.targets[users, None]).argmax(axis=1)
        hits_N[users] = mid_ranks(scores_UK, None, place_U, NEAREST) <= 10
        return hits_N

    match_N = hits(np.take_along_axis(scores_NI[users], near_NK[users], axis=1))
    rows = [["tfidf-decayed", "", f"{match_N.mean():.4f}", ""]]
    for name, source in (("trained", folder), ("before training", options.run / "untrained")):
        model = T5Decoder(load_model(str(source / "recommender"), tokenizer).to(DTYPES["bf16"]).eval())  # type: ignore[arg-type]
        nothing = np.zeros(0, dtype=np.int64)
        given_UK = np.stack([log_probs(model, task.histories[user], near_NK[user]) for user in users])
        prior_UK = np.stack([log_probs(model, nothing, near_NK[user]) for user in users])
        for share in SHARES:
            hits_N = hits(given_UK - share * prior_UK)
            mean, low, high = paired_difference(hits_N, match_N, 0)
            difference = f"{signed_text(mean)} ({signed_text(low)} to {signed_text(high)})"
            rows.append([f"the model, {name}", f"{share:g}", f"{hits_N.mean():.4f}", difference])
    lines = [
        f"# The {NEAREST} nearest items, ranked by the model", "",
        f"`python -m benchmarks.zeroshot.near_items --run RUN --shards SHARDS --book BOOK --users {options.users}`", "",
        f"{len(task.users):,} users of {task.name}, an unseen set, in bf16. The text match's {NEAREST} nearest items "
        f"contain the target of {len(users):,} users. For these users the model ranks the {NEAREST} items by "
        "log p(ID | history) minus a share of log p(ID). HR@10 is over all users. The last column is the paired "
        "difference from the text match's own order, with a 95% interval.", "",
        *table(["ranked by", "share of the prior", "HR@10", "minus tfidf-decayed"], rows),
    ]  # fmt: skip
    options.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
