"""What README.md and docs/ tell people to type: commands and options exist, and what can run on the tiny zoo does run;
recipes, search files and lists in them are what the program accepts.

documented_test.py AMALGAM MPIEXEC [light]
`light` (for sanitizers): searches are not run.
"""

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib

from program import ROOT, ZOO, Program
from search_run import SearchRun

program = Program(sys.argv[1])
light = "light" in sys.argv[3:]
names = re.findall(r"^  ([a-z-]+)  +\w", program.run("--help").stdout.split("Options:")[0], re.M)
COMMANDS = {name: set(re.findall(r"^  --([a-z-]+)", program.run(name, "--help").stdout, re.M)) for name in names}
KNOWN_OPTIONS = {"help", "version"}.union(*COMMANDS.values())
program.expect(len(COMMANDS) > 9 and all(COMMANDS.values()), f"commands: {COMMANDS}")
# Options of others that are spoken of in sentences
FOREIGN = {"gpus-per-node", "gpus-per-task", "ntasks-per-node", "mem", "signal", "array", "kill-on-invalid-dep",
           "preset", "dtype", "batch", "include_path", "enable-recovery"}  # fmt: skip
# The models of the examples are those of the zoo.
MODELS = {"base": "base", "math": "math-en", "chat": "lang-ja", "Llama-3.1-8B": "base", "my-math-tune": "math-en",
          "my-chat-tune": "lang-ja", "merged": "math-en"}  # fmt: skip
# Commands of which only the words are checked, and why
NOT_RUN = {"amalgam doctor": "finds problems where there are some", "transformers_worker.py": "needs PyTorch",
           "lm_eval.sh": "needs lm-eval"}  # fmt: skip
with open(os.path.join(ROOT, "configs/evolve-tiny.toml")) as file:
    whole_search = file.read()
counts = dict.fromkeys(("words", "run", "recipes", "searches", "json", "jobs"), 0)


def blocks(text):
    """(language, lines) of each fenced or indented block, and the text without them"""
    found, prose, language, before = [], [], None, ""
    for line in text.splitlines():
        fence = re.match(r"\s*```(\w*)", line)
        if fence:
            language = None if language is not None else fence[1]
            if language is not None:
                found.append((language, []))
        elif language is not None:
            found[-1][1].append(line)
        elif line.startswith("    ") and (not before or before.startswith("    ")):
            if not before:
                found.append(("", []))
            found[-1][1].append(line[4:])
        else:
            prose.append(line)
        before = line if not fence else "fence"
    return found, "\n".join(prose)


def commands_of(lines):
    """Lines that end in a backslash are joined, comments are left out"""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s\s)#.*", "", line).strip()
        if line:
            yield line


def words_of(line):
    try:
        return shlex.split(line)
    except ValueError:  # what a program printed
        return line.split()


def check_words(line, where):
    """the words behind amalgam in this line, after a look at them by the program itself"""
    words = words_of(line)
    if words[0] in ("python3", "cmake"):
        return []
    for at, word in enumerate(words[:-1]):
        if os.path.basename(word) not in ("amalgam", "$amalgam") or words[at + 1][0].isdigit():
            continue
        called = [word for word in words[at + 1 :] if not re.fullmatch(r"\[.*\]|\.\.\.", word)]
        if called[0] == "help":
            program.expect(called[1:] == [] or called[1] in COMMANDS, f"{where}: {line}: no such command")
        elif called[0] in COMMANDS:
            result = program.run(called[0], "--help", *called[1:])
            # An option may be named without its value.
            named = all(name in COMMANDS[called[0]] for name in re.findall(r" --([a-z-]+)", " " + " ".join(called)))
            left_out = named and where.endswith("sentence") and called[-1].startswith("--")
            program.expect(result.returncode == 0 or left_out, f"{where}: {line}", result)
        else:
            program.expect(False, f"{where}: {line}: amalgam has no command {called[0]}")
        counts["words"] += 1
        return called
    return []


def knobs(*scripts):
    text = ""
    for script in scripts:
        with open(os.path.join(ROOT, "slurm", os.path.basename(script))) as file:
            text += file.read()
    return set(re.findall(r"^([A-Z_]+)=\$\{\1:-", text, re.M))


