"""Alternation beside the recommender alone, with the same recommender steps (Table 5): what the generator phase adds.

Enters: the demo's marketplace, made smaller, and the 14-core of real Beauty. Leaves: Markdown tables, printed and
written into docs/benchmarks/alternation.md, whose prose stays. Must hold: all arms of a seed go on from one
checkpoint and see the same recommender batches; the judge asks for the second last item, test items are never used.

    python -m benchmarks.training.alternation [--beauty FOLDER] [--only demo|beauty] [--seeds 0 1]
"""

import argparse
import copy
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import table
from launchers.jobs import recipes
from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig, tokenizer_lines
from pretrain.config.run import PretrainConfig, ScheduleConfig
from pretrain.data.batches import BatchMaker, TextBatch
from pretrain.ids.book import Book
from pretrain.ids.job import make_book
from pretrain.model.t5 import frozen_copy
from pretrain.ranking.generate import GenerativeRecommender
from pretrain.ranking.metrics import per_user
from pretrain.runtime.interrupt import Interrupt
from pretrain.runtime.progress import SILENT
from pretrain.runtime.world import World, joined_world
from pretrain.tracking.tracker import read_lines
from pretrain.training.objectives import GeneratorObjective, RecommenderObjective
from pretrain.training.run import Run
from pretrain.training.run_record import open_tracker
from pretrain.training.schedule import make_plan
from pretrain.training.train import train_phase
from shards.build.build import build
from shards.config import BuildConfig
from shards.manifest import Member
from shards.readers.marketplace import MarketplaceSizes, write_marketplace
from shards.records import Sample
from shards.tables import load_items
from zeroshot.baselines import Popularity
from zeroshot.judge.judge import judge
from zeroshot.judge.significance import paired_difference
from zeroshot.tasks.task import Task, load_task

OUT = Path("docs/benchmarks/alternation.md")
RATES = {"Demo": (1e-4, 1e-3), "Beauty": (1e-3,)}
ALONE, HINDSIGHT = "alone", "alone, but with the last IDs of the alternation above from the first step"
DEMO = MarketplaceSizes(users_per_category=300, items_per_category=100, test_users=300, test_items=120)
CORE, JUDGED = 14, 250  # judged users of each demo data set; of Beauty all
WARM = 2  # phases that the arms share: teaching and warm-up
EFFECTS = (
    "share of IDs changed", "L_id, first 5 steps", "last 5", "soft IDs, before the phase", "after it",
    "old book", "new IDs in the histories alone", "new book",
)  # fmt: skip


def demo(folder: Path) -> PretrainConfig:
    """A smaller marketplace and the demo's recipe; the generator phase has as many steps as there."""
    roles = write_marketplace(folder / "raw", 0, sizes=DEMO)
    train, test = (tuple(str(folder / "raw" / n) for n, role in roles if role == r) for r in ("train", "test"))
    built = BuildConfig(train=train, test=test, out=str(folder / "shards"), tokenizer_text=tokenizer_lines())
    build(built, lambda line: None)
    recipe = recipes.demo(built.out, "", 0)
    return replace(recipe, schedule=replace(recipe.schedule, generator_epochs=0.2))


def beauty(folder: Path, source: Path) -> PretrainConfig:
    """The users and items of Beauty with 14 interactions or more among themselves; models of the demo's shape."""
    out, lines = str(folder / "shards"), tokenizer_lines()
    built = BuildConfig(train=(str(source),), out=out, clean_plain=True, k_core=CORE, tokenizer_text=lines)
    build(built, lambda line: None)
    schedule = ScheduleConfig(teaching_epochs=20.0, warmup_epochs=0.5, generator_epochs=0.075, recommender_epochs=0.5)
    recipe = recipes.demo(built.out, "", 0)
    return replace(recipe, schedule=schedule, ids=IdConfig(item_text_tokens=48), prompt=PromptConfig(max_history=8))


def go_on(run: Run, phases: int) -> Run:
    """Train until so many phases of the plan are done."""
    run.tracker = open_tracker(run.config, run.manifest, run.world, run.reporter, run.run_id, run.changed)
    assert run.tracker is not None
    with run.tracker, Interrupt(run.world) as interrupt:
        while run.state.schedule.phase < phases:
            train_phase(run, interrupt)
    return run


