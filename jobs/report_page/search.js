// What was found, and how the search went.

function tile(label, value, more, first) {
  return element("div", { class: first ? "tile first" : "tile" }, element("div", { class: "label" }, label),
    element("div", { class: "value" }, value), ...[more].flat().filter(Boolean).map(text => element("div", { class: "more" }, text)));
}

function headline() {
  const node = section("Result", data.headline);
  const tiles = element("div", { class: "tiles" });
  const value = one => known(one.heldout) ? one.heldout : one.search;
  const more = one => [interval(one.low, one.high),
    known(one.p) ? "p " + probability(one.p).replace(/^(?=\d)/, "= ") + " against the winner" : ""];
  const of = kind => data.contenders.filter(one => one.kind === kind);
  const best = of("best")[0];
  if (best) tiles.append(tile(best.title, score(value(best)), [`on ${data.bars_on} items`, ...more(best)], true));
  const sources = of("source").sort((a, b) => value(b) - value(a));
  if (sources.length) tiles.append(tile("best source: " + shortened(sources[0].name, 40), score(value(sources[0])), more(sources[0])));
  for (const kind of ["uniform", "constant", "random"])
    for (const one of of(kind)) tiles.append(tile(one.title, score(value(one)), more(one)));
  tiles.append(tile("evaluations", grouped(data.counts.evaluations),
    data.start.evaluations ? "of " + grouped(data.start.evaluations) : ""));
  tiles.append(tile("time", duration(data.seconds), many(data.timing.groups.length, "group")));
  node.append(tiles);
  if (data.contenders.length > 1)
    table(node, ["", "#search items", "#held-out items", "#95 % interval", "#p against the winner"],
      data.contenders.map(one => [one.kind === "source" ? "source " + shortened(one.name, 60) : one.title, score(one.search),
        score(one.heldout), interval(one.low, one.high), probability(one.p)]), 0);
  for (const text of data.notes) node.append(element("p", { class: "note" }, text));
}

function origins(origin) { return { injected: "given by hand", mean: "mean of the distribution", average: "average of the best candidates" }[origin] || origin; }

function progressPlot(parent, what) {
  const points = data.points, values = points[what];
  const lines = [data.running.map(one => one[what]), data.against.map(one => one[what]).flat(),
    data.medians.map(one => one[what]), data.references.map(one => one[what])];
  const y = widened(extent(values, ...lines), 0.04);
  const last = Math.max(1, ...data.running.map(one => one.x), ...data.against.map(one => one.x).flat(), ...points.x);
  const plot = new Plot(parent, { x: [0, last], y, height: 380, right: 150, wholeX: true,
    xLabel: "new evaluations", yLabel: what, yText: what === "score" ? scoreTick : v => significant(v, 3),
    label: "score over evaluations" });
  for (const [x, name] of data.borders) {
    plot.add(drawn("line", { class: "grid", x1: plot.x(x), x2: plot.x(x), y1: 22, y2: 336 }));
    plot.add(drawn("text", { x: plot.x(x) + 4, y: 32 }, name));
  }
  const labels = [];
  for (const one of data.references)
    if (known(one[what])) { plot.across(one[what]); labels.push([one[what], one.name, "var(--soft)"]); }
  const group = drawn("g", { class: "points" });
  plot.add(group);
  for (let i = 0; i < points.x.length; ++i) {
    const failed = !known(values[i]);
    const text = `evaluation ${points.id[i]}, generation ${points.generation[i]}` +
      (points.origin[i] === "drawn" ? "" : `, ${origins(points.origin[i])}`) +
      (failed ? "\nno score" : `\n${what} ${what === "score" ? score(values[i]) : significant(values[i], 5)}`);
    if (failed)
      group.append(drawn("path", { d: `M${plot.x(points.x[i]).toFixed(1)} 336v-7`, stroke: "var(--bad)",
        "stroke-width": 2, "data-tip": text }));
    else
      group.append(drawn("circle", { cx: plot.x(points.x[i]).toFixed(1), cy: plot.y(values[i]).toFixed(1),
        r: points.origin[i] === "drawn" ? 2.5 : 4, fill: points.origin[i] === "drawn" ? "var(--other)" : "var(--third)",
        "fill-opacity": 0.65, "data-tip": text }));
  }
  plot.line(data.medians.map(one => one.x), data.medians.map(one => one[what]), { stroke: "var(--second)" });
  const running = data.running;
  plot.line([...running.map(one => one.x), data.counts.evaluations],
    [...running.map(one => one[what]), running.length ? running[running.length - 1][what] : null],
    { stroke: "var(--best)", "stroke-width": 2.5, id: "running-" + what }, true);
  if (running.length) labels.push([running[running.length - 1][what], "best so far", "var(--best)"]);
  for (const one of data.against)
    plot.line(one.x, one[what], { stroke: kindColour(one.kind), "stroke-dasharray": "6 4",
      "stroke-width": ofKind(one.kind).length > 1 ? 1.2 : 2, "data-tip": `${one.name}\n${one.kind_name}` }, true);
  for (const kind of otherKinds()) {
    const ends = ofKind(kind).map(one => one[what][one[what].length - 1]).filter(known).sort((a, b) => a - b);
    labels.push([ends[Math.floor(ends.length / 2)], ofKind(kind)[0].kind_name, kindColour(kind)]);
  }
  for (const one of data.medians)
    if (known(one[what]) && data.medians.length <= 400)
      plot.dot(one.x, one[what], 6, { fill: "transparent",
        "data-tip": `generation ${one.generation}\nmedian ${what === "score" ? score(one[what]) : significant(one[what], 5)}` });
  placeLabels(plot, labels.filter(one => known(one[0])));
}

