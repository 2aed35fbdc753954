"""Mutated recipes and files: no panic, no hang, an exit code of 0, 1 or 2."""

import io
import json
import shutil
import string
import tarfile

from bench import Failure
from inputs import (RECIPE, bmp, packed, picture, pictures_folder, png, ppm, probe_recipe, repository,
                    schema_keys, tar_of, undisturbed)

# Values that are legal TOML, or nearly.
VALUES = (
    "0", "1", "-1", "2", "3", "7", "50", "4294967295", "4294967296", "4e9", "9223372036854775807", "-9223372036854775808",
    "18446744073709551615", "1e308", "-1e308", "1e-300", "0.0", "-0.0", "0.5", "1.0", "nan", "inf", "-inf", "true", "false",
    '""', '"x"', '"last"', '"scratch"', '"auto"', '"checkpoints"', '"off"', '"../x"', '"a/b"', '"."', '".."', '"/dev/zero"',
    '"${HOME}"', '"${MISSING}"', '"$${"', '"${"', '"\\u0000"', '"é漢🙂"', '"' + "x" * 300 + '"', "[]", "[[]]", "[0]", "[1, 2]",
    "[-1]", "[1.5, 0.5]", "[nan, inf]", '["last", "last"]', '["scratch", 3]', "[4294967295, 1]", "{}", "{ a = 1 }",
    "{ crop_scale = [0, 0] }", "{ crop_scale = [1.0, 0.1], hflip = 3 }", "1979-05-27T07:32:00Z", "1_000", "0x10", "'x'",
    '"""x\ny"""', "=", "[", '"', "#", "", "rand-m9-mstd0.5-inc1", '"rand-m99-n999999999"', '"rand-m9-mstd-inf"')
EXTRA_KEYS = ("sweep.seed", "sweep.pretrain.blr", "extends", "name", "seed", "pretrain", "model", "data", "finetune", "x",
              "a.b.c", "", ".", "pretrain..blr", "pretrain.", "'pretrain.blr'", "sweep", "runtime")


def recipes_of_the_repository(bench):
    def make(folder):
        source = repository() / "experiments"
        if source.is_dir():
            shutil.copytree(source, folder / "experiments", ignore=shutil.ignore_patterns("*.png", "*.svg", "*.jpg"))
        (folder / "experiments").mkdir(exist_ok=True)
        (folder / "experiments/campaign.toml").write_text(RECIPE)
        (folder / "experiments/campaign_sweep.toml").write_text(RECIPE + "[sweep]\nseed = [0, 1]\n")
        return sorted((folder / "experiments").glob("*.toml"))
    return bench.fixture("recipes", make)


def mutated_text(random, text, other):
    lines = text.splitlines()
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(lines))
        how = random.randrange(10)
        if how <= 3 and "=" in lines[at]:
            lines[at] = lines[at].split("=")[0] + "= " + random.choice(VALUES)
        elif how == 4:
            del lines[at]
        elif how == 5:
            lines.insert(at, random.choice(other.splitlines() or [""]))
        elif how == 6:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif how == 7 and lines[at]:
            i = random.randrange(len(lines[at]))
            lines[at] = lines[at][:i] + random.choice(string.printable + "é\0\u202e") + lines[at][i + random.randrange(2):]
        elif how == 8:
            lines.insert(at, f"{random.choice(EXTRA_KEYS)} = {random.choice(VALUES)}")
        else:
            key = lines[at].split("=")[0]
            lines[at] = lines[at].replace(key, random.choice(("[", "[[", "", "x.")) + key.strip() + random.choice(("]", " =", "")))
        lines = lines or [""]
    return "\n".join(lines) + "\n"


RECIPES_IN_A_CASE = 25


def recipes(case):
    """Mutated recipes, and `--set` with values of the wrong kind, through `plan --json`."""
    files = recipes_of_the_repository(case.bench)
    folder = case.dir / "experiments"
    shutil.copytree(files[0].parent, folder)
    keys = schema_keys(case.bench)
    case.units = RECIPES_IN_A_CASE
    for i in range(RECIPES_IN_A_CASE):
        base, other = case.random.choice(files), case.random.choice(files)
        path = folder / f"mutated{i}.toml"
        text = base.read_text()
        if case.random.random() < 0.6:
            text = mutated_text(case.random, text, other.read_text())
        if case.random.random() < 0.03:
            text = f"extends = {case.random.choice(VALUES)}\n{text}"
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        sets = []
        for _ in range(case.random.choice((0, 1, 1, 2, 3))):
            key = case.random.choice(keys if case.random.random() < 0.8 else EXTRA_KEYS)
            sets += ["--set", f"{key}={case.random.choice(VALUES)}".replace("\0", "")]
        judge(case, ["plan", f"experiments/{path.name}", "--json", *sets], f"{base.name} {path}", "plan")


