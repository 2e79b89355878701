// The cards: photograph, map or regions over it, labels.

const MAPS_TEXT = [...[...data.maps, ...data.regions].map(({ meaning }) => meaning),
  "Click a label in a card to see its map. Point at a photograph to hide the map."].join(" ");

function mapLabel(image) {
  const kept = data.images[image].labels;
  if (ownLabel.has(image)) return ownLabel.get(image);
  if (state.label !== ALL) return kept.includes(state.label) ? state.label : null;
  return kept.reduce((best, l) => (best === null || p(image, l) > p(image, best) ? l : best), null);
}

function p(image, label) {
  return probabilities[image * C + label];
}

function drawMap(canvas, image, label) {
  const number = data.maps.findIndex(({ name }) => name === state.map);
  const { grid: [H, W], lowest } = data.maps[number];
  const { labels, highest: ofMaps, maps } = data.images[image];
  const highest = ofMaps[number];
  const which = labels.indexOf(label);
  const values = numbers(maps[number], Uint8Array).subarray(which * H * W, (which + 1) * H * W);
  const step = highest[which] / 255;
  const top = state.scale === "one" ? data.highest : highest[which] || 1;
  const shadeOf = (value) => Math.min(255, Math.round(255 * Math.sqrt(Math.max(value, 0))));
  const pixels = new ImageData(W, H);
  values.forEach((value, cell) => {
    const [colour, opacity] = [(value * step) / top, (value * step - lowest) / (top - lowest || 1)].map(shadeOf);
    pixels.data.set(palette.subarray(4 * colour, 4 * colour + 3), 4 * cell);
    pixels.data[4 * cell + 3] = palette[4 * opacity + 3];
  });
  canvas.width = W;
  canvas.height = H;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function drawRegions(image, label) {
  const number = data.regions.findIndex(({ name }) => name === state.map);
  const { labels, regions, width, height } = data.images[image];
  const letters = Math.max(width, height) / 12;
  const boxes = regions[number][labels.indexOf(label)].slice().reverse(); // the best on top
  return make("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...boxes.flatMap(
    ([top, left, bottom, right, score], place) => {
      const strength = { opacity: `${1 - (boxes.length - 1 - place) / (boxes.length + 1)}` };
      const [x, y] = [left * width, top * height];
      const box = { x, y, width: right * width - x, height: bottom * height - y, ...strength };
      return [make("rect", box), make("text", { x: x + letters / 4, y: y + letters, "font-size": letters,
        "stroke-width": letters / 4, ...strength }, score.toFixed(2))];
    }));
}

function makeCard(image) {
  const { name, photo, width, height, labels: kept } = data.images[image];
  const picture = make("img", { src: `data:image/jpeg;base64,${photo}`, alt: name });
  if (Math.max(width, height) < 100) picture.className = "small";
  const frame = make("div", { class: "photo" }, picture);
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.maxWidth = `${(15 * width) / height}rem`;
  const shown = state.map === "none" ? null : mapLabel(image);
  let caption = "";
  if (shown !== null) {
    if (data.maps.some(({ name }) => name === state.map)) {
      const canvas = make("canvas", { "aria-hidden": "true" });
      drawMap(canvas, image, shown);
      frame.append(canvas);
    } else {
      frame.append(drawRegions(image, shown));
    }
    caption = `${MAPS.find(([name]) => name === state.map)[1]}: ${data.labels[shown]}`;
  } else if (state.map !== "none") {
    caption = `This page keeps no map of ${data.labels[state.label]} for this image.`;
  }
  const mayBeWrong = (label) => issueScore(image, label) < Infinity;
  const listed = [...data.labels.keys()].filter(
    (label) => kind(image, label) !== "other" || label === state.label || label === shown || mayBeWrong(label));
  listed.sort((one, other) => mayBeWrong(other) - mayBeWrong(one) || p(image, other) - p(image, one));
  const chips = listed.slice(0, CHIPS).map((label) => {
    const name = kind(image, label);
    const [sign, meaning] = mayBeWrong(label) ? [`${ISSUE} ${KINDS[name][0]}`, `${KINDS[name][1]}; may be wrong`] : KINDS[name];
    const text = `${sign.trim()} ${data.labels[label]} ${p(image, label).toFixed(2)}`.trim();
    const chip = make("button", { type: "button", class: mayBeWrong(label) ? `${name} issue` : name, title: meaning,
      "aria-pressed": `${label === shown}` }, text);
    chip.disabled = !kept.includes(label);
    chip.addEventListener("click", () => {
      ownLabel.set(image, label);
      const card = makeCard(image);
      chip.closest(".card").replaceWith(card);
      card.querySelector('[aria-pressed="true"]')?.focus();
    });
    return chip;
  });
  if (listed.length > CHIPS) chips.push(make("span", {}, `and ${listed.length - CHIPS} more`));
  return make("article", { class: "card" }, frame, make("h3", {}, name), make("p", {}, caption),
    make("div", { class: "chips" }, ...chips));
}

function drawGallery() {
  const wanted = wantedImages();
  const some = data.images.length < data.total ? `the ${data.images.length} images in this page` : `${data.total} images`;
  $("gallery-title").textContent = `${wanted.length} of ${some}`;
  $("gallery").replaceChildren(...wanted.slice(0, limit).map(makeCard));
  $("more").hidden = wanted.length <= limit;
  describe({ images: wanted.length, first: wanted.length ? data.images[wanted[0]].name : "" });
}

function drawKey() {
  const names = truth ? ["right", "false", "missed", ...(truth.includes(2) ? ["unknown"] : [])] : ["predicted"];
  const parts = names.map((name) => make("span", { class: name }, KINDS[name].join(" ")));
  if (data.has_issues) parts.push(make("span", { class: "issue" }, `${ISSUE} truth may be wrong`));
  if (MAPS.length) parts.push(make("span", { class: "text" }, MAPS_TEXT));
  $("key").replaceChildren(...parts);
  const shades = Array.from({ length: 16 }, (_, i) => {
    const [r, g, b, a] = palette.subarray(4 * 17 * i, 4 * 17 * i + 4);
    return `rgb(${r} ${g} ${b} / ${a / 255})`;
  });
  $("gradient").style.background = `linear-gradient(to right, ${shades.join(", ")}), #a0a0a0`;
}
