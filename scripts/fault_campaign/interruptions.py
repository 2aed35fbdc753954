"""Kills, signals, full disks and failing system calls: the restarted run must end with the same bytes."""

import collections
import json
import os
import re
import shutil
import signal
import subprocess
import time

from bench import Failure, HANG_S, NotRun, RUN_S, difference, expect_orderly, expect_same, results
from inputs import NAME, RECIPE, interrupted, undisturbed, undisturbed_saving, undisturbed_slow, undisturbed_sweep

# System calls that change the disk, and those that open files for reading.
CALLS = ("openat", "write", "rename", "fsync", "fdatasync", "mkdir", "unlink", "ftruncate", "flock", "rmdir")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
STAGES = ("pretrain", "finetune", "linprobe")
# What a message must not suggest for a file that is whole and could not be read.
MISLEADING = re.compile(r"damaged|corrupt|put it back|starts? over|\bremove\b|backup|truncated", re.IGNORECASE)
WAITS = re.compile(r"[Tt]he run waits until")
SPACE = re.compile(r"no space|disk is full|full disk|free some space", re.IGNORECASE)


def calls_of_a_run(bench, fresh=False):
    """Returns how often one thread of an undisturbed run makes each system call. With `fresh`, of a second run with `--fresh`."""
    def count(folder):
        (folder / "r.toml").write_text(RECIPE)
        trace = folder / "trace"
        if fresh:
            bench.start(["run", "r.toml"], folder).wait(RUN_S)
        done = bench.start(["run", "r.toml"] + (["--fresh"] if fresh else []), folder,
                           before=[bench.strace, "-f", "-o", trace, "-e", f"trace={','.join(CALLS)}"]).wait(RUN_S)
        if done.code != 0:
            raise NotRun(f"strace does not work here: {done.last(1)}")
        found = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", trace.read_text(), re.MULTILINE))
        most = collections.Counter()
        for (_, call), times in found.items():
            most[call] = max(most[call], times)
        return {call: most[call] for call in CALLS if most[call]}
    if not bench.strace:
        raise NotRun("strace is not installed")
    return bench.fixture("calls of --fresh" if fresh else "calls", count)


