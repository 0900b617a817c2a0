"""Opens pages of `amalgam report` in a browser without a window: the script ran, drew and complained of nothing, clicks work,
and nothing was asked of the network.

browser_check.py AMALGAM [FOLDER for pictures]
"""

import html.parser
import json
import os
import re
import subprocess
import sys
import tempfile

from program import Program
from search_run import SearchRun

program = Program(sys.argv[1])
expect = program.expect
pictures = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else None
AWKWARD = ["</script><script>document.title='taken'</script>", "a\"'&<img src=http://127.0.0.1:9/x onerror=alert(1)>ä"]

# What a reader does; results are kept where a dump of the page shows them.
CLICKS = """<script>
(() => {
  const seen = {}, rows = () => document.querySelectorAll("#items tbody tr").length;
  const text = () => document.querySelector("#items")?.textContent;
  seen.first = text();
  document.querySelectorAll(".controls button")[1]?.click();
  seen.second = text();
  const filter = document.getElementById("item-filter");
  if (filter) { filter.value = 1; filter.dispatchEvent(new Event("change")); seen.rows = rows(); }
  const choice = document.querySelector("select");
  if (choice) { choice.value = "objective"; choice.dispatchEvent(new Event("change")); }
  seen.objective = document.querySelectorAll("#running-objective").length;
  const mark = document.querySelector("circle[data-tip]");
  if (mark) mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
  seen.tip = document.getElementById("tip").hidden ? "" : document.getElementById("tip").textContent;
  document.documentElement.dataset.seen = JSON.stringify(seen);
})();
</script>"""


class Page(html.parser.HTMLParser):
    """Elements by name: their attributes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.words, self.shown = {}, "", True
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.setdefault(tag, []).append(dict(attributes))
        self.shown = tag not in ("script", "style", "noscript")

    def handle_endtag(self, tag):
        self.shown = True

    def handle_data(self, data):
        self.words += data if self.shown else ""

    def of(self, tag, **wanted):
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}
        return [one for one in self.elements.get(tag, []) if all(one.get(name) == value for name, value in wanted.items())]


def browse(path, folder, *flags):
    """Standard output and the browser's log."""
    log = os.path.join(folder, "network.json")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
               "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-default-apps", "--disable-extensions", f"--user-data-dir={folder}/profile",
               f"--log-net-log={log}", "--enable-logging=stderr", "--window-size=1100,4200", *flags, "file://" + path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)
    expect(result.returncode == 0, "the browser failed", result)
    with open(log, encoding="utf-8", errors="replace") as file:
        asked = set(re.findall(r'"url":"((?!file:|data:|chrome|devtools|about:|blob:)[^"]*)"', file.read()))
    # What a browser asks its maker by itself.
    asked = {url for url in asked if not re.match(r"https?://[a-z0-9.]+\.(google|googleapis)\.com/", url)}
    return result.stdout, re.findall(r"^.*CONSOLE.*$", result.stderr, re.M), asked


