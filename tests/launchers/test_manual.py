"""What a person meets first: the first page, versions, tab completion, configurations from files, slips of the pen."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launchers import cli
from launchers.line import usage_errors

ROOT = Path(cli.__file__).resolve().parent.parent
LEAVES = [
    path
    for name, kind in cli.COMMANDS.items()
    for path in ([f"{name} {word}" for word in usage_errors.subcommands(kind)] or [name])
]


def test_the_first_page_has_every_command_once(idgenrec):
    status, out, err = idgenrec("--help")
    assert (status, err) == (0, "") and idgenrec("-h")[1] == out
    for path in LEAVES:
        assert len(re.findall(rf"^  {path} ", out, re.MULTILINE)) == 1, path
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("path", dict.fromkeys([*cli.COMMANDS, *LEAVES]))
def test_help_reads_like_a_manual_page(idgenrec, path):
    status, out, _ = idgenrec(*path.split(), "--help")
    assert status == 0
    assert re.search(rf"^Example: .*(idgenrec|launchers\.cli) {path}", out, re.MULTILINE), (
        "an example of this very command"
    )
    assert re.search(r"^In: \w", out, re.MULTILINE), "what goes in"
    assert re.search(r"^Out: \w", out, re.MULTILINE), "what comes out"


def test_help_waits_for_no_heavy_library():
    """So it is there in half a second; seconds are not counted here, machines differ."""
    program = (
        "import runpy, sys\nsys.argv = ['idgenrec', 'pretrain', '--help']\n"
        "try: runpy.run_module('launchers.cli', run_name='__main__')\n"
        "except SystemExit: print('MODULES', *sorted(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in said.partition("MODULES ")[2].split()}
    assert {"tyro", "launchers", "pretrain"} <= loaded
    assert not loaded & {
        *(
            "torch",
            "transformers",
            "deepspeed",
            "mlflow",
            "webdataset",
            "submitit",
            "numpy",
            "scipy",
            "polars",
            "pyarrow",
        ),
        *("pandas", "sqlalchemy", "sentencepiece", "jinja2"),
    }


def test_version_says_what_matters(idgenrec):
    status, out, _ = idgenrec("--version")
    assert status == 0
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    for library in ("torch", "deepspeed", "transformers", "webdataset", "sentencepiece", "mlflow", "submitit"):
        assert said[library] == importlib.metadata.version(library)
    assert said["python"] == sys.version.split()[0] and said["idgenrec"].startswith("0.1.0 (")
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert f"commit {head[:12]}" in said["idgenrec"]


def test_completion_completes_in_bash(idgenrec, tmp_path):
    status, out, _ = idgenrec("--completion", "bash")
    script = tmp_path / "completion.bash"
    script.write_text(out)
    assert status == 0
    for words, expected in ((["idgenrec", "pret"], "pretrain"), (["idgenrec", "ids", "--ids.gr"], "--ids.groups")):
        asked = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        asked += '_tyro_idgenrec; echo "${COMPREPLY[@]}"'
        found = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        assert found.stdout.split() == [expected]
    status, _, err = idgenrec("--completion", "csh")
    assert status == 2 and err == "error: --completion needs the name of a shell: bash, zsh, fish, tcsh\n"


def test_nobody_reads_to_the_end():
    """`idgenrec pretrain --help | head -1` is no traceback."""
    words = f"{sys.executable} -m launchers.cli pretrain --help | head -c 1; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stderr == "" and found.returncode in (0, 141)


@pytest.mark.parametrize(("option", "mode"), [("--quiet", "quiet"), ("--json", "json")])
def test_how_much_is_said_is_chosen_before_the_command(idgenrec, monkeypatch, option, mode):
    from launchers.line import console

    monkeypatch.setenv(console.OUTPUT, "")
    words = ("report", "--results", "nowhere")
    status, out, err = idgenrec(option, *words)
    assert (status, out) == (2, "") and err.startswith("error: ")
    assert console.Console().mode == mode


CONFIGURED = {
    "pretrain": "--shards s --out o --schedule.rounds 3 --recommender.start-from t5 --engine.compile",
    "ids": "--generator g --shards s --out o --ids.groups 7",
    "zeroshot": "--checkpoint c --shards s --out o --tasks A B --search.beam 30",
    "shard build": "--train x/A x/B --out o --max-users None",
}


@pytest.mark.parametrize("command", CONFIGURED)
def test_a_printed_configuration_is_read_back(idgenrec, tmp_path, command):
    words = command.split()
    status, printed, _ = idgenrec(*words, *CONFIGURED[command].split(), "--print-config")
    assert status == 0
    file = tmp_path / "config.json"
    file.write_text(printed)
    assert idgenrec(*words, "--config", file, "--print-config") == (0, printed, "")
    status, changed, _ = idgenrec(*words, "--config", file, "--out", "other", "--print-config")
    assert json.loads(changed) == json.loads(printed) | {"out": "other"}, "an option has the last word, the rest stays"
    assert not Path("o").exists() and not Path("other").exists()


def test_a_recipe_is_printed_and_read_back(idgenrec, tmp_path):
    words = ("--recipe", "foundation", "--preset", "paper", "--shards", "s", "--out", "o", "--print-config")
    printed = idgenrec("pretrain", *words)[1]
    assert json.loads(printed)["generator_lr"] == 1e-8
    file = tmp_path / "config.json"
    file.write_text(printed)
    assert idgenrec("pretrain", "--config", file, "--print-config")[1] == printed
    status, _, err = idgenrec("pretrain", "--config", file, "--recipe", "foundation", "--shards", "s", "--out", "o")
    assert status == 2 and err == "error: --config and --recipe both set the defaults; give one of them\n"


def test_toml_by_hand(idgenrec, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('# a small run\nshards = "s"\nbatch_size = 8\n[schedule]\nrounds = 2\nwarmup_epochs = 1\n')
    printed = json.loads(idgenrec("pretrain", "--config", file, "--out", "o", "--batch-size", 16, "--print-config")[1])
    assert printed["shards"] == "s" and printed["batch_size"] == 16 and printed["schedule"]["rounds"] == 2
    status, _, err = idgenrec("pretrain", "--config", file)
    assert status == 2 and err == "error: idgenrec pretrain needs --out; idgenrec pretrain --help tells more\n"


def test_a_printed_configuration_holds_no_password(idgenrec):
    words = ("--shards", "s", "--out", "o", "--tracking-uri", "https://me:secret@host", "--print-config")
    assert "secret" not in idgenrec("pretrain", *words)[1]


PRETRAIN = "pretrain --shards s --out o"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "give a command: demo, shard, pretrain, "),
        ("pretrai", "unknown command pretrai of idgenrec; did you mean pretrain?"),
        ("shard buid", "unknown command buid of idgenrec shard; did you mean build?"),
        ("shard", "idgenrec shard needs a command: build, add, download, inspect"),
        ("--versoin", "unknown option --versoin of idgenrec; did you mean --version?"),
        ("pretrain --shard s --out o", "unknown option --shard of idgenrec pretrain; did you mean --shards?"),
        ("pretrain --shards s", "idgenrec pretrain needs --out; idgenrec pretrain --help tells more"),
        (f"{PRETRAIN} --rounds 2", "unknown option --rounds of idgenrec pretrain; did you mean --schedule.rounds?"),
        (f"{PRETRAIN} --schedule.ronds 2", "did you mean --schedule.rounds?"),
        (f"{PRETRAIN} --schedule.rounds 0", "rounds is 0; it must be at least 1"),
        (f"{PRETRAIN} --schedule.rounds two", "--schedule.rounds is 'two'; it must be a whole number"),
        (f"{PRETRAIN} --schedule.patience=x", "--schedule.patience is 'x'; it must be None or a whole number"),
        (f"{PRETRAIN} --engine.zero-stage 4", "--engine.zero-stage is '4'; allowed: 0, 1, 2, 3"),
        (f"{PRETRAIN} --engine.precision bf61", "did you mean bf16?"),
        (f"{PRETRAIN} --seed", "--seed needs a value; idgenrec pretrain --help tells which"),
        (f"{PRETRAIN} surplus", "unknown word surplus of idgenrec pretrain; "),
        ("launch slurm --nodez 2 -- pretrain", "unknown option --nodez of idgenrec launch slurm; did you mean --nodes"),
        (f"launch local -- {PRETRAIN} --batchsize 3", "of idgenrec pretrain; did you mean --batch-size?"),
        (f"launch local -- {PRETRAIN} --print-config", "--print-config starts nothing; give it without launch"),
        ("track sync", "name the folders of runs or reports, as: idgenrec track sync runs/first"),
        ("track sync nowhere", "nowhere has no tracking.json"),
        ("recommend", "idgenrec recommend needs CHECKPOINT and --items and --histories"),
    ],
)  # fmt: skip
def test_a_slip_of_the_pen_is_one_line(idgenrec, monkeypatch, tmp_path, line, said):
    monkeypatch.chdir(tmp_path)
    status, out, err = idgenrec(*line.split())
    assert (status, out) == (2, "") and err.startswith("error: ") and said in err and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir()), "nothing is written"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.json", None, "cannot be read: No such file or directory"),
        ("c.json", b'{"batch_sise": 3}', "unknown key 'batch_sise' in PretrainConfig; did you mean 'batch_size'?"),
        ("c.json", b'{"schedule": {"rouns": 3}}', "unknown key 'rouns' in ScheduleConfig; did you mean 'rounds'?"),
        ("c.json", b'{"batch_size": "3"}', "PretrainConfig.batch_size must be int, not '3'"),
        ("c.json", b'{"batch_size": 3', "is not JSON: "),
        ("c.toml", b"batch_size = ", "is not TOML: "),
        ("c.json", b"[1]", "it must hold an object"),
        ("c.json", b'{"shards": "K\xe4se"}', "is not UTF-8 text at byte 13"),
    ],
)
def test_a_configuration_file_that_cannot_be_used(idgenrec, tmp_path, name, content, said):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    status, out, err = idgenrec("pretrain", "--config", file, "--shards", "s", "--out", tmp_path / "run")
    assert (status, out) == (2, "") and err.startswith(f"error: --config {file}") and said in err
    assert err.count("\n") == 1 and not (tmp_path / "run").exists()
