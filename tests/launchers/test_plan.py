"""A run before it starts: its plan, and what is refused before any process starts."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launchers import cli
from launchers.checks import preflight
from launchers.checks.machine import Machine, disk_free, measured_flops, memory_limit, this_machine
from launchers.checks.plan import plan_lines
from launchers.checks.preflight import look, refuse_what_cannot_fit, size
from launchers.jobs import local
from pretrain.config.run import EngineConfig, ModelConfig, PretrainConfig, ScheduleConfig
from pretrain.model.t5 import save_model
from pretrain.training import checkpoint
from pretrain.training.schedule import make_plan

ROOT = Path(cli.__file__).resolve().parent.parent
SMALL = ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2)
GB = 10**9


@pytest.fixture
def config(shard_folder, tmp_path):
    return PretrainConfig(str(shard_folder), str(tmp_path / "run"), SMALL, SMALL, batch_size=8, micro_batch_size=4)


@pytest.fixture
def on_machine(monkeypatch):
    """`on_machine(memory, disk)`: every machine is that."""

    def pretend(memory=64 * GB, disk=1000 * GB, gpu=False):
        machine = Machine("H200" if gpu else "CPU", gpu, memory, 16 << 20)
        monkeypatch.setattr(preflight, "this_machine", lambda processes: machine)
        monkeypatch.setattr(preflight, "disk_free", lambda folder: disk)

    pretend()
    return pretend


def test_the_plan_is_the_runs_own(config, manifest, items, on_machine):
    config = dataclasses.replace(config, schedule=ScheduleConfig(rounds=2, warmup_epochs=0.5))
    outlook = look(config, 2)
    assert outlook.phases == make_plan(config.schedule, manifest.num_samples, len(items), 8, from_scratch=True)
    text = "\n".join(plan_lines(outlook, 0.5))
    for phase in outlook.phases:
        [line] = [line for line in text.splitlines() if line.strip().startswith(phase.name)]
        assert phase.kind in line and f"{phase.steps:,}" in line and f"{phase.steps * 8:,}" in line
        assert ("made" in line) == phase.refresh_ids
    assert f"{manifest.num_samples:,} samples an epoch, {len(items):,} items" in text
    assert "8 samples = 2 ranks x 1 micro-batches x 4 samples" in text
    assert "0.5 TFLOP/s a device, as --device-tflops says" in text
    for said in (
        "activations*",
        "optimiser state",
        "1 (this run)",
        "sent, generator",
        "a checkpoint takes",
        "estimated",
    ):
        assert said in text, said
    assert all(len(line) <= 130 for line in text.splitlines())


def test_the_engines_options_are_in_the_figures(config, on_machine):
    plain = look(config, 2)

    def asked(**options):
        return look(dataclasses.replace(config, engine=EngineConfig(**options)), 2)

    low = asked(precision="bf16", offload=True, zero_stage=2)
    assert low.memory("recommender", 2).optimiser == 0 and low.host("recommender", 2) > plain.host("recommender", 2)
    assert low.memory("recommender", 2).weights == plain.memory("recommender", 2).weights / 2
    again = asked(activation_checkpointing=True)
    assert again.memory("generator", 1).activations < plain.memory("generator", 1).activations
    stages = [line.split()[0] for line in plan_lines(low, 1.0) if " yes " in line]
    assert stages == ["1", "2", "3"], "stage 0 has neither bf16 nor offload"
    assert "2 (this run)" in "\n".join(plan_lines(low, 1.0))


def test_time_follows_the_rate_and_the_ranks(config, on_machine):
    from launchers.checks.plan import _seconds

    outlook, alone = look(config, 2), look(config, 1)
    for phase in outlook.phases:
        slow, fast = _seconds(outlook, phase, 1e9), _seconds(outlook, phase, 4e9)
        assert slow[0] == pytest.approx(4 * fast[0]) and slow[1] == pytest.approx(4 * fast[1])
        assert _seconds(alone, phase, 1e9)[1] == pytest.approx(2 * slow[1])
        assert (slow[1] > 0) == (phase.refresh_ids or phase.validate)


def test_what_fits_is_not_refused_and_what_does_not_is(config, on_machine):
    outlook = look(config, 1)
    needed, kind = outlook.needed(1)
    on_machine(memory=int(needed) + 1)
    refuse_what_cannot_fit(look(config, 1))
    on_machine(memory=int(needed) - 1)
    with pytest.raises(ValueError, match=rf"a {kind} phase needs .* a rank has .*CPU.*try "):
        refuse_what_cannot_fit(look(config, 1))
    room = int(outlook.checkpoint_bytes * (config.keep_checkpoints + 2))
    on_machine(disk=room + 1)
    refuse_what_cannot_fit(look(config, 1))
    on_machine(disk=room - 1)
    with pytest.raises(ValueError, match="2 newest checkpoints, the best .* make room or lower keep_checkpoints"):
        refuse_what_cannot_fit(look(config, 1))
    there = Path(config.out) / "checkpoints" / "step-0000001"
    there.mkdir(parents=True)
    (there / "x").write_bytes(bytes(10))
    refuse_what_cannot_fit(look(config, 1))  # what is there makes way for what comes


def test_a_gpu_is_measured_by_its_own_memory(config, on_machine):
    """There neither libraries nor copies count."""
    on_machine(memory=GB, gpu=True)
    outlook = look(config, 1)
    needed, _ = outlook.needed(1)
    assert 0 < needed < 0.1 * GB
    refuse_what_cannot_fit(outlook)
    on_machine(memory=int(needed) - 1, gpu=True)
    with pytest.raises(ValueError, match=r"has .* \(H200\); try "):
        refuse_what_cannot_fit(look(config, 1))


@pytest.fixture
def refused(monkeypatch, capfd):
    """`refused(*words)`: the one line by which `idgenrec pretrain` refuses; no process may start."""

    def no_process(*_):
        raise AssertionError("a process was started")

    monkeypatch.setattr(local, "launch", no_process)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["idgenrec", "pretrain", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
        return lines[0]

    return run


@pytest.fixture
def words(shard_folder, tmp_path):
    return ["--shards", shard_folder, "--out", tmp_path / "run"]


def test_ranks_and_shards(refused, words, tmp_path):
    assert "processes is 0" in refused(*words, "--processes", 0)
    assert "batch_size 7 is not divisible by 2 ranks" in refused(*words, "--batch-size", 7, "--processes", 2)
    assert "manifest.json is missing" in refused("--shards", tmp_path / "none", "--out", tmp_path / "run")
    assert "no phase with a step" in refused(
        *words, "--schedule.warmup-steps", 0, "--schedule.generator-steps", 0, "--schedule.recommender-steps", 0,
        "--schedule.teaching-steps", 0,
    )  # fmt: skip


def test_memory_and_disk(refused, words, on_machine):
    on_machine(memory=10**6)
    assert "a rank has 1.0 MB" in refused(*words)
    on_machine(disk=10**6)
    assert "has room for 1.0 MB" in refused(*words)
    assert "has room for 1.0 MB" in refused(*words, "--plan"), "after the plan was printed"


@pytest.fixture
def model_folder(small_model, tokenizer, tmp_path):
    """`model_folder(name)`: a T5 of the shards' tokenizer in a folder of its own."""

    def make(name):
        save_model(small_model(1), tokenizer, tmp_path / name)
        return tmp_path / name

    return make


