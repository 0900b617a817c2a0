"""`amalgam report` and `amalgam watch` of searches that went on, ended, were killed, or have awkward names.

report_test.py AMALGAM
"""

import json
import math
import os
import pty
import re
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from program import Program
from search_run import SearchRun, line, xxh64

program = Program(sys.argv[1])
expect = program.expect
AWKWARD = "</script><script>alert(1)</script>", "a\"'&<b>ä\u2028\u202e", "{data}{script}"


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found[1])


def report(folder, *words):
    result = program.run("report", folder, *words)
    expect(result.returncode == 0 and result.stderr == "", f"report {folder}", result)
    with open(os.path.join(folder, "report.html"), encoding="utf-8") as file:
        page = file.read()
    expect(len(re.findall("<script", page)) == 2 and page.count("</script>") == 2, "scripts are ours alone")
    expect(not re.search(r"""(src|href)\s*=(?!"data:,")|url\(|@import|https?://(?!www\.w3\.org/2000/svg")""", page),
           "nothing is loaded")
    return page, data_of(page)


def watch(folder):
    result = program.run("watch", folder, "--once")
    expect(result.returncode == 0 and result.stderr == "", f"watch {folder}", result)
    return result.stdout


def check_ended(root):
    search = SearchRun(budget=402)
    search.search(20, failing=[(29, "a group was lost twice"), (83, "the score is not a number")])
    search.killed_and_started_again()
    search.search(13)
    folder = os.path.join(root, "run")
    result = search.finish(folder)
    page, data = report(folder)
    expect(data["counts"]["evaluations"] == 396 == search.counted, f"evaluations: {data['counts']}")
    best = data["contenders"][0]
    expect(best["kind"] == "best" and abs(best["heldout"] - result["best"]["heldout"]) < 1e-6, f"the winner: {best}")
    expect([one["name"] for one in data["contenders"] if one["kind"] == "source"] == ["math-en", "chat-ja"], "sources")
    expect(abs(data["running"][-1]["score"] - search.best[0]) < 1e-6, "best so far")
    # By hand: which items the winner has right, by what the sources have.
    items = result["items"]["heldout"]
    counts = [[0, 0] for _ in range(4)]
    for winner, first, second in zip(items["best"], items["sources"]["chat-ja"], items["sources"]["math-en"]):
        counts[2 * (first == "0") + (second == "0")][int(winner)] += 1
    expect(data["items"]["contingency"] == {"first": "chat-ja", "second": "math-en", "counts": counts}, "contingency")
    for i, task in enumerate(data["tasks"]):
        own = items["sources"]["math-en"][200 * i : 200 * i + 200]
        bars = {bar["name"]: bar for bar in task["bars"]}
        bar = bars["math-en"]
        share = own.count("1") / 200
        # Wilson's interval.
        z, n = 1.959963984540054, 200
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
        expect(abs(bar["value"] - share) < 1e-6 and abs(bar["low"] - (middle - half)) < 1e-5
               and abs(bar["high"] - (middle + half)) < 1e-5, f"bar of a source in task {i}: {bar}")
    failures = data["failures"]
    reasons = {one["reason"]: one["count"] for one in failures["reasons"]}
    # 240 and 156 candidates in the two sessions; the reasons came in the first alone.
    expect(reasons == {"a group was lost twice": 240 // 29, "the score is not a number": 240 // 83}, f"{failures}")
    timing = data["timing"]
    expect(len(timing["groups"]) == 3 and sum(group["evaluations"] for group in timing["groups"]) == 396 + 6
           == timing["evaluations"], "every evaluation is in a group")
    expect(len(timing["sessions"]) == 1 and sum(timing["histogram"]["counts"]) == 402, "sessions, histogram")
    expect(0.9 < timing["busy_share"] <= 1, f"busy: {timing['busy_share']}")
    genes = data["phases"][0]["genes"]
    expect([gene["name"] for gene in genes] == search.names and len(genes[0]["values"]) == 33, "genes")
    expect(abs(genes[3]["values"][-1] - search.mean[3]) < 1e-3, "the last mean")
    plain = page.split("<noscript>")[1].split("</noscript>")[0]
    expect(plain.count("<tr>") == 6 and f"<td>{100 * best['heldout']:.1f} %</td>" in plain, "a table without scripts")
    text = watch(folder)
    for part in ("396 of 402", "ended (396 evaluations)", "group 2:", "interrupted once", "winner", "constant answer"):
        expect(part in text, f"watch does not say {part}:\n{text}")
    return folder


def check_phases(root):
    """The second phase of a search has genes of its own."""
    search = SearchRun(genes=4, budget=96)
    first = search.names
    search.search(3)
    names = [f"0:1.{layer}" for layer in range(4)]
    search.phase, search.generation = "dfs", 0
    search.add(kind="phase", name="dfs", genes=[{"name": name, "low": 0, "high": 1, "kind": "binary"} for name in names])
    search.search(3)
    folder = os.path.join(root, "phases")
    search.write(folder)
    data = data_of(program.run("report", folder, "--out", "-").stdout)
    expect([[gene["name"] for gene in phase["genes"]] for phase in data["phases"]] == [first, names], "genes of phases")
    expect(data["phases"][1]["genes"][0]["low"] == 0, "bounds of the second phase's genes")


def sign_test(differences):
    """two-sided, exact"""
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    tail = sum(math.comb(better + worse, k) for k in range(min(better, worse) + 1)) / 2 ** (better + worse)
    return better, worse, min(1, 2 * tail)


def check_comparison(root):
    """Three seeds of a search, five of a random one (two of them of no seed that the other has), one search on other items."""
    results, folders = {}, {}

    def add(name, seed, share, **how):
        search = SearchRun(seed=seed, genes=3, budget=48, **how)
        search.search(4)
        folders[name] = os.path.join(root, "compare", name)
        results[name] = search.finish(folders[name], best_share=share)

    for seed in (1, 2, 3):
        add(f"cma-{seed}", seed, 0.75 if seed > 1 else 0.3)
    for seed in (5, 3, 2, 1, 9):
        add(f"random-{seed}", seed, 0.5, optimiser="random")
    add("other-items", 2, 0.5, heldout=150)
    words = [word for name in folders if name != "cma-2" for word in ("--against", folders[name])]
    _, data = report(folders["cma-2"], *words)
    runs = {one["name"]: one for one in data["comparison"]["runs"]}
    expect(list(runs) == ["cma-2"] + [name for name in folders if name != "cma-2"], f"runs: {list(runs)}")
    best = {name: result["items"]["heldout"]["best"] for name, result in results.items()}
    for name in folders:
        if name in ("cma-2", "other-items"):
            expect(runs[name]["p"] is None and runs[name]["own_better"] is None, f"{name} is not compared by items")
            continue
        better, worse, p = sign_test([int(a) - int(b) for a, b in zip(best["cma-2"], best[name])])
        expect((runs[name]["own_better"], runs[name]["own_worse"]) == (better, worse)
               and abs(runs[name]["p"] - p) <= 1e-2 * p, f"{name}: {runs[name]}, not {better}, {worse}, {p}")
    own, random, other = data["comparison"]["kinds"]
    heldout = {name: result["best"]["heldout"] for name, result in results.items()}
    expect((own["runs"], random["runs"], other["runs"]) == (3, 5, 1), "kinds")
    expect(abs(own["median"] - statistics.median(heldout[f"cma-{seed}"] for seed in (1, 2, 3))) < 1e-6
           and abs(own["worst"] - heldout["cma-1"]) < 1e-6, f"over seeds: {own}")
    differences = [heldout[f"cma-{seed}"] - heldout[f"random-{seed}"] for seed in (1, 2, 3)]
    better, worse, p = sign_test(differences)
    expect((better, worse, p) == (2, 1, 1) and (random["pairs"], random["own_better"], random["own_worse"], random["p"])
           == (3, 2, 1, 1) and abs(random["difference"] - statistics.median(differences)) < 1e-6, f"pairs: {random}")
    expect(other["pairs"] == 0 and other["p"] is None, f"other items make no pairs: {other}")
    expect({one["name"]: one["kind"] for one in data["against"]}
           == {name: 0 if name.startswith("cma") else 1 if name.startswith("random") else 2 for name in folders if name != "cma-2"},
           "curves by kind")
    _, data = report(folders["cma-2"], "--against", folders["random-2"])
    expect(data["comparison"]["kinds"] == [] and len(data["comparison"]["runs"]) == 2, "two runs are no seeds")
    _, data = report(folders["cma-2"])
    expect(data["comparison"] is None, "nothing to compare with")


def check_killed(root):
    """A report of every beginning of a journal, wherever it was cut."""
    search = SearchRun(genes=3, budget=60, tasks=["one"], items=5, optimiser="random")
    search.search(2, population=4, failing=[(3, "no")])
    whole = b"".join(search.lines)
    folder = os.path.join(root, "killed")
    search.write(folder)
    ends = [0]
    for text in search.lines:
        ends.append(ends[-1] + len(text))
    for at in sorted({end + step for end in ends for step in (-1, 0, 1, 40) if 0 <= end + step <= len(whole)}):
        with open(os.path.join(folder, "journal.jsonl"), "wb") as file:
            file.write(whole[:at])
        _, data = report(folder)
        records = [json.loads(text[17:]) for text, end in zip(search.lines, ends[1:]) if end <= at]
        expect(data["counts"]["evaluations"] == sum("ok" in one and "duplicate_of" not in one for one in records),
               f"cut at byte {at}")
        watch(folder)
    with open(os.path.join(folder, "journal.jsonl"), "wb") as file:
        file.write(whole + b"0123456789")
    _, data = report(folder)
    expect(any("not whole" in note for note in data["notes"]), "a torn line is told")
    expect(data["items"] is None and data["contenders"][0]["heldout"] is None, "nothing held out yet")
    expect("about" in watch(folder) and "left" in watch(folder), "how long it will take")


def check_awkward(root):
    search = SearchRun(genes=40, groups=70, sources=AWKWARD, tasks=[AWKWARD[0], "b\ud800".encode("utf-8", "replace").decode()],
                       heldout=3000)
    search.names[0] = AWKWARD[1]
    search.search(30, failing=[(7, AWKWARD[0]), (11, "\x1b[31mred\x00")])
    folder = os.path.join(root, 'a"b<i>ä\n')
    search.finish(folder, command=AWKWARD[0] + "{noscript}")
    page, data = report(folder)
    expect([one["name"] for one in data["contenders"] if one["kind"] == "source"] == list(AWKWARD), "names of sources")
    expect(data["command"] == AWKWARD[0] + "{noscript}", "the command")
    expect("<i>" not in page and "\x1b" not in page, "names are escaped")
    expect(data["timing"]["bars"] == [] and len(data["timing"]["busy"]) == 70, "many groups are drawn by their load")
    expect("\x1b" not in watch(folder) and "\x00" not in watch(folder), "no control characters in the terminal")


def check_hostile(root):
    """Checksums that are right, of records that are not."""
    folder = os.path.join(root, "hostile")
    huge = {"kind": "evaluation", "id": 1e300, "group": 10**30, "started": -1e308, "ended": 1e308, "score": 1e308,
            "objective": "x", "genome": [None, "x", {}], "tasks": {"a": 1}, "origin": "drawn", "set": "search", "ok": 3}
    records = [b"", b"null", b"[]", b"{", b"[" * 100000, b'{"kind":7}', b'{"kind":"start","genes":7,"tasks":[[]],"seed":-1}',
               b'{"kind":"evaluation"}', json.dumps(huge).encode(), b'{"kind":"generation","facts":[1],"mean_genome":{}}',
               b'{"kind":"group_lost"}', b'{"kind":"resumed"}', b'{"kind":"end"}', b"\xff\xfe"]
    os.makedirs(folder)
    with open(os.path.join(folder, "journal.jsonl"), "wb") as file:
        file.write(b"".join(b"%016x " % xxh64(text) + text + b"\n" for text in records))
    report(folder)
    watch(folder)
    for text in ('{"best":[]}', '{"best":{"heldout":"x","interval":[1]},"sources":[1],"items":7,"tasks":[{}]}', "{}"):
        with open(os.path.join(folder, "result.json"), "w") as file:
            file.write(text)
        report(folder)
    with open(os.path.join(folder, "result.json"), "w") as file:
        file.write("[1")
    program.expect_error(1, "report", folder, contains=["result.json: is no JSON object"])


def check_errors(root, ended):
    program.expect_error(1, "report", os.path.join(root, "none"), contains=["there is no such folder"])
    program.expect_error(1, "watch", root, contains=["has no journal.jsonl"])
    program.expect_error(2, "report", contains=["RUN"])
    program.expect_error(2, "watch", ended, "--interval", "0", contains=["--interval"])
    program.expect_error(1, "report", ended, "--out", "/nowhere/page.html",
                         contains=["/nowhere/page.html", "No such file"])
    out = program.run("report", ended, "--out", "-", "--against", ended + "/")
    expect(out.stdout.startswith("<!DOCTYPE html>"), "the page on standard output")
    expect([one["name"] for one in data_of(out.stdout)["against"]] == ["run"], "another search beside")


def check_live(root):
    """A search that goes on: lines where output is no terminal, one picture drawn again where it is."""
    search = SearchRun(genes=3, budget=48)
    search.search(4)
    whole, folder = list(search.lines), os.path.join(root, "live")
    search.lines = whole[:20]
    search.write(folder)

    def write_the_rest():
        for record in whole[20:] + [line({"kind": "end", "reason": "48 evaluations", "evaluations": 48, "seconds": 4.5})]:
            time.sleep(0.01)
            with open(os.path.join(folder, "journal.jsonl"), "ab") as file:
                half = len(record) // 2
                file.write(record[:half])
                file.flush()
                file.write(record[half:])

    main, terminal = pty.openpty()
    command = [program.path, "watch", folder, "--interval", "0.1"]
    seen = subprocess.Popen(command, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"})
    lines = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.close(terminal)
    writer = threading.Thread(target=write_the_rest)
    writer.start()
    drawn = b""
    while select.select([main], [], [], 20)[0]:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        drawn += piece
    writer.join()
    expect(seen.wait(20) == 0 and drawn.count(b"\x1b[J") > 1 and b"ended (48 evaluations)" in drawn, "on a terminal")
    expect(all(len(re.sub(r"\x1b\[[0-9]*[AKJ]|\r", "", row)) <= 80 for row in drawn.decode().split("\n")), "80 columns")
    text = lines.communicate(timeout=20)[0]
    expect("\x1b" not in text and [f"generation {i}:" in text for i in range(1, 5)] == [True] * 4, f"lines:\n{text}")


with tempfile.TemporaryDirectory(prefix="amalgam-test-") as main_folder:
    ended_run = check_ended(main_folder)
    check_phases(main_folder)
    check_comparison(main_folder)
    check_killed(main_folder)
    check_awkward(main_folder)
    check_hostile(main_folder)
    check_errors(main_folder, ended_run)
    check_live(main_folder)
program.done()
