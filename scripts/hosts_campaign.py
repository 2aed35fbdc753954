#!/usr/bin/env python3
"""Disturbs runs on several hosts, and checks that they continue to the same results. Needs mpirun (OpenMPI).

    cargo build --release --features mpi
    scripts/hosts_campaign.py [--mae target/release/mae] [--kills 20] [--terms 10]

Each process on this machine stands for a host. `--launcher` adds arguments of mpirun, for example a hostfile.
"""

import argparse
import csv
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

RECIPE = """
name = "tiny"
[data]
format = "digits"
input_size = 8
[model]
patch_size = 2
embed_dim = 16
depth = 2
num_heads = 2
decoder_embed_dim = 8
decoder_depth = 1
decoder_num_heads = 2
[runtime]
device = "cpu"
threads = 1
[checkpoint]
every_minutes = 0
[pretrain]
epochs = {epochs}
warmup_epochs = 1
batch_size = 44
accum_iter = 4
blr = 3e-3
norm_pix_loss = true
augment = {{ crop_scale = [1.0, 1.0], hflip = false }}
[finetune]
from = ["scratch", "checkpoints"]
epochs = {epochs}
warmup_epochs = 1
batch_size = 44
accum_iter = 4
blr = 2e-3
mixup = 0.2
aa = ""
[linprobe]
from = ["last"]
epochs = {epochs}
warmup_epochs = 1
batch_size = 44
accum_iter = 4
"""
STAGES = ("pretrain", "finetune", "linprobe")
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def settings(hosts):
    """Returns the `--set` arguments for a number of hosts, with the same effective batch."""
    sets = [f"runtime.hosts={hosts}"] + [f"{stage}.accum_iter={4 // hosts}" for stage in STAGES]
    return [part for item in sets for part in ("--set", item)]


class Run:
    """A run in a folder of its own."""

    def __init__(self, mae, root, epochs, launcher=()):
        self.mae, self.launcher = mae, list(launcher)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=root))
        (self.folder / "r.toml").write_text(RECIPE.format(epochs=epochs))

    def start(self, hosts):
        launcher = ["mpirun", "--oversubscribe", *self.launcher, "-n", str(hosts)] if hosts else []
        command = [*launcher, self.mae, "run", "r.toml", *settings(max(hosts, 1))]
        log = open(self.folder / "log.txt", "ab")
        return subprocess.Popen(command, cwd=self.folder, env=ENVIRONMENT, stdout=log, stderr=log)

    def finish(self, hosts):
        code = self.start(hosts).wait(timeout=600)
        if code:
            sys.exit(f"a run failed with {code}:\n{(self.folder / 'log.txt').read_text()[-3000:]}")

    def rank(self, index):
        """Returns the process id of a rank, or None."""
        for process in pathlib.Path("/proc").iterdir():
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                here = os.readlink(process / "cwd") == str(self.folder)
            except (OSError, ValueError):
                continue
            if here and f"OMPI_COMM_WORLD_RANK={index}".encode() in variables:
                return int(process.name)
        return None

    def bytes(self):
        """Returns the weights, and the tables without their times."""
        files = {}
        for path in sorted((self.folder / "runs/tiny").rglob("*")):
            name = str(path.relative_to(self.folder))
            if path.name == "model.safetensors":
                files[name] = path.read_bytes()
            elif path.suffix == ".csv":
                with path.open(newline="") as table:
                    rows = list(csv.DictReader(table))
                timed = ("seconds", "images_per_s", "data_wait_s")
                files[name] = [{k: v for k, v in row.items() if k not in timed} for row in rows]
        return files

    def losses(self):
        tables = {name: rows for name, rows in self.bytes().items() if name.endswith("epochs.csv")}
        return {name: [float(row["train_loss"]) for row in rows] for name, rows in tables.items()}

    def remove(self):
        shutil.rmtree(self.folder)


def difference(a, b):
    """Returns the largest relative difference of losses."""
    assert a.keys() == b.keys() and all(len(a[name]) == len(b[name]) for name in a)
    return max(abs(x - y) / y for name in a for x, y in zip(a[name], b[name]))


def disturb(run, hosts, name, number, rng, latest):
    """Starts the run and sends a signal to a random rank. Returns (exit code, seconds until the end), or None."""
    started = run.start(hosts)
    time.sleep(rng.uniform(0.3, latest))
    process = run.rank(rng.randrange(hosts))
    if process is None or started.poll() is not None:
        started.wait()
        return None
    os.kill(process, number)
    sent = time.monotonic()
    try:
        code = started.wait(timeout=30)
    except subprocess.TimeoutExpired:
        sys.exit(f"{name}: the job did not end within 30 s")
    return code, time.monotonic() - sent


def campaign(mae, root, hosts, name, number, times, epochs, rng):
    """Disturbs runs `times` times, and compares each finished run with an undisturbed one."""
    began = time.monotonic()
    whole = Run(mae, root, epochs)
    whole.finish(hosts)
    latest = 0.7 * (time.monotonic() - began)
    run, ends, codes, finished = Run(mae, root, epochs), [], set(), 0
    while len(ends) < times:
        end = disturb(run, hosts, name, number, rng, latest)
        if end is not None:
            codes.add(end[0])
            ends.append(end[1])
        if end is None or len(ends) == times:
            run.finish(hosts)
            assert run.bytes() == whole.bytes(), f"{name}: a different result"
            finished += 1
            run.remove()
            run = Run(mae, root, epochs)
    print(
        f"{name}: {times} times on {hosts} hosts; the job ended after {max(ends):.1f} s at most, with exit codes {sorted(codes)}; "
        f"{finished} runs continued to the bytes of an undisturbed run"
    )


def check(mae, root, options, rng):
    """Does all checks with runs in folders of `root`."""
    launcher = options.launcher.split()
    one = Run(mae, root, 3)
    one.finish(0)
    alone = Run(mae, root, 3)
    alone.finish(1)
    assert alone.bytes() == one.bytes(), "mpirun -n 1 differs from no MPI"
    print("mpirun -n 1: the same bytes as without MPI")
    for hosts in (2, 4):
        run = Run(mae, root, 3, launcher)
        run.finish(hosts)
        print(f"{hosts} hosts: losses within {difference(run.losses(), one.losses()):.1e} of one process")
    elastic = Run(mae, root, 3, launcher)
    for hosts in (1, 4):
        started = elastic.start(hosts)
        time.sleep(0.6)
        rank = elastic.rank(0)
        if rank:
            os.kill(rank, signal.SIGTERM)
        started.wait(timeout=60)
    elastic.finish(2)
    print(f"1 -> 4 -> 2 hosts: losses within {difference(elastic.losses(), one.losses()):.1e} of one process")
    campaign(mae, root, 2, "SIGKILL of a random rank", signal.SIGKILL, options.kills, options.epochs, rng)
    campaign(mae, root, 2, "SIGTERM to a random rank", signal.SIGTERM, options.terms, options.epochs, rng)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mae", default="target/release/mae")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--terms", type=int, default=10)
    arguments.add_argument("--epochs", type=int, default=40)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--launcher", default="", help="more arguments of mpirun")
    options = arguments.parse_args()
    mae, rng = str(pathlib.Path(options.mae).resolve()), random.Random(options.seed)
    root = tempfile.mkdtemp(prefix="mae-hosts-")
    try:
        check(mae, root, options, rng)
    except BaseException:
        print(f"the runs are kept in {root}", file=sys.stderr)
        raise
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