// Other runs: those that differ in their seed only share a colour.
const otherKinds = () => [...new Set(data.against.map(one => one.kind))];
const ofKind = kind => data.against.filter(one => one.kind === kind);
const kindColour = kind => kind === 0 ? "var(--best)" : ["var(--third)", "var(--fifth)", "var(--fourth)"][(kind - 1) % 3];

// Names at the right border, moved apart where values are close.
function placeLabels(plot, labels) {
  const placed = labels.map(([value, name, colour]) => ({ y: plot.y(value) + 4, name, colour })).sort((a, b) => a.y - b.y);
  for (let i = 1; i < placed.length; ++i) placed[i].y = Math.max(placed[i].y, placed[i - 1].y + 14);
  let limit = plot.o.height - plot.o.bottom + 6;
  for (let i = placed.length - 1; i >= 0; --i, limit -= 14) placed[i].y = Math.min(placed[i].y, limit);
  for (const one of placed)
    plot.add(drawn("text", { x: plot.o.width - plot.o.right + 6, y: one.y.toFixed(1), style: `fill: ${one.colour}`,
      "data-tip": one.name }, shortened(one.name, 22)));
}

function progress() {
  if (!data.points.x.length) return;
  const node = section("Score over evaluations", data.points.all > data.points.x.length
    ? `${grouped(data.points.x.length)} of ${grouped(data.points.all)} evaluations are shown, all new bests among them.` : "");
  const place = element("div", { id: "progress" });
  const choice = element("select", { "aria-label": "what is shown" }, element("option", { value: "score" }, "score"),
    element("option", { value: "objective" }, "objective"));
  const draw = () => { place.replaceChildren(); progressPlot(place, choice.value); };
  choice.addEventListener("change", draw);
  node.append(element("div", { class: "controls" }, "Show the ", choice,
    element("span", { class: "note" }, data.objective)));
  const failed = data.points.score.some(value => !known(value));
  const marked = data.points.origin.some(origin => origin !== "drawn");
  legend(node, [["an evaluation", "var(--other)", "dot"],
    ...(marked ? [["given by hand, or a mean", "var(--third)", "dot"]] : []),
    ...(failed ? [["failed", "var(--bad)", "box"]] : []), ["best so far", "var(--best)"],
    ["median of a generation", "var(--second)"],
    ...otherKinds().map(kind => ["best so far of " + ofKind(kind)[0].kind_name, kindColour(kind), "dashed"])]);
  node.append(place);
  draw();
}

// ---- the genome

function share(gene, value) {
  return known(value) ? Math.min(1, Math.max(0, (value - gene.low) / (gene.high - gene.low || 1))) : null;
}

