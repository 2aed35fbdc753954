"""The fault campaign: all kinds, their numbers of cases, the report. See fault_campaign.sh."""

import argparse
import collections
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import damages
import interruptions
import mutations
import neighbours
from bench import Bench, Case, Failure, NotRun
from inputs import undisturbed

FULL_S = 1200

# Name, number of cases in a full campaign, function of a case, description of a case.
KINDS = (
    ("kills", 100, interruptions.timed_kills, "SIGKILLs at random times, each followed by a restart"),
    ("kills-at-calls", 100, interruptions.kills_at_calls, "SIGKILLs at system calls, each followed by a restart"),
    ("sweep-kills", 20, interruptions.sweep_kills, "SIGKILLs of a sweep, each followed by a restart"),
    ("signals", 50, interruptions.single_signals, "one SIGTERM, SIGINT, SIGHUP or SIGUSR1"),
    ("signal-pairs", 50, interruptions.signal_pairs, "two signals within 50 ms"),
    ("small-disks", 40, interruptions.small_disk, "runs on a file system that is too small"),
    ("no-space", 40, interruptions.injected_full_disk, "ENOSPC at a system call"),
    ("failing-writes", 40, interruptions.failing_writes, "EIO, EDQUOT or EROFS when the run writes"),
    ("failing-reads", 60, interruptions.failing_reads, "EACCES, EMFILE, ENFILE or EIO when a file of the run is read"),
    ("file-locks", 6, interruptions.file_locks, "runs on a file system without locks"),
    ("permissions", 60, interruptions.as_another_user, "files and folders without permission, not as root"),
    ("states", 200, damages.states, "damaged saved states"),
    ("checkpoints", 200, damages.checkpoints, "damaged checkpoints"),
    ("tables", 200, damages.tables, "damaged tables, provenance, recipes, manifests"),
    ("caches", 200, damages.caches, "damaged listing caches"),
    ("shards", 200, damages.shards, "damaged shards of `mae data pack`"),
    ("pth", 100, damages.foreign_archives, "damaged .pth files"),
    ("recipes", 5000, mutations.recipes, "mutated recipes and --set values, `plan --json`"),
    ("files-checkpoints", 1500, mutations.mutated_checkpoints, "mutated checkpoints, `convert` and `eval`"),
    ("files-logs", 1000, mutations.logs, "mutated logs, tables and runs, `compare` and `report`"),
    ("files-pictures", 1500, mutations.pictures, "mutated pictures, `data check`"),
    ("files-shards", 600, mutations.mutated_shards, "mutated shards, `data check` and `run`"),
    ("files-parquet", 400, mutations.parquet, "mutated parquet files, `data check`"),
    ("two-runs", 20, neighbours.two_at_once, "two processes on one run folder"),
    ("two-sweeps", 10, neighbours.two_in_a_sweep, "two processes in one sweep"),
    ("readers", 10, neighbours.readers, "runs that other commands read while they work"),
    ("lock", 20, neighbours.lock_removed, "lock files removed during the run"),
    ("start-files", 10, neighbours.start_files, "start files replaced between two starts"),
    ("too-large", 20, neighbours.too_large, "recipes that need more memory than there is"),
    ("clock", 20, neighbours.clock_jumps, "runs while the clock jumps"),
    ("foreign", 200, neighbours.foreign_files, "foreign trees around and inside run folders"),
    ("older", 20, neighbours.older_runs, "run folders without checksums"),
)


class Tally:
    """The outcomes of one kind."""

    def __init__(self, name, wanted, what):
        self.name, self.wanted, self.what = name, wanted, what
        self.units, self.outcomes, self.failures = 0, collections.Counter(), []
        self.not_run, self.seconds = collections.Counter(), 0.0

    def take(self, case, failure):
        self.outcomes += case.outcomes
        failures = case.failures + ([failure] if failure else [])
        self.failures += [(problem.problem, problem.detail, case.index) for problem in failures]
        self.units += case.units


