// The slider of the threshold: figures of the answers that are at least so confident.
const METERS = ["precision", "recall", "coverage"];

// What the thresholds of the run are called; "" of a run without any.
function ownThresholds() {
  const own = page.own_thresholds;
  if (!own.length) return "";
  const [low, high] = [percent(Math.min(...own)), percent(Math.max(...own))];
  return low === high ? `own threshold, ${low}` : `own thresholds, ${low} to ${high}`;
}

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
  const show = (told, value, figure) => {
    byId("threshold-value").textContent = told;
    slider.setAttribute("aria-valuetext", told);
    cursor.setAttribute("x1", chart.across.at(value));
    cursor.setAttribute("x2", chart.across.at(value));
    byId("threshold-figures").replaceChildren(...METERS.map((name) => make(
      "div", {}, make("dt", {}, name), make("dd", { id: `meter-${name}` }, percent(figure(name))),
    )));
  };
  const showRow = () => {
    const row = Number(slider.value);
    show(percent(table.threshold[row]), table.threshold[row], (name) => table[name][row]);
    byId("threshold-own").hidden = !page.own_thresholds.length;
  };
  const showOwn = () => {
    const middle = page.own_thresholds.reduce((sum, each) => sum + each, 0) / page.own_thresholds.length;
    slider.value = Math.max(0, table.threshold.findIndex((value) => value >= middle));
    show(ownThresholds(), middle, (name) => page.own[name]);
    byId("threshold-own").hidden = true;
  };
  slider.addEventListener("input", showRow);
  byId("threshold-own").addEventListener("click", showOwn);
  if (page.own_thresholds.length) showOwn();
  else showRow();
}
