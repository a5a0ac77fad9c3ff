"""What several rooms' tests share: a tiny shard folder, models, an ID book, and ranks in processes of their own.

Everything here is lazy: a test that asks for nothing pays nothing. The tests compare bits, so they run on the CPU.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from multiprocessing.connection import wait

import pytest
import pytest_randomly
from hypothesis import settings
from patience import HANG

# No property fails by the clock or by the draw: its examples follow from its code. By hand, new ones at every call:
# --hypothesis-profile=fresh, with --hypothesis-seed to have them again.
settings.register_profile("fresh", settings.get_profile("ci"), derandomize=False)
settings.load_profile("ci")


def seed_torch(seed):
    """Whatever torch draws without a seed of its own is the same in every order of the tests, at every seed of it."""
    del seed
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


# DeepSpeed registers a seeder, for which every process of pytest would import DeepSpeed: four seconds.
pytest_randomly.entrypoint_reseeds = [seed_torch]

# A shell that starts the tests in the background ignores Ctrl-C for them, and with them for all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # two gloo ranks cannot share one GPU under NCCL
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


class ByValue:
    """Pickles to the bytes of an object, so that another process needs no importable test module."""

    def __init__(self, value):
        import cloudpickle

        module = sys.modules.get(getattr(value, "__module__", ""))
        if module is not None and "tests" in str(getattr(module, "__file__", "")):
            cloudpickle.register_pickle_by_value(module)
        self.data = cloudpickle.dumps(value)

    def __reduce__(self):
        import cloudpickle

        return cloudpickle.loads, (self.data,)


def pytest_configure(config):
    """One hang limit for every test: a little more than `until` has, which says what it waited for."""
    if config.option.timeout is None:
        config.option.timeout = 1.1 * HANG


def pytest_terminal_summary(terminalreporter, config):
    """The head of the output, where pytest-randomly names its seed, is left out by -q."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(f"the same order again: --randomly-seed={config.option.randomly_seed}")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks at the marks in a hook of this name
