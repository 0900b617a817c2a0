// Where the time went, what failed, and how to do it again.

function histogram(node) {
  const { edges, counts } = data.timing.histogram;
  if (counts.length < 1) return;
  node.append(element("h3", {}, "How long evaluations take"));
  const plot = new Plot(node, { x: [edges[0], edges[edges.length - 1]], y: [0, Math.max(...counts) * 1.05], height: 220,
    xText: duration, xLabel: "time of an evaluation", yLabel: "evaluations", yText: grouped });
  counts.forEach((count, i) => {
    if (!count) return;
    const [a, b] = [plot.x(edges[i]), plot.x(edges[i + 1])];
    plot.add(drawn("rect", { class: "bar", x: a + 0.5, y: plot.y(count), width: Math.max(1, b - a - 1),
      height: plot.y(0) - plot.y(count), fill: "var(--best)",
      "data-tip": `${duration(edges[i])} to ${duration(edges[i + 1])}\n${many(count, "evaluation")}` }));
  });
}

function groupRows(node) {
  const t = data.timing, groups = t.groups;
  if (!groups.length || !(t.end > 0)) return;
  node.append(element("h3", {}, "What groups did"));
  const bars = t.bars.length > 0;
  node.append(element("p", { class: "note" }, (bars ? "Each bar is an evaluation." :
    "The darker, the busier a group was.") + (t.all_groups > groups.length
    ? ` The first ${groups.length} of ${grouped(t.all_groups)} groups are shown.` : "") +
    (t.sessions.length ? " Vertical lines: the search was started again; the time between does not count." : "")));
  const row = groups.length <= 16 ? 22 : groups.length <= 64 ? 10 : 5, left = 90, top = 4;
  const plot = new Plot(node, { x: [0, t.end], y: [0, 1], height: groups.length * row + 52, left, right: 70, top, bottom: 44,
    yText: () => "", yLabel: "", xText: duration, xLabel: "time since the start", label: "work of groups over time" });
  for (const line of plot.svg.querySelectorAll(".grid")) line.remove();
  const apart = Math.ceil(14 / row);
  groups.forEach((group, i) => {
    const text = `group ${group.group}\n${many(group.evaluations, "evaluation")}, busy ${(100 * group.busy).toFixed(0)} %`;
    if (i % apart === 0)
      plot.add(drawn("text", { x: left - 8, y: top + i * row + row / 2 + 4, "text-anchor": "end", "data-tip": text },
        "group " + group.group), drawn("text", { x: 936, y: top + i * row + row / 2 + 4, "data-tip": text },
        (100 * group.busy).toFixed(0) + " %"));
    if (bars) return;
    t.busy[i].forEach((share, bin) => {
      if (share > 0)
        plot.add(drawn("rect", { x: plot.x(bin * t.bin).toFixed(2), y: top + i * row + 0.5,
          width: (plot.x(t.bin) - plot.x(0) + 0.2).toFixed(2), height: row - 1, fill: "var(--best)",
          "fill-opacity": share.toFixed(3),
          "data-tip": `${text}\nfrom ${duration(bin * t.bin)}: ${(100 * share).toFixed(0)} %` }));
    });
  });
  for (const [place, started, ended, id, kind] of t.bars)
    plot.add(drawn("rect", { class: "bar", x: plot.x(started).toFixed(2), y: top + place * row + 2,
      width: Math.max(0.8, plot.x(ended) - plot.x(started) - 0.6).toFixed(2), height: row - 4,
      fill: ["var(--best)", "var(--bad)", "var(--third)"][kind],
      "data-tip": `evaluation ${id}, ${["of the search", "failed", "on other items, or of sources"][kind]}\n` +
        `${duration(ended - started)}, from ${duration(started)}` }));
  for (const one of [...t.sessions, ...t.lost]) {
    const x = plot.x(one.time);
    plot.add(drawn("line", { x1: x, x2: x, y1: 0, y2: groups.length * row + 8, "stroke-width": 1.5,
      stroke: one.text === "started again" ? "var(--ink)" : "var(--bad)",
      "data-tip": `${one.group >= 0 ? "group " + one.group + ": " : ""}${one.text}` }));
  }
  if (bars)
    legend(node, [["evaluation of the search", "var(--best)", "box"], ["failed", "var(--bad)", "box"],
      ["on other items, or of sources", "var(--third)", "box"]]);
}

function timing() {
  const t = data.timing;
  if (!t.groups.length) return;
  const node = section("Time", `${many(t.evaluations, "evaluation")} in ${duration(t.end)}: ` +
    `${significant(t.evaluations / t.end, 3)} a second. Groups were busy ${(100 * t.busy_share).toFixed(0)} % of the time. ` +
    `An evaluation took ${duration(t.median)} in the middle, ${duration(t.longest)} at most.`);
  groupRows(node);
  histogram(node);
  if (!t.lost.length) return;
  node.append(element("h3", {}, "Groups that were lost"));
  table(node, ["#group", "#at", "why"], t.lost.map(one => [grouped(one.group), duration(one.time), one.text]));
}

function failures() {
  const f = data.failures;
  if (!f.count) return;
  const node = section("Failed candidates", `${many(f.count, "candidate")} could not be scored and ranked last.`);
  node.id = "failures";
  table(node, ["reason", "#candidates", "evaluations"], f.reasons.map(one =>
    [one.reason, grouped(one.count), one.ids.join(", ") + (one.count > one.ids.length ? ", …" : "")]));
  if (f.all_reasons > f.reasons.length)
    node.append(element("p", { class: "note" }, `and ${many(f.all_reasons - f.reasons.length, "other reason")}`));
}

function again() {
  const node = section("How to do it again");
  if (data.command)
    node.append(element("p", {}, "The command. With another folder it searches anew, and with the same seed, models and " +
      "tasks it takes the same course, with any number of groups unless quorum is below 1."), element("pre", {}, data.command));
  table(node, ["setting", ""], data.settings);
  const file = (title, text, open) => {
    if (!text) return;
    const details = element("details", {}, element("summary", {}, title), element("pre", {}, text));
    details.open = open;
    node.append(details);
  };
  file("the search file (search.toml)", data.toml, data.toml.length < 4000);
  file("the winner's recipe (best.toml)", data.recipe, false);
  file("the winner's recipe for mergekit (best.yaml)", data.recipe_yaml, false);
}

headline();
progress();
comparison();
taskBars();
heldOutItems();
genome();
timing();
failures();
again();
document.documentElement.dataset.drawn = "yes";
