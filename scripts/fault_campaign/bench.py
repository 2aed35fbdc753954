"""Starts the program, watches it, and compares the files of its run with those of an undisturbed run."""

import collections
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

# A command that trains nothing must end within this time, in seconds.
HANG_S = 5.0
# A training of the campaign takes about a second; this leaves room for a busy machine and for strace.
RUN_S = 60.0
TRAINING = {"run", "bench"}
# Address space of each process in bytes: a file of a few kB must not make the program ask for more.
MEMORY = 4 << 30
# Exit codes of a panic, an abort and a crash.
CRASHES = {101, 134, 139, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL}
CLOCKS = ("images_per_s", "seconds", "data_wait_s")


class Failure(Exception):
    """A promise that does not hold: `problem` is the same for the same kind of fault, `detail` is this case's."""

    def __init__(self, problem, detail=""):
        super().__init__(problem)
        self.problem, self.detail = problem, detail


class NotRun(Exception):
    """A case that this machine cannot run, with the reason."""


class Done:
    """How a process ended."""

    def __init__(self, args, code, out, err, hung, seconds):
        self.args, self.code, self.out, self.err = args, code, out, err
        self.hung, self.seconds = hung, seconds

    @property
    def text(self):
        return self.out + self.err

    def last(self, lines=3):
        """Returns the end of the log, for a report."""
        return " | ".join(self.err.strip().splitlines()[-lines:])[-600:]

    def crash(self):
        """Returns the panic or abort of the process; `None` if it ended normally."""
        if "panicked at" in self.text:
            after = self.text[self.text.index("panicked at"):].splitlines()
            # Without the folder in which this machine keeps the sources of dependencies.
            return re.sub(r"\S*/registry/src/[^/]+/", "", " ".join(line.strip() for line in after[:2]))[:300]
        if "memory allocation of" in self.text:
            return "memory allocation failed, exit by abort"
        if self.code in CRASHES:
            return f"exit code {self.code}: {self.last(1)}"
        return None