def check_job(line, where):
    """Variables before sbatch, or the script of a chain, are among the knobs of what it starts"""
    words = words_of(line)
    given = [word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word)]
    scripts = [word for word in words if re.search(r"^[^=]+\.sbatch$|^slurm/[^=]+\.sh$", word)]
    scripts += [value for name, value in given if name == "FIRST"]
    if not scripts or words[len(given)] not in ("sbatch", "slurm/evaluate-after.sh"):
        return
    missing = {os.path.basename(script) for script in scripts} - set(os.listdir(os.path.join(ROOT, "slurm")))
    program.expect(not missing, f"{where}: {line}: no {missing}")
    if missing:
        return
    left = {name for name, _ in given} - knobs("environment.sh", *scripts)
    program.expect(not left, f"{where}: {line}: {scripts} have no {left}")
    counts["jobs"] += 1


class Place:
    """A folder in which the examples of a page find what they name"""

    def __init__(self, path):
        self.path = path
        for name in ("configs", "tests", "bench"):
            os.symlink(os.path.join(ROOT, name), self(name))
        os.symlink(ROOT, self("amalgam-source"))
        for folder in ("models", "local"):
            os.makedirs(self(folder))
            for name, model in MODELS.items():
                os.symlink(os.path.join(ZOO, model), self(folder, name))
        for name in ("math-ja", "lang-ja"):
            os.symlink(os.path.join(ROOT, "tests/data/zoo/tasks", name), self(name))
        os.symlink(self("lang-ja/search.jsonl"), self("chat.jsonl"))
        for name in ("run", "cma-0", "cma-1", "random-0", "random-1"):
            search = SearchRun()
            search.search(3)
            search.finish(self(name))
        for name in ("recipe", "ties"):  # of pages that do not show one
            with open(os.path.join(ROOT, "configs/zoo-ties.toml")) as file:
                self.write(name + ".toml", file.read())
        self.write("list.txt", "ties.toml\n")
        os.makedirs(self("build/cpu/jobs"))
        os.symlink(program.path, self("build/cpu/jobs/amalgam"))
        os.makedirs(self("bin"))
        launch = f'exec {shutil.which(sys.argv[2])} --oversubscribe --bind-to none "$@"'
        score = '{"score": 0.71, "items": [1, 0, 1]}'
        programs = {"amalgam": f'exec {program.path} "$@"', "mpirun": launch, "my_benchmark": f"echo '{score}'"}
        for name, text in programs.items():
            os.chmod(self.write("bin/" + name, f"#!/bin/sh\n{text}\n"), 0o755)
        answer = f"print(json.dumps({score} | {{'id': json.loads(line)['id']}}), flush=True)"
        self.write("my_worker.py", f"import json, sys\nfor line in sys.stdin:\n    {answer}\n")
        self.prelude = ""

    def __call__(self, *parts):
        return os.path.join(self.path, *parts)

    def write(self, name, text):
        with open(self(name), "w") as file:
            file.write(text)
        return self(name)

    def run(self, line):
        environment = os.environ | {"PATH": self("bin") + ":" + os.environ["PATH"], "HOME": self.path}
        line = line.replace("/tmp/zoo", self("zoo"))
        return subprocess.run(["bash", "-c", self.prelude + line], cwd=self.path, env=environment, capture_output=True,
                              text=True, timeout=100)  # fmt: skip


def run_line(place, line, called, where):
    """Runs it if it is one that can be run"""
    if re.fullmatch(r"amalgam=\S+", line):
        place.prelude = line + "\n"
    elif re.match(r"python3 bench/zoo_70b.py ", line):
        result = place.run(line)
        program.expect(result.returncode == 0, f"{where}: {line}", result)
    runs = called and re.match(r"(cd \S+ && )?(mpirun -n \d+ )?\$?amalgam ", line)
    if not runs or any(name in line for name in NOT_RUN):
        return
    if called[0] == "evolve":
        if light:
            return
        line = re.sub(r" --evaluations \d+", "", line) + " --evaluations 4"
    if called[0] in ("evolve", "merge"):
        place.run(f"rm -rf {shlex.quote(called[2])}")
    result = place.run(line)
    program.expect(result.returncode == 0, f"{where}: {line}", result)
    if called[0] in ("evolve", "merge"):
        program.expect(os.path.isdir(place(called[2])), f"{where}: {line}: no {called[2]}")
    if "--recipes" in called and "--json" in called:
        with open(place(called[called.index("--json") + 1])) as file:
            program.expect(json.load(file)["failed"] == 0, f"{where}: {line}: a candidate failed", result)
    counts["run"] += 1


