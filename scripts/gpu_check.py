"""Checks `mae` on a GPU and measures its speed. Started by gpu_check.sh, which documents it. Uses only the standard library."""

import csv
import datetime
import json
import lzma
import math
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = REPOSITORY / "experiments/bench_vit_base.toml"
QUICKSTART = REPOSITORY / "experiments/quickstart.toml"
PEER_SCRIPTS = {"pretrain": "mae_pretrain.py", "finetune": "vit_finetune.py"}
LEAST_S = 10  # with less time before the deadline, no step starts
LEAST_TUNED_S = 60  # the same for steps that tune kernels first
RESUME_TOLERANCE = 1e-3
OURS_S = {"bf16": 20, "fp32": 15}  # `--seconds` of `mae bench train`; includes compiling and tuning kernels
TUNED = "mae, tuned"
FEW_STEPS = 15  # with fewer steps, work queued during the warm-up distorts the result
OUT_OF_MEMORY = re.compile(r"out.?of.?(device.)?memory|can(no|')t allocate|memory allocation", re.IGNORECASE)
# Results of the README on two CPU cores: pretrain_epoch -> top-1 fine-tuned and probed.
DIGITS = {"0": (70.56, 47.78), "10": (82.22, 43.33), "20": (93.89, 60.28), "40": (96.67, 78.89), "70": (98.33, 80.83)}
DIGITS_AT_LEAST = 97.0  # expected by experiments/README.md, fine-tuned at epoch 70
VIT_TINY = {"model.size": '"vit_tiny_patch16"'}
SHORT_DIGITS = {"pretrain.epochs": 2, "pretrain.warmup_epochs": 1, "pretrain.checkpoint_epochs": "[2]",
                "finetune.epochs": 2, "linprobe.epochs": 2}
SHORT_RESUME = {"data.train_images": 512}
RESUME_RECIPE = """name = "resume"
[data]
format = "synthetic"
input_size = 32
num_classes = 10
train_images = 2048
val_images = 256
[model]
patch_size = 4
embed_dim = 64
depth = 2
num_heads = 4
decoder_embed_dim = 64
decoder_depth = 1
decoder_num_heads = 4
[pretrain]
epochs = 4
warmup_epochs = 1
batch_size = 32
norm_pix_loss = true
[finetune]
from = "last"
epochs = 2
warmup_epochs = 1
batch_size = 64
aa = ""
"""


class Failed(Exception):
    """A failed step and its reason; `whole` is the complete stderr of the program."""

    def __init__(self, reason, whole=""):
        super().__init__(reason)
        self.whole = whole


class OutOfTime(Exception):
    """The deadline was reached."""