def check(root, name, folder, least, *words):
    """`least`: how many elements of a kind there are at least. `words` go to the command."""
    result = program.run("report", folder, *words)
    expect(result.returncode == 0, f"report of {name}", result)
    with open(os.path.join(folder, "report.html"), encoding="utf-8") as file:
        page = file.read()
    path = os.path.join(root, f"{name}.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page.replace("</body>", CLICKS + "</body>"))
    dumped, console, asked = browse(path, root, "--dump-dom")
    expect(not console, f"{name}: the console says {console}")
    expect(not asked, f"{name}: the network was asked for {asked}")
    dom = Page(dumped)
    expect(dom.elements["html"][0].get("data-drawn") == "yes", f"{name}: the script did not end")
    for tag, count in least.items():
        kind, _, css = tag.partition(".")
        found = dom.of(kind, **({"class_": css} if css else {}))
        expect(len(found) >= count, f"{name}: {len(found)} of {tag}, not {count}")
    for tag in ("circle", "rect", "line", "path", "text", "svg"):
        for one in dom.of(tag):
            bad = [value for key, value in one.items() if key not in ("data-tip", "aria-label") and value
                   and re.search("NaN|undefined|Infinity|null", value)]
            if bad:
                expect(False, f"{name}: {tag} with {bad[:3]}")
                break
    expect("undefined" not in dom.words and "[object" not in dom.words, f"{name}: texts that are none")
    expect(not dom.of("img") and dom.words.count("taken") == dom.words.count("title='taken'"), f"{name}: names are texts")
    if pictures:
        os.makedirs(pictures, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
        browse(path, root, f"--screenshot={pictures}/{name}.png")
        if name == "ended":
            browse(path, root, f"--screenshot={pictures}/dark.png", "--blink-settings=preferredColorScheme=0")
            browse(path, root, f"--print-to-pdf={pictures}/print.pdf", "--no-pdf-header-footer")
    return dom, json.loads(dom.elements["html"][0]["data-seen"])


def check_this_check(root):
    """A page that does all that a report must not."""
    path = os.path.join(root, "bad.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write("<html><img src='http://nowhere.invalid/x.png'><script>missing();</script></html>")
    _, console, asked = browse(path, root, "--dump-dom")
    expect(asked == {"http://nowhere.invalid/x.png"}, f"a request that is not seen: {asked}")
    expect(any("missing" in text for text in console), f"an error that is not seen: {console}")


def check_ended(root):
    search = SearchRun(budget=402, tasks=["math-ja", "chat"])
    search.search(20, failing=[(29, "a group was lost twice")])
    search.killed_and_started_again()
    search.search(13)
    other = SearchRun(seed=7, optimiser="random", genes=5, budget=402)
    other.search(20)
    folder = os.path.join(root, "run")
    search.finish(folder)
    # 388 points, bars of 402 evaluations, of 8 contenders and of the histogram; 12 genes over 33 generations.
    dom, seen = check(root, "ended", folder, {"circle": 388, "rect.bar": 402 + 8 + 5, "rect": 402 + 8 + 12 * 33,
                                              "section": 8, "svg": 7})
    expect(seen["first"] != seen["second"] and seen["rows"] == 20, f"pages of items: {seen['rows']}")
    expect(seen["objective"] == 1 and seen["tip"].startswith("evaluation "), f"choice and tip: {seen['tip']}")
    for words in ("both wrong", "a group was lost twice", "best source: chat-ja", "What groups did", "amalgam evolve"):
        expect(words in dom.words, f"no word of {words}")


def check_compared(root):
    folders = []
    for seed, optimiser, share in ((1, "cma", 0.75), (2, "cma", 0.7), (1, "random", 0.5), (2, "random", 0.45), (1, AWKWARD[0], 0.4)):
        search = SearchRun(seed=seed, genes=3, budget=48, optimiser=optimiser)
        search.search(4)
        folders.append(os.path.join(root, "compared", f"{len(folders)}{AWKWARD[1].replace('/', '')}"))
        search.finish(folders[-1], best_share=share)
    # A line for each other run, the best so far, the medians.
    dom, _ = check(root, "compared", folders[0], {"path.line": 4 + 2, "section": 9},
                   *[word for folder in folders[1:] for word in ("--against", folder)])
    for words in ("Against other runs", "Over seeds", "random, 2 runs", "same search, other seeds"):
        expect(words in dom.words, f"no word of {words}")


def check_large(root):
    search = SearchRun(genes=300, groups=100, sources=AWKWARD + ["third"], tasks=[AWKWARD[0]], heldout=100000, budget=6000,
                       items=20, seed=4)
    search.search(400, population=15)
    folder = os.path.join(root, "large")
    search.finish(folder)
    dom, seen = check(root, "large", folder, {"circle": 2000, "rect": 100 * 100 + 300 * 20, "section": 8})
    expect(dom.words.count(AWKWARD[0]) >= 2, "awkward names are shown as they are")
    expect(seen["first"] != seen["second"], "pages of 100,000 items")


def check_unfinished(root):
    search = SearchRun(genes=4, optimiser="random", budget=300, tasks=["math-ja"], seed=3)
    search.search(10)
    check(root, "going", search.write(os.path.join(root, "going"), torn=b"12"), {"circle": 120, "svg": 6})
    empty = SearchRun(genes=4)
    check(root, "empty", empty.write(os.path.join(root, "empty")), {"section": 2})


with tempfile.TemporaryDirectory(prefix="amalgam-test-") as main_folder:
    check_this_check(main_folder)
    check_ended(main_folder)
    check_compared(main_folder)
    check_large(main_folder)
    check_unfinished(main_folder)
program.done()
