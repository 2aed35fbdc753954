"""Damaged bytes in files that the program wrote: none may change a result without a warning."""

import shutil

from bench import Failure, difference, numbers, warnings
from inputs import (NAME, RECIPE, interrupted, large_set, packed, probe_recipe, trained_on, undisturbed)

WRONG = "SILENTLY WRONG"


def damage(case, path, whole_blocks=False):
    """Flips a bit, cuts the end off or zeroes a range. Returns the original bytes and a description of the damage."""
    data = path.read_bytes()
    if not data:
        raise Failure(f"{path.name} is empty: nothing to damage")
    while True:
        at = case.random.randrange(len(data))
        how = case.random.choice(("flip", "flip", "cut", "zero", "block" if whole_blocks else "zero"))
        damaged = bytearray(data)
        if how == "flip":
            bit = case.random.randrange(8)
            damaged[at] ^= 1 << bit
            words = f"bit {bit} of byte {at} flipped"
        elif how == "cut":
            del damaged[at:]
            words = f"cut to {at} bytes"
        else:
            begin, length = (at // 512 * 512, 512) if how == "block" else (at, case.random.randint(1, 600))
            end = min(begin + length, len(data))
            damaged[begin:end] = bytes(end - begin)
            words = f"bytes {begin}..{end} zeroed"
        if damaged != data:
            path.write_bytes(damaged)
            return data, f"{path.relative_to(case.dir)}: {words} of {len(data)}"


def expect_check_names(case, path, what):
    """`mae check` must name a damaged file that the manifest lists."""
    done = case.run(["check", f"runs/{NAME}"])
    name = path.relative_to(case.dir / "runs" / NAME).as_posix()
    if done.code == 0 or name not in done.text:
        case.fail(f"`mae check` does not report a damaged {path.name}", f"{what}: exit {done.code}")


def judge_run(case, done, whole, run, file, what, must_report=False, must_name=True):
    """Records how a training with a damaged `file` ended: refused, warned, silent and right, or silently wrong."""
    warned = bool(warnings(done.err) - whole.warnings)
    if done.code in (1, 2):
        case.note("refused")
        if must_name and file not in done.text:
            case.fail(f"the run is refused, but the message does not name {file}", f"{what}: {done.last()}")
        return
    if done.code != 0:
        case.fail(f"a damaged {file} ends the run with exit {done.code}", f"{what}: {done.last()}")
        return
    right = numbers(run) == whole.numbers
    if not warned and any(file in line and "damaged" in line for line in done.err.splitlines()):
        warned = True
        case.fail(f"the run reports a damaged {file} at INFO, not as a warning", what)
    if warned:
        case.note("warned and right" if right else "warned, the damaged part left out")
    elif right:
        case.note("silent and right")
        if must_report:
            case.fail(f"the run reads a damaged {file} and does not report it", what)
    else:
        case.note(WRONG)
        case.fail(f"{WRONG}: a damaged {file} changes the results of a run without a warning",
                  f"{what}: {difference(whole.numbers, numbers(run))}")


def states(case):
    """The saved states of an unfinished job."""
    stage = case.random.choice(("pretrain", "pretrain", "finetune", "linprobe"))
    case.write("r.toml", RECIPE)
    run = case.copy(interrupted(case.bench, stage), f"runs/{NAME}")
    newest = next(run.rglob("resume.safetensors"))
    is_newest = case.random.random() < 0.75
    path = newest if is_newest else newest.with_name("previous-resume.safetensors")
    good, what = damage(case, path)
    expect_check_names(case, path, what)
    done = case.run(["run", "r.toml"])
    judge_run(case, done, undisturbed(case.bench), run, path.name, what, must_report=is_newest)
    if done.code != 0:
        path.write_bytes(good)
        case.must(["run", "r.toml"])
        if numbers(run) != undisturbed(case.bench).numbers:
            case.fail("after the whole state is put back the result differs", what)


def checkpoints(case):
    """The weights and the metadata of kept checkpoints."""
    whole = undisturbed(case.bench)
    case.write("r.toml", RECIPE)
    run = case.copy(whole.run, f"runs/{NAME}")
    files = sorted([*run.rglob("checkpoints/*/model.safetensors"), *run.rglob("checkpoints/*/meta.json")])
    path = case.random.choice(files)
    folder = path.parent.relative_to(case.dir).as_posix()
    pretrained = "/pretrain/" in folder
    commands = ["convert", "run"] if pretrained else ["convert", "eval"]
    command = case.random.choice(commands)
    _, what = damage(case, path)
    expect_check_names(case, path, what)
    if command == "run":
        # The jobs that start from the checkpoint begin again.
        for job in [*run.glob("finetune/from-0*"), *run.glob("linprobe/from-0*")]:
            shutil.rmtree(job)
        done = case.run(["run", "r.toml"])
        last = path.parent.name == "epoch-0006"
        judge_run(case, done, whole, run, path.name, what, must_report=last or path.name == "model.safetensors")
        return
    good = whole.run.parent / folder.removeprefix("runs/")
    arguments = {"convert": lambda source, out: ["convert", source, out], "eval": lambda source, _: ["eval", source]}
    expected = case.must(arguments[command](good, "good"))
    done = case.run(arguments[command](folder, "out"))
    if done.code in (1, 2):
        case.note("refused")
        if path.name not in done.text and folder not in done.text:
            case.fail(f"`{command}` refuses without naming {path.name}", f"{what}: {done.last()}")
        return
    same = done.out == expected.out if command == "eval" else same_tree(case.dir / "good", case.dir / "out")
    if warnings(done.err) - warnings(expected.err):
        case.note("warned and right" if same else "warned, the damaged part left out")
    elif same:
        case.note("silent and right")
        case.fail(f"`{command}` reads a damaged {path.name} and does not report it", what)
    else:
        case.note(WRONG)
        case.fail(f"{WRONG}: `{command}` takes a damaged {path.name} without a warning", what)


def same_tree(one, other):
    def files(root):
        return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    return files(one) == files(other)


def tables(case):
    """Tables, provenance, recipe and manifest of a finished run."""
    whole = undisturbed(case.bench)
    case.write("r.toml", RECIPE)
    run = case.copy(whole.run, f"runs/{NAME}")
    names = ["accuracy.csv", "provenance.json", "recipe.toml", "mae-manifest.jsonl"]
    path = case.random.choice([*sorted(run.rglob("epochs.csv")), *(run / name for name in names)])
    manifest = path.name == "mae-manifest.jsonl"
    command = case.random.choice(("compare", "report", "run"))
    arguments = {"compare": ["compare", run.relative_to(case.dir), whole.run], "report": ["report", run.relative_to(case.dir)],
                 "run": ["run", "r.toml"]}[command]
    expected = case.must(arguments)
    shown = printed(run, command, expected)
    _, what = damage(case, path)
    if not manifest:
        expect_check_names(case, path, what)
    if command == "run":
        # No warning is needed if the results are right: a recipe is compared by its settings, a run restores its own table,
        # and a manifest without its end looks like one that a crash cut short.
        judge_run(case, case.run(arguments), whole, run, path.name, what, must_name=not manifest)
        return
    done = case.run(arguments)
    if done.code in (1, 2):
        case.note("refused")
        if path.name not in done.text and not manifest:
            case.fail(f"`{command}` refuses without naming {path.name}", f"{what}: {done.last()}")
    elif warnings(done.err) - warnings(expected.err):
        case.note("warned and right")
    elif printed(run, command, done) == shown:
        case.note("silent and right")
    else:
        case.note(WRONG)
        case.fail(f"{WRONG}: `{command}` takes a damaged {path.name} without a warning", what)


def printed(run, command, done):
    """Returns the output of a command that its user sees."""
    return (run / "report.html").read_text(errors="replace") if command == "report" else done.out


def caches(case):
    """The listing of a large data set in the user's cache folder."""
    source = case.random.choice(("webdataset", "webdataset", "imagefolder"))

    def make(folder):
        large_set(folder, source)
        return probe_recipe("probe", source, folder / "data", side=4, batch_size=2_000)
    whole = trained_on(case.bench, f"large-{source}", make)
    # Each data set has one file, named by a hash of its path.
    kept = case.bench.fixture(f"large-{source}-cache", lambda folder: cache_of(case.bench, whole, folder))
    shutil.copy(whole.folder / "r.toml", case.dir / "r.toml")
    cache = case.dir / "cache/mae/data" / kept.name
    cache.parent.mkdir(parents=True)
    shutil.copy(kept, cache)
    _, what = damage(case, cache)
    done = case.run(["run", "r.toml"], env={"XDG_CACHE_HOME": str(case.dir / "cache")})
    judge_run(case, done, whole, case.dir / "runs/probe", "listing cache", f"{source}: {what}", must_name=False)
    if case.outcomes["warned, the damaged part left out"]:
        case.fail("a damaged listing cache blames whole pictures", f"{source}: {what}: {warnings(done.err) - whole.warnings}")
    if done.code in (1, 2):
        case.fail("a damaged listing cache ends a run on whole data", f"{source}: {what}: {done.last()}")


def cache_of(bench, whole, folder):
    """Makes the listing cache of a data set. Fails if an undamaged cache changes a run."""
    env = {"XDG_CACHE_HOME": str(folder)}
    for runs in ("empty", "full"):
        bench.must(["run", "r.toml", "--runs", folder / runs], whole.folder, env=env)
        if numbers(folder / runs / "probe") != whole.numbers:
            raise Failure(f"with the listing cache ({runs}) the result of a run differs")
    files = list((folder / "mae/data").glob("*"))
    if len(files) != 1:
        raise Failure(f"expected one listing cache, found {len(files)}")
    return files[0]


def shards(case):
    """Tar shards that `mae data pack` made."""
    jpeg = case.random.random() < 0.5

    def make(folder):
        shutil.copytree(packed(case.bench, jpeg), folder / "shards")
        return probe_recipe("probe", "webdataset", "shards")
    whole = trained_on(case.bench, f"shards-{'jpeg' if jpeg else 'png'}", make)
    shutil.copy(whole.folder / "r.toml", case.dir / "r.toml")
    folder = case.copy(whole.folder / "shards", "shards")
    path = case.random.choice(sorted(folder.rglob("*.tar")))
    _, what = damage(case, path, whole_blocks=True)
    checked = case.run(["data", "check", "shards"])
    done = case.run(["run", "r.toml"])
    judge_run(case, done, whole, case.dir / "runs/probe", "shard", what, must_name=False)
    mattered = case.outcomes["silent and right"] == 0
    if checked.code == 0 and mattered:
        case.fail("`mae data check` passes a damaged shard that changes or ends a run", f"{what}: run exit {done.code}")


def foreign_archives(case):
    """A .pth file of PyTorch's format: its zip carries a CRC of every member."""
    whole = undisturbed(case.bench)

    def make(folder):
        source = next(whole.run.glob("pretrain/checkpoints/epoch-0006"))
        case.bench.must(["convert", source, "weights.pth", "--to", "official"], folder)
        case.bench.must(["convert", "weights.pth", "good", "--recipe", whole.folder / "r.toml"], folder)
        return folder
    good = case.bench.fixture("pth", make)
    shutil.copy(good / "weights.pth", case.dir / "weights.pth")
    path = case.dir / "weights.pth"
    _, what = damage(case, path)
    done = case.run(["convert", "weights.pth", "out", "--recipe", str(whole.folder / "r.toml")])
    if done.code in (1, 2):
        case.note("refused")
    elif (case.dir / "out/model.safetensors").read_bytes() == (good / "good/model.safetensors").read_bytes():
        case.note("silent and right")
    else:
        case.note(WRONG)
        case.fail(f"{WRONG}: `convert` takes a damaged .pth whose CRC differs", what)