def fork(start: Run, name: str, rate: float | None, book: Book | None = None) -> Run:
    """A run from a copy of `start`: with a generator phase at this learning rate, or (None) without; with `book`, from
    the end of the teaching on, all steps with these IDs."""
    folder = start.folder.with_name(name)
    shutil.copytree(start.folder, folder)
    if book is not None:
        shutil.rmtree(sorted((folder / "checkpoints").glob("step-*"))[-1])  # that of the warm-up
    run = Run(replace(start.config, out=str(folder)), start.world, SILENT)
    if rate is not None:
        run.config = replace(run.config, generator_lr=rate)
        return run
    schedule = replace(run.config.schedule, generator_epochs=0.0)
    run.plan = make_plan(schedule, run.manifest.num_samples, len(run.items), run.config.batch_size, from_scratch=True)
    if book is not None:
        run.state = replace(run.state, book=book)
        run.plan = tuple(replace(phase, refresh_ids=False) for phase in run.plan)
    return run


def validation_task(run: Run, member: Member) -> Task:
    """Held-out users with the second last item as the target; the last one is dropped."""
    task = load_task(run.config.shards, member.name, None if member.name == "Beauty" else JUDGED, seed=0)
    targets = np.array([history[-1] for history in task.histories])
    return replace(task, histories=[history[:-1] for history in task.histories], targets=targets)


