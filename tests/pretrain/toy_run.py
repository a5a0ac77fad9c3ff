"""A run without models: the life cycle itself is the product's, what it trains is a toy, and a test holds the reins.

Enters: a PretrainConfig, and what disturbs the run (`Reins`). Leaves: the run folder that the life cycle leaves. Must
hold: a toy's weights, books and scores follow from all that the real ones follow from, so that what is lost or mixed up
shows in the bytes. Ranks are threads of this process; a slow disk writes only once the run waits for it.
"""

import contextlib
import errno
import hashlib
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from patience import HANG, until
from safetensors.torch import load_file, save_file

from pretrain.runtime.interrupt import Interrupted
from pretrain.runtime.world import World
from pretrain.training import loss_spikes, run, state, train
from pretrain.training.checkpoint_writer import CheckpointWriter
from pretrain.training.engine import StepResult

WAVES = 2


class Killed(BaseException):
    """The process is gone: nothing that it does afterwards reaches the disk that lives on."""


class Reins:
    """What the test holds of one start of a run, on all of its ranks."""

    def __init__(self, ranks):
        self.changed = threading.Condition()
        self.allowed, self.waiting, self.order = 0, False, None
        self.heard, self.tracker_fails = 0, False
        self.slow: str | None = None
        self.full: Any = None
        self.disk = threading.Event()
        self.boards, self.broken = {}, False
        self.begun, self.savers, self.works, self.held = [], set(), [], 0
        self.ends: list[Any] = [None] * ranks
        self.threads, self.lines = [], []

    def line(self, text):
        self.lines.append(text)

    def progress(self, what, done, total, unit, note=""):
        pass

    def pause(self):
        """Rank 0, before it goes on: waits until it may, or does as it is ordered."""
        with self.changed:
            self.waiting = self.allowed == 0
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.allowed or self.order, HANG)
            self.waiting = False
            if self.order:
                raise self.order
            self.allowed -= 1

    def go(self, steps):
        """Let it do so many steps or waves. Returns whether it has ended."""
        with self.changed:
            if steps:
                self.allowed, self.waiting = steps, False
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.waiting or not self.alive, HANG)
        return not self.alive

    def go_to_the_end(self):
        self.go(10**9)
        self.join()

    def raise_(self, order):
        """End rank 0 by this where it waits."""
        with self.changed:
            self.order = order
            self.changed.notify_all()
        self.join()

    def join(self):
        for thread in self.threads:
            thread.join(HANG)
            assert not thread.is_alive(), "a rank hangs"

    @property
    def alive(self):
        return any(end is None for end in self.ends)

    def exchange(self, rank, count, value):
        """The values of all ranks, in their `count`-th collective."""
        with self.changed:
            board = self.boards.setdefault(count, {})
            board[rank] = value
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: len(board) == len(self.ends) or self.broken, HANG)
            if len(board) < len(self.ends):
                raise RuntimeError("connection closed by peer")
            return [board[rank] for rank in sorted(board)]

    def write(self, rank, write, folder):
        """A checkpoint's files, on the disk as it is."""
        self.hold("to begin")
        write(folder)
        self.hold("to end")
        if self.full == rank:
            raise OSError(errno.ENOSPC, "No space left on device")

    def hold(self, where):
        if self.slow != where:
            return
        with self.changed:
            self.held += 1
        assert self.disk.wait(HANG)
        with self.changed:
            self.held -= 1

    def still(self):
        """Whether no file changes: what is being written is held up by the disk."""
        return self.held == sum(not work.done() for work in self.works)

    def rest(self):
        """Until nothing is written any more, drafts that were given up included."""
        self.disk.set()
        for saver in self.savers:
            saver._thread.shutdown(wait=True)


@dataclass(frozen=True)
class ToyWorld(World):
    """A rank that is a thread."""

    reins: Reins
    done: list = field(default_factory=list)

    def gather(self, value):
        self.done.append(None)
        return self.reins.exchange(self.rank, len(self.done), value)

    def sum(self, *values):
        return [float(sum(column)) for column in zip(*self.gather(values), strict=True)]

    def max(self, value):
        return max(self.gather(value))

    def barrier(self):
        self.gather(None)


