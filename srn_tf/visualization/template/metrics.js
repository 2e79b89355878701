// The numbers over all images of the split, the curve, and the table of labels.

function ratio(part, whole) {
  return whole ? (100 * part) / whole : null;
}

function percent(value) {
  return value === null ? "–" : value.toFixed(2);
}

function countsOf(label) {
  const at = state.row * C;
  let [positive, predicted, right] = [0, 0, 0];
  for (const l of label === ALL ? data.labels.keys() : [label]) {
    positive += metrics.positive[l];
    predicted += counts.predicted[at + l];
    right += counts.right[at + l];
  }
  return { positive, predicted, right, false: predicted - right, missed: positive - right,
    precision: ratio(right, predicted), recall: ratio(right, positive), f1: ratio(2 * right, predicted + positive) };
}

function describe(attributes) {
  for (const [name, value] of Object.entries(attributes)) document.body.dataset[name] = value === null ? "" : value;
}

function drawNumbers() {
  const found = countsOf(state.label);
  const ap = state.label === ALL ? metrics.mAP : metrics.AP[state.label];
  const [precisionO, recallO, f1O, precisionC, recallC, f1C] = metrics.rates[state.row];
  const tiles = [
    ["right", found.right], ["false", found.false], ["missed", found.missed],
    ["precision %", percent(found.precision)], ["recall %", percent(found.recall)], ["F1 %", percent(found.f1)],
    [state.label === ALL ? "mAP %" : "AP %", percent(ap)],
  ];
  if (state.label === ALL) {
    const silent = data.labels.filter((_, label) => !counts.predicted[state.row * C + label]).length;
    const note = silent ? `, of which ${silent} never predicted count 100` : "";
    tiles.push([`P-C, mean over labels %${note}`, percent(precisionC)], ["R-C, mean over labels %", percent(recallC)],
      ["F1-C, mean over labels %", percent(f1C)]);
  }
  const name = state.label === ALL ? "All labels" : data.labels[state.label];
  $("metrics-title").textContent = `${name}, over all ${data.total} images`;
  const boxes = tiles.map(([text, value]) => make("div", {}, make("b", {}, `${value}`), make("span", {}, text)));
  $("numbers").replaceChildren(...boxes);
  describe({ ...found, ap, rates: [precisionO, recallO, f1O, precisionC, recallC, f1C].join(" ") });
}

function drawCurve() {
  const [left, top, side, high] = [46, 10, 300, 220];
  const x = (recall) => left + side * recall;
  const y = (precision) => top + high * (1 - precision);
  const svg = make("svg", { viewBox: `0 0 ${left + side + 14} ${top + high + 40}`, role: "img" });
  for (const mark of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      make("line", { class: "grid", x1: x(mark), x2: x(mark), y1: y(0), y2: y(1) }),
      make("line", { class: "grid", x1: x(0), x2: x(1), y1: y(mark), y2: y(mark) }),
      make("text", { x: x(mark), y: y(0) + 16, "text-anchor": "middle" }, `${100 * mark}`),
      make("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, `${100 * mark}`),
    );
  }
  svg.append(make("text", { x: x(0.5), y: y(0) + 34, "text-anchor": "middle" }, "recall, percent"),
    make("text", { x: -y(0.5), y: 12, transform: "rotate(-90)", "text-anchor": "middle" }, "precision, percent"));
  let [text, area] = ["", null];
  if (state.label === ALL) {
    const points = metrics.rates.slice(1).map(([precision, recall]) => `${x(recall / 100)} ${y(precision / 100)}`);
    svg.append(make("path", { class: "line", d: `M ${points.join(" L ")}` }));
    text = "All labels together, at thresholds from 0.01 to 0.99. Choose a label to see the curve behind its AP.";
  } else if (metrics.curves[state.label].length) {
    let [path, before] = ["", 0];
    area = 0;
    for (const [recall, precision] of metrics.curves[state.label]) {
      path += ` L ${x(before)} ${y(precision)} L ${x(recall)} ${y(precision)}`;
      area += 100 * (recall - before) * precision;
      before = recall;
    }
    const outline = `M${path.slice(2)}`;
    svg.append(make("path", { class: "area", d: `${outline} L ${x(before)} ${y(0)} L ${x(0)} ${y(0)} Z` }),
      make("path", { class: "line", d: outline }));
    text = `The area under this interpolated curve is the AP: ${percent(area)} %.`;
  } else {
    text = "No image has this label, so it has no curve and no AP.";
  }
  const found = countsOf(state.label);
  if (found.precision !== null && found.recall !== null) {
    svg.append(make("circle", { class: "here", r: 5, cx: x(found.recall / 100), cy: y(found.precision / 100) }));
    text += " The dot marks precision and recall at the threshold.";
  }
  svg.setAttribute("aria-label", text);
  $("curve").replaceChildren(svg);
  $("curve-text").textContent = text;
  describe({ curveAp: area });
}

function drawTable() {
  const columns = ["label", "images", "AP %", "right", "false", "missed", "precision %", "recall %", "F1 %"];
  const heads = columns.map((name, column) => {
    const isChosen = tableOrder.column === column;
    const button = make("button", { type: "button" }, name + (isChosen ? (tableOrder.down ? " ↓" : " ↑") : ""));
    button.addEventListener("click", () => {
      tableOrder = { column, down: isChosen ? !tableOrder.down : column > 0 };
      drawTable();
      $("per-label").querySelectorAll("th button")[column].focus();
    });
    return make("th", { "aria-sort": isChosen ? (tableOrder.down ? "descending" : "ascending") : "none" }, button);
  });
  const rows = data.labels.map((name, label) => {
    const found = countsOf(label);
    return { label, cells: [name, found.positive, metrics.AP[label], found.right, found.false, found.missed,
      found.precision, found.recall, found.f1] };
  });
  if (tableOrder.column !== null) {
    const sign = tableOrder.down ? -1 : 1;
    rows.sort(({ cells: one }, { cells: other }) => {
      const [a, b] = [one[tableOrder.column], other[tableOrder.column]];
      if (a === null || b === null) return (a === null) - (b === null); // unknown values last
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
  }
  const lines = rows.map(({ label, cells }) => {
    const choose = make("button", { type: "button", title: cells[0] }, cells[0]);
    choose.addEventListener("click", () => chooseLabel(label));
    const isRate = (column) => column === 2 || column > 5;
    const rest = cells.slice(1).map((v, i) => make("td", {}, isRate(i + 1) ? percent(v) : `${v}`));
    return make("tr", label === state.label ? { class: "chosen" } : {}, make("td", {}, choose), ...rest);
  });
  $("per-label").querySelector("thead").replaceChildren(make("tr", {}, ...heads));
  $("per-label").querySelector("tbody").replaceChildren(...lines);
}