def pytest_collection_modifyitems(items):
    """Test files run at the same time (--dist loadgroup), each on one worker; those that need the one SLURM on one. Who
    asks for ranks, a trained run included, is no test of one process."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("slurm" if "slurm" in fixtures else str(item.path)))
        if "run_ranks" in fixtures:
            item.add_marker(pytest.mark.processes)
    # Files with tests that take long begin first: what begins last ends alone.
    long = {item.path for item in items if item.get_closest_marker("processes") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish(session):
    """Where a test needs ranks, their server starts now and imports while the first tests run."""
    if getattr(session.config, "workerinput", None) and session.config.option.loadgroup:
        alone = [item.nodeid for item in session.items if "@" not in item.nodeid]
        assert not alone, f"this pytest-xdist does not group tests under this pytest: {alone[:3]}"
    forked = {"run_ranks", "forked_ranks"}
    needed = any(forked.intersection(getattr(item, "fixturenames", ())) for item in session.items)
    if needed and not session.config.option.collectonly:
        from multiprocessing import forkserver

        multiprocessing.get_context("forkserver").set_forkserver_preload(
            [
                "pretrain.training.train",
                "zeroshot.harness",
                "deepspeed.runtime.zero.muon.muon_optimizer",  # two seconds of every first engine
                "mlflow.tracking",
                "mlflow.store.tracking.sqlalchemy_store",
            ]
        )
        forkserver.ensure_running()


@pytest.fixture(scope="session")
def by_value():
    """`ByValue`, for what starts processes of its own."""
    return ByValue


@pytest.fixture(scope="session")
def run_ranks():
    """`run_ranks(function, world_size, *args)`: `function(world, *args)` on that many gloo ranks, one process each.

    Returns the results in rank order. A rank that fails stops the others, and its traceback is raised here. The
    processes are forked from a server that has imported the heavy libraries once.
    """
    context = multiprocessing.get_context("forkserver")

    def rank_body(function, rank, world_size, port, arguments, pipe):
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT=port
        )
        try:
            import warnings

            import cloudpickle

            warnings.simplefilter("ignore")

            from launchers.jobs.rank import _quiet
            from pretrain.runtime.world import joined_world
            from pretrain.tracking import tracker

            tracker.PATIENCE = tracker.HURRY = HANG  # on a busy machine, too, every line arrives
            _quiet()
            with joined_world(threads=1) as world:
                result = function(world, *arguments)
            pipe.send_bytes(cloudpickle.dumps((True, result)))
        except BaseException:
            pipe.send_bytes(cloudpickle.dumps((False, traceback.format_exc())))

    def run(function, world_size, *arguments):
        import cloudpickle

        from pretrain.runtime.rendezvous import HeldPort

        held = HeldPort()
        processes, pipes = [], {}
        for rank in range(world_size):
            ours, theirs = context.Pipe(duplex=False)
            values = (ByValue(function), rank, world_size, str(held.number), ByValue(arguments), theirs)
            process = context.Process(target=ByValue(rank_body), args=values, daemon=True)  # type: ignore[arg-type]
            process.start()
            theirs.close()
            processes.append(process)
            pipes[ours] = rank
        results = {}
        try:
            while pipes:
                ready = wait(list(pipes), HANG)
                assert ready, f"ranks {sorted(pipes.values())} did not answer within {HANG:.0f} s"
                for pipe in ready:
                    rank = pipes.pop(pipe)  # type: ignore[arg-type]
                    try:
                        well, result = cloudpickle.loads(pipe.recv_bytes())  # type: ignore[union-attr]
                    except EOFError:
                        well, result = False, "the process died"
                    assert well, f"rank {rank} of {world_size} failed:\n{result}"
                    results[rank] = result
        finally:
            for process in processes:
                process.join(HANG if not pipes else 0)
                if process.is_alive():
                    process.kill()
                    process.join()
            held.close()
        return [results[rank] for rank in range(world_size)]

    return run


@pytest.fixture(scope="session")
def shard_folder(tmp_path_factory):
    """Two train categories and one unseen set of 24 items each, a few dozen samples, a tokenizer of their words."""
    from pretrain.config.prompt import tokenizer_lines
    from shards.build.build import build
    from shards.config import BuildConfig
    from shards.readers.marketplace import MarketplaceSizes, write_marketplace

    folder = tmp_path_factory.mktemp("tiny")
    sizes = MarketplaceSizes(
        users_per_category=14, items_per_category=24, test_users=6, test_items=24, min_length=4, max_length=8
    )
    write_marketplace(folder / "raw", seed=5, sizes=sizes)
    raw = folder / "raw"
    config = BuildConfig(
        train=(str(raw / "Garden"), str(raw / "Kitchen")),
        test=(str(raw / "Gifts"),),
        out=str(folder / "shards"),
        vocab_size=420,
        lanes=4,
        records_per_tar=4,
        tokenizer_text=tokenizer_lines(),
    )
    build(config)
    return folder / "shards"


@pytest.fixture(scope="session")
def manifest(shard_folder):
    from shards.manifest import Manifest

    return Manifest.load(shard_folder)


@pytest.fixture(scope="session")
def tokenizer(shard_folder):
    from shards.tokenizer import load_tokenizer

    return load_tokenizer(shard_folder / "tokenizer")


@pytest.fixture(scope="session")
def items(shard_folder, manifest):
    from shards.tables import load_items

    return load_items(shard_folder, manifest)


@pytest.fixture(scope="session")
def book_of(tokenizer, items):
    """`book_of(texts)`: a book of these IDs; without texts a plain one, two to four words an item, all different."""
    import numpy as np

    from pretrain.ids.book import Book, canonical

    def make(texts=None, names=None):
        if texts is None:
            words = [text.replace(";", " ").replace(":", " ").split()[1:] for text in items.texts]
            texts = [" ".join([*some[: 1 + row % 3], str(row)]) for row, some in enumerate(words)]
        names = names or (items.items if len(texts) == len(items) else [f"i{row}" for row in range(len(texts))])
        normal, encoded = canonical(tokenizer, list(texts))
        zeros = np.zeros(len(texts), dtype=np.int32)
        ids = [np.array(tokens, dtype=np.int32) for tokens in encoded]
        return Book(list(names), normal, ids, zeros, zeros, zeros.astype(bool), "generator", "tokenizer")

    return make


@pytest.fixture(scope="session")
def small_model(tokenizer):
    """`small_model(seed)`: a T5 from scratch over the tiny tokenizer, one layer, 16 wide."""
    from pretrain.config.run import ModelConfig
    from pretrain.model.t5 import build_model

    def make(seed=0):
        return build_model(ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2), tokenizer, seed)

    return make


@pytest.fixture(scope="session")
def train_config(shard_folder, tmp_path_factory):
    """`train_config(name, **changes)`: a run of a few steps of every phase, in the folder `name`."""
    from pretrain.config.ids import IdConfig
    from pretrain.config.run import ModelConfig, PretrainConfig, ScheduleConfig
    from pretrain.decoding.config import SearchConfig

    runs = tmp_path_factory.mktemp("runs")
    shape = ModelConfig(d_model=16, d_ff=32, num_layers=1, num_heads=2)

    def make(name, **changes):
        values = {
            "recommender": shape,
            "generator": shape,
            "ids": IdConfig(groups=3, penalty_max=0.2, tier_tokens=4, max_tiers=2, item_text_tokens=32),
            "schedule": ScheduleConfig(
                teaching_epochs=2.0,
                warmup_epochs=0.5,
                generator_epochs=0.25,
                recommender_epochs=0.5,
                validation_users=8,
            ),
            "batch_size": 16,
            "micro_batch_size": 8,
            "generator_lr": 1e-3,
            "search": SearchConfig(beam=10),
            "log_steps": 1,
            "checkpoint_steps": 2,
            "tracking_uri": f"sqlite:///{runs}/mlflow.db",
        }
        return PretrainConfig(str(shard_folder), str(runs / name), **(values | changes))

    return make


@pytest.fixture(scope="session")
def trained_run(run_ranks, train_config):
    """(configuration, run folder) of a small run, start to end."""

    def body(world, config):
        from pretrain.runtime.progress import Silent
        from pretrain.training.train import train

        return str(train(config, world, Silent()))

    config = train_config("whole")
    run_ranks(body, 1, config)
    return config, config.out


@pytest.fixture(scope="session")
def untied_run(run_ranks, train_config, small_model, tokenizer, tmp_path_factory):
    """(configuration, run folder) of a small run whose models have a head of their own, as T5 v1.1 has."""
    import dataclasses

    import torch

    from pretrain.config.run import ModelConfig, ScheduleConfig
    from pretrain.model.t5 import save_model

    folder = tmp_path_factory.mktemp("untied")
    model = small_model(3)
    model.config.scale_decoder_outputs = False
    model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().flip(1).clone())
    save_model(model, tokenizer, folder)

    def body(world, config):
        from pretrain.runtime.progress import Silent
        from pretrain.training.train import train

        return str(train(config, world, Silent()))

    start = ModelConfig(start_from=str(folder))
    schedule = ScheduleConfig(warmup_epochs=0.1, generator_epochs=0.1, recommender_epochs=0.1, validation_users=4)
    config = train_config("untied", recommender=start, generator=start, schedule=schedule)
    run_ranks(body, 1, dataclasses.replace(config, checkpoint_steps=50))
    return config, config.out
