"""Two hosts with names and addresses of their own on this machine: network namespaces joined by a veth pair."""

import os
import secrets
import shutil
import subprocess
import sys

from slurm_cluster import call
from slurm_runs import ROOT

NAMES = ("left", "right")
ADDRESSES = dict(zip(NAMES, ("192.0.2.1", "192.0.2.2"), strict=True))
PORT = 29431


class TwoHosts:
    """Made and removed as a context; only root can."""

    def __init__(self):
        mark = secrets.token_hex(2)  # two test runs on one machine do not meet
        self.spaces = {name: f"idgenrec-{name}-{mark}" for name in NAMES}
        self.links = {name: f"{name}-{mark}" for name in NAMES}

    def __enter__(self):
        if shutil.which("ip") is None or shutil.which("tc") is None:
            call("apt-get", "update", "-qq")
            call("apt-get", "install", "-y", "-qq", "--no-install-recommends", "iproute2")
        left, right = (self.links[name] for name in NAMES)
        for space in self.spaces.values():
            call("ip", "netns", "add", space)
        call("ip", "link", "add", left, "type", "veth", "peer", "name", right)
        for name in NAMES:
            call("ip", "link", "set", self.links[name], "netns", self.spaces[name])
            self.inside(name, "ip", "addr", "add", f"{ADDRESSES[name]}/24", "dev", self.links[name])
            self.inside(name, "ip", "link", "set", "lo", "up")
            self.inside(name, "ip", "link", "set", self.links[name], "up")
        return self

    def __exit__(self, *error):
        for space in self.spaces.values():
            call("ip", "netns", "delete", space)  # the pair goes with them

    def inside(self, name, *words):
        call("ip", "netns", "exec", self.spaces[name], *words)

    def slow(self, rate):
        """What both send is held to a rate, such as 2mbit."""
        for name in NAMES:
            words = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "200ms"]
            self.inside(name, "tc", "qdisc", "add", "dev", self.links[name], *words)

    def cut(self):
        """The cable is pulled: nothing arrives, and nobody is told."""
        self.inside("left", "ip", "link", "set", self.links["left"], "down")

    def mend(self):
        self.inside("left", "ip", "link", "set", self.links["left"], "up")
        for name in NAMES:
            self.inside(name, "tc", "qdisc", "del", "dev", self.links[name], "root")

    def start(self, job, logs):
        """Both ranks of a job file, one on each host; their processes."""
        ranks = []
        for rank, name in enumerate(NAMES):
            variables = {
                "RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": ADDRESSES["left"], "MASTER_PORT": PORT,
                "GLOO_SOCKET_IFNAME": self.links[name], "PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1,
            }  # fmt: skip
            script = f"hostname {name} && exec {sys.executable} -m launchers.jobs.rank {job}"
            with (logs / f"{name}.log").open("w") as log:
                ranks.append(
                    subprocess.Popen(
                        ["ip", "netns", "exec", self.spaces[name], "unshare", "--uts", "sh", "-c", script],
                        env=os.environ | {key: str(value) for key, value in variables.items()},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )  # fmt: skip
                )
        return ranks
