"""Disturbances from outside a run: other processes, a removed lock file, foreign files, a clock that jumps."""

import glob
import os
import shutil
import signal
import time

from bench import Failure, HANG_S, NotRun, RUN_S, difference, expect_orderly, expect_same, results
from inputs import NAME, PRETRAINING, RECIPE, undisturbed, undisturbed_sweep
from interruptions import calls_of_a_run, finish, injecting


def start_run(case, *more, cwd=None, env=None):
    return case.bench.start(["run", "r.toml", *more], cwd or case.dir, env=env)


def two_at_once(case):
    """Two processes on one folder, started within 50 ms: one works, the other is refused or has nothing to do."""
    case.write("r.toml", RECIPE)
    first = start_run(case)
    time.sleep(case.random.uniform(0, 0.05) if case.random.random() < 0.7 else case.random.uniform(0, 0.5))
    second = start_run(case, *(["--fresh"] if case.random.random() < 0.3 else []))
    ends = [process.wait(RUN_S) for process in (first, second)]
    for done in ends:
        expect_orderly(done)
        if done.code not in (0, 1, 2):
            case.fail(f"one of two processes on a folder ends with exit {done.code}", done.last())
    refused = [done for done in ends if done.code]
    if len(refused) == 2:
        case.fail("of two processes on one folder both are refused", " / ".join(done.last(2) for done in refused))
    case.note("one refused" if refused else "both done")
    finish(case, "two processes on one folder")


def two_in_a_sweep(case):
    """Two processes run one sweep at the same time. The shared files must not depend on which process wrote them."""
    whole = undisturbed_sweep(case.bench)
    case.write("r.toml", (whole.folder / "r.toml").read_text())
    processes = [start_run(case)]
    time.sleep(case.random.uniform(0, 0.2))
    processes.append(start_run(case))
    for process in processes:
        expect_orderly(process.wait(RUN_S))
    done = case.run(["run", "r.toml"])
    if done.code:
        raise Failure("after two processes in one sweep it does not go on", done.last())
    expect_same(whole.results, case.dir / "runs" / NAME, "two processes in one sweep")
    case.note("same bytes")


def readers(case):
    """`check`, `compare` and `report` during a run: they must not report damage, and must not disturb the run."""
    case.write("r.toml", RECIPE)
    whole = undisturbed(case.bench)
    running = start_run(case)
    commands = (["check", f"runs/{NAME}"], ["compare", f"runs/{NAME}", str(whole.run)], ["report", f"runs/{NAME}"],
                ["plan", "r.toml"])
    read = 0
    while running.alive():
        command = case.random.choice(commands)
        begun = (case.dir / "runs" / NAME / "pretrain/epochs.csv").exists()
        done = case.run(command)
        alarm = [line for line in done.text.splitlines() if "damaged" in line or "checksum of the file differs" in line
                 or "missing" in line]
        if begun and done.code and alarm:
            case.fail(f"`{command[0]}` reports damage in a run that works", " | ".join(alarm)[:400])
        elif begun and done.code:
            case.fail(f"`{command[0]}` fails on a run that works", f"exit {done.code}: {done.last()}")
        read += 1
    done = running.wait(RUN_S)
    expect_orderly(done)
    if done.code:
        case.fail("a run ends with an error while others read it", f"exit {done.code}: {done.last()}")
    case.note("no false alarm" if not case.failures else "false alarm")
    finish(case, "readers")


def lock_removed(case):
    """The lock file is removed during a run, and a second process starts. Their results must not be mixed."""
    case.write("r.toml", RECIPE)
    first = start_run(case)
    lock = case.dir / "runs" / NAME / ".lock"
    while first.alive() and not lock.exists():
        time.sleep(0.001)
    time.sleep(case.random.uniform(0, undisturbed(case.bench).seconds * 0.7))
    lock.unlink(missing_ok=True)
    processes, second = [first], case.random.random() < 0.7
    if second:
        processes.append(start_run(case))
    for process in processes:
        done = process.wait(RUN_S)
        expect_orderly(done)
        case.note(f"exit {done.code}")
    finish(case, f"the removal of the lock file{' and a second start' if second else ''}")


def libfaketime():
    found = [path for pattern in ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1",
                                  "/usr/lib64/faketime/libfaketimeMT.so.1") for path in glob.glob(pattern)]
    if not found:
        raise NotRun("libfaketime is not installed")
    return found[0]