def test_a_folder_without_a_t5(refused, words, model_folder, tmp_path):
    assert "no such folder" in refused(*words, "--recommender.start-from", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused(*words, "--generator.start-from", tmp_path / "empty")
    folder = model_folder("bert")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "bert"}))
    said = refused(*words, "--recommender.start-from", folder)
    assert "recommender.start_from" in said and "'bert', not 't5'" in said
    (folder / "config.json").write_text("{")
    assert "no JSON" in refused(*words, "--recommender.start-from", folder)
    folder = model_folder("weightless")
    (folder / "model.safetensors").unlink()
    assert "no weights" in refused(*words, "--recommender.start-from", folder)
    assert "no T5 there" in refused(*words, "--recommender.start-from", "nobody/nothing-of-that-name")


def test_a_model_whose_weights_are_not_whole(refused, words, model_folder):
    folder = model_folder("relu")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"feed_forward_proj": "relu", "is_gated_act": False}))
    said = refused(*words, "--recommender.start-from", folder)
    assert said.count("\n") <= 1 and f"recommender.start_from {folder}" in said
    assert "lacks encoder.block.0.layer.1.DenseReluDense.wi.weight" in said and "has too many" in said
    folder = model_folder("cut")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert "model.safetensors is missing or damaged" in refused(*words, "--generator.start-from", folder)


