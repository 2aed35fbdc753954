"""Compares the outputs shown in the documentation with those of a built `mae`. See docs_outputs.sh.

A ```text block whose first line starts with `$ ` is an example: a command and its output. `...` stands for any lines.
Comments in the pages, directly before a block or on their own:

    <!-- not run: REASON -->      skip the next block
    <!-- set-up -->               run the next ```sh block, and do not compare its output
    <!-- set-up: COMMAND -->      run COMMAND, which the page does not show
"""

import argparse
import difflib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIRST = ["README.md", "docs/tutorial.md", "docs/comparing.md"]
GENERATED = ["docs/cli.md", "docs/recipe-reference.md"]
COPIED = ["experiments", "docs", "tests/golden"]
COMMENT = re.compile(r"^<!-- (not run|set-up)(?:: (.*))? -->$")
TIMEOUT_S = 3600


def pages():
    """Returns the names of the pages in the order in which their commands run."""
    others = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
    return FIRST + [name for name in others if name not in FIRST + GENERATED]


def steps(lines):
    """Yields the steps of a page: (kind, line index, end index, reason or command)."""
    comment = None
    index = 0
    while index < len(lines):
        line = lines[index]
        found = COMMENT.match(line)
        if found and found[1] == "set-up" and found[2]:
            yield "hidden", index, index, found[2]
        elif found:
            comment = found
        elif line.startswith("```"):
            end = next(at for at in range(index + 1, len(lines)) if lines[at].startswith("```"))
            if line == "```text" and lines[index + 1].startswith("$ "):
                if comment and comment[1] == "not run":
                    yield "skipped", index, end, comment[2] or "no reason given"
                else:
                    yield "example", index, end, None
            elif comment and comment[1] == "set-up":
                yield "set-up", index, end, None
            comment = None
            index = end
        elif line:
            comment = None
        index += 1


def parts(block):
    """Returns the commands of an example with the lines shown for each."""
    found = []
    for line in block:
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def normal(line):
    """Returns the line without parts that vary: numbers, times, hashes, marks of noise, widths of columns."""
    line = re.sub(r"\b[0-9a-f]{12,}\b", "H", line)
    line = re.sub(r"(\d+ (d|h|min|s|ms)\b ?)+|(?<=\s)\?(?=\s)", "T ", line)
    line = re.sub(r"[-+±]?\d+(\.\d+)*(e[-+]?\d+)?", "N", line)
    line = re.sub(r"N[-+]dirty|N-g?H", "N", line)
    line = re.sub(r"(?<=N) ~", "", line)
    return re.sub(r"\s+", " ", line).strip()


def segments(shown):
    """Splits the shown lines at `...`."""
    found = [[]]
    for line in shown:
        if line.strip() == "...":
            found.append([])
        else:
            found[-1].append(line)
    return found


def places(shown, real):
    """Returns where each segment begins in the real output, or None if the output differs."""
    split = segments(shown)
    wanted = [[normal(line) for line in part] for part in split]
    have = [normal(line) for line in real]
    if len(split) == 1:
        return [0] if wanted[0] == have else None
    at, found = 0, []
    for number, part in enumerate(wanted):
        if number == 0:
            starts = [0]
        elif number == len(wanted) - 1 and part:
            starts = [len(have) - len(part)]
        else:
            starts = list(range(at, len(have) - len(part) + 1))
            # Prefer a place with exactly this text to a place with different numbers.
            starts.sort(key=lambda start: real[start : start + len(part)] != split[number])
        start = next((s for s in starts if s >= at and have[s : s + len(part)] == part), None)
        if start is None:
            return None
        found.append(start)
        at = start + len(part)
    return found


def updated(shown, real):
    """Returns the real output, with `...` where the page has it. Drops the lines that `...` replaces."""
    split = segments(shown)
    if len(split) == 1:
        return real
    starts = places(shown, real)
    if starts is not None:
        lines = []
        for part, start in zip(split, starts):
            lines += real[start : start + len(part)] + ["..."]
        return lines[:-1]
    lines, at = [], 0
    for part in split:
        for line in part:
            ratio = lambda i: difflib.SequenceMatcher(None, normal(line), normal(real[i])).ratio()
            best = max(range(at, len(real)), key=ratio, default=None)
            if best is not None and ratio(best) >= 0.6:
                lines.append(real[best])
                at = best + 1
        lines.append("...")
    return lines[:-1]