class ToyModel(torch.nn.Module):
    config = None

    def __init__(self, weights):
        super().__init__()
        self.weight = torch.nn.Parameter(weights)

    @property
    def digest(self):
        return hashlib.sha256(self.weight.detach().numpy().tobytes()).hexdigest()


def save_toy(model, tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": model.weight.detach()}, folder / "model.safetensors")


def load_toy(name, tokenizer):
    return ToyModel(load_file(Path(name) / "model.safetensors")["weight"])


class ToyBook:
    def __init__(self, text):
        self.text, self.sha256 = text, hashlib.sha256(text.encode()).hexdigest()

    def describe(self):
        return self.text

    def summary(self):
        return {"length": 1.0}

    def difference(self, other):
        return type("Difference", (), {"share_changed": 1.0})

    def save(self, path):
        path.write_text(self.text)

    @staticmethod
    def load(path, tokenizer):
        return ToyBook(path.read_text())


def draw(*names):
    """A number between 0 and 1 that follows from all these."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:4], "little") / 2**32


class ToyObjective(torch.nn.Module):
    def __init__(self, model, *others):
        super().__init__()
        self.model = model
        self.frozen = [other.digest for other in others if isinstance(other, ToyModel)]


class ToyEngine:
    """Trains in place, as ZeRO stage 0 does."""

    spiking = ()
    level = staticmethod(lambda kind, slot: 1.0)

    def __init__(self, objective, config, world, before):
        self.objective, self.world, self.num_steps = objective, world, 0
        self.named = [(name, p) for name, p in objective.named_parameters() if p.requires_grad]
        self.moments = {(name, key): torch.zeros_like(p) for name, p in self.named for key in ("exp_avg", "exp_avg_sq")}
        self._before = before or {name: p.detach().clone() for name, p in self.named}

    def step(self, batch, rate, accept):
        if self.world.is_main:
            self.world.reins.pause()
        self.world.barrier()
        loss = 50.0 if batch[:2] in self.spiking else 1 + draw(batch, self.objective.model.digest)
        loss *= self.level(*batch[:2])
        taken = accept(loss)
        self.num_steps += 1
        with torch.no_grad():
            for name, p in self.named:
                gradient = torch.full_like(p, draw(batch, self.objective.frozen)) + 0.1 * p
                for key, share in (("exp_avg", 0.9), ("exp_avg_sq", 0.99)):
                    self.moments[name, key].mul_(share).add_(gradient, alpha=(1 - share) * taken)
                p.sub_(self.moments[name, "exp_avg"], alpha=rate * taken)
        return StepResult(loss, 1, 1.0, taken)

    def state(self):
        for name, p in self.named:
            yield name, {"weight": p.detach()} | {key: self.moments[name, key] for key in ("exp_avg", "exp_avg_sq")}

    def weights(self):
        for name, p in self.named:
            yield name, p.detach()

    def load(self, moment, num_steps, filler):
        self.moments = {(name, key): moment(name, key).clone() for name, key in self.moments}
        self.num_steps = num_steps

    def share_moved(self):
        return float(any(not torch.equal(p.detach(), self._before[name]) for name, p in self.named))

    def close(self):
        pass


class ToyTracker:
    run_id = None

    def __init__(self, reins):
        self.reins = reins

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def rewound(self):
        pass

    def metrics(self, values, step, **labels):
        if self.reins.tracker_fails:
            raise OSError(errno.ENOSPC, "No space left on device")


def toy_tracker(config, manifest, world, *more):
    return ToyTracker(world.reins) if world.is_main else None


class ToyWatch:
    def __init__(self, *about):
        pass

    def waiting(self, steps):
        return steps

    def count(self, batch):
        pass

    def report(self):
        return {}


class ToyInterrupt:
    def __init__(self, world):
        self.world = world

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def agreed(self):
        return self.world.max(self.world.reins.heard)


def toy_book(folder, generator, tokenizer, items, config, world, reporter, *, journal, asked):
    """An ID job of `WAVES` waves with a journal."""
    while (done := len(list(journal.glob(f"{generator.digest}-*")))) < WAVES:
        number = asked()
        if number:
            raise Interrupted(number, f"{done} waves of the ID job are kept")
        world.barrier()
        if world.is_main:
            world.reins.pause()
            journal.mkdir(exist_ok=True)
            (journal / f"{generator.digest}-{done}").touch()
        world.barrier()
    return ToyBook(f"of {generator.digest}"), None


def score(recommender, tokenizer, book, *more):
    ndcg = round(draw(recommender.digest, book.text), 1)  # so that some are equal
    return {"NDCG@10": ndcg, "HR@10": 1.0, "NDCG@10_stderr": 0.15}


def steps(toy):
    kind, position = toy.phase.kind, toy.state.positions[toy.phase.kind]
    while True:
        number = (kind, position.slot, toy.state.book.sha256 if toy.state.book else None)
        position = replace(position, slot=position.slot + 1)
        yield position, number


def bridle(monkeypatch, tokenizer):
    """Put the toys in the places of what trains, reads, writes models and judges."""
    begin, finish = CheckpointWriter.begin, CheckpointWriter.finish

    def slow_begin(saver, step, write):
        reins, rank = saver.world.reins, saver.world.rank
        reins.disk.clear()
        if rank == 0:
            reins.begun.append(f"step-{step:07d}")
        begin(saver, step, lambda folder: reins.write(rank, write, folder))
        reins.savers.add(saver)
        reins.works.append(saver._work[2])

    def waited_for(saver):
        saver.world.reins.disk.set()
        return finish(saver)

    for owner, name, value in (
        (CheckpointWriter, "begin", slow_begin), (CheckpointWriter, "finish", waited_for),
        (run, "Engine", ToyEngine), (run, "cached_book", toy_book),
        (run, "GeneratorObjective", ToyObjective),
        (run, "RecommenderObjective", ToyObjective), (run, "PromptBuilder", lambda *_: None),
        (run, "load_tokenizer", lambda folder: tokenizer), (run, "gc", type("Lazy", (), {"collect": lambda: 0})),
        (state, "build_model", lambda shape, words, seed: ToyModel(torch.arange(4.0) + seed)),
        (run.Run, "steps", steps), (run.Run, "_filler", lambda *_: None),
        (state, "save_model", save_toy), (state, "load_model", load_toy), (state, "Book", ToyBook),
        (train, "Throughput", ToyWatch), (train, "NodeMetrics", ToyWatch), (train, "Interrupt", ToyInterrupt),
        (train, "validate", score), (train, "record_models", lambda *_: None),
        (train, "open_tracker", toy_tracker),
        (loss_spikes, "WINDOW", 2), (loss_spikes, "LEAST", 4),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, value)


def start(config, ranks=1):
    """Begin or take up a run; it waits before its first step or wave."""
    reins = Reins(ranks)

    def body(world):
        try:
            end = train.train(config, world, reins)
        except BaseException as error:
            end = error
        with reins.changed:
            reins.ends[world.rank] = end
            reins.broken = True
            reins.changed.notify_all()

    for rank in range(ranks):
        world = ToyWorld(rank, ranks, torch.device("cpu"), reins)
        reins.threads.append(threading.Thread(target=body, args=(world,), daemon=True))
    for thread in reins.threads:
        thread.start()
    reins.go(0)
    return reins


def kill(reins, out, copy):
    """End it as SIGKILL would; `copy` is the disk that lives on."""
    until(reins.still)
    shutil.copytree(out, copy)
    reins.raise_(Killed())
    reins.rest()


def let_go(reins):
    """End it by whatever way, when a test is over."""
    with contextlib.suppress(AssertionError):
        reins.raise_(Killed())
    reins.rest()