def run_case(bench, name, function, index):
    """Runs one case; returns it with the failure that ended it, or the reason why it could not run."""
    case = Case(bench, name, index)
    failure = reason = None
    try:
        function(case)
    except NotRun as not_run:
        reason = str(not_run)
    except Failure as found:
        failure = found
    except Exception:  # A bug in the campaign counts as a failure, so that nobody overlooks it.
        failure = Failure("the campaign itself failed", traceback.format_exc(limit=-3))
    if not (bench.keep and (failure or case.failures)):
        shutil.rmtree(case.dir, ignore_errors=True)
    return case, failure, reason


def run_kind(bench, kind, wanted, jobs, only_case):
    """Runs cases until `wanted` faults are counted. A case can have several faults (several kills) or none (a missed kill)."""
    name, _, function, what = kind
    tally = Tally(name, wanted, what)
    begun = time.monotonic()
    if only_case is not None:
        indices, most = iter([only_case]), 1
    else:
        indices, most = iter(range(wanted * 6 + 20)), jobs
    with ThreadPoolExecutor(jobs) as pool:
        pending, per_case = set(), 1
        while True:
            expected = tally.units + len(pending) * per_case
            while len(pending) < most and (expected < wanted or only_case is not None):
                index = next(indices, None)
                if index is None:
                    break
                pending.add(pool.submit(run_case, bench, name, function, index))
                expected += per_case
            if not pending:
                break
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                case, failure, reason = future.result()
                if reason:
                    tally.not_run[reason] += wanted
                    pending = set()
                    wanted = 0
                    continue
                tally.take(case, failure)
                per_case = max(1, case.units)
    tally.seconds = time.monotonic() - begun
    return tally


def print_kind(tally):
    if tally.not_run:
        for reason, times in tally.not_run.items():
            print(f"{tally.name:<18} {0:>6}   {times} not run: {reason}")
        return
    outcomes = ", ".join(f"{times} {outcome}" for outcome, times in sorted(tally.outcomes.items()) if times)
    print(f"{tally.name:<18} {tally.units:>6}   {len(tally.failures)} failures, {tally.seconds:.0f} s; {tally.what}")
    print(f"{'':<18} {'':>6}   {outcomes}", flush=True)


def problems(tally):
    """Returns each problem with its cases, the most frequent first."""
    groups = collections.defaultdict(list)
    for problem, detail, index in tally.failures:
        groups[problem].append((detail, index))
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def print_failures(tallies, seed):
    """Prints each problem once, with the number of its cases and the command that repeats one."""
    for tally in tallies:
        for problem, cases in problems(tally):
            print(f"\nFAIL {tally.name}: {problem} ({len(cases)} times)")
            for detail, index in cases[:3]:
                print(f"    {detail}")
                print(f"    repeat: scripts/fault_campaign.sh --seed {seed} --only {tally.name} --case {index} --keep")


FIGURES = ("<!-- figures: scripts/fault_campaign.sh --update -->\n", "<!-- end of figures -->")


def figures(tallies, version, end):
    """Returns the figures of a campaign as Markdown."""
    lines = [f"{version}, {time.strftime('%Y-%m-%d', time.gmtime())}: {end}.", "",
             "| faults | cases | failures | outcomes |", "| --- | --- | --- | --- |"]
    for tally in tallies:
        outcomes = ", ".join(f"{times} {outcome}" for outcome, times in sorted(tally.outcomes.items()) if times)
        if tally.not_run:
            outcomes = "; ".join(f"{times} not run: {reason}" for reason, times in tally.not_run.items())
        lines.append(f"| {tally.what} | {tally.units if not tally.not_run else 0} | {len(tally.failures)} | {outcomes} |")
    found = [f"- {problem} (`{tally.name}`, {len(cases)} times)" for tally in tallies for problem, cases in problems(tally)]
    return "\n".join([*lines, "", "These promises did not hold:" if found else "Every promise held.", *([""] if found else []),
                      *found, ""])


