"""Launching without a SLURM: what would be submitted, what is refused, what stays secret; torchrun; debug."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from launchers.commands.jobs import lines_behind
from launchers.commands.launch import split
from launchers.line import console
from launchers.slurm import launch_folder
from launchers.slurm.options import SlurmOptions
from pretrain.runtime.interrupt import STATUS, Interrupted

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--recommender.d-model", "16", "--recommender.d-ff", "32", "--recommender.num-layers", "1",
    "--recommender.num-heads", "2", "--generator.d-model", "16", "--generator.d-ff", "32", "--generator.num-layers",
    "1", "--generator.num-heads", "2", "--batch-size", "16", "--micro-batch-size", "8", "--schedule.teaching-epochs",
    "1", "--schedule.warmup-epochs", "0.2", "--schedule.generator-epochs", "0.2", "--schedule.recommender-epochs",
    "0.2", "--schedule.validation-users", "4", "--ids.groups", "3", "--ids.penalty-max", "0.2", "--ids.tier-tokens",
    "4", "--ids.max-tiers", "2", "--ids.item-text-tokens", "32",
]  # fmt: skip


@pytest.fixture
def pretrain(shard_folder, tmp_path):
    """The words of a tiny run, and its folder."""
    return ["pretrain", "--shards", shard_folder, "--out", tmp_path / "run", *TINY], tmp_path / "run"


def test_a_dry_run_shows_the_sbatch_file_and_the_plan_and_writes_nothing(idgenrec, pretrain, monkeypatch):
    words, run = pretrain
    monkeypatch.setenv("PATH", "/nowhere")  # no SLURM is needed
    status, out, err = idgenrec(
        "launch", "slurm", "--dry-run", "--nodes", 2, "--gpus-per-node", 4, "--partition", "gpu", "--minutes", 240,
        "--account", "lab", "--qos", "long", "--constraint", "a100&ib", "--exclude", "gpu[03,07-09]", "--mem", "64G",
        "--cpus-per-task", 8, "--modules", "cuda/12.4", "gcc", "--setup", "ulimit -n 4096", "--container",
        "apptainer exec --nv /img/x.sif", "--python", "python3", "--sbatch", "reservation=spring", "exclusive",
        "--signal-seconds", 300, "--environment", "NCCL_DEBUG=INFO", "--", *words,
    )  # fmt: skip
    assert status == 0 and err == ""
    code = run / "launch" / "001" / "code"
    for line in (
        "#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --ntasks-per-node=4", "#SBATCH --partition=gpu",
        "#SBATCH --time=240", "#SBATCH --account=lab", "#SBATCH --qos=long", "#SBATCH --constraint='a100&ib'",
        "#SBATCH --exclude='gpu[03,07-09]'", "#SBATCH --mem=64G", "#SBATCH --cpus-per-task=8",
        "#SBATCH --reservation=spring", "#SBATCH --exclusive", "#SBATCH --requeue", "#SBATCH --signal=USR2@300",
        "#SBATCH --open-mode=append", "module load cuda/12.4 gcc", "ulimit -n 4096", "environment  NCCL_DEBUG=***",
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}", f"folder       {run}/launch/001",
    ):  # fmt: skip
        assert line in out.splitlines(), line
    srun = next(line for line in out.splitlines() if line.startswith("srun "))
    assert "--kill-on-bad-exit=1 --cpus-per-task=8 apptainer exec --nv /img/x.sif python3 -P -u -m submitit" in srun
    assert f"Plan of {run}: 4 phases" in out and "= 8 ranks x 1 micro-batches" in out
    assert not run.exists()


INJECTIONS = {
    "partition": ["main\n#SBATCH --uid=0", "a b", "$(id)", "`id`", "a;id", "'"],
    "account": ["a\r", 'x"', "a$HOME"],
    "qos": ["a --wrap=id", "x|y"],
    "constraint": ["a&b\n#SBATCH --wrap=id", "$(id)", "a;b"],
    "exclude": ["n1 n2", "n1\n"],
    "mem": ["64G --uid=0", "lots", "1G\n"],
    "modules": [("cuda; id",), ("$(id)",), ("a&&b",), ("x\ny",)],
    "container": ["apptainer exec x; id", "$(id)", "x `id`", "x\nid", "x > y", "x 'y'"],
    "python": ["python3; id", "p\n"],
    "setup": [("a\nb",), ("#SBATCH --uid=0",), ("  #SBATCH --wrap=id",)],
    "environment": [("A B=1",), ("X",), ("A=1\n2",), ("SBATCH_WRAP=id",), ("SLURM_CONF=/x",), ("1A=2",), ("A;id=3",)],
    "sbatch": [("wrap=id",), ("uid=0\n#SBATCH --x",), ("comment=$(id)",), ("comment=a b",), ("Export=x",),
               ("nodes=4",), ("export=NONE",), ("chdir=/",), ("comment=`id`",), ("comment=",)],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INJECTIONS.items() for value in values])
def test_what_could_run_a_command_or_add_a_line_is_refused(name, value):
    with pytest.raises(ValueError, match=f"--{name}") as refusal:
        SlurmOptions(**{name: value})
    assert "\n" not in str(refusal.value)


def test_a_path_is_a_path_to_the_shell(idgenrec, shard_folder, tmp_path):
    """The sbatch file of a run whose folder is named like a command, run by bash with a srun that tells its words."""
    run = tmp_path / "a $(touch told) `touch told` 'b'; touch told"
    words = ["--", "pretrain", "--shards", shard_folder, "--out", run, *TINY]
    status, out, _ = idgenrec("launch", "slurm", "--dry-run", *words)
    assert status == 0
    (tmp_path / "srun").write_text('#!/bin/sh\necho "PATH $PYTHONPATH"; for word; do echo "WORD $word"; done\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = out.split("\nfolder ")[0]
    done = subprocess.run(["bash"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    logs = f"{run}/launch/001/logs"
    assert done.stderr == "" and not (tmp_path / "told").exists()
    assert f"PATH {run}/launch/001/code" in lines and f"WORD {logs}/%j_%t_log.out" in lines
    assert lines[-1] == f"WORD {logs}"
    for odd in ("%j", "a\n#SBATCH --wrap=id"):
        status, _, err = idgenrec("launch", "slurm", "--dry-run", *words, "--out", tmp_path / odd)
        assert status == 2 and "has a % or a line break in it" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "values", [{"nodes": 0}, {"minutes": 2, "signal_seconds": 120}, {"gpus_per_node": 2, "tasks_per_node": 2}]
)
def test_numbers_that_make_no_job_are_refused(values):
    with pytest.raises(ValueError, match="--"):
        SlurmOptions(**values)


def test_planted_secrets_are_hidden_or_refused(idgenrec, pretrain, tmp_path):
    words, run = pretrain
    uri = "postgresql://me:hunter2@db/mlflow"
    words = [*words, "--tracking-uri", uri]
    status, out, err = idgenrec(
        "launch", "slurm", "--dry-run", "--environment", "WANDB_API_KEY=hunter2", "PLAIN=hunter2", "--", *words
    )
    assert status == 0 and "environment  WANDB_API_KEY=***" in out and "hunter2" not in out + err
    assert "environment  IDGENREC_TRACKING_URI=***" in out
    for option, value in (
        ("--setup", "export HF_TOKEN=hunter2"),
        ("--setup", f"mlflow doctor {uri}"),
        ("--sbatch", f"comment={uri.replace('//', '//x:')}"),
    ):
        status, out, err = idgenrec("launch", "slurm", "--dry-run", option, value, "--", *words)
        assert status == 2 and err.startswith("error: ") and "hunter2" not in out + err
    status, out, err = idgenrec("launch", "write", "--job", tmp_path / "job.json", "--", *words)
    assert status == 0 and "set IDGENREC_TRACKING_URI" in out
    assert "hunter2" not in out + (tmp_path / "job.json").read_text() and not run.exists()

    from launchers.jobs.request import restored

    job = json.loads((tmp_path / "job.json").read_text())
    with pytest.raises(ValueError, match="set IDGENREC_TRACKING_URI"):
        restored(job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDGENREC_TRACKING_URI", uri)
        assert restored(job)["tracking_uri"] == uri


@pytest.mark.parametrize(
    ("own", "behind", "why"),
    [
        ("slurm", "", "give it behind --"),
        ("slurm", "report --results x", "only pretrain, ids, zeroshot and shard build"),
        ("slurm", "pretrain --shards S --out R --processes 2", "leave --processes out"),
        ("slurm", "pretrain --shards S --out R --plan", "--plan starts nothing"),
        ("slurm --nodes 3", "pretrain --shards S --out R --batch-size 4", "batch_size"),
        ("slurm --nodes 2", "shard build --test x --out y --tokenizer t", "one process, not 2"),
        ("slurm", "pretrain --shards /nowhere --out R", "/nowhere"),
        ("slurm", "ids --generator g --shards S --out S", "exists; give another --out"),
        ("local -n 0", "pretrain --shards S --out R", "processes is 0"),
    ],
)
def test_a_mistake_is_found_before_anything_is_submitted(idgenrec, shard_folder, tmp_path, own, behind, why):
    places = {"S": shard_folder, "R": tmp_path / "run"}
    words = [places.get(word, word) for word in behind.split()]
    status, _, err = idgenrec("launch", *own.split(), "--", *words)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1 and why in err
    assert not (tmp_path / "run").exists()


def test_without_sbatch_nothing_is_written(idgenrec, pretrain, monkeypatch):
    words, run = pretrain
    monkeypatch.setenv("PATH", "/nowhere")
    status, _, err = idgenrec("launch", "slurm", "--", *words)
    assert status == 2 and "no sbatch here" in err and not run.exists()


def test_a_snapshot_is_whole_and_numbered(tmp_path):
    first = launch_folder.next_folder(tmp_path)
    one = launch_folder.write(first, {"task": "ids", "config": {}})
    assert first.name == "001" and (first / "code" / "zeroshot" / "report" / "templates").is_dir()
    assert one == launch_folder.code_hash(first / "code")
    (first / "code" / "launchers" / "jobs" / "rank.py").write_text("")
    assert one != launch_folder.code_hash(first / "code")
    assert launch_folder.next_folder(tmp_path).name == "002"
    assert launch_folder.records(tmp_path) == [], "a launch without a record was not submitted"
    with (
        launch_folder.locked(tmp_path),
        pytest.raises(ValueError, match="somebody is launching"),
        launch_folder.locked(tmp_path),
    ):
        pass


def test_only_launch_has_words_behind():
    assert split(["launch", "slurm", "--", "pretrain", "--", "x"]) == (["launch", "slurm"], ["pretrain", "--", "x"])
    assert split(["pretrain", "--", "x"]) == (["pretrain", "--", "x"], [])


@pytest.mark.processes
def test_debug_runs_in_this_process(shard_folder, tmp_path):
    """A process of its own all the same: what a rank sets is for good."""
    code = "import sys; from launchers.jobs import rank; from launchers.cli import main\n"
    code += "done = rank.perform\n"
    code += "def perform(task, config): print('HERE', task, config['out']); return done(task, config)\n"
    code += "rank.perform = perform; main()"
    words = ["launch", "debug", "--", "pretrain", "--shards", shard_folder, "--out", tmp_path / "run", *TINY]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RANK": "7", "WORLD_SIZE": "9"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"HERE pretrain {tmp_path / 'run'}" in done.stdout
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.processes
def test_torchrun_starts_a_written_job_and_local_goes_on_with_it(idgenrec, pretrain, tmp_path):
    words, run = pretrain
    job = tmp_path / "job.json"
    assert idgenrec("launch", "write", "--job", job, "--ranks", 2, "--", *words)[0] == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*torchrun, "-m", "launchers.jobs.rank", str(job)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert said[0]["tags"]["idgenrec.world_size"] == "2"
    status, out, _ = idgenrec("launch", "local", "-n", 2, "--", *words)
    assert status == 0 and "is finished; nothing to do" in out
    status, _, err = idgenrec("launch", "local", "-n", 2, "--", *words, "--seed", 3)
    assert status == 2 and "seed 0, not 3" in err


FAKE = """#!/bin/sh
echo "$0 $*" >> {folder}/called
case "$*" in *" 8") echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
*" 9") echo "Unable to contact slurm controller" >&2; exit 1;;
*" 6") kill -SEGV $$;; esac
echo "JobId=7 JobName=x UserId=root(0) JobState=RUNNING Reason=None"
"""


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """`launched(job)`: a run folder with a launch of that job. Job 7 runs, 8 is gone, of 9 SLURM says nothing, and its
    scontrol dies of 6."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("scontrol", "scancel", "sbatch"):
        (programs / name).write_text(FAKE.format(folder=tmp_path))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def make(job):
        run = tmp_path / "runs" / "first"
        logs = run / "launch" / "001" / "logs"
        logs.mkdir(parents=True)
        launch_folder.write_record(run / "launch" / "001", {"job": job, "ranks": 2, "logs": str(logs), "after": {}})
        (logs / f"{job}_0_log.out").write_text("one\ntwo\nthree\nfour\n")
        (logs / f"{job}_1_log.err").write_text("rank one's\n")
        (run / "metrics.jsonl").write_text('{"time": 1, "step": 12, "a/loss": 0.5}\n{"time": 2, "st')
        return run

    return make


