// The run beside others.

function comparedKinds(node, kinds) {
  if (!kinds.length) return;
  node.append(element("h3", {}, "Over seeds"));
  const rows = kinds.map((one, i) => [one.name, grouped(one.runs), score(one.search), score(one.median), score(one.worst),
    score(one.best), ...(i === 0 || !one.pairs ? ["", "", "", ""] : [grouped(one.pairs),
      `${grouped(one.own_better)} / ${grouped(one.own_worse)}`, (one.difference > 0 ? "+" : "") +
      (data.percent ? percents(one.difference) : significant(one.difference, 3)), probability(one.p)])]);
  table(node, ["", "#runs", "#search, median", "#held-out, median", "#worst", "#best", "#pairs",
    "#better / worse", "#difference", "#p"], rows, 0).id = "seeds";
  node.append(element("p", { class: "note" }, "Runs of the same seed are paired: how often this search is better or " +
    "worse on held-out items, the median difference" + (data.percent ? " in points" : "") + ", and the p value of the exact sign test " +
    "over the pairs." + (kinds.some(one => one.pairs && !one.same_budget)
    ? " Some pairs differ in their evaluations." : "")));
}

function comparison() {
  const c = data.comparison;
  if (!c) return;
  const node = section("Against other runs", "Their best so far is drawn above. Run by run: on how many held-out items " +
    "this run's winner is better or worse than the other's, and the p value of the exact sign test on these items.");
  node.id = "comparison";
  comparedKinds(node, c.kinds);
  node.append(element("h3", {}, "Run by run"));
  table(node, ["run", "optimiser", "#seed", "#evaluations", "#search items", "#held-out items", "#95 % interval",
    "#better / worse", "#p"],
    c.runs.map((one, i) => [shortened(one.name, 40) + (i === 0 ? " (this one)" : ""), one.optimiser, String(one.seed),
      grouped(one.evaluations), score(one.search), score(one.heldout), interval(one.low, one.high),
      known(one.own_better) ? `${grouped(one.own_better)} / ${grouped(one.own_worse)}` : "", probability(one.p)]), 0);
}
