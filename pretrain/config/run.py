"""The configuration of a pretraining run: frozen dataclasses, one per owner.

Enters: keyword arguments. Leaves: values that cannot change. Must hold: an unknown key or
an impossible combination fails here, before any process starts, with a line that says what to change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pretrain.config.ids import IdConfig
from pretrain.config.prompt import PromptConfig
from pretrain.config.soft_ids import SoftIdConfig
from pretrain.config.tracking_uri import check_uri
from pretrain.decoding.config import SearchConfig
from shards.bounds import Bounds, Count, Natural, NonNegative, Positive, Rate, Share, check

Precision = Literal["fp32", "bf16"]


Kind = Literal["teaching", "recommender", "generator"]
"""Of a phase: what it trains."""


@dataclass(frozen=True)
class ModelConfig:
    """A T5: a Hugging Face folder or hub name to start from, or, without one, the shape of a T5 from scratch."""

    start_from: str | None = None
    """Hugging Face folder or hub name; none = from scratch with the shape below."""
    d_model: Count = 128
    """Width of the residual stream."""
    d_ff: Count = 256
    """Width of the gated feed-forward layers."""
    num_layers: Count = 2
    """Layers of encoder and of decoder."""
    num_heads: Count = 4
    """Attention heads."""

    def __post_init__(self) -> None:
        check(self)
        if self.start_from is None and self.d_model % self.num_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by num_heads {self.num_heads}; change one of them"
            )


@dataclass(frozen=True)
class ScheduleConfig:
    """The alternation (section 2.5). Epochs may be fractions; an epoch is every sample once.

    `teaching_epochs`: a generator from scratch first learns to write an item's most informative words (epochs over the
    items); so does one that writes something else, where `teaching_steps` asks for it. `warmup_epochs`: the recommender
    trains before the generator gets its first signal (0 = the paper's order).
    A number of steps, where given, takes the place of the epochs beside it; 0 leaves the phase out.
    """

    teaching_epochs: NonNegative = 10.0
    """Epochs over the items (a generator from scratch only; a pretrained one is taught by teaching_steps)."""
    teaching_words: Count = 3
    """Words of an item it is taught to write."""
    warmup_epochs: NonNegative = 1.0
    """Recommender epochs before the first round (0 = the paper's order)."""
    rounds: Count = 1
    """Alternations of generator and recommender."""
    generator_epochs: NonNegative = 1.0
    """Epochs of the generator per round."""
    recommender_epochs: NonNegative = 1.0
    """Epochs of the recommender per round."""
    teaching_steps: Natural | None = None
    """Optimiser steps instead of teaching_epochs; they teach a pretrained generator too."""
    warmup_steps: Natural | None = None
    """Optimiser steps instead of warmup_epochs."""
    generator_steps: Natural | None = None
    """Optimiser steps per round instead of generator_epochs."""
    recommender_steps: Natural | None = None
    """Optimiser steps per round instead of recommender_epochs."""
    refresh_ids: Literal["phase", "never"] = "phase"
    """"phase": the ID book is made anew after every phase that changed the generator. "never": the first book stays."""
    validation_users: Count = 256
    """Users of the pretraining categories that pick the checkpoint."""
    validation_steps: Count | None = None
    """Steps between validations inside a recommender phase; none = at its end only."""
    patience: Count | None = None
    """Validations in a row without a better NDCG@10 that end the run; none = it runs to its end."""

    def __post_init__(self) -> None:
        check(self)

    def trains(self, kind: str) -> bool:
        """Whether the steps of a kind, or the epochs where no steps are given, leave it a phase."""
        return bool(getattr(self, self.length_of(kind)))

    def length_of(self, kind: str) -> str:
        """The option that says how long phases of a kind are: steps, where given, take the place of epochs."""
        return f"{kind}_epochs" if getattr(self, f"{kind}_steps") is None else f"{kind}_steps"


@dataclass(frozen=True)
class EngineConfig:
    """How the ranks share a model and compute with it; nothing of it changes what a run means, and a checkpoint can be
    taken up with other values (`precision` excepted)."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed ZeRO: 0 = whole on each rank; shared out over ranks: 1 optimiser state, 2 and gradients, 3 and weights.
    """
    precision: Precision = "fp32"
    """Of weights and activations in a step; master weights and optimiser state are float32."""
    offload: bool = False
    """Keep master weights and optimiser state in the host's memory (stages 1 to 3)."""
    activation_checkpointing: bool = False
    """Compute each layer again for its gradient instead of keeping its activations."""
    compile: bool = False
    """torch.compile encoder and decoder (pays on GPUs, in long phases)."""

    def __post_init__(self) -> None:  # what DeepSpeed cannot do
        if self.offload and self.zero_stage == 0:
            raise ValueError("offload needs zero_stage 1, 2 or 3; stage 0 has nothing to offload")
        if self.precision == "bf16" and self.zero_stage == 0:
            raise ValueError("precision bf16 needs zero_stage 1, 2 or 3: stage 0 keeps no float32 master weights")


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run over a shard folder.

    Learning rates: decoupled AdamW, linear warm-up over `warmup_share` of a model's steps, linear decay to zero.
    """

    shards: str
    """Shard folder, made by `idgenrec shard`."""
    out: str
    """Run folder: checkpoints and metrics."""
    recommender: ModelConfig = field(default_factory=ModelConfig)
    generator: ModelConfig = field(default_factory=ModelConfig)
    ids: IdConfig = field(default_factory=IdConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    soft_ids: SoftIdConfig = field(default_factory=SoftIdConfig)
    batch_size: Count = 64
    """Samples per optimiser step, all ranks together."""
    micro_batch_size: Count = 32
    """Samples one rank computes at a time."""
    recommender_lr: NonNegative = 1e-3
    """Peak learning rate."""
    generator_lr: NonNegative = 1e-5
    """Peak learning rate of the soft-ID phases."""
    teaching_lr: NonNegative = 1e-3
    """Peak learning rate of the teaching phase."""
    weight_decay: NonNegative = 0.01
    """Decoupled (AdamW)."""
    clip_norm: NonNegative = 1.0
    """Largest global gradient norm."""
    dropout: Rate = 0.0
    """Of the model in training, keyed by sample, attention weights left out (T5's own rate: 0.1)."""
    history_dropout: Rate = 0.0
    """Share of a recommender's samples whose prompt leaves the history out, so that it learns what the search takes
    away by search.prior_weight: an ID's probability without a history."""
    warmup_share: Share = 0.05
    """Share of a model's steps with rising learning rate."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    seed: Natural = 0
    """Of every draw."""
    threads: Count = 1
    """CPU threads per rank."""
    length_window: Natural = 0
    """Samples of a lane sorted by history length together, so that batches are of like lengths (0 = not sorted)."""
    prefix_run: Count = 1
    """Prefixes of a history that stay together, so that a generator batch has fewer items to encode (1 = none do)."""
    stream_workers: Natural = 0
    """Processes per rank that read shards ahead (0 = the rank reads them itself); they change no batch."""
    checkpoint_steps: Count = 500
    """Steps between checkpoints inside a phase."""
    keep_checkpoints: Count = 2
    """Newest checkpoints kept, beside the best."""
    checkpoint_in_background: bool = False
    """Inside a phase copy to the host's memory, go on, and write meanwhile."""
    on_bad_step: Literal["stop", "skip", "rewind"] = "stop"
    """A step whose loss is not finite, or a spike: stop the run, give the step no weight, or go back to the last
    checkpoint and leave its batch out."""
    spike_factor: Annotated[float, Bounds(above=1)] | None = None
    """A loss above this many times the median of the phase's last 50 steps is a spike, from its 101st step on; none =
    no loss is."""
    hang_minutes: NonNegative = 30.0
    """A rank without progress for so long is named, with its phase and stack, and the run ends (0 = never)."""
    peak_tflops: Positive | None = None
    """Peak TFLOP/s of one rank's device, to report model FLOPs utilisation; none = known GPUs only."""
    log_steps: Count = 10
    """Steps between logged figures."""
    tracking_uri: str | None = None
    """MLflow store; none = mlflow.db beside the run folder."""
    experiment: str = "idgenrec"
    """MLflow experiment."""
    books: str | None = None
    """Folder of ID books that runs and evaluations share (all ranks must see it): what the same generator wrote with
    the same options for the same texts is not made again; none = nothing is shared."""
    allow_changed: tuple[str, ...] = ()
    """Values that may differ from those the run had, by the name its refusal shows, such as recommender_lr."""

    def __post_init__(self) -> None:
        check(self)
        if self.prefix_run > 1 and self.length_window:
            raise ValueError("prefix_run and length_window exclude each other; set one of them only")
        trained, length = self.schedule.trains("generator"), f"schedule.{self.schedule.length_of('generator')}"
        if self.prompt.history == "texts" and trained:
            raise ValueError(
                f"a history of texts shows the generator nothing of its IDs; set {length} to 0, or prompt.history to "
                "ids"
            )
        if self.prompt.user_id == "alone" and trained:
            raise ValueError(
                f"a prompt with the user's ID alone shows the generator nothing of its items' IDs; set {length} to 0, "
                "or prompt.user_id to with-items"
            )
        if self.ids.form != "generated" and trained:
            raise ValueError(
                f"IDs of the form {self.ids.form} are not the generator's, so it has nothing to learn; set {length} "
                "to 0, or ids.form to generated"
            )
        if self.ids.form != "generated" and self.prompt.user_id == "none" and self.schedule.teaching_steps:
            raise ValueError(
                f"IDs of the form {self.ids.form} are not the generator's, so it need not be taught; set "
                "schedule.teaching_steps to 0, or ids.form to generated, or let it name users by prompt.user_id"
            )
        check_uri(self.tracking_uri)

    def micro_batches(self, world_size: int) -> int:
        """Micro-batches per rank and optimiser step.

        Raises ValueError when the batch does not divide over the ranks.
        """
        if self.batch_size % world_size:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by {world_size} ranks; change one of them")
        return -(-self.batch_size // world_size // self.micro_batch_size)