def test_jobs_shows_state_progress_and_last_words(idgenrec, launched, monkeypatch, tmp_path):
    run = launched("7")
    monkeypatch.chdir(tmp_path)
    status, out, err = idgenrec("jobs")
    assert status == 0 and err == ""
    first, progress, *words = out.splitlines()
    assert first == "runs/first: job 7 RUNNING, 2 ranks, launch 001"
    assert progress.startswith("  step 12, ") and progress.endswith(" s ago: a/loss 0.5")
    assert words == ["  two", "  three", "  four"]
    assert idgenrec("cancel", run) == (0, f"{run}: job 7 is cancelled\n", "")
    assert f"{tmp_path}/bin/scancel 7\n" in (tmp_path / "called").read_text()


@pytest.mark.parametrize(
    ("words", "keys"),
    [("jobs", {"result", "run", "job", "state", "launch"}), ("logs", {"result"}), ("cancel", {"result", "run", "job"})],
)
def test_a_program_reads_objects(idgenrec, launched, monkeypatch, words, keys):
    monkeypatch.setenv(console.OUTPUT, "")
    status, out, _ = idgenrec("--json", words, launched("7"))
    assert status == 0 and set(json.loads(out.splitlines()[0])) == keys
    assert all("result" in json.loads(line) for line in out.splitlines())