def clock_jumps(case):
    """The system clock is wrong, and jumps while the run works."""
    case.write("r.toml", RECIPE)
    offsets = ["+0", "-10y", "+10y", "-1h", "+1h", "-50y", "+200y", "-1s", "@1970-01-01 00:00:01", "@2000-01-01 00:00:00"]
    clock = case.write("clock", case.random.choice(offsets) + "\n")
    env = {"LD_PRELOAD": libfaketime(), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
           "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    for _ in range(case.random.randint(1, 2)):
        running = start_run(case, env=env)
        while running.alive():
            time.sleep(case.random.uniform(0.02, 0.2))
            clock.write_text(case.random.choice(offsets) + "\n")
            if case.random.random() < 0.05:
                running.send(signal.SIGTERM)
        done = running.wait(RUN_S)
        expect_orderly(done)
        if done.code not in (0, 130, -signal.SIGTERM):
            case.fail(f"a jump of the clock ends the run with exit {done.code}", done.last())
    case.note("same bytes")
    finish(case, "jumps of the clock")


# Names that a run itself uses, and names that it does not know.
PLACES = (
    "x", "notes.txt", ".lock", ".tmp-x", ".tmp-x-1-2", "recipe.toml", "NAME/recipe.toml", "NAME/accuracy.csv", "NAME/report.html",
    "NAME/notes/a.txt", "NAME/pretrain/x", "NAME/.tmp-x-1-2", "NAME/train/a/1.jpg", "NAME/provenance.json",
    "NAME/mae-manifest.jsonl", ".trash/mine/x", ".trash/mine/mae-manifest.jsonl", ".trash/x", "NAME/finetune/x/y",
    "NAME/finetune/from-scratch/notes.md", "NAME/pretrain/checkpoints/epoch-0001/model.safetensors",
    "NAME/pretrain/checkpoints/best.pth", "NAME/pretrain/checkpoints/epoch-0001/extra.bin", "NAME/pretrain/tensorboard/log.txt",
    "NAME/pretrain/tensorboard/events.out.tfevents.1.mine", "NAME/pretrain/resume.safetensors", "NAME/pretrain/epochs.csv",
    "NAME/pretrain/bad_files.csv", "NAME/pretrain/reconstructions/epoch-0001.png", "other/recipe.toml", "other/a/b/c",
    "NAME/é漢.txt", "NAME/.trash/x", "NAME/a=1/recipe.toml", "NAME-2/recipe.toml")


def foreign_files(case):
    """Random foreign trees around and inside a run folder: no command removes or changes one of their files."""
    name = case.random.choice(("micro", "flowers", "a b", "x.y", "é", "NAME-2"))
    runs = case.random.choice((".", "runs", "deep/er/runs"))
    recipe = PRETRAINING.replace('"micro"', f'"{name}"')
    case.write("r.toml", recipe)
    root = case.dir / runs
    if case.random.random() < 0.5:
        case.run(["run", "r.toml", "--runs", runs])
    foreign = {}
    for place in case.random.sample(PLACES, case.random.randint(1, 8)):
        path = root / place.replace("NAME", name)
        if any(parent.is_file() for parent in path.parents) or os.path.lexists(path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        how = case.random.random()
        if how < 0.1:
            path.symlink_to(case.random.choice(("../target", "/nonexistent", "r.toml")))
        elif how < 0.15:
            path.mkdir()
            path = path / "inside"
            path.write_text("inside")
        else:
            # A recipe that fits is the hardest case: the folder looks like a run.
            text = recipe if path.name == "recipe.toml" and case.random.random() < 0.7 else f"mine: {place}"
            path.write_text(text)
        foreign[path] = content(path)
    at_calls = bool(case.bench.strace)
    for _ in range(case.random.randint(1, 4)):
        command = ["run", "r.toml", "--runs", runs]
        if case.random.random() < 0.5:
            command.append("--fresh")
        kill = at_calls and case.random.random() < 0.25
        if case.random.random() < 0.2:
            command = case.random.choice((["report", f"{runs}/{name}"], ["trash", "list", "--runs", runs],
                                          ["check", f"{runs}/{name}"], ["run", "r.toml", "--runs", runs, "--set", "seed=3"]))
        if kill and command[0] == "run":
            call = case.random.choice(("rename", "unlink", "mkdir", "write", "openat"))
            nth = case.random.randint(1, min(40, calls_of_a_run(case.bench).get(call, 1)))
            case.bench.start(command, case.dir, before=injecting(case.bench, call, f"signal=KILL:when={nth}")).wait(RUN_S)
        else:
            done = case.run(command)
            case.note(f"`{command[0]}`: exit {done.code}", 0)
            if done.code not in (0, 1, 2):
                case.fail(f"`{command[0]}` beside foreign files ends with exit {done.code}", done.last())
        if case.random.random() < 0.3:
            case.run(["trash", "empty", "--runs", runs])
        for path, before in foreign.items():
            if content(path) != before:
                gone = "removed" if content(path) is None else "changed"
                case.fail(f"a foreign file is {gone} by `{' '.join(command[:2])}`",
                          f"{path.relative_to(case.dir)} after {' '.join(command)}")
                return
    case.note("all foreign files kept")


def content(path):
    if path.is_symlink():
        return b"-> " + os.readlink(path).encode()
    try:
        return path.read_bytes()
    except OSError:
        return None


def older_runs(case):
    """A run folder of a version without checksums: the program reads, resumes and reports it, and names what is missing."""
    whole = undisturbed(case.bench)
    case.write("r.toml", RECIPE)
    run = case.copy(whole.run, f"runs/{NAME}")
    (run / "mae-manifest.jsonl").unlink()
    stage = case.random.choice(("finetune", "linprobe", None))
    if stage:
        shutil.rmtree(case.random.choice(sorted((run / stage).iterdir())))
    case.must(["compare", f"runs/{NAME}", whole.run])
    case.must(["report", f"runs/{NAME}"])
    done = case.must(["run", "r.toml"])
    differs = difference(whole.results, results(run))
    if differs:
        case.fail("an older run does not go on to the same bytes", f"{differs}: {done.last()}")
    case.note("read, resumed and reported")


def start_files(case):
    """The file that a fine-tuning starts from is replaced between two starts: refused, like changed data."""
    whole = undisturbed(case.bench)
    weights = {epoch: whole.run / f"pretrain/checkpoints/epoch-{epoch:04}/model.safetensors" for epoch in (2, 6)}
    recipe = RECIPE.split("[pretrain]", maxsplit=1)[0] + "[finetune]" + RECIPE.split("[finetune]")[1].split("[linprobe]")[0]
    case.write("r.toml", recipe.replace('["scratch", "last"]', '["scratch", "w.safetensors"]'))
    case.write("w.safetensors", weights[2].read_bytes())
    done = start_run(case)
    log = "" if case.random.random() < 0.5 else "from-w"
    while done.alive() and f"finetune/{log}" not in done.log():
        time.sleep(0.001)
    done.send(signal.SIGKILL)
    done.wait(RUN_S)
    case.write("w.safetensors", weights[6].read_bytes())
    again = case.run(["run", "r.toml"])
    if again.code == 0 and (case.dir / "runs" / NAME / "finetune").is_dir():
        case.note("accepted")
        case.fail("a start file that was replaced is accepted by an unfinished run", again.last(2))
    else:
        case.note("refused")
    case.write("w.safetensors", weights[2].read_bytes())
    case.must(["run", "r.toml"])


def too_large(case):
    """A recipe that needs more memory than any machine has. It must fail before it allocates memory."""
    choices = (["model.embed_dim=1048576", "model.num_heads=2"], ["data.num_classes=4000000000"],
               ["pretrain.batch_size=1000000000"], ["finetune.batch_size=1000000000"], ["model.depth=100000000"],
               ["model.embed_dim=65536", "model.num_heads=2", "model.depth=1000"],
               ["model.decoder_embed_dim=1048576", "model.decoder_num_heads=2"], ["data.input_size=4000000"],
               ["data.in_chans=1000000"], ["pretrain.accum_iter=1000000000"], ["data.workers=1000000"])
    case.write("r.toml", RECIPE)
    chosen = case.random.choice(choices)
    done = case.bench.start(["run", "r.toml", *(word for key in chosen for word in ("--set", key))], case.dir).wait(HANG_S * 2)
    if done.hung:
        case.fail(f"a recipe that is too large works on: {chosen}", done.last())
    elif done.crash():
        case.fail(f"a recipe that is too large crashes: {done.crash()}", str(chosen))
    elif done.code in (1, 2):
        case.note("refused")
    else:
        case.note(f"exit {done.code}")
