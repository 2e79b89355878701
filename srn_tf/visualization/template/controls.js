// The controls, and the start of the page.

function fillControls() {
  const options = (items) => items.map(([value, text]) => make("option", { value }, text));
  $("label").replaceChildren(...options([[ALL, "all labels"], ...data.labels.entries()]));
  $("error").replaceChildren(...options(ERRORS));
  $("sort").replaceChildren(...options(SORTS));
  $("map").replaceChildren(...options([...MAPS, ["none", "no map"]]));
  $("summary").textContent = data.summary;
  $("metrics").hidden = !metrics;
  if (metrics) $("definition").textContent = metrics.definition;
  document.querySelectorAll(".maps").forEach((element) => (element.hidden = !data.maps.length));
  $("map").parentElement.hidden = !MAPS.length;
  drawKey();
}

function showState() {
  $("label").value = state.label;
  for (const name of ["error", "sort", "map", "scale", "min", "max"]) $(name).value = state[name];
  const isExported = state.row === EXPORTED;
  const ofExport = state.label === ALL ? data.thresholds : [data.thresholds[state.label]];
  const [low, high] = [Math.min(...ofExport), Math.max(...ofExport)];
  const said = low === high ? low.toFixed(2) : `${low.toFixed(2)} to ${high.toFixed(2)}`;
  $("threshold").value = isExported ? Math.round(100 * low) : state.row;
  $("threshold-text").textContent = isExported ? `${said}, as exported` : (state.row / 100).toFixed(2);
  $("exported").disabled = isExported;
  const top = state.scale === "one" ? `${(100 * data.highest).toPrecision(3)} % in one cell` : "the highest value of each map";
  $("heat-text").textContent = `0 to ${top}`;
  describe({ label: state.label === ALL ? "" : data.labels[state.label], error: state.error,
    threshold: isExported ? "exported" : (state.row / 100).toFixed(2) });
}

function draw() {
  showState();
  if (metrics) {
    drawNumbers();
    drawCurve();
    drawTable();
  }
  drawGallery();
}

function change(name, value) {
  state[name] = value;
  limit = PAGE;
  draw();
}

function chooseLabel(label) {
  const wasDefault = state.error === defaultError(state.label);
  state.label = label;
  ownLabel.clear();
  if (wasDefault) state.error = defaultError(label);
  change("label", label);
  writeAddress();
}

function listen() {
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("label").addEventListener("change", (event) => chooseLabel(Number(event.target.value)));
  for (const name of ["error", "sort", "map", "scale"]) {
    $(name).addEventListener("input", (event) => change(name, event.target.value));
  }
  for (const [name, fallback] of [["min", 0], ["max", 1]]) {
    $(name).addEventListener("change", ({ target }) => change(name, target.value === "" ? fallback : Number(target.value)));
  }
  $("threshold").addEventListener("input", (event) => change("row", Number(event.target.value)));
  $("exported").addEventListener("click", () => change("row", EXPORTED));
  $("controls").addEventListener("change", writeAddress);
  $("exported").addEventListener("click", writeAddress);
  $("more").addEventListener("click", () => {
    const first = limit;
    limit += PAGE;
    drawGallery();
    $("gallery").children[first]?.querySelector("button")?.focus();
  });
  window.addEventListener("hashchange", () => {
    readAddress();
    draw();
  });
}

fillControls();
readAddress();
listen();
draw();