def test_a_log_is_passed_on_by_whole_lines(tmp_path):
    log = tmp_path / "log"
    assert lines_behind(log, 0, unfinished=True) == ([], 0)
    log.write_text("one\n\ntw")
    assert lines_behind(log, 0, unfinished=False) == (["one", ""], 5)
    assert lines_behind(log, 5, unfinished=False) == ([], 5)
    assert lines_behind(log, 5, unfinished=True) == (["tw"], 7)


def test_of_a_job_that_is_gone_there_are_the_logs(idgenrec, launched, tmp_path):
    run = launched("8")
    assert idgenrec("logs", "-f", run) == (0, "one\ntwo\nthree\nfour\n", "")
    assert idgenrec("logs", run, "--rank", 1) == (0, "rank one's\n", "")
    assert "job 8 is gone from SLURM" in idgenrec("jobs", run)[1]
    status, _, err = idgenrec("cancel", run)
    assert status == 2 and "is gone; there is nothing to cancel" in err
    assert "scancel" not in (tmp_path / "called").read_text()


@pytest.mark.parametrize(
    ("job", "said"), [("9", "(Unable to contact slurm controller)"), ("6", "(scontrol ends with -11 and says '')")]
)
def test_a_slurm_that_does_not_answer_is_no_finished_job(idgenrec, launched, job, said):
    run = launched(job)
    for words in (["jobs", run], ["cancel", run]):
        status, _, err = idgenrec(*words)
        assert status == 2 and said in err and err.count("\n") == 1
    status, _, err = idgenrec("jobs", run.parent / "other")
    assert status == 2 and "was not launched on SLURM" in err


