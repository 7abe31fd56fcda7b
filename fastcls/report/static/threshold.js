// The slider of the threshold: figures of the answers that are at least so confident.
const METERS = ["precision", "recall", "coverage"];

function startThreshold() {
  const slider = byId("threshold-slider");
  if (!slider) return;
  const table = page.thresholds;
  const series = METERS.map((name, place) => ({
    name, style: ["one", "two", "three"][place], points: table.threshold.map((value, row) => [value, table[name][row]]),
  }));
  const chart = lineChart("Precision, recall and coverage by threshold", series, { x: [0, 1], y: [0, 1], xName: "threshold" });
  const cursor = svg("line", { class: "cursor", y1: MARGIN.top, y2: chart.height - MARGIN.bottom });
  chart.root.append(cursor);
  byId("threshold-chart").append(chart.root, key(series));
  slider.max = table.threshold.length - 1;
  const show = () => {
    const row = Number(slider.value);
    const value = table.threshold[row];
    byId("threshold-value").textContent = percent(value);
    slider.setAttribute("aria-valuetext", percent(value));
    cursor.setAttribute("x1", chart.across.at(value));
    cursor.setAttribute("x2", chart.across.at(value));
    byId("threshold-figures").replaceChildren(...METERS.map((name) => make(
      "div", {}, make("dt", {}, name), make("dd", { id: `meter-${name}` }, percent(table[name][row])),
    )));
  };
  slider.addEventListener("input", show);
  show();
}
