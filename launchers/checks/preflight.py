"""What would stop a run of pretraining, found before any process starts.

Enters: a PretrainConfig and the number of ranks. Leaves: what a plan is made of. Must hold: each mistake is one line
that says what to change; nothing is written and no weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from launchers.checks.machine import Machine, disk_free, this_machine
from launchers.checks.starting_models import shape_of
from pretrain.config.run import Kind, PretrainConfig
from pretrain.model.shape import Shape
from pretrain.planning import plan as costs
from pretrain.planning.workload import Batch, Data, batch_of, count
from pretrain.training.run_identity import identity, refuse_another
from pretrain.training.schedule import Phase, make_plan
from shards.files.store import local_copy
from shards.manifest import TOKENIZER_FOLDER, Manifest
from shards.records import HOLDOUT_SCHEMA, ITEM_SCHEMA
from shards.tables import holdout_file, items_file, read_table

PROCESS_BYTES = 700 << 20
"""A rank with its libraries and no model, on the CPU: resident memory after `import pretrain.training.train`."""


@dataclass(frozen=True)
class Outlook:
    """A run before it starts. `batches`: the average micro-batch of each kind of phase that the plan has."""

    config: PretrainConfig
    ranks: int
    data: Data
    recommender: Shape
    generator: Shape
    phases: tuple[Phase, ...]
    batches: dict[Kind, Batch]
    machine: Machine
    disk_free: int
    tokenizer_bytes: int
    checkpoints_bytes: int
    """Of the checkpoints that the run folder holds already."""

    @property
    def zero_stage(self) -> int:
        return self.config.engine.zero_stage

    @property
    def precision(self) -> str:
        return self.config.engine.precision

    @property
    def offload(self) -> bool:
        return self.config.engine.offload

    @property
    def recomputed(self) -> bool:
        """Activation checkpointing."""
        return self.config.engine.activation_checkpointing

    def trained(self, kind: Kind) -> int:
        """Parameters that a phase of this kind trains."""
        return (self.recommender if kind == "recommender" else self.generator).num_parameters

    def memory(self, kind: Kind, zero_stage: int) -> costs.Memory:
        """Bytes of one rank on its device in a phase of this kind."""
        activations = costs.activation_bytes(
            kind, self.batches[kind], self.recommender, self.generator, self.precision, self.recomputed,
            self.machine.chunk_bytes,
        )  # fmt: skip
        return costs.memory(
            kind, self.recommender.num_parameters, self.generator.num_parameters, self.ranks, zero_stage,
            self.precision, self.offload and zero_stage > 0, activations,
        )  # fmt: skip

    def host(self, kind: Kind, zero_stage: int) -> float:
        """Bytes of the host's memory that rank 0 needs, libraries included. Where that is the device's memory too, a
        checkpoint's copies take the place of the activations."""
        always, between = costs.host_copies(self.trained(kind), self.ranks, zero_stage, self.offload)
        freed = 0.0 if self.machine.is_gpu else self.memory(kind, zero_stage).activations
        return PROCESS_BYTES + always + max(0.0, between - freed)

    def needed(self, zero_stage: int) -> tuple[float, Kind]:
        """Bytes of a rank's memory in the largest phase, and that phase's kind. On the CPU the host's memory counts, a
        rank's share of what rank 0 has for all."""

        def bytes_of(kind: Kind) -> float:
            device = self.memory(kind, zero_stage).total
            if self.machine.is_gpu:
                return device
            return device + PROCESS_BYTES + (self.host(kind, zero_stage) - PROCESS_BYTES) / self.ranks

        return max((bytes_of(kind), kind) for kind in self.batches)

    @property
    def id_job_bytes(self) -> float:
        """Bytes of a rank while IDs are made: both models and encoded texts."""
        models = 4 * (self.recommender.num_parameters + self.generator.num_parameters)
        return models + min(self.config.ids.encoder_cache_gb * 1e9, self._encoded_bytes)

    @property
    def _encoded_bytes(self) -> float:
        return 4 * self.generator.d_model * float(self.data.text_tokens_N.sum()) / self.ranks

    @property
    def checkpoint_bytes(self) -> float:
        """Bytes of the largest checkpoint."""
        return costs.checkpoint_bytes(
            self.phases, self.recommender.num_parameters, self.generator.num_parameters, self.data.items,
            self.tokenizer_bytes,
        )  # fmt: skip