@pytest.mark.parametrize(
    ("job", "restarts", "rank", "requeued", "said"),
    [
        ("7", "1", "0", True, "because; job 7 goes back to the queue"),
        ("7", "2", "0", False, "queued again 2 times, --max-requeues"),
        ("8", "0", "0", False, "job 8 is None: not queued again by us"),
        ("7", "0", "1", True, "job 7 goes back to the queue"),
    ],
)
def test_a_job_comes_back_while_it_runs_and_not_for_ever(
    launched, monkeypatch, capsys, tmp_path, job, restarts, rank, requeued, said
):
    from launchers.slurm import requeue as slurm

    launched(job)
    waited = []
    monkeypatch.setattr(slurm, "time", SimpleNamespace(sleep=waited.append))
    values = {"SLURM_JOB_ID": job, "SLURM_RESTART_COUNT": restarts, slurm.REQUEUES: "2", "RANK": rank}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    slurm.requeue_and_wait("because")
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert (f"scontrol requeue {job}" in (tmp_path / "called").read_text()) == requeued
    assert len(waited) == int(rank) + requeued, "another rank waits for rank 0 first, all wait for their end"


UNREACHABLE = """#!/bin/sh
cd {folder}
echo "$*" >> called
case $(wc -l < called) in {silent}) echo "Unable to contact slurm controller" >&2; exit 1;; esac
[ $1 = requeue ] || echo "JobId=7 JobState=RUNNING Reason=None"
"""


