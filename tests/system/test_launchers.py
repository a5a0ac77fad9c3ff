"""DeepSpeed's own launcher, with a hostfile, starts a written job."""

import json
import os
import subprocess
import sys
from pathlib import Path

from slurm_runs import ROOT, RUN, idgenrec

QUICK = [
    "--schedule.teaching-epochs", "1", "--schedule.warmup-epochs", "1", "--schedule.generator-epochs", "0",
    "--schedule.recommender-epochs", "0",
]  # fmt: skip


def test_deepspeeds_launcher_with_a_hostfile_starts_a_written_job(shard_folder, tmp_path):
    run, job, hosts = tmp_path / "run", tmp_path / "job.json", tmp_path / "hosts"
    words = ["pretrain", "--shards", shard_folder, "--out", run, *RUN, *QUICK]
    out, err, status = idgenrec("launch", "write", "--job", job, "--ranks", "2", "--", *words)
    assert status == 0, err
    hosts.write_text("localhost slots=2\n")
    deepspeed = Path(sys.executable).with_name("deepspeed")
    launcher = [deepspeed, "--no_ssh_check", "--master_addr", "127.0.0.1", "--hostfile", hosts]
    done = subprocess.run(
        [sys.executable, *map(str, launcher), "--module", "launchers.jobs.rank", str(job)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = json.loads((run / "events.jsonl").read_text().splitlines()[0])
    assert opened["tags"]["idgenrec.world_size"] == "2" and list((run / "checkpoints").glob("step-*"))