def look(config: PretrainConfig, ranks: int) -> Outlook:
    """See what the run will be. Raises ValueError for what cannot be run, whatever the machine."""
    if ranks < 1:
        raise ValueError(f"processes is {ranks}; at least one is needed")
    config.micro_batches(ranks)
    manifest = Manifest.load(config.shards)
    if Path(config.out).resolve() == Path(config.shards).resolve():
        raise ValueError(f"--out {config.out} is the shard folder; give the run a folder of its own")
    if not manifest.num_samples:
        raise ValueError(f"{config.shards} has no training samples; build it with train data sets")
    recommender = shape_of("recommender", config.recommender, config.shards, manifest)
    generator = shape_of("generator", config.generator, config.shards, manifest)
    from_scratch = config.generator.start_from is None
    phases = make_plan(config.schedule, manifest.num_samples, manifest.num_items, config.batch_size, from_scratch)
    kinds: dict[Kind, None] = dict.fromkeys(phase.kind for phase in phases)
    if "generator" in kinds and recommender.vocab_size != generator.vocab_size:
        raise ValueError(
            f"the generator has {generator.vocab_size:,} embedding rows, the recommender {recommender.vocab_size:,}: a "
            "soft ID needs one vocabulary; start both from models of one vocabulary, or set "
            f"schedule.{config.schedule.length_of('generator')} to 0"
        )
    check_resumed(config, manifest)
    data = read_data(config, manifest)
    run = Path(config.out) / "checkpoints"
    return Outlook(
        config, ranks, data, recommender, generator, phases,
        {kind: batch_of(kind, config, data, ranks) for kind in kinds}, this_machine(ranks), disk_free(Path(config.out)),
        _bytes_below(local_copy(config.shards, TOKENIZER_FOLDER)), _bytes_below(run),
    )  # fmt: skip


def check_resumed(config: PretrainConfig, manifest: Manifest) -> None:
    """Raise ValueError where the run folder holds a run of other values or other shards."""
    run = Path(config.out)
    if not (run / "checkpoints").is_dir():
        return
    from pretrain.training import checkpoint

    for folder, saved in checkpoint.sound(run)[-1:]:
        refuse_another(folder, saved, identity(config), manifest.sha256(), config.allow_changed)


def read_data(config: PretrainConfig, manifest: Manifest) -> Data:
    """Histories and lengths of item texts of the train members; texts themselves are not kept."""
    lengths, histories = [], []
    for member in manifest.train_members:
        tokens = read_table(config.shards, items_file(member.name), ITEM_SCHEMA).column("token_ids").combine_chunks()
        lengths.append(np.asarray(tokens.value_lengths()))
        history = read_table(config.shards, holdout_file(member.name), HOLDOUT_SCHEMA).column("history")
        history = history.combine_chunks()
        ends = np.cumsum(np.asarray(history.value_lengths()))[:-1]
        rows = np.asarray(history.flatten(), dtype=np.int64) + member.row_offset
        histories += np.split(rows, ends) if len(history) else []
    return count(histories, np.concatenate(lengths), config.prompt.max_history, config.ids.item_text_tokens)


def refuse_what_cannot_fit(outlook: Outlook) -> None:
    """Raise ValueError where a rank's memory or the disk is too small."""
    needed, kind = outlook.needed(outlook.zero_stage)
    machine, stage = outlook.machine, outlook.zero_stage
    if needed > machine.memory:
        parts = outlook.memory(kind, stage)
        cures = []
        if parts.activations > 0.2 * needed:
            cures += ["a smaller micro_batch_size"] if outlook.config.micro_batch_size > 1 else []
            cures += [] if outlook.recomputed else ["--engine.activation-checkpointing"]
        fitting = [other for other in costs.STAGES if other > stage and outlook.needed(other)[0] <= machine.memory]
        cures += [f"--engine.zero-stage {fitting[0]}"] if fitting else []
        cures += ["fewer processes on this machine" if not machine.is_gpu and outlook.ranks > 1 else "smaller models"]
        raise ValueError(
            f"a {kind} phase needs {size(needed)} a rank ({size(parts.activations)} of it activations), a rank has "
            f"{size(machine.memory)} ({machine.device}); try {' or '.join(cures)}"
        )
    refuse_full_disk(outlook)


def refuse_full_disk(outlook: Outlook) -> None:
    """Raise ValueError where the run's disk has no room for its checkpoints."""
    keep = outlook.config.keep_checkpoints
    room = outlook.disk_free + outlook.checkpoints_bytes
    if outlook.checkpoint_bytes * (keep + 2) > room:
        raise ValueError(
            f"{keep} newest checkpoints, the best and the one in work take {size(outlook.checkpoint_bytes)} each; "
            f"the disk of {outlook.config.out} has room for {size(room)}; make room or lower keep_checkpoints"
        )


def size(count: float) -> str:
    """Bytes as a person reads them: 3.2 GB."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.{1 if count < 100 * one else 0}f} {unit}"
    return f"{count:.0f} B"


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