def judge(case, arguments, what, command):
    """Runs a command on mutated input. Fails if it panics, hangs, or exits with an undocumented code."""
    try:
        done = case.run(arguments)
    except Failure as failure:
        case.fail(f"{failure.problem}", f"{what}: {' '.join(map(str, arguments))[:500]} {failure.detail[:200]}")
        return None
    case.note(f"`{command}`: exit {done.code}")
    if done.code not in (0, 1, 2):
        case.fail(f"`{command}` ends with exit {done.code}", f"{what}: {done.last(1)}")
    if done.code and not done.err.strip() and not done.out.strip():
        case.fail(f"`{command}` fails without a message", what)
    return done


def mutated(random, data, other=b""):
    """Changes a few places of a file; most of them near its ends, where headers and directories are."""
    data = bytearray(data)
    for _ in range(random.randint(1, 4)):
        if not data:
            break
        at = min(random.choice((random.randrange(len(data)), random.randrange(min(len(data), 600)),
                                len(data) - 1 - random.randrange(min(len(data), 600)))), len(data) - 1)
        how = random.randrange(8)
        if how <= 1:
            data[at] ^= 1 << random.randrange(8)
        elif how == 2:
            data[at] = random.choice(b"\0\x01\x7f\x80\xff]})(tauRbQ0.\"{[,-9e")
        elif how == 3:
            value = random.choice((2**64 - 1, 2**63, 2**40, 2**32 - 1, 2**31, 2**16, 0, len(data)))
            width = random.choice((2, 4, 8))
            data[at:at + width] = (value % 256**width).to_bytes(width, random.choice(("little", "big")))
        elif how == 4 and random.random() < 0.5:
            del data[at:]
        elif how == 5:
            data[at:at] = (other or data)[random.randrange(len(other or data)):][:random.randint(1, 64)]
        elif how == 6:
            del data[at:at + random.randint(1, 32)]
        else:
            data[at:at + random.randint(1, 300)] = bytes(random.randint(1, 300))
    return bytes(data)


FILES_IN_A_CASE = 20


def checkpoint_seeds(bench):
    """The same weights in all checkpoint formats, outside of any run folder."""
    def make(folder):
        whole = undisturbed(bench)
        recipe = ["--recipe", whole.folder / "r.toml"]
        for stage, source in (("pretrain", "pretrain/checkpoints/epoch-0006"),
                              ("finetune", "finetune/from-0006/checkpoints/epoch-0003")):
            shutil.copytree(whole.run / source, folder / stage / "mae")
            for name, to in (("official.safetensors", "official"), ("official.pth", "official"),
                             ("timm.safetensors", "timm"), ("hf", "huggingface")):
                done = bench.run(["convert", folder / stage / "mae", folder / stage / name, "--to", to, *recipe], folder)
                if done.code not in (0, 2):
                    raise Failure(f"cannot convert to {to}", done.last())
        return sorted(path for path in folder.rglob("*") if path.is_file())
    return bench.fixture("checkpoint-seeds", make)


def mutated_checkpoints(case):
    """Checkpoints for `convert` and `eval`."""
    seeds = checkpoint_seeds(case.bench)
    case.units = FILES_IN_A_CASE
    recipe = undisturbed(case.bench).folder / "r.toml"
    for i in range(FILES_IN_A_CASE):
        seed, other = case.random.choice(seeds), case.random.choice(seeds)
        data = mutated(case.random, seed.read_bytes(), other.read_bytes())
        folder = case.dir / str(i)
        if seed.parent.name in ("mae", "hf"):
            shutil.copytree(seed.parent, folder / "in")
            source = folder / "in"
            (source / seed.name).write_bytes(data)
        else:
            source = case.write(f"{i}/{seed.name}", data)
        what = f"{seed.parent.name}/{seed.name}, mutated: {source}"
        if "finetune" in seed.parts and case.random.random() < 0.5:
            judge(case, ["eval", source, "--data", recipe], what, "eval")
        else:
            to = case.random.choice(("mae", "mae", "official", "timm", "huggingface"))
            more = ["--recipe", recipe] if case.random.random() < 0.7 else []
            judge(case, ["convert", source, folder / "out", "--to", to, *more], what, "convert")


OFFICIAL_LOG = "".join(
    json.dumps({"train_lr": 1e-4 * (i + 1), "train_loss": 2.3 - i / 10, "test_loss": 2.2 - i / 10, "test_acc1": 10.5 + i,
                "test_acc5": 50.25 + i, "epoch": i, "n_parameters": 12345}) + "\n" for i in range(5))