def injecting(bench, calls, what, paths=()):
    """Returns the command that runs a program under strace with a fault injected into its system calls."""
    command = [bench.strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"]
    for path in paths:
        command += ["-P", path]
    return command


def finish(case, after, whole=None):
    """Runs the recipe until it is done. Fails if its files differ from the undisturbed run, or if `mae check` fails."""
    done = case.run(["run", "r.toml"])
    if done.code != 0:
        raise Failure(f"after {after} the run does not go on: exit {done.code}", done.last())
    expect_same((whole or undisturbed(case.bench)).results, case.dir / "runs" / NAME, after)
    checked = case.run(["check", f"runs/{NAME}"])
    if checked.code != 0:
        raise Failure(f"after {after} `mae check` reports problems", checked.text.strip()[-400:])


def kills(case, at_calls, whole):
    """A chain of SIGKILLs, each followed by a restart. Counts the kills that hit."""
    case.write("r.toml", (whole.folder / "r.toml").read_text())
    fresh = case.random.random() < (0.5 if at_calls else 0.15)
    if fresh:
        case.copy(whole.run, f"runs/{NAME}")
    hits = 0
    for start in range(case.random.randint(1, 6)):
        arguments = ["run", "r.toml"] + (["--fresh"] if fresh and start == 0 else [])
        if at_calls:
            counts = calls_of_a_run(case.bench, fresh and start == 0)
            call = case.random.choice(sorted(counts))
            nth = case.random.randint(1, counts[call])
            where = f"{call} {nth}"
            running = case.bench.start(arguments, case.dir,
                                       before=injecting(case.bench, call, f"signal=KILL:when={nth}"))
        else:
            after = case.random.uniform(0, whole.seconds)
            where = f"{after * 1000:.0f} ms"
            running = case.bench.start(arguments, case.dir)
            time.sleep(after)
            running.send(signal.SIGKILL)
        done = running.wait(RUN_S)
        if done.code in (-signal.SIGKILL, 137) and not done.hung:
            hits += 1
            case.note("killed with a state from within an epoch", is_within_epoch(case.dir / "runs" / NAME))
            continue
        expect_orderly(done)
        if done.code != 0:
            raise Failure(f"after a SIGKILL the run does not go on: exit {done.code}", f"{where}: {done.last()}")
        break
    case.units = hits
    finish(case, "SIGKILLs", whole)
    # `--fresh` moves the points of a sweep one by one. Points that the kill kept in place have continued training.
    if fresh and not whole.is_sweep:
        expect_whole_trash(case, whole)
    case.note("same bytes after the kills", hits)


def is_within_epoch(run):
    """Whether the newest state of a killed run is from within an epoch."""
    for path in run.rglob("resume.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        if json.loads(header["__metadata__"]["mae"])["update"] > 0:
            return True
    return False


def expect_whole_trash(case, whole):
    """Fails if the trash has only a part of the run that `--fresh` moved away."""
    folders = [path for path in (case.dir / "runs/.trash").glob("*") if path.is_dir()]
    for folder in folders:
        expected = {name: data for name, data in whole.results.items() if name != "mae-manifest.jsonl"}
        found = {name: data for name, data in results(folder).items() if name != "mae-manifest.jsonl"}
        differs = difference(expected, found)
        if differs:
            raise Failure("a killed `--fresh` lost files of the old run", differs)
    case.note("`--fresh` killed, the old run is whole", 1)


def timed_kills(case):
    kills(case, at_calls=False, whole=undisturbed(case.bench))


def kills_at_calls(case):
    kills(case, at_calls=True, whole=undisturbed(case.bench))


def kills_within_epochs(case):
    """Kills of a run that saves as often as the disk allows: it goes on within the epoch."""
    at_calls = bool(case.bench.strace) and case.random.random() < 0.5
    kills(case, at_calls, whole=undisturbed_saving(case.bench))


def sweep_kills(case):
    """Kills of a sweep, whose points share the pre-training."""
    kills(case, at_calls=bool(case.bench.strace), whole=undisturbed_sweep(case.bench))


def file_locks(case):
    """A file system without locks, as some network file systems: the message must name a way out."""
    calls_of_a_run(case.bench)
    case.write("r.toml", RECIPE)
    error = case.random.choice(("ENOLCK", "EOPNOTSUPP", "ENOSYS"))
    done = case.bench.start(["run", "r.toml"], case.dir, before=injecting(case.bench, "flock", f"error={error}")).wait(RUN_S)
    end_of_failed_call(case, done, error, "flock")
    if done.code and "hint" not in done.err:
        case.fail("a file system without locks is refused without a hint", f"{error}: {done.last()}")
    finish(case, "a file system without locks")


def signals(case, pair):
    """One signal or two within 50 ms. The run must save the step that it is in."""
    whole = undisturbed(case.bench)
    case.write("r.toml", RECIPE)
    first = case.random.choice(SIGNALS)
    second = case.random.choice([first, case.random.choice(SIGNALS)]) if pair else None
    gap = case.random.uniform(0, 0.05)
    running = case.bench.start(["run", "r.toml"], case.dir)
    at_start = case.random.random() < 0.1
    while not at_start and running.alive() and "INFO" not in running.log():
        time.sleep(0.001)
    time.sleep(case.random.uniform(0, whole.seconds * (0.1 if at_start else 0.8)))
    begun = "INFO" in running.log()
    sent = time.time()
    running.send(first)
    if pair:
        time.sleep(gap)
        running.send(second)
    done = running.wait(RUN_S)
    if time.time() - sent > HANG_S:
        case.fail("a run works on for more than 5 s after a signal", done.last())
    names = first.name + (f" and {second.name} within 50 ms" if pair else "")
    detail = f"{names}, gap {gap * 1000:.0f} ms" if pair else names
    expect_orderly(done)
    if done.code == 0:
        case.note("done before the signal")
    elif done.code == 130:
        states = list((case.dir / "runs").rglob("resume.safetensors"))
        # Between two jobs, there is no saved state, and no work can be lost.
        if not states or max(path.stat().st_mtime for path in states) > sent - 0.05:
            case.note("saved with exit 130")
        else:
            case.fail(f"{'two signals' if pair else names}: exit 130, but the newest state is older than the signal",
                      f"{detail}: {done.last()}")
    elif not begun and done.code in (-first, -(second or first)):
        case.note("ended at once, before the run began")
    else:
        kind = f"{'two signals' if pair else names}: the step is lost"
        if pair and {first, second} & {signal.SIGHUP, signal.SIGUSR1}:
            kind += " (a pair with SIGHUP or SIGUSR1)"
        case.fail(kind, f"{detail}: exit {done.code}; {done.last(1)}")
        case.note("step lost")
    finish(case, f"{'two signals' if pair else first.name}")


def single_signals(case):
    signals(case, pair=False)


def signal_pairs(case):
    signals(case, pair=True)


def late_signals(case):
    """A signal during a long update: the run saves the last whole update after 5 s and does not wait for the end."""
    whole = undisturbed_slow(case.bench)
    case.write("r.toml", (whole.folder / "r.toml").read_text())
    running = case.bench.start(["run", "r.toml"], case.dir)
    while running.alive() and "steps" not in running.log():
        time.sleep(0.001)
    time.sleep(case.random.uniform(0, whole.seconds * 0.8))
    sent = time.monotonic()
    running.send(case.random.choice(SIGNALS))
    done = running.wait(RUN_S)
    waited = time.monotonic() - sent
    expect_orderly(done)
    if waited > 5 + 2:
        case.fail("a run works on for more than 7 s after a signal", f"{waited:.1f} s: {done.last()}")
    if done.code == 0:
        case.note("done before the signal")
    elif done.code == 130:
        case.note("saved the last whole update" if waited > 5 else "ended with the update")
    else:
        case.fail(f"a signal during a long update ends the run with exit {done.code}", done.last())
    finish(case, "a signal during a long update", whole)


def wait_on_full_disk(case, running, enlarge=None):
    """Waits for the end of a run on a full disk. If the run waits for space, frees some after up to 2 s.

    Without `enlarge`, ends the wait with a signal. If writing to stderr fails, too, no message shows that the run waits.
    """
    limit = time.monotonic() + 5 + 5 * undisturbed(case.bench).seconds
    while running.alive() and not WAITS.search(running.log()) and time.monotonic() < limit:
        time.sleep(0.005)
    if running.alive():
        time.sleep(case.random.uniform(0, 2))
        if enlarge:
            enlarge()
        else:
            running.send_all(signal.SIGINT)
    return running.wait(RUN_S)


def small_disk(case):
    """A run in a file system that is too small, enlarged afterwards."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        raise NotRun("mounting a small file system needs root and `mount`")
    whole = undisturbed(case.bench)
    case.write("r.toml", RECIPE)
    disk = case.dir / "runs"
    disk.mkdir()
    size = case.random.randint(8, whole.kib * 5 // 4)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], capture_output=True,
                             text=True, check=False)
    if mounted.returncode:
        raise NotRun(f"cannot mount a small file system: {mounted.stderr.strip()}")

    def enlarge():
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    is_freed = case.random.random() < 0.5
    try:
        running = case.bench.start(["run", "r.toml"], case.dir)
        done = wait_on_full_disk(case, running, enlarge if is_freed else None)
        expect_orderly(done)
        has_waited = WAITS.search(done.err)
        if done.code == 0:
            case.note("waited for space and went on" if has_waited else "fitted")
        elif done.code == 1 and SPACE.search(done.err) and has_waited and not is_freed:
            case.note("stopped with a message")
        else:
            case.fail(f"a full disk ends the run with exit {done.code}", f"{size} KiB, freed: {is_freed}: {done.last()}")
        enlarge()
        finish(case, "a full disk")
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def injected_full_disk(case):
    """ENOSPC for one system call, or for every one after it."""
    counts = calls_of_a_run(case.bench)
    call = case.random.choice([c for c in ("write", "openat", "mkdir", "fsync", "fdatasync", "rename") if c in counts])
    nth = case.random.randint(1, counts[call])
    # Only calls on files of the run: `write` also prints.
    lasting = "+" if case.random.random() < 0.5 and call != "openat" else ""
    case.write("r.toml", RECIPE)
    before = injecting(case.bench, call, f"error=ENOSPC:when={nth}{lasting}")
    running = case.bench.start(["run", "r.toml"], case.dir, before=before)
    # The disk of a single error has space again when the run tries once more.
    done = wait_on_full_disk(case, running) if lasting else running.wait(RUN_S)
    detail = f"{call}: ENOSPC at call {nth}{lasting}"
    end_of_failed_call(case, done, "ENOSPC", detail)
    finish(case, "ENOSPC")


def end_of_failed_call(case, done, error, detail):
    """Fails if a run neither survived a failed system call nor stopped with an error message."""
    crash = done.crash()
    if crash:
        printing = "failed printing" in crash
        case.fail(f"panic when {'printing' if printing else 'a call'} fails: {crash}", detail)
    elif done.hung:
        case.fail(f"hang after {error}", detail)
    elif done.code == 0:
        case.note("went on past the error")
    elif done.code in (1, 2):
        case.note("stopped with a message")
    else:
        case.fail(f"{error} ends the run with exit {done.code}", f"{detail}: {done.last()}")


def failing_writes(case):
    """EIO or EDQUOT for one call that writes."""
    counts = calls_of_a_run(case.bench)
    call = case.random.choice([c for c in ("write", "rename", "fsync", "fdatasync", "mkdir", "unlink", "ftruncate")
                               if c in counts])
    error = case.random.choice(("EIO", "EDQUOT", "EROFS"))
    nth = case.random.randint(1, counts[call])
    case.write("r.toml", RECIPE)
    before = injecting(case.bench, call, f"error={error}:when={nth}")
    done = case.bench.start(["run", "r.toml"], case.dir, before=before).wait(RUN_S)
    end_of_failed_call(case, done, error, f"{call}: {error} at call {nth}")
    finish(case, error)


def unfinished_copy(case):
    """Copies a run that a kill left in one of the stages; returns its stage."""
    case.write("r.toml", RECIPE)
    stage = case.random.choice(STAGES)
    case.copy(interrupted(case.bench, stage), f"runs/{NAME}")
    return stage


def failing_reads(case):
    """System errors when a file of the run is opened or read. The program must not call the file damaged."""
    calls_of_a_run(case.bench)
    unfinished_copy(case)
    run = case.dir / "runs" / NAME
    files = [path for path in run.rglob("*") if path.is_file() and path.name != ".lock"
             and path.suffix in (".csv", ".safetensors", ".json", ".jsonl", ".toml")]
    path = case.random.choice(sorted(files))
    relative = path.relative_to(case.dir)
    call, error = case.random.choice((("openat", "EACCES"), ("openat", "EMFILE"), ("openat", "ENFILE"),
                                      ("openat", "EIO"), ("read", "EIO")))
    command = case.random.choice((["run", "r.toml"], ["check", f"runs/{NAME}"], ["report", f"runs/{NAME}"],
                                  ["compare", f"runs/{NAME}", str(undisturbed(case.bench).run)]))
    nth = case.random.choice(("1+", "1", "2+"))
    before = injecting(case.bench, call, f"error={error}:when={nth}", [relative, path])
    done = case.bench.start(command, case.dir, before=before).wait(RUN_S)
    judge_unreadable(case, done, path.name, f"{call} of {relative}: {error} at call {nth}")
    finish(case, "a file that could not be read")


def judge_unreadable(case, done, name, detail):
    """Fails if the message about an unreadable file calls it damaged, or has a hint that could lose the file."""
    command = done.args[done.args.index(str(case.bench.binary)) + 1]
    expect_orderly(done)
    misleading = [line for line in done.text.splitlines() if MISLEADING.search(line)]
    if done.code == 0 and command == "run":
        case.note("went on past the error")
    elif done.code == 0:
        case.note(f"`{command}` does not need the file")
    elif done.code not in (1, 2):
        case.fail(f"an unreadable file ends `{command}` with exit {done.code}", f"{detail}: {done.last()}")
    elif misleading:
        case.fail(f"an unreadable {name} is called damaged, or the hint leads to its loss (`{command}`)",
                  f"{detail}: {' | '.join(misleading)[:300]}")
    else:
        case.note("stopped with a message")


def as_another_user(case):
    """Files without permission, for a user who is not root."""
    user = None
    if os.geteuid() == 0:
        user = 65534
    unfinished_copy(case)
    run = case.dir / "runs" / NAME
    targets = [path for path in run.rglob("*") if path.name != ".lock"
               and (path.is_dir() or path.suffix in (".csv", ".safetensors", ".json", ".jsonl", ".toml"))]
    target = case.random.choice(sorted(targets))
    mode = case.random.choice((0o000, 0o555)) if target.is_dir() else case.random.choice((0o000, 0o444))
    if user:
        for path in [case.dir, *case.dir.rglob("*")]:
            shutil.chown(path, user, user)
    whole = undisturbed(case.bench)
    command = case.random.choice((["run", "r.toml"], ["check", f"runs/{NAME}"], ["report", f"runs/{NAME}"],
                                  ["compare", f"runs/{NAME}", str(whole.run)]))
    before_mode, is_folder = target.stat().st_mode, target.is_dir()
    target.chmod(mode)
    try:
        cache = case.dir / "cache"
        done = case.bench.start(command, case.dir, user=user, env={"XDG_CACHE_HOME": str(cache)}).wait(RUN_S)
    finally:
        # A finished run has removed its saved states.
        if target.exists():
            target.chmod(before_mode)
    kind = "folder" if is_folder else target.name
    detail = f"{' '.join(command[:1])}, {target.relative_to(case.dir)} with mode {mode:03o}"
    judge_unreadable(case, done, kind, detail)
    if done.code in (1, 2) and "ermission" not in done.text:
        case.fail(f"the message about an unreadable {kind} does not say \"permission denied\" (`{command[0]}`)",
                  f"{detail}: {done.text.strip()[-300:]}")
    finish(case, "a file without permission")