def test_another_tokenizer(refused, words, model_folder, tokenizer, tmp_path):
    from shards.tokenizer import train_tokenizer

    folder = model_folder("few")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"vocab_size": 300}))
    said = refused(*words, "--recommender.start-from", folder)
    assert "300 embedding rows" in said and f"{len(tokenizer):,} pieces" in said and "--tokenizer" in said
    folder = model_folder("other")
    (folder / "tokenizer.json").unlink()
    train_tokenizer(["some other words here", "and there"] * 9, folder, 300)
    assert "has another tokenizer than" in refused(*words, "--generator.start-from", folder)


def test_two_vocabularies(refused, words, small_model, tmp_path):
    model = small_model(1)
    rows, folder = model.config.vocab_size, tmp_path / "wide"
    model.resize_token_embeddings(rows + 128)
    model.save_pretrained(folder)
    said = refused(*words, "--recommender.start-from", folder)
    assert f"{rows:,}" in said and f"{rows + 128:,}" in said and "one vocabulary" in said


def test_models_of_the_shards_own_tokenizer_are_taken(config, model_folder, small_model, on_machine):
    """Widths may differ (soft IDs are the recommender's embeddings), and vocabularies where no soft ID is made."""
    folder = model_folder("fitting")
    started = dataclasses.replace(
        config, recommender=ModelConfig(start_from=str(folder)), generator=ModelConfig(d_model=24, num_heads=2)
    )
    outlook = look(started, 2)
    assert outlook.recommender.d_model == 16 and outlook.generator.d_model == 24
    assert [phase.kind for phase in outlook.phases][0] == "teaching"
    model = small_model(1)
    model.resize_token_embeddings(model.config.vocab_size + 128)
    model.save_pretrained(folder)
    alone = dataclasses.replace(started, schedule=ScheduleConfig(generator_epochs=0.0))
    assert "generator" not in {phase.kind for phase in look(alone, 2).phases}


def test_a_run_of_another_shape_or_other_shards_is_not_taken_up(trained_run, tmp_path, on_machine):
    config, out = trained_run
    assert look(config, 1).checkpoints_bytes > 0
    for change, said in (
        ({"recommender": dataclasses.replace(config.recommender, d_model=32)}, "recommender.d_model 16, not 32"),
        ({"schedule": dataclasses.replace(config.schedule, rounds=2)}, "schedule.rounds 1, not 2"),
        ({"seed": 3}, "seed 0, not 3"),
    ):
        with pytest.raises(ValueError, match=f"{said}: give another --out"):
            look(dataclasses.replace(config, **change), 1)
    other = tmp_path / "shards"
    shutil.copytree(config.shards, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"seed": 77}))
    with pytest.raises(ValueError, match="made with other shards"):
        look(dataclasses.replace(config, shards=str(other)), 1)
    look(dataclasses.replace(config, log_steps=77), 1)
    copy = tmp_path / "copy"
    shutil.copytree(config.out, copy)
    newest = checkpoint.newest(copy)
    assert newest is not None
    (newest / "state.json").write_text("{")
    look(dataclasses.replace(config, out=str(copy)), 1)  # the run itself names it and passes it over


def test_a_plan_waits_for_no_torch(shard_folder, tmp_path):
    code = (
        "import sys; sys.argv = ['idgenrec', 'pretrain', '--shards', sys.argv[1], '--out', sys.argv[2], '--plan']\n"
        "from launchers.cli import main; main()\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'deepspeed', 'mlflow', 'sklearn'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(shard_folder), str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "HEAVY []" in found.stdout and "Memory of a rank" in found.stdout
    assert not (tmp_path / "run").exists(), "nothing is written"


def test_memory_of_the_machine_and_of_its_control_group(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:       2000 kB\nMemFree: 1 kB\n")
    assert memory_limit(tmp_path) == 2000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/one\n")
    group = tmp_path / "sys/fs/cgroup/jobs/one"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) == 2000 * 1024
    (group.parent / "memory.max").write_text("900000\n")
    assert memory_limit(tmp_path) == 900000, "a limit of the group above"
    (tmp_path / "proc/self/cgroup").write_text("4:cpu,memory:/a\n")
    old = tmp_path / "sys/fs/cgroup/memory/a"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("5000")
    assert memory_limit(tmp_path) == 5000, "version 1"


def test_this_machine(tmp_path):
    one, four = this_machine(1), this_machine(4)
    assert not one.is_gpu and four.memory == one.memory // 4 and one.memory > 10**8
    assert disk_free(tmp_path / "not" / "there") > 0
    assert 1e8 < measured_flops(one, 1) < 1e14


def test_sizes():
    assert [size(n) for n in (5, 1500, 3.21e9, 308e6, 2.5e12)] == ["5 B", "1.5 kB", "3.2 GB", "308 MB", "2.5 TB"]