class Running:
    """A process that works in the background. Its output goes to files, so that it never waits for a reader."""

    def __init__(self, args, cwd, env, user=None):
        self.args = [str(arg) for arg in args]
        self.out = tempfile.TemporaryFile()
        self.err_file = tempfile.NamedTemporaryFile()
        self.begun = time.monotonic()
        extra = {"user": user, "group": user, "extra_groups": []} if user else {}
        self.process = subprocess.Popen(
            self.args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=self.out,
            stderr=self.err_file, start_new_session=True, **extra)

    def log(self):
        with open(self.err_file.name, errors="replace") as file:
            return file.read()

    def alive(self):
        return self.process.poll() is None

    def send(self, number):
        """Sends a signal to the program; does nothing if it has ended."""
        if self.alive():
            self.process.send_signal(number)

    def kill_all(self):
        """Kills the process and its children, for example the program under strace."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait(self, limit):
        hung = False
        try:
            self.process.wait(max(0.0, limit - (time.monotonic() - self.begun)))
        except subprocess.TimeoutExpired:
            hung = True
            self.kill_all()
            self.process.wait()
        seconds = time.monotonic() - self.begun
        self.out.seek(0)
        out, err = self.out.read().decode(errors="replace"), self.log()
        self.out.close()
        self.err_file.close()
        return Done(self.args, self.process.returncode, out, err, hung, seconds)


class Bench:
    """What all cases share: the program, the folder, the seed, the undisturbed run."""

    def __init__(self, binary, seed, keep):
        self.binary, self.seed, self.keep = binary, seed, keep
        self.root = Path(tempfile.mkdtemp(prefix="mae-faults-"))
        # Some cases run the program as another user, who must be able to enter this folder.
        self.root.chmod(0o755)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MAE_", "RUST_"))}
        self.env.update(XDG_CACHE_HOME=str(self.root / "cache"), NO_COLOR="1")
        self.strace = shutil.which("strace")
        self.made = {}
        self.lock = threading.RLock()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        except (ValueError, OSError):
            pass

    def fixture(self, name, make):
        """Returns the result of `make`, which is called only once for each name."""
        with self.lock:
            if name not in self.made:
                folder = self.root / "fixtures" / name
                folder.mkdir(parents=True, exist_ok=True)
                self.made[name] = make(folder)
            return self.made[name]

    def start(self, args, cwd, env=None, before=(), user=None):
        return Running([*before, self.binary, *args], cwd, {**self.env, **(env or {})}, user)

    def run(self, args, cwd, **more):
        """Runs the program to its end. Fails if it panics, crashes or hangs."""
        limit = RUN_S if args[0] in TRAINING else HANG_S
        done = self.start(args, cwd, **more).wait(limit)
        if done.hung and limit <= HANG_S:
            # On a busy machine, a slow program can look like a hang. So only a second hang counts.
            done = self.start(args, cwd, **more).wait(limit)
        expect_orderly(done)
        return done

    def must(self, args, cwd, **more):
        """Runs the program. Fails if it does not exit with 0."""
        done = self.run(args, cwd, **more)
        if done.code != 0:
            problem = f"`{command_of(done)}` fails where it must work: exit {done.code}"
            raise Failure(problem, done.last())
        return done


def expect_orderly(done):
    """Fails if a process panicked, crashed or had to be ended."""
    if done.hung:
        raise Failure(f"hang: `{command_of(done)}` works for more than {done.seconds:.0f} s", done.last())
    crash = done.crash()
    if crash:
        raise Failure(f"panic: {crash}", " ".join(done.args[1:])[:400])


def command_of(done):
    """Returns the command without its arguments: `data check`."""
    words = [word for word in done.args if not word.startswith("-")]
    at = next((i for i, word in enumerate(words) if Path(word).name.find("mae") >= 0), 0)
    words = words[at + 1:at + 3]
    return " ".join(words if words[:1] == ["data"] else words[:1])


class Case:
    """One case: its own random numbers, its own folder."""

    def __init__(self, bench, kind, index):
        self.bench, self.kind, self.index = bench, kind, index
        self.random = random.Random(f"{bench.seed}/{kind}/{index}")
        self.dir = bench.root / kind / str(index)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.outcomes = collections.Counter()
        self.failures = []
        self.units = 1

    def note(self, outcome, times=1):
        self.outcomes[outcome] += times

    def fail(self, problem, detail=""):
        self.failures.append(Failure(problem, detail))

    def write(self, name, data):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def copy(self, source, name):
        shutil.copytree(source, self.dir / name, symlinks=True)
        return self.dir / name

    def run(self, args, **more):
        return self.bench.run(args, self.dir, **more)

    def must(self, args, **more):
        return self.bench.must(args, self.dir, **more)


def without_clocks(table):
    lines = table.decode(errors="replace").splitlines()
    kept = [i for i, head in enumerate(lines[0].split(",")) if head not in CLOCKS] if lines else []
    rows = [[cells[i] for i in kept if i < len(cells)] for cells in (line.split(",") for line in lines)]
    return "\n".join(",".join(row) for row in rows).encode()


def without_wall_times(events):
    """A record: 8 bytes of length, 4 of checksum, the event (1 byte of tag, 8 of time, ...), 4 of checksum."""
    events, begin = bytearray(events), 0
    while begin + 12 <= len(events):
        length = struct.unpack_from("<Q", events, begin)[0]
        end = begin + 12 + length
        if end + 4 > len(events):
            break
        events[begin + 13:begin + 21] = bytes(8)
        events[end:end + 4] = bytes(4)
        begin = end + 4
    return bytes(events)


def results(run):
    """Returns the files of a run by name, without times. Interruptions must not change them."""
    found = {}
    for path in sorted(Path(run).rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir() or path.name == ".lock":
            continue
        data = path.read_bytes()
        if path.name == "epochs.csv":
            data = without_clocks(data)
        elif "tfevents" in path.name:
            name = re.sub(r"tfevents\.\d+", "tfevents.TIME", name)
            data = without_wall_times(data)
        elif path.name in ("provenance.json", "report.html", "mae-manifest.jsonl"):
            data = b""  # It depends on times and on the order of events.
        found[name] = data
    return found


def difference(expected, found):
    """Returns the first differences between two results in words; empty if there are none."""
    words = [f"{name} is missing" for name in expected if name not in found]
    words += [f"{name} is extra" for name in found if name not in expected]
    words += [f"{name} differs" for name in expected if name in found and expected[name] != found[name]]
    return ", ".join(words[:4])


def expect_same(expected, run, after):
    """Fails if a file of the run in `run` differs from that of the undisturbed run."""
    differs = difference(expected, results(run))
    if differs:
        kind = re.sub(r"[\w./=-]*/|\d+", "", differs.split(", ")[0])
        raise Failure(f"after {after} the result is not the undisturbed run's: {kind}", differs)


def numbers(run):
    """Returns the bytes that people publish: weights and tables."""
    names = ("model.safetensors", "accuracy.csv", "epochs.csv")
    return {name: data for name, data in results(run).items() if name.endswith(names)}


def warnings(log):
    """Returns the warnings in a log without times and numbers, so that two logs can be compared."""
    lines = [line for line in log.splitlines() if " WARN " in line or line.startswith("warning")]
    return {re.sub(r"\d+", "#", line.split(" WARN ")[-1]) for line in lines}
