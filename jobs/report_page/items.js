// Tasks and items.

function taskBars() {
  const tasks = data.tasks.filter(task => task.bars.length);
  if (!tasks.length) return;
  const node = section("Tasks", `Scores on ${data.bars_on} items; the lines are intervals of 95 %.`);
  for (const task of tasks) {
    node.append(element("h3", {}, element("bdi", {}, task.name), ` (${[task.metric, many(task.items, data.bars_on + " item"),
      tasks.length > 1 && known(task.weight) ? "weight " + significant(task.weight, 3) : ""].filter(Boolean).join(", ")})`));
    const bars = task.bars, row = 26, left = 210;
    const all = extent(bars.map(bar => bar.value), bars.map(bar => bar.low), bars.map(bar => bar.high), [0]);
    const high = data.percent ? Math.min(1, all[1] * 1.02 || 1) : all[1] * 1.05 || 1;
    const plot = new Plot(node, { x: [all[0], high], y: [0, 1], height: bars.length * row + 40, left, right: 90, top: 4,
      bottom: 36, yText: () => "", xText: scoreTick, yLabel: "", label: "scores of " + task.name });
    for (const line of plot.svg.querySelectorAll(".grid")) line.remove();
    for (const tick of ticks(all[0], high, 8)) {
      const x = plot.x(tick);
      plot.add(drawn("line", { class: "grid", x1: x, x2: x, y1: 4, y2: bars.length * row + 4 }));
    }
    bars.forEach((bar, i) => {
      const y = 4 + i * row, zero = plot.x(Math.max(0, all[0])), x = plot.x(bar.value);
      const text = `${bar.name}: ${score(bar.value)}` + (interval(bar.low, bar.high) && `\n${interval(bar.low, bar.high)}`);
      const best = bar.kind === "best";
      plot.add(drawn("rect", { class: "bar", x: Math.min(zero, x), y: y + 5, width: Math.max(1.5, Math.abs(x - zero)),
        height: row - 10, rx: 2, fill: best ? "var(--best)" : "var(--other)", "data-tip": text }));
      if (known(bar.low) && known(bar.high)) {
        const [a, b] = [plot.x(bar.low), plot.x(bar.high)], middle = y + row / 2;
        plot.add(drawn("path", { d: `M${a} ${middle - 4}v8M${a} ${middle}H${b}M${b} ${middle - 4}v8`,
          stroke: "var(--ink)", "stroke-width": 1.3, fill: "none", "data-tip": text }));
      }
      plot.add(drawn("text", { x: left - 8, y: y + row / 2 + 4, "text-anchor": "end", class: "name", "data-tip": text,
        style: best ? "font-weight: 600" : "" }, shortened(bar.name, 28)));
      const end = Math.max(x, known(bar.high) ? plot.x(bar.high) : 0);
      plot.add(drawn("text", { x: end + 8, y: y + row / 2 + 4, class: "halo" }, score(bar.value)));
    });
  }
}

const isRight = digit => digit >= "5";

function contingency(node, items) {
  const c = items.contingency;
  if (!c) return;
  node.append(element("h3", {}, "Where the winner is right, by what its two best sources do"));
  const total = c.counts.flat().reduce((a, b) => a + b, 0) || 1;
  const rows = ["both right", `only ${shortened(c.first, 40)} right`, `only ${shortened(c.second, 40)} right`, "both wrong"].map((name, i) => {
    const [wrong, right] = c.counts[i], all = wrong + right;
    return [name, grouped(all), grouped(right), grouped(wrong), all ? (100 * right / all).toFixed(1) + " %" : "–"];
  });
  table(node, ["the two sources", "#items", "#winner right", "#winner wrong", "#share right"], rows).id = "contingency";
  const gained = c.counts[3][1], lost = c.counts[0][0] + c.counts[1][0] + c.counts[2][0];
  node.append(element("p", {}, `${many(gained, "item")} (${(100 * gained / total).toFixed(1)} %) ` +
    `${gained === 1 ? "is" : "are"} answered by the winner and by neither of them; ${many(lost, "item")} ` +
    `(${(100 * lost / total).toFixed(1)} %) by one of them and not by the winner.`));
}

function itemTable(node, items) {
  const best = items.strings[0].text, others = items.strings.slice(1), perPage = 20;
  const at = (one, i) => isRight(one.text[i]);
  const two = others.filter(one => one.second_or_first);
  const filters = [["all items", () => true]];
  if (two.length === 2) {
    filters.unshift([`both wrong, winner right`, i => at(items.strings[0], i) && !two.some(one => at(one, i))]);
    filters.push(["winner wrong, one of the two sources right", i => !at(items.strings[0], i) && two.some(one => at(one, i))]);
  }
  filters.push(["winner right", i => isRight(best[i])], ["winner wrong", i => !isRight(best[i])],
    ["all wrong", i => items.strings.every(one => !at(one, i))]);
  const choice = element("select", { "aria-label": "items that are shown", id: "item-filter" },
    ...filters.map(([name], i) => element("option", { value: i }, name)));
  const place = element("div", { id: "items" }), count = element("span", { class: "note" });
  const before = element("button", { type: "button" }, "◀ before"), after = element("button", { type: "button" }, "next ▶");
  let chosen = [], first = 0;
  const draw = () => {
    place.replaceChildren();
    const rows = chosen.slice(first, first + perPage).map(i => {
      let task = items.tasks.length - 1;
      while (task > 0 && items.tasks[task].first > i) --task;
      return [shortened(items.tasks[task].name, 30), grouped(i - items.tasks[task].first + 1), ...items.strings.map(one =>
        element("td", { class: at(one, i) ? "right" : "wrong", "aria-label": at(one, i) ? "right" : "wrong" },
          one.graded ? (at(one, i) ? "✓ 0." : "✗ 0.") + one.text[i] : at(one, i) ? "✓" : "✗"))];
    });
    table(place, ["task", "#item", ...items.strings.map(one => shortened(one.name, 24))], rows);
    count.textContent = chosen.length ? `${grouped(first + 1)} to ${grouped(Math.min(first + perPage, chosen.length))} of ` +
      many(chosen.length, "item") : "no items";
    before.disabled = first === 0;
    after.disabled = first + perPage >= chosen.length;
  };
  const select = () => {
    chosen = [];
    for (let i = 0; i < best.length; ++i) if (filters[choice.value][1](i)) chosen.push(i);
    first = 0;
    draw();
  };
  choice.addEventListener("change", select);
  before.addEventListener("click", () => { first = Math.max(0, first - perPage); draw(); });
  after.addEventListener("click", () => { first += perPage; draw(); });
  node.append(element("h3", {}, "Item by item"),
    element("div", { class: "controls" }, "Show ", choice, before, after, count), place);
  select();
}

function heldOutItems() {
  const items = data.items;
  if (!items || !items.strings.length) return;
  const node = section("Held-out items", "An item's number is its place among the items of its task's file." +
    (items.all > items.strings[0].text.length
      ? ` The first ${grouped(items.strings[0].text.length)} of ${grouped(items.all)} are listed.` : "") +
    (items.strings.some(one => one.graded) ? " Graded answers count as right from a score of 0.5 on." : ""));
  contingency(node, items);
  itemTable(node, items);
}
