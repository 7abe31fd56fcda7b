// Training curves and the reliability diagram.
const AXES = { c: "C (strength of the fit)", epoch: "epoch" };
const ABBREVIATED = { auroc: "AUROC", f1: "F1" };

function startHistory() {
  const place = byId("history-charts");
  if (!page.history.rows) {
    byId("curves").hidden = true;
    return;
  }
  const { step, rows } = page.history;
  const logarithmic = step === "c" || step === "C";
  const steps = rows.map((row) => row[step]);
  const figures = Object.keys(rows[0]).filter((name) => `val_${name}` in rows[0] || (name !== step && `val_${name}` in rows[rows.length - 1]));
  for (const name of figures) {
    const series = [[name, "training", "one"], [`val_${name}`, "validation", "two"]].map(([column, told, style]) => ({
      name: told, style, points: rows.map((row) => [row[step], row[column] ?? null]),
    }));
    const values = series.flatMap(({ points }) => points.map(([, value]) => value)).filter((value) => value !== null);
    const chart = lineChart(`${name} by ${step}`, series, {
      x: [Math.min(...steps), Math.max(...steps)], y: extent(values), xName: AXES[step] ?? step, logarithmic,
    });
    place.append(make("div", { class: "chart" }, make("h3", {}, ABBREVIATED[name] ?? name), chart.root, key(series)));
  }
  if (!figures.length) byId("curves").hidden = true;
}

function startReliability() {
  const place = byId("reliability-chart");
  if (!place) return;
  const { confidence, accuracy, count: counts } = page.reliability;
  const chart = lineChart("Reliability diagram", [], { x: [0, 1], y: [0, 1], xName: "confidence", yName: "share right", height: 400 });
  const { across, up, root } = chart;
  root.append(svg("line", { class: "diagonal", x1: across.at(0), y1: up.at(0), x2: across.at(1), y2: up.at(1) }));
  const most = Math.max(...counts);
  confidence.forEach((value, bin) => {
    if (value === null || accuracy[bin] === null) return;
    const dot = svg("circle", { class: "dot", cx: across.at(value), cy: up.at(accuracy[bin]), r: 3 + 9 * Math.sqrt(counts[bin] / most) });
    dot.append(svg("title", {}, `confidence ${percent(value)}, right ${percent(accuracy[bin])}, ${count(counts[bin], "answer")}`));
    root.append(dot);
  });
  place.append(root);
}

function startLearning() {
  const place = byId("learning-chart");
  if (!place) return;
  const { figure, points } = page.curve;
  const series = [{ name: figure, points, style: "one" }];
  const [across, up] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const chart = lineChart(`${figure} by images`, series, { x: [0, Math.max(...across)], y: extent(up), xName: "images", yName: figure });
  place.append(chart.root);
}