def update_page(page, text):
    """Replaces the figures on a page of the documentation."""
    before, rest = page.read_text().split(FIGURES[0])
    page.write_text(before + FIGURES[0] + "\n" + text + "\n" + FIGURES[1] + rest.split(FIGURES[1], maxsplit=1)[1])


def parse():
    names = [kind[0] for kind in KINDS]
    parser = argparse.ArgumentParser(prog="fault_campaign.sh", description="Checks the promises of docs/reliability.md.")
    repository = Path(__file__).resolve().parents[2]
    parser.add_argument("--binary", type=Path, default=repository / "target/release/mae")
    parser.add_argument("--seconds", type=float, default=FULL_S, help="scales the number of cases; 1200 is all")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="cases at a time")
    parser.add_argument("--seed", type=int, default=None, help="seed of all cases (default: random, printed)")
    parser.add_argument("--only", default=",".join(names), help="kinds, separated by commas")
    parser.add_argument("--case", type=int, default=None, help="one case of one kind")
    parser.add_argument("--keep", action="store_true", help="keep the folders of cases that fail")
    parser.add_argument("--update", type=Path, help="write the figures into this page (docs/reliability.md)")
    parser.add_argument("--list", action="store_true", help="print the kinds")
    arguments = parser.parse_args()
    if arguments.list:
        for name, wanted, _, what in KINDS:
            print(f"{name:<18} {wanted:>6}   {what}")
        sys.exit(0)
    arguments.only = arguments.only.split(",")
    unknown = [name for name in arguments.only if name not in names]
    if unknown:
        parser.error(f"unknown kind {unknown[0]}; --list prints them")
    if arguments.case is not None and len(arguments.only) != 1:
        parser.error("--case needs one kind: --only KIND")
    binary = shutil.which(arguments.binary)
    if not binary:
        parser.error(f"{arguments.binary} is not a program; run: cargo build --release")
    arguments.binary = Path(binary).resolve()
    if arguments.seed is None:
        arguments.seed = random.randrange(1_000_000)
    return arguments


def main():
    arguments = parse()
    begun = time.monotonic()
    # SIGTERM removes the temporary folder too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(arguments.binary, arguments.seed, arguments.keep)
    version = subprocess.run([arguments.binary, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    print(f"{arguments.binary} ({version}), seed {arguments.seed}, {arguments.jobs} cases at a time, in {bench.root}", flush=True)
    tallies, code = [], 0
    try:
        whole = undisturbed(bench)
        print(f"undisturbed run: {whole.seconds:.2f} s, {len(whole.results)} files, {whole.kib} KiB\n", flush=True)
        for kind in KINDS:
            if kind[0] in arguments.only:
                wanted = math.ceil(kind[1] * min(1.0, arguments.seconds / FULL_S))
                tally = run_kind(bench, kind, wanted, arguments.jobs, arguments.case)
                print_kind(tally)
                tallies.append(tally)
        failures = sum(len(tally.failures) for tally in tallies)
        print_failures(tallies, arguments.seed)
        units, skipped = sum(tally.units for tally in tallies), sum(sum(tally.not_run.values()) for tally in tallies)
        end = f"{units} cases, {skipped} not run, {failures} failures, {time.monotonic() - begun:.0f} s, seed {arguments.seed}"
        print(f"\n{'FAIL' if failures else 'PASS'}: {end}")
        code = 1 if failures else 0
        if arguments.update:
            update_page(arguments.update, figures(tallies, version, end))
    except Failure as failure:
        print(f"FAIL: {failure.problem}\n    {failure.detail}")
        code = 1
    except NotRun as reason:
        print(f"error: cannot start the campaign: {reason}", file=sys.stderr)
        code = 2
    finally:
        if arguments.keep and code:
            print(f"the folders of failed cases are in {bench.root}")
        else:
            shutil.rmtree(bench.root, ignore_errors=True)
    return code


threading.stack_size(1 << 20)
sys.exit(main())