function heatMap(parent, phase) {
  const genes = phase.genes, columns = phase.generations;
  const row = genes.length <= 40 ? 18 : genes.length <= 120 ? 12 : 7;
  const named = row > 9, left = named ? Math.min(280, 20 + 6.6 * Math.max(...genes.map(gene => gene.name.length))) : 20;
  const width = 1000, height = genes.length * row + 46, cell = (width - left - 60) / columns.length;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "genome over generations" });
  genes.forEach((gene, y) => {
    const limit = Math.floor((left - 12) / 6.6);
    if (named)
      svg.append(drawn("text", { x: left - 6, y: y * row + row / 2 + 4, "text-anchor": "end", "data-tip": gene.name,
        class: "name", style: row < 15 ? "font-size: 10.5px" : "" },
        shortened(gene.name, limit)));
    columns.forEach((generation, x) => {
      const value = gene.values[x], part = share(gene, value);
      if (part === null) return;
      svg.append(drawn("rect", { x: (left + x * cell).toFixed(2), y: y * row, width: cell.toFixed(2), "shape-rendering": "crispEdges",
        height: row - (row > 9 ? 1 : 0), fill: "var(--best)", "fill-opacity": (0.05 + 0.95 * part).toFixed(3),
        "data-tip": `${gene.name}\ngeneration ${generation}: ${significant(value, 4)}` }));
    });
    const last = gene.values[columns.length - 1];
    if (named) svg.append(drawn("text", { x: width - 54, y: y * row + row / 2 + 4 }, significant(last, 3)));
  });
  const apart = Math.max(1, Math.ceil(columns.length / 12));
  columns.forEach((generation, x) => {
    if (x % apart === 0)
      svg.append(drawn("text", { x: left + (x + 0.5) * cell, y: height - 28, "text-anchor": "middle" }, generation));
  });
  svg.append(drawn("text", { x: (left + width - 60) / 2, y: height - 8, "text-anchor": "middle" }, "generation"));
  parent.append(svg);
}

function geneLines(parent, phase) {
  const grid = element("div", { class: "small" });
  for (const gene of phase.genes) {
    const box = element("div", {}, element("h3", {}, gene.name));
    const plot = new Plot(box, { width: 300, height: 150, left: 42, right: 10, top: 8, bottom: 40, wholeX: true,
      x: extent(phase.generations), y: [gene.low, gene.high], xLabel: "generation", label: gene.name });
    plot.line(phase.generations, gene.values, { stroke: "var(--best)" });
    phase.generations.forEach((generation, i) => {
      if (known(gene.values[i]))
        plot.dot(generation, gene.values[i], phase.generations.length > 60 ? 3 : 5, { fill: "transparent",
          "data-tip": `generation ${generation}: ${significant(gene.values[i], 4)}` });
    });
    grid.append(box);
  }
  parent.append(grid);
}

function genome() {
  for (const phase of data.phases) {
    if (!phase.genes.length) continue;
    const node = section("Genome over generations" + (data.phases.length > 1 ? ", phase " + phase.name : ""),
      phase.what + (phase.all_genes > phase.genes.length
        ? ` Of ${grouped(phase.all_genes)} genes the ${phase.genes.length} that changed most are shown.` : "") +
      (phase.genes.length > 6 ? " The darker, the closer to the gene's upper bound." : ""));
    (phase.genes.length > 6 ? heatMap : geneLines)(node, phase);
    if (!phase.facts.length) continue;
    node.append(element("h3", {}, "What the optimiser says of itself"));
    const grid = element("div", { class: "small" });
    const changes = fact => fact.values.some(value => value !== fact.values[0]);
    const constant = phase.facts.filter(fact => !changes(fact) && fact.values.length);
    if (constant.length)
      node.append(element("p", { class: "note" }, "All the time: " +
        constant.map(fact => fact.name + " " + significant(fact.values[0], 4)).join(", ") + "."));
    for (const fact of phase.facts.filter(changes)) {
      const range = extent(fact.values), log = range[0] > 0 && range[1] > 30 * range[0];
      const box = element("div", {}, element("h3", {}, fact.name));
      const plot = new Plot(box, { width: 300, height: 150, left: 52, right: 10, top: 8, bottom: 40, wholeX: true,
        x: extent(fact.generations), y: log ? range : widened(range, 0.05), log, xLabel: "generation", label: fact.name });
      plot.line(fact.generations, fact.values, { stroke: "var(--soft)" });
      if (fact.values.length <= 150)
        fact.generations.forEach((generation, i) => {
          if (known(fact.values[i]))
            plot.dot(generation, fact.values[i], 4, { fill: "transparent",
              "data-tip": `generation ${generation}: ${significant(fact.values[i], 4)}` });
        });
      grid.append(box);
    }
    node.append(grid);
  }
  if (!data.best_genome.length) return;
  const node = section("Genome of the winner");
  const details = element("details", {}, element("summary", {}, many(data.best_genome.length, "gene")));
  details.open = data.best_genome.length <= 30;
  table(details, ["gene", "#value"], data.best_genome.map(([name, value]) => [name, significant(value, 6)]));
  node.append(details);
}
