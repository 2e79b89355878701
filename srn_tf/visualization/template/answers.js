"use strict";
// The page of one set of answers. Text from users goes through textContent or attributes, never through innerHTML.

const data = JSON.parse(document.getElementById("data").textContent);
const C = data.labels.length;
const ALL = -1; // all labels
const EXPORTED = 0; // row of the counts at the thresholds of the export; row k is at k / 100
const PAGE = 60; // cards added at a time
const CHIPS = 12; // labels listed in a card
const metrics = data.metrics;
const probabilities = numbers(data.probabilities, Float32Array); // (images, C)
const predictedByExport = numbers(data.predicted, Uint8Array);
const truth = data.truth && numbers(data.truth, Uint8Array); // 1 true, 0 not, 2 not known
const palette = numbers(data.palette, Uint8Array); // (256, 4), by the square root of a map's value
const counts = metrics && {
  right: numbers(metrics.right, Int32Array), // (1 + 99, C)
  predicted: numbers(metrics.predicted, Int32Array),
};
const KINDS = {
  right: ["✓", "right: predicted and true"],
  false: ["✗", "false: predicted but not true"],
  missed: ["○", "missed: true but not predicted"],
  unknown: ["?", "predicted, truth unknown"],
  predicted: ["✓", "predicted"],
  other: ["", "neither true nor predicted"],
};
const ISSUE = "⚠"; // before a label that may be wrong
const ISSUES = data.has_issues ? [["issue", "label may be wrong"]] : [];
const ERRORS = truth
  ? [...ISSUES, ["all", "all"], ["present", "true or predicted"], ["right", "right"], ["missed", "missed"],
     ["false", "false"], ["wrong", "missed or false"], ["neither", "neither true nor predicted"]]
  : [["all", "all"], ["present", "predicted"], ["neither", "not predicted"]];
const SORTS = [...(data.has_issues ? [["issue", "likeliest error first"]] : []), ["position", "stored order"], ...(truth ? [["wrong", "most wrong first"]] : []),
  ["high", "highest probability first"], ["low", "lowest probability first"]];
const MAPS = [...data.maps, ...data.regions].map(({ name, title }) => [name, title]); // what is drawn over photographs
const state = {};
const ownLabel = new Map(); // image -> label chosen in its card
let limit = PAGE;
let tableOrder = { column: null, down: true };

function numbers(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(bytes.buffer);
}

function $(id) {
  return document.getElementById(id);
}

function make(tag, attributes = {}, ...children) {
  const isDrawing = ["svg", "path", "line", "circle", "rect", "text"].includes(tag);
  const element = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Reading the state from the address, and writing it there.

function defaultError(label) {
  if (data.has_issues) return "issue";
  return label === ALL ? "all" : "present";
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const oneOf = (name, values) => (values.includes(given.get(name)) ? given.get(name) : null);
  const number = (name, fallback) => (given.get(name) && isFinite(given.get(name)) ? Number(given.get(name)) : fallback);
  state.label = given.has("label") ? data.labels.indexOf(given.get("label")) : ALL;
  state.error = oneOf("error", ERRORS.map(([name]) => name)) || defaultError(state.label);
  const row = Math.round(100 * number("threshold", 0));
  state.row = row === 0 ? EXPORTED : Math.min(Math.max(row, 1), 99);
  state.min = number("min", 0);
  state.max = number("max", 1);
  state.sort = oneOf("sort", SORTS.map(([name]) => name)) || SORTS[0][0];
  state.map = oneOf("map", [...MAPS.map(([name]) => name), "none"]) || MAPS[0]?.[0] || "none";
  state.scale = oneOf("scale", ["one", "own"]) || "one";
}

function writeAddress() {
  const said = new URLSearchParams();
  if (state.label !== ALL) said.set("label", data.labels[state.label]);
  if (state.error !== defaultError(state.label)) said.set("error", state.error);
  if (state.row !== EXPORTED) said.set("threshold", (state.row / 100).toFixed(2));
  if (state.min !== 0) said.set("min", state.min);
  if (state.max !== 1) said.set("max", state.max);
  for (const [name, first] of [["sort", SORTS[0][0]], ["map", MAPS[0]?.[0]], ["scale", "one"]]) {
    if (state[name] !== first) said.set(name, state[name]);
  }
  location.replace(`#${said}`);
}

// Decisions.

function isPredicted(image, label) {
  const place = image * C + label;
  return state.row === EXPORTED ? predictedByExport[place] === 1 : probabilities[place] > state.row / 100;
}

function kind(image, label) {
  const predicted = isPredicted(image, label);
  if (!truth) return predicted ? "predicted" : "other";
  const value = truth[image * C + label];
  if (value === 1) return predicted ? "right" : "missed";
  if (!predicted) return "other";
  return value === 2 ? "unknown" : "false";
}

function isError(name) {
  return name === "missed" || name === "false" || (name === "unknown" && data.unknown_is_false);
}

function probability(image) {
  if (state.label !== ALL) return probabilities[image * C + state.label];
  let highest = 0;
  for (let label = 0; label < C; label++) highest = Math.max(highest, probabilities[image * C + label]);
  return highest;
}

function wrongness(image) {
  if (state.label === ALL) return data.images[image].wrongness;
  const place = image * C + state.label;
  if (truth[place] === 2) return 0;
  return Math.abs((truth[place] === 1 ? 1 : 0) - probabilities[place]);
}

function issueScore(image, label) { // the lower, the likelier it is wrong; Infinity: nothing says that it is
  const scores = (data.images[image].issues || []).filter(([of]) => label === ALL || of === label);
  return Math.min(Infinity, ...scores.map(([, score]) => score));
}

function isWanted(image) {
  const p = probability(image);
  if (p < state.min || p > state.max) return false;
  if (state.error === "all") return true;
  if (state.error === "issue") return issueScore(image, state.label) < Infinity;
  const labels = state.label === ALL ? data.labels.keys() : [state.label];
  const kinds = Array.from(labels, (label) => kind(image, label));
  switch (state.error) {
    case "present": return kinds.some((name) => name !== "other");
    case "neither": return kinds.every((name) => name === "other");
    case "right": return kinds.some((name) => name === "right") && !kinds.some(isError);
    case "missed": return kinds.includes("missed");
    case "false": return kinds.some((name) => name !== "missed" && isError(name));
    default: return kinds.some(isError);
  }
}

function wantedImages() {
  const order = {
    issue: (image) => Math.min(issueScore(image, state.label), 2), // above every score
    position: (image) => image,
    wrong: (image) => -wrongness(image),
    high: (image) => -probability(image),
    low: (image) => probability(image),
  }[state.sort];
  const keyed = [...data.images.keys()].filter(isWanted).map((image) => [order(image), image]);
  return keyed.sort((one, other) => one[0] - other[0] || one[1] - other[1]).map(([, image]) => image);
}
