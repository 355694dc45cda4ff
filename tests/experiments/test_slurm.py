"""`sweep` on a real Slurm: its daemons on this machine, with two cores and a configuration of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from abaw_emi.runs.run import LOG, Run, find_run

pytestmark = pytest.mark.slurm

_CONFIG = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find the cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    key = Path("/etc/munge/munge.key")
    if not key.is_file():
        key.write_bytes(os.urandom(1024))
        shutil.chown(key, "munge")
        key.chmod(0o400)
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge")
    subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"], check=False)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    config = folder / "slurm.conf"
    config.write_text(_CONFIG.format(host=socket.gethostname(), folder=folder))
    environment = {**os.environ, "SLURM_CONF": str(config), "PYTHONPATH": str(Path(__file__).parents[2])}
    environment["OMP_NUM_THREADS"] = "1"
    daemons = [
        subprocess.Popen([name, "-D"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("slurmctld", "slurmd")
    ]
    try:
        for _ in range(100):
            found = subprocess.run(
                ["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True
            )
            if found.stdout.strip() == "idle":
                break
            time.sleep(0.3)
        assert found.stdout.strip() == "idle", found.stderr
        yield environment
    finally:
        subprocess.run(["scancel", "--user", "root"], env=environment, check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def test_an_array_of_four_runs_one_of_them_signalled_and_requeued(
    cluster: dict[str, str], data_root: Path, tmp_path: Path
) -> None:
    def sweep(*more: str) -> dict[str, dict[str, str]]:
        words = ["sweep", "--presets", "tiny", "--seeds", "1", "2", "3", "4", "--executor", "slurm", "--json"]
        words += ["--set", "training.epochs=1000", "training.patience=0", "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "abaw_emi", *words, "--data", str(data_root), *more],
            cwd=tmp_path,
            env=cluster,
            capture_output=True,
            text=True,
            check=True,
        )
        values: dict[str, dict[str, str]] = json.loads(done.stdout)
        return values

    submitted = sweep("--slurm", "time=30", "--jobs", "2")["jobs"]
    runs = {name: Run(tmp_path / "runs" / name) for name in submitted}
    assert sorted(runs) == [f"tiny-seed{seed}" for seed in (1, 2, 3, 4)]
    first = runs["tiny-seed1"]
    while not first.metrics_file.exists() or first.metrics_file.read_text().count("valid") < 3:
        time.sleep(0.2)
    signal = ["scancel", "--signal=USR2", f"{submitted['tiny-seed1']}.0"]
    subprocess.run(signal, env=cluster, check=True)
    again = sweep()
    assert (again["jobs"], sorted(again["queued"])) == ({}, sorted(runs))
    for _ in range(900):
        if all((run.folder / "provenance.json").is_file() and run.finished for run in runs.values()):
            break
        time.sleep(1)
    for run in runs.values():
        epochs = [line for line in run.metrics_file.read_text().splitlines() if "valid" in line]
        assert len(epochs) == find_run(run.folder).read_provenance()["epochs"] == 1000
    said = (first.folder / LOG).read_text()
    assert "saved" in said
    assert "going on after epoch" in said
    for _ in range(60):
        if not subprocess.run(["squeue", "-h"], env=cluster, capture_output=True, text=True).stdout:
            break
        time.sleep(1)
    assert sweep() == {"jobs": {}, "queued": {}, "problems": []}