def judged(run: Run, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Ranks of the users, by role of the data and recommender: of the run under `name`, and of popularity."""
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    config, recommender = run.config, run.state.models["recommender"]
    assert run.state.book is not None
    for member in (*run.manifest.train_members, *run.manifest.test_members):
        task = validation_task(run, member)
        ids = run.state.book.token_ids[member.row_offset :][: member.num_items]
        if member.role == "test":
            items = load_items(config.shards, run.manifest, member.name)
            ids = make_book(run.state.models["generator"], run.tokenizer, items, config.ids, run.world)[0].token_ids
        sides = {
            name: GenerativeRecommender(name, recommender, run.tokenizer, ids, config.prompt, config.search),
            "popularity": Popularity(task.training_histories, len(task.items)),
        }
        for side, model in sides.items():
            found.setdefault(member.role, {}).setdefault(side, []).append(judge(task, model, "all").ranks_N)
    return {role: {side: np.concatenate(ranks) for side, ranks in sides.items()} for role, sides in found.items()}


def effect(start: Run, run: Run) -> list[float]:
    """What the generator phase between `start` and `run` did, as EFFECTS names it: to the IDs, to its own loss, and to
    the loss of the recommender that it was trained for."""
    assert start.state.book is not None and run.state.book is not None
    recommender = frozen_copy(start.state.models["recommender"])
    samples = [
        Sample(f"{member.name}/{user}", len(history), history + member.row_offset, int(target), 0)
        for member in run.manifest.train_members
        for task in [validation_task(run, member)]
        for user, (history, target) in enumerate(zip(task.histories, task.targets + member.row_offset, strict=True))
    ]
    texts, seed = run.config.ids.item_text_tokens, run.config.seed
    old, new = (BatchMaker(run.prompts, book, run.items, texts, seed) for book in (start.state.book, run.state.book))
    soft = [
        GeneratorObjective(copy.deepcopy(model), recommender)
        for model in (start.state.models["generator"], run.state.models["generator"])
    ]
    discrete, sums = RecommenderObjective(recommender), np.zeros(5)
    with torch.no_grad():
        for first in range(0, len(samples), 32):
            block = samples[first : first + 32]
            before, after = old.generator_batch(block, 0), new.recommender_batch(block, 0)
            mixed = TextBatch(after.input_ids_BS, after.mask_BS, before.prompt.labels_BT, after.keys_B)
            found = [*(side(before) for side in soft), *map(discrete, (before.prompt, mixed, after))]
            sums += [loss.item() for loss, _ in found]
    losses = [line["generator/loss"] for line in read_lines(run.folder / "metrics.jsonl") if "generator/loss" in line]
    changed = run.state.book.difference(start.state.book).share_changed
    return [changed, *map(float, (np.mean(losses[:5]), np.mean(losses[-5:]), *sums / len(samples)))]


@dataclass(frozen=True)
class Seen:
    """Of one seed: ranks by role of the data, arm and user; effects of the generator phases; the plan in words."""

    ranks: dict[str, dict[str, np.ndarray]]
    effects: dict[str, list[float]]
    plan: str


def arms(config: PretrainConfig, folder: Path, seed: int, rates: tuple[float, ...], hindsight: bool) -> Seen:
    """All arms of one seed."""
    config = replace(
        config, seed=seed, out=str(folder / f"{seed}" / "start"), tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        schedule=replace(config.schedule, validation_users=4), micro_batch_size=config.batch_size, log_steps=1,
    )  # fmt: skip
    start = go_on(Run(config, World(0, 1, torch.device("cpu")), SILENT), WARM)
    ranks: dict[str, dict[str, np.ndarray]] = {}

    def judge_arm(name: str, run: Run) -> None:
        for role, found in judged(run, name).items():
            ranks.setdefault(role, {}).update(found)
        print(f"  seed {seed}, {name}: {', '.join(ranks)} judged", flush=True)

    run, effects = fork(start, "alone", None), {}
    judge_arm(ALONE, go_on(run, len(run.plan)))
    for rate in rates:
        name = f"alternation, generator's rate {rate:g}"
        run = fork(start, f"rate-{rate:g}", rate)
        judge_arm(name, go_on(run, len(run.plan)))
        effects[name] = effect(start, run)
    if hindsight:
        late = fork(start, "hindsight", None, run.state.book)
        late.state.models["generator"] = run.state.models["generator"]
        judge_arm(HINDSIGHT, go_on(late, len(late.plan)))
    return Seen(ranks, effects, ", ".join(f"{phase.name} {phase.steps:,}" for phase in start.plan))


def result_rows(seen: list[Seen], role: str) -> list[list[str]]:
    """One row per arm: means, and differences to `alone` of each user, averaged over the seeds that have the arm."""
    rows = []
    for name in seen[0].ranks[role]:
        with_arm, row, by_seed = [one.ranks[role] for one in seen if name in one.ranks[role]], [name], ""
        for metric in ("HR@10", "NDCG@10"):
            mine_SN, alone_SN = (np.array([per_user(r[arm])[metric] for r in with_arm]) for arm in (name, ALONE))
            mean, low, high = paired_difference(mine_SN.mean(axis=0), alone_SN.mean(axis=0), seed=0)
            row += [f"{mine_SN.mean():.4f}", "" if name == ALONE else f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"]
            by_seed = ", ".join(f"{value:+.4f}" for value in (mine_SN - alone_SN).mean(axis=1))
        rows.append([*row, "" if name == ALONE else by_seed])
    return rows


def section(seen: list[Seen]) -> list[str]:
    """The part of one data set."""
    lines = [f"Steps: {seen[0].plan}; alone the same without the generator's.", ""]
    columns = ["", "HR@10", "minus alone", "NDCG@10", "minus alone", "NDCG@10, by seed"]
    for role, found in seen[0].ranks.items():
        where = "catalogues trained on" if role == "train" else "unseen catalogues"
        lines += [f"{len(found[ALONE]):,} users of {where}:", "", *table(columns, result_rows(seen, role))]
    told = "What the phase did; losses in nats: L_id per token, the others per target of the users trained on:"
    rows = []
    for number, one in enumerate(seen, 1):
        for name, found in one.effects.items():
            rows.append([f"{name.rpartition(' ')[2]}, run {number}", *(f"{value:.3f}" for value in found)])
    return [*lines, told, "", *table(["generator's rate", *EFFECTS], rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beauty", type=Path, default=Path("/work/shared/data/Beauty"))
    parser.add_argument("--only", choices=[name.lower() for name in RATES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, joined_world():
        for name in [name for name in RATES if options.only in (None, name.lower())]:
            folder = Path(temporary) / name
            config = demo(folder) if name == "Demo" else beauty(folder, options.beauty)
            seen = [arms(config, folder, seed, RATES[name], seed == options.seeds[0]) for seed in options.seeds]
            part = "\n".join([name, "", *section(seen)])
            print(part)
            parts = {old.split("\n", 1)[0]: old for old in OUT.read_text(encoding="utf-8").split("\n## ")}
            OUT.write_text("\n## ".join((parts | {name: part}).values()), encoding="utf-8")


if __name__ == "__main__":
    main()