class Machine:
    """The settings of the check, and the clock that all steps share."""

    def __init__(self, binary):
        self.device = os.environ.get("DEVICE", "cuda")
        self.deadline_s = positive("DEADLINE", 520.0)
        self.rounds = int(positive("ROUNDS", 1 if self.dry else 2))
        self.reference = Path(os.environ.get("REFERENCE") or REPOSITORY / "tests/golden").resolve()
        self.out = Path(os.environ.get("OUT") or "gpu_check_out").resolve()
        self.binary = Path(binary).resolve()
        self.peers = peers(self.binary)
        self.steps = [name.strip() for name in os.environ.get("STEPS", "").split(",") if name.strip()]
        self.scratch = Path(tempfile.mkdtemp(prefix="gpu-check-"))
        self.started = time.monotonic()
        self.running = None

    @property
    def dry(self):
        return self.device == "cpu"

    def left_s(self):
        return self.deadline_s - (time.monotonic() - self.started)

    def check_usage(self):
        if self.device not in ("cuda", "cpu"):
            usage(f"DEVICE={self.device} is invalid: set it to cuda, or to cpu for a dry run")
        names = [name for name, _ in plan(self)]
        for chosen in self.steps:
            if not any(name.startswith(chosen) for name in names):
                usage(f"STEPS={chosen} matches no step; the steps are {', '.join(names)}")
        if not self.binary.is_file():
            usage(f"{self.binary} is missing")
        if not self.reference.is_dir():
            usage(f"the folder {self.reference} is missing; set REFERENCE to the folder of the cases")
        if self.peers is None:
            usage(f"cannot find {' and '.join(PEER_SCRIPTS.values())}; set PEERS to their folder")

    def unpack(self):
        """Unpacks BINARY.xz; a plain BINARY stays as it is."""
        if self.binary.suffix == ".xz":
            packed, self.binary = self.binary, self.scratch / "mae"
            try:
                with lzma.open(packed) as source, open(self.binary, "wb") as file:
                    shutil.copyfileobj(source, file)
            except (lzma.LZMAError, EOFError) as error:
                usage(f"cannot unpack {packed}: {error}")
            self.binary.chmod(0o755)
        elif not os.access(self.binary, os.X_OK):
            usage(f"{self.binary} is not executable")

    def environment(self, ours):
        """Returns the environment of a program: without MAE_ variables, with our scratch folder and, for `mae`, the toolkit."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("MAE_")}
        env["TMPDIR"] = str(self.scratch)
        kit = toolkit()
        if ours and kit:  # PyTorch has its own CUDA libraries and must not load these
            env.setdefault("CUDA_PATH", str(kit))
            known = env.get("LD_LIBRARY_PATH")
            env["LD_LIBRARY_PATH"] = (known + ":" if known else "") + str(kit / "lib64")
        return env

    def start(self, arguments):
        """Starts a program in its own session, so that it can be killed together with its children."""
        out, err = (tempfile.TemporaryFile("w+", dir=self.scratch, errors="replace") for _ in range(2))
        env = self.environment(ours=arguments[0] == self.binary)
        try:
            self.running = subprocess.Popen([str(a) for a in arguments], stdout=out, stderr=err, cwd=REPOSITORY, env=env,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            raise Failed(f"cannot start {arguments[0]}: {error}") from None
        return Child(self, self.running, out, err)

    def call(self, arguments, limit_s):
        """Runs a program to its end. Raises if it exceeds its limit or the deadline."""
        child = self.start(arguments)
        child.wait(limit_s)
        return child

    def mae(self, *arguments, limit_s):
        return self.call([self.binary, *arguments], limit_s)

    def begin(self):
        """Removes the failure log of an earlier check."""
        (self.out / "failures.log").unlink(missing_ok=True)

    def close(self):
        if self.running and self.running.poll() is None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Child:
    """A running program."""

    def __init__(self, machine, process, out, err):
        self.machine, self.process, self.files = machine, process, (out, err)
        self.started = time.monotonic()

    def wait(self, limit_s):
        left_s = max(self.machine.left_s(), 0.1)
        try:
            self.process.wait(min(limit_s, left_s))
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()
            if left_s <= limit_s:
                raise OutOfTime(f"the deadline stopped it after {self.seconds():.0f} s") from None
            raise Failed(f"not done after {limit_s:.0f} s; {self.last_words()}") from None

    def signal(self, number):
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def seconds(self):
        return time.monotonic() - self.started

    def read(self, index):
        self.files[index].seek(0)
        return self.files[index].read()

    def json(self):
        """Returns the JSON object on the last line of stdout."""
        lines = self.read(0).strip().splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, ValueError):
            raise self.failure() from None

    def failure(self):
        whole = self.read(1)
        self.machine.out.mkdir(parents=True, exist_ok=True)
        with open(self.machine.out / "failures.log", "a") as file:
            file.write(f"{shlex.join(str(a) for a in self.process.args)}\n{whole[-200_000:]}\n")
        return Failed(self.last_words(), whole)

    def last_words(self):
        lines = [line.strip() for line in self.read(1).splitlines() if line.strip()]
        code = self.process.returncode
        return f"exit code {code}: " + (" / ".join(lines[-4:])[-600:] if lines else "nothing on stderr")

    def must_end_with(self, code):
        if self.process.returncode != code:
            raise self.failure()


def positive(name, default):
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0.0 or name == "ROUNDS" and value < 1.0:
        usage(f"{name}={text} is invalid: set it to a number {'of at least 1' if name == 'ROUNDS' else 'above 0'}")
    return value


def usage(problem):
    print(f"error: cannot run the check: {problem}", file=sys.stderr)
    sys.exit(2)


def peers(binary):
    """Returns the folder of the peer scripts: PEERS if it is set, otherwise the first default folder that has them."""
    named, inputs = os.environ.get("PEERS"), os.environ.get("INPUTS")
    folders = [Path(inputs) / "peers"] if inputs else []
    folders += [REPOSITORY / "benches/peers", binary.parent / "peers"]
    folders = [Path(named)] if named else folders
    whole = (f.resolve() for f in folders if all((f / script).is_file() for script in PEER_SCRIPTS.values()))
    return next(whole, None)


def toolkit():
    """Returns the folder of the CUDA toolkit, or None."""
    nvcc = shutil.which("nvcc")
    folders = [os.environ.get("CUDA_PATH"), nvcc and Path(nvcc).resolve().parent.parent, "/usr/local/cuda", "/opt/cuda"]
    return next((Path(folder) for folder in folders if folder and Path(folder).is_dir()), None)


def say(text):
    print(text, file=sys.stderr, flush=True)


def sets(settings):
    return [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]


# 1: facts


def said(machine, arguments):
    """Returns the lines that a program prints. Returns no lines if it fails, because a missing fact is not an error."""
    try:
        child = machine.call(arguments, limit_s=60)
    except Failed:
        return []
    return [line.strip() for line in child.read(0).splitlines() if line.strip()] if child.process.returncode == 0 else []


def facts(machine, data):
    versions = "import torch; print('torch', torch.__version__)"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    kit = toolkit()
    nvcc = kit / "bin/nvcc" if kit else "nvcc"
    libraries = [line for line in said(machine, ["ldconfig", "-p"]) if re.match(r"lib(cuda|nvrtc|nccl)\.so", line)]
    found = data["facts"] = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "device": machine.device + (" (dry run, small shapes)" if machine.dry else ""),
        "mae": last(said(machine, [machine.binary, "--version"])),
        "GPU, driver, memory": "; ".join(said(machine, query)),
        "CUDA toolkit": f"{last(said(machine, [nvcc, '--version'])) or 'no nvcc'} in {kit}" if kit else None,
        "CUDA libraries known to the loader": ", ".join(line.split("=>")[-1].strip() for line in libraries),
        "CPU cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
    }
    found["peers"] = last(said(machine, [sys.executable, "-c", versions]))  # last, because it is the slowest command
    if found["mae"] is None:
        raise Failed(f"{machine.binary} --version printed nothing")


def last(lines):
    return lines[-1] if lines else None


# 2: the reference cases


def excess(row):
    """Returns the difference divided by the tolerance, as `mae verify` does. JSON null (NaN or infinity) counts as infinite."""
    found = row["max_rel"] if row["measure"] == "relative" else row["max_abs"]
    if found is None:
        return math.inf
    if found <= 0.0:
        return 0.0
    return found / row["tolerance"] if row["tolerance"] else math.inf


def verify(precision, limit_s):
    in_precision = [] if precision == "fp32" else ["--precision", precision]  # older versions have only fp32

    def work(machine, data):
        done = machine.mae("verify", machine.reference, "--device", machine.device, *in_precision, "--json", limit_s=limit_s)
        raw = done.json()
        rows = [(excess(row), Path(case["path"]).name, row) for case in raw["cases"] for row in case["rows"]]
        worst_of = {}
        for ratio, case, row in sorted(rows, key=lambda each: each[0]):
            worst_of[case] = (ratio, f"{case}: {row['tensor']}")
        failures = [f"{case}: {row['tensor']} ({ratio:.3g} x)" for ratio, case, row in rows if not row["passed"]]
        data.setdefault("verify", {})[precision] = {
            "cases": len(raw["cases"]) + len(raw["errors"]), "comparisons": len(rows), "device": raw["device"],
            "worst": [(f"{ratio:.3g}", name) for ratio, name in sorted(worst_of.values(), reverse=True)[:5]],
            "failures": failures, "errors": raw["errors"],
            "seconds": done.seconds(), "raw": raw}
        if failures or raw["errors"] or not raw["passed"] or not rows:
            what = f"{len(failures)} comparisons exceed their tolerance" if rows else "no comparison was made"
            raise Failed(f"{what}, {len(raw['errors'])} cases are unusable")
        done.must_end_with(0)
    return work


# 3: speed


def bench_ours(machine, stage, precision, seconds, limit_s, settings=None):
    """Runs `mae bench train`. Uses its `images_per_s`, because on a GPU the time of one step ends when the step is queued."""
    settings = {"runtime.precision": f'"{precision}"', "runtime.autotune": "false", **(settings or {})}
    if machine.dry:
        settings |= VIT_TINY | {f"{stage}.batch_size": 2}
    done = machine.mae("bench", "train", RECIPE, "--stage", stage, "--device", machine.device, "--seconds", seconds,
                       "--json", *sets(settings), limit_s=limit_s)
    done.must_end_with(0)
    raw = done.json()
    memory = raw.get("peak_memory_bytes")
    return {"images_per_s": raw["images_per_s"], "memory_gb": memory / 1e9 if memory else None, "raw": raw}


def bench_peer(machine, stage, precision, compiled, limit_s):
    batch = {"pretrain": 256, "finetune": 128}[stage]
    shapes = ["--size", "base", "--batch", batch, "--steps", 30]
    if machine.dry:
        shapes = ["--size", "tiny", "--batch", 2, "--steps", 4, "--warmup", 2, "--threads", 2]
    done = machine.call([sys.executable, machine.peers / PEER_SCRIPTS[stage], *shapes, "--device", machine.device,
                         "--precision", precision, *(["--compile"] if compiled else [])], limit_s)
    done.must_end_with(0)
    raw = done.json()
    return {"images_per_s": raw["images_per_s"], "memory_gb": raw["peak_memory_gb"], "raw": raw}


def recomputes(entry):
    return entry.get("raw", {}).get("gradient_checkpointing", False)


def bench_ours_that_fits(machine, stage, precision, seconds, limit_s, before, settings=None):
    """Measures `mae`. Out of memory, it tries again with gradient checkpointing; the table has a note then."""
    with_checkpointing = {**(settings or {}), "runtime.gradient_checkpointing": "true"}
    if any(entry["name"] == "mae" and recomputes(entry) for entry in before):
        return bench_ours(machine, stage, precision, seconds, limit_s, with_checkpointing)
    try:
        return bench_ours(machine, stage, precision, seconds, limit_s, settings)
    except Failed as failure:
        if not OUT_OF_MEMORY.search(failure.whole):
            raise
    say("    out of memory: measuring again with gradient checkpointing")
    return bench_ours(machine, stage, precision, seconds, limit_s, with_checkpointing)


def racers(machine, stage, precision, before):
    """Yields (name, precision, function that measures), `mae` first."""
    seconds, ours_s, peer_s = (2, 200, 150) if machine.dry else (OURS_S[precision], 150, 150)
    yield "mae", precision, lambda: bench_ours_that_fits(machine, stage, precision, seconds, ours_s, before)
    yield "PyTorch", precision, lambda: bench_peer(machine, stage, precision, False, peer_s)
    if precision == "bf16":
        yield "PyTorch, compiled", precision, lambda: bench_peer(machine, stage, precision, True, peer_s)
    elif not machine.dry:
        yield "PyTorch", "tf32", lambda: bench_peer(machine, stage, "tf32", False, peer_s)


def speed(stage, precision, rounds):
    """Measures `mae` and the peers in turn, so that machine load affects all. A peer that fails once is skipped afterwards."""
    def work(machine, data):
        entries = data.setdefault("speed", {}).setdefault(f"{stage} {precision}", [])
        if any(entry["name"] == "mae" and "error" in entry for entry in entries):
            raise Failed("mae failed in an earlier round")
        for round_ in rounds:
            for racer in racers(machine, stage, precision, entries):
                earlier = [entry for entry in entries if (entry["name"], entry["precision"]) == racer[:2]]
                if any("error" in entry for entry in earlier):
                    continue
                if machine.left_s() < max([LEAST_S] + [entry["seconds"] for entry in earlier[-1:]]):
                    raise OutOfTime(f"not enough time for {racer[0]} ({racer[1]}) in round {round_}")
                entries.append(measured(racer, round_))
                if racer[0] == "mae" and "error" in entries[-1]:
                    raise Failed(entries[-1]["error"])  # later steps matter more than peers without `mae`
        if not any(entry["name"] != "mae" and "images_per_s" in entry for entry in entries):
            raise Failed("no PyTorch script printed a result; " + next(entry["error"] for entry in entries if "error" in entry))
    return work


def tuned(stage):
    """Measures `mae` with autotuned kernels. On a new kind of GPU, tuning takes minutes."""
    def work(machine, data):
        entries = data.setdefault("speed", {}).setdefault(f"{stage} bf16", [])
        if machine.left_s() < LEAST_TUNED_S:
            raise OutOfTime(f"tuning needs at least {LEAST_TUNED_S} s")
        settings = {"runtime.autotune": "true"}
        racer = TUNED, "bf16", lambda: bench_ours_that_fits(machine, stage, "bf16", OURS_S["bf16"], machine.deadline_s,
                                                            entries, settings)
        entries.append(measured(racer, 1))
        if "error" in entries[-1]:
            raise Failed(entries[-1]["error"])
    return work


def measured(racer, round_):
    name, precision, measure = racer
    started = time.monotonic()
    entry = {"name": name, "precision": precision, "round": round_}
    try:
        entry |= measure()
        say(f"    {name} ({precision}): {entry['images_per_s']:.1f} images/s")
    except Failed as failure:
        entry["error"] = str(failure)
        say(f"    {name} ({precision}): {failure}")
    return entry | {"seconds": time.monotonic() - started}


def checkpointing(machine, data):
    """Measures memory and speed with gradient checkpointing."""
    precision = "fp32" if machine.dry else "bf16"
    limit_s, seconds = (200, 1) if machine.dry else (120, OURS_S["fp32"])
    data["checkpointing"] = bench_ours(machine, "pretrain", precision, seconds, limit_s,
                                       {"runtime.gradient_checkpointing": "true"})


# 4: interrupted runs


def resume(machine, data):
    """Compares interrupted and resumed runs with an uninterrupted one."""
    recipe = machine.scratch / "resume.toml"
    recipe.write_text(RESUME_RECIPE)
    settings = {"runtime.device": f'"{machine.device}"'} | (SHORT_RESUME if machine.dry else {})
    arguments = {name: ["run", recipe, "--runs", machine.scratch / name, *sets(settings)]
                 for name in ("whole", "SIGINT", "SIGKILL")}
    machine.mae(*arguments["whole"], limit_s=100).must_end_with(0)
    expected = losses(machine.scratch / "whole")
    if not expected:
        raise Failed("the run succeeded, but its epochs.csv files have no losses")
    data["resume"] = {}
    # A killed run resumes after its last saved epoch. If the table has two rows, at least one epoch is saved.
    for name, code, after in (("SIGINT", 130, 1), ("SIGKILL", -signal.SIGKILL, 2)):
        interrupt(machine, arguments[name], machine.scratch / name / "resume/pretrain/epochs.csv", after, name, code)
        again = machine.mae(*arguments[name], limit_s=60)
        again.must_end_with(0)
        data["resume"][name] = compared(expected, losses(machine.scratch / name)) | {
            "resumed": re.search(r"resuming in epoch \d+", again.read(1)) is not None}
    for name, found in data["resume"].items():
        if not found["largest_relative_difference"] < RESUME_TOLERANCE:
            raise Failed(f"{name}: a loss differs by {found['largest_relative_difference']:.1e} from the uninterrupted run; "
                         f"the limit is {RESUME_TOLERANCE:g}")
        if not found["resumed"]:
            raise Failed(f"{name}: the run started again instead of resuming")


def compared(expected, found):
    if found.keys() != expected.keys():
        raise Failed("the interrupted run and the uninterrupted one have different epochs")
    distances = [abs(found[key] - value) / max(abs(value), 1e-12) for key, value in expected.items()]
    return {"losses": len(found), "largest_relative_difference": max(distances)}


def interrupt(machine, arguments, table, after, name, code):
    """Sends the signal once the table has `after` rows."""
    child = machine.start([machine.binary, *arguments])
    while child.process.poll() is None and rows_in(table) < after:
        if child.seconds() > 60 or machine.left_s() < 0:
            child.wait(0.1)
        time.sleep(0.002)
    child.signal(getattr(signal, name))
    child.wait(60)
    if child.process.returncode == 0:
        raise Failed(f"{name} came too late: the run had already finished")
    child.must_end_with(code)


def rows_in(table):
    try:
        return len(table.read_text().splitlines()) - 1
    except OSError:
        return 0


def losses(runs):
    """Returns every loss of every job: (table, epoch, column) -> value."""
    found = {}
    for table in sorted(runs.rglob("epochs.csv")):
        with open(table, newline="") as file:
            for row in csv.DictReader(file):
                for column in ("train_loss", "val_loss"):
                    if row.get(column):
                        found[str(table.relative_to(runs)), row["epoch"], column] = float(row[column])
    return found


# 5: the digits


def digits(precision):
    def work(machine, data):
        before = data.get("digits", {}).get("fp32")
        if precision != "fp32" and before and machine.left_s() < before["seconds"]:
            raise OutOfTime(f"not enough time: fp32 took {before['seconds']:.0f} s")
        settings = {"runtime.device": f'"{machine.device}"', "runtime.precision": f'"{precision}"',
                    "runtime.autotune": "false"}
        settings |= SHORT_DIGITS if machine.dry else {}
        runs, started, cut = machine.scratch / f"digits-{precision}", time.monotonic(), None
        try:
            machine.mae("run", QUICKSTART, "--runs", runs, *sets(settings), limit_s=machine.deadline_s).must_end_with(0)
        except OutOfTime as reason:
            cut = reason
        found = next(runs.rglob("accuracy.csv"), None)
        rows = list(csv.DictReader(found.open(newline=""))) if found else []
        data.setdefault("digits", {})[precision] = {
            "seconds": time.monotonic() - started, "rows": rows, "whole": cut is None}
        if cut:
            raise cut
        if not machine.dry:
            judge_digits(rows)
    return work


def judge_digits(rows):
    fine = {row["pretrain_epoch"]: float(row["finetune_top1"]) for row in rows if row["finetune_top1"]}
    if not fine.get("70", 0.0) >= DIGITS_AT_LEAST or not fine["70"] > fine.get("0", 100.0):
        raise Failed(f"fine-tuned {fine.get('70')} % at epoch 70 and {fine.get('0')} % from scratch; expected at least "
                     f"{DIGITS_AT_LEAST:g} % at epoch 70, and more than from scratch")


# the table


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    cells = ([number(cell, "{}").replace("|", "/") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def number(value, form="{:.1f}"):
    return "-" if value is None else form.format(value)


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def show_steps(data):
    rows = [(s["name"], s["status"], number(s.get("seconds"), "{:.0f}"), s.get("reason", "")) for s in data["steps"]]
    return table(("step", "result", "s", "reason"), rows)


def show_machine(data):
    return table(("", ""), [(key, value or "unknown") for key, value in data.get("facts", {}).items()])


def show_verify(data):
    found = data.get("verify", {})
    rows = [(p, v["device"], v["cases"], v["comparisons"], len(v["failures"]), len(v["errors"]), number(v["seconds"]))
            for p, v in found.items()]
    text = table(("precision", "device", "cases", "comparisons", "over tolerance", "unusable cases", "s"), rows)
    for precision, v in found.items():
        worst = ", ".join(f"{name} {ratio}" for ratio, name in v["worst"])
        text += f"\nLargest difference / tolerance ({precision}, worst tensor of each case): {worst}.\n"
        text += "".join(f"- over tolerance ({precision}): {line}\n" for line in v["failures"][:40])
        text += "".join(f"- unusable ({precision}): {line}\n" for line in v["errors"])
    return text


def by_racer(entries):
    racers = {}
    for entry in entries:
        racers.setdefault((entry["name"], entry["precision"]), []).append(entry)
    return racers


def speed_note(tries):
    notes = [entry["error"] for entry in tries if "error" in entry]
    if any(recomputes(entry) for entry in tries):
        notes.append("out of memory without gradient checkpointing")
    steps = [entry["raw"].get("steps") or FEW_STEPS for entry in tries if "raw" in entry]
    if steps and min(steps) < FEW_STEPS:
        notes.append(f"only {min(steps)} steps measured")
    return "; ".join(notes)


def show_speed(data):
    rows = []
    for what, entries in data.get("speed", {}).items():
        racers = by_racer(entries)
        ours = median([e.get("images_per_s") for e in racers.get(("mae", what.split()[1]), [])])
        for (name, precision), tries in racers.items():
            rates = [e["images_per_s"] for e in tries if "images_per_s" in e]
            ratio = ours / median(rates) if name != "mae" and ours and rates else None
            rows.append((what.split()[0], name, precision, number(median(rates)), " ".join(f"{r:.1f}" for r in rates) or "-",
                         number(ratio, "{:.2f}"), speed_note(tries)))
    text = table(("stage", "program", "precision", "images/s (median)", "each round", "mae / this program", "note"), rows)
    return text + "\n" + show_parts(data)


def show_parts(data):
    rows = []
    entries = [e for group in data.get("speed", {}).values() for e in group if e["name"] in ("mae", TUNED) and "raw" in e]
    for entry in entries + [data[key] for key in ("checkpointing",) if key in data]:
        raw, ms = entry["raw"], entry["raw"].get("ms", {})
        batch, mfu = raw.get("effective_batch_size"), raw.get("mfu")
        rows.append((raw.get("stage"), raw.get("precision"), "yes" if entry.get("name") == TUNED else "no",
                     "yes" if recomputes(entry) else "no", batch, raw.get("steps"),
                     number(batch and 1e3 * batch / raw["images_per_s"]),
                     *(number(ms.get(part)) for part in ("data", "forward", "backward", "optimizer")),
                     number(raw.get("tflops"), "{:.2f}"), number(raw.get("peak_tflops"), "{:.2f}"),
                     number(mfu and 100 * mfu)))
    return table(("mae", "precision", "tuned", "checkpointing", "batch", "steps", "ms per step", "data", "forward", "backward",
                  "optimizer", "TFLOP/s", "matrix product TFLOP/s", "%"), rows) + (
        "\nThe times of data, forward, backward and optimizer come from a second measurement, which waits for the device "
        "after each of them.\n")


def show_memory(data):
    rows = []
    for what, entries in data.get("speed", {}).items():
        for (name, precision), tries in by_racer(entries).items():
            peak = median([e.get("memory_gb") for e in tries])
            rows.append((what.split()[0], name, precision, number(peak, "{:.2f}"), ""))
    if "checkpointing" in data:
        entry = data["checkpointing"]
        rows.append(("pretrain", "mae, gradient checkpointing", entry["raw"].get("precision"),
                     number(entry["memory_gb"], "{:.2f}"), f"{entry['images_per_s']:.1f} images/s"))
    return table(("stage", "program", "precision", "peak GB (1e9 bytes)", ""), rows) + (
        "\n`mae` counts the pages of its memory pools; PyTorch counts the memory allocated from its pools.\n")


def show_resume(data):
    rows = [(name, found["losses"], "equal" if found["largest_relative_difference"] == 0.0
             else f"{found['largest_relative_difference']:.1e}", "resumed" if found["resumed"] else "started again")
            for name, found in data.get("resume", {}).items()]
    return table(("signal", "losses compared", "largest relative difference", "the same command"), rows)


def show_digits(data):
    rows, text = [], ""
    for precision, found in data.get("digits", {}).items():
        for row in found["rows"]:
            fine, probe = DIGITS.get(row["pretrain_epoch"], ("-", "-"))
            rows.append((precision, row["pretrain_epoch"], row.get("finetune_top1") or "-", fine,
                         row.get("linprobe_top1") or "-", probe, row.get("pretrain_loss") or "-"))
        whole = "complete run" if found["whole"] else "stopped by the deadline"
        text += f"\n{precision}: {found['seconds']:.0f} s, {whole}"
        text += "; shortened for the dry run, so not comparable.\n" if data["dry_run"] else ".\n"
    return table(("precision", "pretrain_epoch", "finetune_top1", "on the CPU", "linprobe_top1", "on the CPU",
                  "pretrain_loss"), rows) + text


def markdown(data):
    dry = "**Dry run on the CPU with small shapes: the numbers say nothing about a GPU.**\n\n" if data["dry_run"] else ""
    parts = [("machine", show_machine), ("verify", show_verify), ("speed", show_speed), ("memory", show_memory),
             ("resume", show_resume), ("digits", show_digits)]
    text = "".join(f"\n## {name}\n\n{show(data)}" for name, show in parts)
    return f"# mae on {data['device']}\n\n{dry}{show_steps(data)}\nTotal: {data['seconds']:.0f} s.\n{text}"


# the whole


def plan(machine):
    """Returns the steps, the most important first. Resuming comes before second rounds, and steps that tune come last."""
    stages, later = ("pretrain", "finetune"), range(2, machine.rounds + 1)
    cases = [("verify fp32", verify("fp32", 150))]
    first, again, small, last = [], [], [("digits fp32", digits("fp32"))], []
    if not machine.dry:
        cases += [("verify bf16", verify("bf16", 100))]
        first = [(f"speed {stage} bf16", speed(stage, "bf16", [1])) for stage in stages]
        again = [(f"speed {stage} bf16 again", speed(stage, "bf16", later)) for stage in stages if later]
        small += [("digits bf16", digits("bf16"))]
        last = [(f"tuned {stage} bf16", tuned(stage)) for stage in stages]
    fp32 = [(f"speed {stage} fp32", speed(stage, "fp32", range(1, machine.rounds + 1) if machine.dry else [1]))
            for stage in stages]
    return [("facts", facts), *cases, *first, ("gradient checkpointing", checkpointing), ("resume", resume), *fp32, *again,
            *small, *last]


def run_step(machine, data, name, work):
    if name != "facts" and machine.steps and not any(name.startswith(chosen) for chosen in machine.steps):
        return {"name": name, "status": "not selected", "reason": "STEPS"}
    if machine.left_s() < LEAST_S:
        return {"name": name, "status": "not reached", "reason": "the deadline"}
    say(f"{name} ({machine.left_s():.0f} s left)")
    started, step = time.monotonic(), {"name": name, "status": "passed"}
    try:
        work(machine, data)
    except OutOfTime as reason:
        step |= {"status": "out of time", "reason": str(reason)}
    except Failed as reason:
        step |= {"status": "FAILED", "reason": str(reason)}
    except Exception as error:  # an unexpected error must not prevent the next steps
        step |= {"status": "FAILED", "reason": f"{type(error).__name__}: {error}"}
    step["seconds"] = time.monotonic() - started
    say(f"  {step['status']} after {step['seconds']:.0f} s" + (f": {step['reason']}" if "reason" in step else ""))
    return step


def save(machine, data):
    data["seconds"] = time.monotonic() - machine.started
    machine.out.mkdir(parents=True, exist_ok=True)
    (machine.out / "gpu_check.json").write_text(json.dumps(data, indent=1))
    (machine.out / "gpu_check.md").write_text(markdown(data))


def verdict(came_to):
    """Returns the exit code: 0 if nothing failed and the fp32 cases passed, or, if STEPS excludes them, another step passed."""
    statuses = [status for name, status in came_to.items() if name != "facts"]
    if came_to["verify fp32"] == "not selected":
        essential = "passed" in statuses
    else:
        essential = came_to["verify fp32"] == "passed"
    return 0 if essential and "FAILED" not in came_to.values() else 1


def ended(_number, _frame):
    sys.exit(1)


def main():
    machine = Machine(sys.argv[1])
    signal.signal(signal.SIGTERM, ended)
    try:
        machine.check_usage()
        machine.unpack()
        machine.begin()
        data = {"device": machine.device, "dry_run": machine.dry, "steps": []}
        for name, work in plan(machine):
            data["steps"].append(run_step(machine, data, name, work))
            save(machine, data)
        print(markdown(data))
        return verdict({step["name"]: step["status"] for step in data["steps"]})
    finally:
        machine.close()


if __name__ == "__main__":
    sys.exit(main())