@pytest.mark.parametrize(
    ("silent", "asked", "said"),
    [
        ("1", ["show", "show", "requeue"], "does not say what job 7 does (Unable to contact"),
        ("2|4", ["show", "requeue", "show", "requeue", "show", "requeue"], "does not queue job 7 again (Unable to"),
        ("*", ["show"] * 8, "try again with the same launch: stopped by SIGUSR2; step-5 is saved"),
    ],
)
def test_a_controller_that_does_not_answer_is_asked_again(launched, monkeypatch, capsys, tmp_path, silent, asked, said):
    """The job has saved what it has: it comes back, and where it cannot, it does not end as a mistake."""
    from launchers.jobs import rank
    from launchers.slurm import requeue

    launched("7")
    (tmp_path / "bin" / "scontrol").write_text(UNREACHABLE.format(folder=tmp_path, silent=silent))
    waited = []
    monkeypatch.setattr(requeue, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(requeue, "rendezvous", lambda: None)
    monkeypatch.setattr(requeue, "_block_signals", lambda: None, raising=False)
    for name, value in {"SLURM_JOB_ID": "7", requeue.REQUEUES: "5", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)

    def taken_away(job_file):
        raise Interrupted(signal.SIGUSR2, "step-5 is saved")

    monkeypatch.setattr(rank, "main", taken_away)
    with pytest.raises(SystemExit) as end:
        rank.ending(lambda: requeue._perform("job.json"))
    assert end.value.code == STATUS and said in capsys.readouterr().err
    assert [line.split()[0] for line in (tmp_path / "called").read_text().splitlines()] == asked
    ended = [requeue.ENDED_WITHIN] if asked[-1] == "requeue" else []
    assert waited == [*requeue.PAUSES[: asked.count("show") - 1], *ended]


def slow_run(run):
    """What a run leaves whose steps took 40 s and whose checkpoint took 100 s."""
    steps = [
        {"time": 1.0, "step": 1, "group": "a", "a/loss": 1.0},
        {"time": 41.0, "step": 2, "group": "a", "a/loss": 1.0},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    folder = run / "checkpoints" / "step-0000002"
    folder.mkdir(parents=True)
    for name, written in (("COMPLETE", 1100.0), ("state.json", 1000.0)):
        (folder / name).write_text("{}")
        os.utime(folder / name, (written, written))


def test_a_signal_that_leaves_no_time_to_save_is_refused(idgenrec, pretrain):
    words, run = pretrain
    run.mkdir()
    slow_run(run)
    status, _, err = idgenrec("launch", "slurm", "--dry-run", "--", *words)
    assert status == 2 and "--signal-seconds 120 is too short" in err and err.endswith("; give 280\n")
    assert "a step took up to 40.0 s and a checkpoint 100.0 s" in err
    status, _, err = idgenrec("launch", "slurm", "--dry-run", "--signal-seconds", 280, "--", *words)
    assert "signal" not in err


def test_stages_wait_for_runs_that_were_launched_and_arrays_for_values(idgenrec, pretrain, launched, tmp_path):
    words, _ = pretrain
    other = launched("7")
    status, out, err = idgenrec(
        "launch",
        "slurm",
        "--dry-run",
        "--after",
        other,
        "--",
        "pretrain",
        "--shards",
        "not-yet",
        "--out",
        tmp_path / "b",
    )
    assert status == 0 and err == ""
    assert "#SBATCH --dependency=afterok:7" in out and "#SBATCH --kill-on-invalid-dep=yes" in out
    assert "pretrain: " in out and "not-yet is not there yet: checked when the job starts" in out
    for job, why in (("8", "SLURM does not know job 8"), ("9", "Unable to contact")):
        launch_folder.write_record(other / "launch" / "001", {"job": job, "ranks": 2, "logs": "", "after": {}})
        status, _, err = idgenrec("launch", "slurm", "--dry-run", "--after", other, "--", *words)
        assert status == 2 and why in err and err.count("\n") == 1
    status, _, err = idgenrec("launch", "slurm", "--dry-run", "--after", tmp_path / "none", "--", *words)
    assert status == 2 and "was not launched on SLURM" in err
    many = [*words[:4], tmp_path / "run-{each}", *words[5:], "--seed", "{each}"]
    status, out, _ = idgenrec("launch", "slurm", "--dry-run", "--each", 3, 4, "--", *many)
    assert status == 0 and "#SBATCH --array=0-1%2" in out and f"folder       {tmp_path}/run-4/launch/001" in out
    for each, behind in (([], many), (["--each", 3], words)):
        status, _, err = idgenrec("launch", "slurm", "--dry-run", *each, "--", *behind)
        assert status == 2 and "belong together" in err
    status, _, err = idgenrec("launch", "slurm", "--each", 3, 4, "--", *words, "--seed", "{each}")
    assert status == 2 and "put {each} into --out" in err


def test_what_sbatch_refuses_is_one_line_and_leaves_no_launch(idgenrec, pretrain, launched, tmp_path):
    words, run = pretrain
    launched("8")
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    status, _, err = idgenrec("launch", "slurm", "--partition", "nope", "--", *words)
    assert status == 2 and err.endswith("\nerror: sbatch refuses the job: invalid partition\n")
    assert launch_folder.numbered(run / "launch") == []


@pytest.mark.processes
def test_shards_are_built_by_a_launch(idgenrec, shard_folder, tmp_path):
    from shards.manifest import Manifest

    raw = shard_folder.parent / "raw"
    code = "from launchers.cli import main; main()"
    words = ["launch", "debug", "--", "shard", "build", "--train", raw / "Garden", raw / "Kitchen", "--test"]
    words += [raw / "Gifts", "--out", tmp_path / "shards", "--vocab-size", 420, "--lanes", 4, "--records-per-tar", 4]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Manifest.load(str(tmp_path / "shards")).sha256() == Manifest.load(str(shard_folder)).sha256()