def logs(case):
    """Tables, official logs and run folders without checksums, for `compare` and `report`."""
    whole = undisturbed(case.bench)
    case.units = FILES_IN_A_CASE
    names = ["accuracy.csv", "provenance.json", "recipe.toml", "finetune/from-0006/epochs.csv", "pretrain/epochs.csv",
             "linprobe/from-0002/epochs.csv", "finetune/from-0006/tensorboard/log.txt"]
    for i in range(FILES_IN_A_CASE):
        form = case.random.choice(("log", "table", "run", "run"))
        if form == "log":
            name = case.random.choice(("log.txt", "linprobe/log.txt"))
            path = case.write(f"{i}/{name}", mutated(case.random, OFFICIAL_LOG.encode()))
        elif form == "table":
            path = case.write(f"{i}/accuracy.csv", mutated(case.random, (whole.run / "accuracy.csv").read_bytes()))
        else:
            run = case.copy(whole.run, f"{i}/{whole.run.name}")
            (run / "mae-manifest.jsonl").unlink()
            name = case.random.choice(names)
            path = run / name
            path.write_bytes(mutated(case.random, path.read_bytes()))
            if case.random.random() < 0.5:
                judge(case, ["report", run], f"{path}", "report")
                continue
            path = run
        more = case.random.choice(([], [], ["--csv", case.dir / f"{i}.csv"], ["--xlsx", case.dir / f"{i}.xlsx"]))
        judge(case, ["compare", whole.run, path, *more], f"{form}: {path}", "compare")


def jpegs(bench):
    """Returns JPEG files: what `data pack` re-encoded."""
    def make(_):
        found = []
        for shard in sorted(packed(bench, jpeg=True).rglob("*.tar")):
            with tarfile.open(shard) as tar:
                found += [tar.extractfile(m).read() for m in tar if m.name.endswith((".jpg", ".jpeg"))]
        return found
    return bench.fixture("jpegs", make)


def pictures(case):
    """Mutated pictures of all formats, one `data check` for a folder of them."""
    case.units = FILES_IN_A_CASE
    known = jpegs(case.bench)
    folder = case.copy(pictures_folder(case.bench), "data")
    for i in range(FILES_IN_A_CASE):
        pixels = picture(case.random, 16)
        ending, data = case.random.choice((("png", png(16, pixels)), ("bmp", bmp(16, pixels)), ("ppm", ppm(16, pixels)),
                                           ("jpg", case.random.choice(known)), ("jpg", case.random.choice(known))))
        data = mutated(case.random, data, case.random.choice(known))
        (folder / f"train/a/mutated{i}.{ending}").write_bytes(data)
    judge(case, ["data", "check", "data"], str(folder), "data check")


def mutated_shards(case):
    """Mutated shards, and shards whose `.cls`, names and kinds of members are odd."""
    case.units = 4
    known = jpegs(case.bench)
    for i in range(case.units):
        folder = case.dir / str(i) / "shards"
        members = []
        for key in range(12):
            label = str(key % 4)
            if case.random.random() < 0.1:
                label = case.random.choice(("4294967295", "4294967296", "-1", "1.5", "", "x", "9" * 40, "1000000", "2147483648",
                                            " 3 ", "3\n", "\0", "65536"))
            name = f"{key:06}"
            if case.random.random() < 0.05:
                name = case.random.choice(("../../x", "/abs", "a/b/c", ".", "x" * 90, "a.b.c", "é"))
            members += [(f"{name}.jpg", case.random.choice(known)), (f"{name}.cls", label.encode())]
            if case.random.random() < 0.05:
                members.append((f"{name}.json", mutated(case.random, b'{"label": 3}')))
        case.random.shuffle(members) if case.random.random() < 0.1 else None
        data = tar_of(members)
        if case.random.random() < 0.6:
            data = mutated(case.random, data, data)
        if case.random.random() < 0.1:
            data += linked(case.random)
        case.write(f"{i}/shards/train/train-000000.tar", data)
        case.write(f"{i}/shards/val/val-000000.tar", tar_of(members[:8]))
        if case.random.random() < 0.3:
            pack = packed(case.bench, jpeg=True)
            for name in ("pack.json", "classes.txt"):
                if (pack / name).exists():
                    (folder / name).write_bytes(mutated(case.random, (pack / name).read_bytes()))
        judge(case, ["data", "check", folder], str(folder), "data check")
        # Counting classes must not ask for memory that the data does not need.
        if case.random.random() < 0.3:
            (case.dir / str(i) / "r.toml").write_text(probe_recipe("probe", "webdataset", folder))
            judge(case, ["run", case.dir / str(i) / "r.toml", "--runs", case.dir / str(i) / "runs"], str(folder), "run")


def linked(random):
    """Returns a tar archive with members that are not files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for i, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"link{i}.jpg")
            info.type, info.linkname = kind, random.choice(("/etc/passwd", "000000.jpg", "../x", ""))
            tar.addfile(info)
    return data.getvalue()


def parquet(case):
    """Mutated parquet files."""
    case.units = 4
    source = repository() / "tests/parquet"
    files = sorted(source.glob("*.parquet"))
    if not files:
        raise Failure("tests/parquet holds no files")
    for i in range(case.units):
        folder = case.dir / str(i)
        folder.mkdir()
        for path in files:
            shutil.copy(path, folder)
        path = folder / case.random.choice(files).name
        path.write_bytes(mutated(case.random, path.read_bytes(), files[0].read_bytes()))
        judge(case, ["data", "check", folder], str(path), "data check")
