"""A real SLURM of two nodes on this machine: installed where it is missing, started, stopped, cleaned up.

Must hold: no test loses a race against SLURM's own clocks. All of them are far longer than a save or a start takes on a
busy machine; what SLURM would wait for to its end, a test brings about (`Cluster.queued_again`, `Cluster.lose`).
"""

import contextlib
import fcntl
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where this file is the program

from patience import limit, rest, until  # noqa: E402

CONFIG = """ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait={long}
SlurmdTimeout={long}
BatchStartTimeout={long}
MinJobAge={long}000
MessageTimeout=100
SlurmdParameters=config_overrides
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime={long}
PartitionName=high Nodes=node1,node2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
NODES = ("node1", "node2")
HOSTS, HOSTS_LINE = Path("/etc/hosts"), "127.0.0.1 node1 node2 # idgenrec slurm test"
LOCK = Path("/tmp/idgenrec-slurm-test.lock")
MUNGE_FOLDERS = ("/run/munge", "/var/log/munge", "/var/lib/munge")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE")


def call(*words, check=True, **options):
    """Standard output of a program."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, f"{words}: {done.returncode} {done.stdout}{done.stderr}"
    return done.stdout


class Cluster:
    """Started as a context; only root can."""

    def __init__(self, folder: Path):
        self.folder, self.daemons, self.owns_munge = folder, {}, False

    def __enter__(self):
        self.lock = LOCK.open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # its ports are fixed: one cluster at a time
        install()
        for name in ("state", "log", "run", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        host = socket.gethostname().split(".")[0]
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(folder=self.folder, host=host, long=math.ceil(limit(300)))
        )
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        HOSTS.write_text(HOSTS.read_text().rstrip("\n") + f"\n{HOSTS_LINE}\n")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        if call("munge", "-n", check=False) == "":
            for folder in MUNGE_FOLDERS:
                call("install", "-d", "-o", "munge", "-g", "munge", folder)
            call("runuser", "-u", "munge", "--", "/usr/sbin/munged")
            self.owns_munge = True
        for name, words in {
            "ctld": ["slurmctld", "-D"],
            **{node: ["slurmd", "-D", "-N", node] for node in NODES},
        }.items():
            self._daemon(name, words)
        self.wait(lambda: call("sinfo", "-h", "-N", "-p", "main", "-o", "%t", check=False).split() == ["idle"] * 2)

    def _daemon(self, name, words):
        self.daemons[name] = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def lose(self, node, ranks):
        """Power off: the daemon, what holds the job's steps there, and the ranks, all at once. SLURM misses it soon."""
        config = self.folder / "slurm.conf"
        soon = f"SlurmdTimeout={math.ceil(limit(20))}"
        config.write_text(re.sub(r"SlurmdTimeout=\d+", soon, config.read_text()))
        call("scontrol", "reconfigure")
        self.daemons[node].kill()
        for process in [parent for rank in ranks for parent in rank.parents() if "slurmstepd" in parent.name()]:
            process.kill()
        for rank in ranks:
            rank.kill()
        self.daemons[node].wait()

    def find(self, node):
        """Power on."""
        self._daemon(node, ["slurmd", "-D", "-N", node])
        self.wait(lambda: call("sinfo", "-h", "-n", node, "-p", "main", "-o", "%t").strip() == "idle")

    def settle(self):
        """Until SLURM has sent all that it had for a node that did not answer.

        It sends that again a minute later, and a part of the job that is there by then gets the signals of the part
        that was lost. SLURM itself starts a job again after two minutes, when they are gone; one that is hurried must
        wait for them.
        """

        def is_sent():
            unsent = re.findall(r"^Agent (?:queue size|count):\s+(\d+)", call("sdiag"), re.MULTILINE)
            assert len(unsent) == 2, "sdiag says something else in this version"
            return unsent == ["0", "0"]

        for _ in range(3):  # between the queue and the count a message is in neither
            self.wait(is_sent)
            rest(0.5)

    def __exit__(self, *error):
        call("scancel", "--user=root", "--signal=KILL", check=False)
        call("scancel", "--user=root", check=False)
        for process in self._processes():
            process.kill()
        until(lambda: not call("squeue", "-h", check=False), self.logs)
        for daemon in reversed(self.daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons.values()):
            try:
                daemon.wait(limit(30))
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        if self.owns_munge:
            munged = int(Path("/run/munge/munged.pid").read_text())
            os.kill(munged, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{munged}").exists())  # the next cluster must not take it for its own
        HOSTS.write_text("".join(f"{line}\n" for line in HOSTS.read_text().splitlines() if line != HOSTS_LINE))
        os.environ.pop("SLURM_CONF", None)
        self.lock.close()

    def _processes(self, job=None):
        """All processes of a job, or of all jobs: ranks, srun, the batch script."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                variables = process.environ()
                ours = variables.get("SLURM_CONF") == os.environ["SLURM_CONF"] and "SLURM_JOB_ID" in variables
                if ours and job in (None, variables["SLURM_JOB_ID"]):
                    yield process

    def kill(self, job, is_so):
        """What SLURM does to a job whose ranks wait for their end, KillWait after it was told to end: here, once they
        have said so."""
        self.wait(is_so)
        self.wait(lambda: self.state(job) != "RUNNING")
        for process in self._processes(job):
            process.kill()

    def queued_again(self, job, is_so):
        """A job is taken away and has been queued again: until it waits for its next part."""
        self.kill(job, is_so)
        self.wait(lambda: self.state(job) == "PENDING", job)

    def wait(self, is_so, job=None):
        """Until `is_so()` is true, what it is then; AssertionError where the job has ended by itself before."""
        value = until(lambda: is_so() or (job and self.state(job) in ENDED and "ended"), self.logs, 0.2)
        assert value != "ended" or is_so(), f"job {job} is {self.state(job)}\n{self.logs()}"
        return value

    def ends(self, *jobs):
        """The states of jobs, once all have ended."""

        def states():
            return [state for job in jobs if (state := self.state(job)) in ENDED]

        return until(lambda: len(now := states()) == len(jobs) and now, self.logs, 0.2)

    def logs(self):
        """The queue, and the ends of the daemons' logs."""
        logs = sorted((self.folder / "log").glob("*.log"))
        return call("squeue", check=False) + "".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}\n" for path in logs
        )

    def fact(self, job, name):
        """A word of `scontrol show job`."""
        words = ("scontrol", "show", "job", "-o", job)
        # Once, on a busy machine and while an array began, it ended without a word; the next one answers.
        shown = call(*words, check=False) or call(*words)
        found = re.search(rf"\b{name}=(\S+)", shown)
        assert found is not None, f"no {name} in: {shown}"
        return found[1]

    def state(self, job):
        return self.fact(job, "JobState")

    def hurry(self, job):
        """A job that was queued again waits two minutes; not here."""
        call("scontrol", "update", f"JobId={job}", "StartTime=now")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A running SLURM of two nodes, one a session. On a developer's machine only root has it; where CI is set it must
    be there."""
    if os.geteuid() and not os.environ.get("CI"):
        pytest.skip("a SLURM can only be started by root")
    with Cluster(tmp_path_factory.mktemp("slurm") / "cluster") as cluster:
        yield cluster


def install():
    """SLURM and munge by apt, where they are missing."""
    if all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    call("apt-get", "update", "-qq")
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", "slurm-wlm", "munge", env=environment)


def main():
    """`python tests/system/slurm_cluster.py COMMAND ...` as root: a command beside a SLURM of two nodes."""
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder) / "cluster"):
        sys.exit(subprocess.run(sys.argv[1:]).returncode)


if __name__ == "__main__":
    main()