def check_toml(place, lines, where):
    """A recipe, also with the lines that are commented out; a search; or the part of one, in the place of a whole's"""
    text = "\n".join(lines).replace('"/local/', f'"{place("local")}/')
    table = tomllib.loads(text)
    if "merge_method" in table:
        # compat = "paper" goes with no filters, which are there to be seen.
        whole = "\n".join(re.sub(r"^# (?!compat)(?=\w+ = )", "", line) for line in text.splitlines())
        for version in {text, whole}:
            for name in ("recipe.toml", "soup.toml", "ties.toml"):
                place.write(name, version)
            result = program.run("inspect", "recipe.toml", "--tensors", cwd=place.path)
            program.expect(result.returncode == 0, f"{where}: this recipe\n{version}", result)
            counts["recipes"] += 1
    elif "search" in table and not light:
        changes = []
        if "merge" in table:
            place.write("shown.toml", text)
        else:
            place.write("shown.toml", whole_search)
            for line in text.splitlines()[1:]:
                changes += ["--set", "search." + line.replace(" = ", "=", 1)]
        run = f"shown-{counts['searches']}"
        result = program.run("evolve", "shown.toml", run, "--evaluations", 4, *changes, cwd=place.path)
        program.expect(result.returncode == 0, f"{where}: this search\n{text}", result)
        counts["searches"] += 1
    else:
        program.expect(light, f"{where}: neither a recipe nor a search\n{text}")


def check_json(place, lines, where):
    try:
        value = json.loads("\n".join(lines))
    except ValueError as error:
        program.expect(False, f"{where}: {error}\n{lines}")
        return
    if "set" in value and "id" not in value:  # a candidate of a list
        place.write("list.txt", json.dumps(value) + "\n")
    counts["json"] += 1


def check_page(path, place):
    page = os.path.relpath(path, ROOT)
    with open(path) as file:
        found, prose = blocks(file.read())
    for language, lines in found:
        if language == "json":
            check_json(place, lines, page)
    for language, lines in found:
        if language in ("toml", "yaml") and page == "docs/recipes.md":
            continue  # recipe_and_methods_test.py has what they mean
        if language == "toml":
            check_toml(place, lines, page)
        elif language != "json":
            program.expect(language in ("", "sh"), f"{page}: this test knows no blocks of {language}")
            for line in commands_of(lines):
                check_job(line, page)
                run_line(place, line, check_words(line, page), page)
    for span in re.findall(r"`([^`]+)`", prose):
        span = " ".join(span.replace("\\|", "|").split())
        where = f"{page}, in a sentence"
        if re.search(r"\S+ \S", span):
            check_words(span, where)
            check_job(span, where)
        if not re.search(r"\b(sbatch|srun|mpirun|cmake)\b", span):
            for name in re.findall(r"(?<!\S)--([a-z][a-z_-]*)", span):
                program.expect(name in KNOWN_OPTIONS | FOREIGN, f"{where}: {span}: no command has --{name}")


for path in [os.path.join(ROOT, "README.md"), *sorted(glob.glob(os.path.join(ROOT, "docs/*.md")))]:
    with tempfile.TemporaryDirectory() as folder:
        check_page(path, Place(folder))
# The examples of the help, and of the comments in configs/
for name in COMMANDS:
    for line in commands_of(program.run(name, "--help").stdout.partition("Examples:\n")[2].splitlines()):
        program.expect(check_words(line, f"{name} --help"), f"{name} --help: {line}: no command of amalgam")
for path in sorted(glob.glob(os.path.join(ROOT, "configs/*.toml"))):
    with open(path) as file:
        for line in re.findall(r"^#     (.*amalgam .*)$", file.read(), re.M):
            check_words(line, os.path.relpath(path, ROOT))
print(", ".join(f"{count} {name}" for name, count in counts.items()))
expected = [name for name in counts if not (light and name == "searches")]
program.expect(all(counts[name] for name in expected), f"nothing was found: {counts}")
program.done()