class Runner:
    """Runs commands in the work folder and keeps their outputs."""

    def __init__(self, work, binary):
        self.work = work
        self.records_file = work / "outputs.json"
        self.records = json.loads(self.records_file.read_text()) if self.records_file.exists() else {}
        self.count = {}
        for name in COPIED:
            if not (work / name).exists():
                shutil.copytree(ROOT / name, work / name)
        (work / "bin").mkdir(exist_ok=True)
        link = work / "bin/mae"
        link.unlink(missing_ok=True)
        link.symlink_to(binary)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("MAE_")}
        self.env |= {"PATH": f"{work / 'bin'}:{self.env['PATH']}", "NO_COLOR": "1", "XDG_CACHE_HOME": str(work / "cache")}

    def output(self, command):
        """Returns the lines that the command prints to stdout and stderr, and its exit code."""
        self.count[command] = self.count.get(command, 0) + 1
        key = f"{self.count[command]} {command}"
        if key not in self.records:
            print(f"$ {command}", file=sys.stderr)
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.work, env=self.env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S)
            self.records[key] = [done.stdout.decode(errors="replace"), done.returncode]
            self.records_file.write_text(json.dumps(self.records, indent=1))
        text, code = self.records[key]
        text = text.replace(f"{self.work}/", "")
        return [line.rstrip() for line in text.splitlines()], code


def main():
    parser = argparse.ArgumentParser(prog="docs_outputs.sh")
    parser.add_argument("--update", action="store_true", help="rewrite the pages with the real outputs")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--work", type=pathlib.Path, help="folder to work in, kept; a temporary one by default")
    parser.add_argument("binary", nargs="?", type=pathlib.Path, default=ROOT / "target/release/mae")
    args = parser.parse_args()
    if args.list:
        runner = None
    else:
        if not args.binary.is_file():
            sys.exit(f"error: cannot find {args.binary}: run `cargo build --release`")
        work = (args.work or pathlib.Path(tempfile.mkdtemp(prefix="mae-docs-"))).resolve()
        work.mkdir(parents=True, exist_ok=True)
        runner = Runner(work, args.binary.resolve())
    compared, different, skipped = 0, [], []
    for name in pages():
        lines = (ROOT / name).read_text().splitlines()
        edits = []
        for kind, start, end, text in steps(lines):
            where = f"{name}:{start + 1}"
            block = lines[start + 1 : end]
            if kind == "skipped":
                skipped.append(f"{where}: {block[0][2:]}: {text}")
            elif args.list:
                shown = [text] if kind == "hidden" else block
                commands = [command for command, _ in parts(block)] if kind == "example" else shown
                print(f"{where}: {kind}", *commands, sep="\n    ")
            elif kind in ("hidden", "set-up"):
                command = text if kind == "hidden" else "\n".join(block)
                output, code = runner.output(command)
                if code:
                    different.append(where)
                    print(f"{where}: the set-up exits with {code}", *output[-5:], sep="\n    ")
            else:
                new = []
                compared += 1
                for command, shown in parts(block):
                    real, _ = runner.output(command)
                    if places(shown, real) is None:
                        different.append(where)
                        print(f"{where}: $ {command}")
                        diff = difflib.unified_diff(shown, real, "shown", "printed", lineterm="")
                        print(*(f"    {line}" for line in diff), sep="\n")
                    new += [f"$ {command}", *updated(shown, real)]
                edits.append((start + 1, end, new))
        if args.update:
            for start, end, new in reversed(edits):
                lines[start:end] = new
            (ROOT / name).write_text("\n".join(lines) + "\n")
    for line in skipped:
        print(f"not run: {line}")
    if runner:
        print(f"{compared} outputs compared, {len(different)} differ, {len(skipped)} blocks not run")
        if not args.work:
            shutil.rmtree(work)
    sys.exit(1 if different and not args.update else 0)


if __name__ == "__main__":
    main()
