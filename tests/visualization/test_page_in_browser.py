"""The page in a browser: what it counts, shows and lets be changed, against NumPy."""

from urllib.parse import urlencode

import numpy as np
import pytest

from srn_tf.evaluation.label_issues import LabelIssue
from srn_tf.evaluation.metrics import average_precisions, count_decisions, precision_recall_f1
from srn_tf.visualization import views
from tests.visualization.browser import ask, find_chromium
from tests.visualization.stand_ins import GRID, StandInPredictor, StandInSource, random_maps, random_regions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None, reason="no Chromium: none of chromium, chromium-browser, google-chrome, $CHROMIUM"
    ),
]

N, SHOWN, C = 120, 80, 4
NAMES = [
    "dog",
    "</script><img src=x onerror=document.body.dataset.harm=1>",
    "a, b & c",
    "never" * 20,
]  # the last has no room on a line
THRESHOLDS = np.array([0.5, 0.25, 0.6, 0.5])
STATE = "(window, document) => ({...document.body.dataset})"


@pytest.fixture(scope="module")
def answers():
    """Probabilities with two digits, and the truth."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (N, C)).astype(np.int8)
    labels[:, 3] = labels[0] = 0
    p = np.clip(0.3 * labels + 0.7 * random.random((N, C)), 0.01, 0.99)
    p[0, 0] = 0.5  # exactly a threshold, above which it is not
    return np.round(p, 2).astype(np.float32), labels


@pytest.fixture(scope="module")
def predictor(answers):
    return StandInPredictor(NAMES, answers[0], THRESHOLDS, random_maps(N, C))


@pytest.fixture(scope="module")
def page(answers, predictor, tmp_path_factory):
    names = [f"<img src=x onerror=document.body.dataset.harm=1> {i}" for i in range(N)]
    source = StandInSource(names, answers[1])
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(views.answers_page(predictor, source, "RUN/export/1", [0], SHOWN, "first"), encoding="utf-8")
    return path


STATES = [
    {},
    {"label": "dog"},
    {"threshold": "0.7", "label": "dog", "error": "missed"},
    {"threshold": "0.50", "label": "dog", "error": "false"},
    {"threshold": "0.3", "label": NAMES[1], "error": "false"},
    {"threshold": "0.07", "label": "a, b & c", "error": "right"},
    {"threshold": "0.56", "error": "wrong", "sort": "wrong"},
    {"threshold": "0.99", "error": "neither"},
    {"label": "dog", "error": "all", "min": "0.2", "max": "0.6", "sort": "low"},
    {"label": "dog", "error": "wrong", "sort": "wrong"},
    {"error": "right", "sort": "high"},
    {"label": NAMES[3]},
    {"label": "no such label", "threshold": "7", "error": "x", "sort": "y", "min": "z", "map": "!"},
]


def expected_state(state, probabilities, labels):
    """What the page must say of itself, by NumPy alone."""
    p, truth = probabilities.astype(np.float64), labels == 1
    chosen = NAMES.index(state["label"]) if state.get("label") in NAMES else None
    columns = slice(None) if chosen is None else slice(chosen, chosen + 1)
    threshold = min(float(state["threshold"]), 0.99) if "threshold" in state else THRESHOLDS
    predicted = p > threshold
    right, false, missed = predicted & truth, predicted & ~truth, ~predicted & truth
    r, f, m = (values[:SHOWN, columns].any(axis=1) for values in (right, false, missed))
    kinds = {
        "all": np.ones(SHOWN, bool),
        "present": r | f | m,
        "right": r & ~f & ~m,
        "missed": m,
        "false": f,
        "wrong": f | m,
        "neither": ~(r | f | m),
    }
    default = "all" if chosen is None else "present"
    error = state.get("error") if state.get("error") in kinds else default
    highest = p[:SHOWN, columns].max(axis=1)
    low, high = (
        float(state.get(name, end)) if state.get(name) != "z" else end for name, end in (("min", 0), ("max", 1))
    )
    wanted = np.flatnonzero(kinds[error] & (highest >= low) & (highest <= high))
    if chosen is None:
        wrongness = -np.log(np.where(truth, p, 1 - p)).sum(axis=1)[:SHOWN]
    else:
        wrongness = np.abs(truth - p)[:SHOWN, chosen]
    order = {"low": highest, "high": -highest, "wrong": -np.round(wrongness, 4)}.get(state.get("sort"), np.zeros(SHOWN))
    first = wanted[np.argsort(order[wanted], kind="stable")][:1]
    return {
        "right": right[:, columns].sum(),
        "false": false[:, columns].sum(),
        "missed": missed[:, columns].sum(),
        "positive": truth[:, columns].sum(),
        "images": len(wanted),
        "first": f"<img src=x onerror=document.body.dataset.harm=1> {first[0]}" if len(first) else "",
        "error": error,
        "threshold": f"{threshold:.2f}" if "threshold" in state else "exported",
        "label": "" if chosen is None else NAMES[chosen],
    }


def test_every_state_is_as_numpy_counts(page, answers):
    found = ask(page, map(urlencode, STATES), STATE)
    for state, shown in zip(STATES, found, strict=True):
        expected = {name: str(value) for name, value in expected_state(state, *answers).items()}
        assert {name: shown[name] for name in expected} == expected, state
        assert "harm" not in shown
        right, false, missed = (int(shown[name]) for name in ("right", "false", "missed"))
        precision = 100 * right / (right + false) if right + false else None
        recall = 100 * right / (right + missed) if right + missed else None
        for name, value in (("precision", precision), ("recall", recall)):
            assert (shown[name] == "") if value is None else float(shown[name]) == pytest.approx(value)


def test_ap_its_curve_and_the_mean_rates(page, answers):
    p, truth = answers[0], answers[1] == 1
    ap = 100 * average_precisions(p, truth)["voc_all_points"]
    one, other, never, whole = ask(
        page, [urlencode({"label": name}) for name in ("dog", "a, b & c", NAMES[3])] + ["threshold=0.40"], STATE
    )
    for shown, label in ((one, 0), (other, 2)):
        assert float(shown["ap"]) == pytest.approx(ap[label])
        assert float(shown["curveAp"]) == pytest.approx(ap[label], abs=1e-3)
    assert never["ap"] == never["curveAp"] == ""
    assert float(whole["ap"]) == pytest.approx(ap[:3].mean())
    rates = precision_recall_f1(count_decisions(p.astype(np.float64) > 0.4, truth))
    expected = [rates.p_o, rates.r_o, rates.f1_o, rates.p_c, rates.r_c, rates.f1_c]
    np.testing.assert_allclose(list(map(float, whole["rates"].split())), 100 * np.array(expected), atol=1e-3)


CARDS = """(window, document) => ({
  names: [...document.querySelectorAll(".card h3")].map((e) => e.textContent),
  chips: [...document.querySelectorAll(".card")].map((card) => [...card.querySelectorAll(".chips button")].map(
    (e) => [e.textContent, e.className, e.getAttribute("aria-pressed")])),
  sizes: [...document.querySelectorAll(".photo")].map((e) => e.clientWidth / e.clientHeight),
  canvases: [...document.querySelectorAll(".photo canvas")].map((e) => [
    e.width, e.height, e.clientWidth, e.clientHeight, window.getComputedStyle(e).imageRendering,
    ...e.getContext("2d").getImageData(0, 0, e.width, e.height).data]),
  images: document.querySelectorAll(".photo img").length,
  loaded: window.performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:")),
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
})"""


def test_cards(page, answers, predictor):
    shown, none, weighted = ask(page, ["", "map=none", "map=U&scale=own"], CARDS)
    assert shown["loaded"] == [] and shown["wide"] <= 0
    assert len(shown["names"]) == 60 and none["canvases"] == [] and none["images"] == 60
    np.testing.assert_allclose(shown["sizes"][:3], [2, 0.5, 1], rtol=0.03)  # 60 x 30, 30 x 60, 40 x 40
    p, truth = answers[0], answers[1] == 1
    predicted = p > THRESHOLDS
    for position, chips in enumerate(shown["chips"]):
        listed = np.flatnonzero(predicted[position] | truth[position])
        most = int(p[position].argmax())
        kinds = {
            (True, True): ("✓ ", "right"),
            (True, False): ("✗ ", "false"),
            (False, True): ("○ ", "missed"),
            (False, False): ("", "other"),
        }
        expected = []
        for label in sorted({*listed.tolist(), most}, key=lambda label: (-p[position, label], label)):
            sign, kind = kinds[bool(predicted[position, label]), bool(truth[position, label])]
            pressed = "true" if label == most else "false"
            expected.append([f"{sign}{NAMES[label]} {p[position, label]:.2f}", kind, pressed])
        assert chips == expected
    maps = random_maps(N, C)
    for cards, name, is_own in ((shown, "A", False), (weighted, "U", True)):
        width, height, shown_width, shown_height, rendering, *pixels = cards["canvases"][0]
        assert (
            (height, width) == GRID
            and rendering == "pixelated"
            and shown_width == pytest.approx(2 * shown_height, 0.03)
        )
        values = maps[name][0, ..., p[0].argmax()]
        opacity = np.reshape(pixels, (*GRID, 4))[..., 3]
        order = np.argsort(values.ravel())
        assert (np.diff(opacity.ravel()[order]) >= 0).all()
        assert opacity.max() == 217 if is_own else opacity.max() < 217  # 0.85 of 255: the end of the scale


def test_labels_that_may_be_wrong(predictor, answers, tmp_path):
    source = StandInSource([f"{i}.jpg" for i in range(N)], answers[1])
    issues = [LabelIssue("7.jpg", "dog", 0, 0.9, 0.1), LabelIssue("2.jpg", NAMES[2], 1, 0.2, 0.2)]
    issues += [LabelIssue("4.jpg", "dog", 1, 0.3, 0.3)]
    path = tmp_path / "page.html"
    path.write_text(views.answers_page(predictor, source, "M", [0], N, "first", issues), encoding="utf-8")
    every, of_dog, all_images = ask(path, ["", "label=dog", "error=all"], CARDS)
    assert (every["names"], of_dog["names"]) == (["7.jpg", "2.jpg", "4.jpg"], ["7.jpg", "4.jpg"])
    assert all_images["names"][:5] == ["7.jpg", "2.jpg", "4.jpg", "0.jpg", "1.jpg"]
    for chips, label in zip(every["chips"], ("dog", NAMES[2], "dog"), strict=True):
        marked = [(text, kind) for text, kind, _ in chips if kind.endswith(" issue")]
        assert len(marked) == 1 and marked == [tuple(chips[0][:2])]  # it comes first
        assert marked[0][0].startswith("⚠ ") and f" {label} " in marked[0][0]
    (state,) = ask(path, [""], STATE)
    assert (state["images"], state["error"]) == ("3", "issue")


def test_a_narrow_window_and_no_map_of_the_label(page):
    narrow, dog = ask(page, ["label=dog", urlencode({"label": NAMES[1], "error": "all"})], CARDS, width_px=400)
    assert narrow["wide"] <= 0 and dog["wide"] <= 0
    assert len(dog["canvases"]) < len(narrow["canvases"]) == len(narrow["names"])  # of dog, every map is kept


CHANGES = """(window, document) => {
  const $ = (id) => document.getElementById(id);
  const set = (id, value, event) => {
    $(id).value = value;
    $(id).dispatchEvent(new window.Event(event, { bubbles: true }));
  };
  const seen = {};
  const see = (name) => { seen[name] = { ...document.body.dataset }; };
  const rows = () => [...document.querySelectorAll("#per-label tbody tr")].map(
    (row) => [...row.children].map((cell) => cell.textContent));
  set("threshold", "70", "input"); see("threshold");
  set("label", "0", "change"); see("label");
  set("error", "missed", "input"); see("error");
  set("min", "0.6", "change"); see("min");
  seen.address = window.location.hash;
  $("exported").click(); see("exported");
  seen.unsorted = rows();
  document.querySelectorAll("#per-label th button")[2].click(); seen.byAp = rows();
  document.querySelectorAll("#per-label th button")[2].click(); seen.byApUp = rows();
  seen.sorting = [...document.querySelectorAll("#per-label th")].map((e) => e.getAttribute("aria-sort"));
  document.querySelectorAll("#per-label th button")[0].click(); seen.byName = rows();
  document.querySelectorAll("#per-label tbody button")[1].click(); see("fromTable");
  set("label", "-1", "change"); set("min", "0", "change"); set("error", "all", "input");
  seen.before = document.querySelectorAll(".card").length;
  $("more").click();
  seen.after = [document.querySelectorAll(".card").length, $("more").hidden];
  const card = () => document.querySelectorAll(".card")[1];
  const other = card().querySelector('[aria-pressed="false"]:not(:disabled)');
  seen.chip = other.textContent;
  other.click();
  seen.pressed = card().querySelector('[aria-pressed="true"]').textContent;
  seen.caption = card().querySelector("p").textContent;
  seen.focused = document.activeElement.textContent;
  return seen;
}"""


def test_changes_by_hand(page, answers):
    seen = ask(page, [""], CHANGES)[0]
    assert seen["address"] == "#label=dog&error=missed&threshold=0.70&min=0.6"
    steps = {
        "threshold": {"threshold": "0.7"},
        "label": {"threshold": "0.7", "label": "dog"},
        "error": {"threshold": "0.7", "label": "dog", "error": "missed"},
        "min": {"threshold": "0.7", "label": "dog", "error": "missed", "min": "0.6"},
        "exported": {"label": "dog", "error": "missed", "min": "0.6"},
    }
    for step, state in steps.items():
        expected = {name: str(value) for name, value in expected_state(state, *answers).items()}
        assert {name: seen[step][name] for name in expected} == expected, step
    p, truth = answers[0], answers[1] == 1
    ap = 100 * average_precisions(p, truth)["voc_all_points"]
    right, predicted, positive = (p > THRESHOLDS) & truth, p > THRESHOLDS, truth

    def row(label):
        r, d, t = (int(values[:, label].sum()) for values in (right, predicted, positive))
        rates = [f"{100 * r / d:.2f}" if d else "–", f"{100 * r / t:.2f}" if t else "–", f"{200 * r / (d + t):.2f}"]
        return [NAMES[label], str(t), "–" if t == 0 else f"{ap[label]:.2f}", str(r), str(d - r), str(t - r), *rates]

    assert seen["unsorted"] == [row(label) for label in range(C)]
    order = np.argsort(-ap[:3], kind="stable").tolist()
    assert seen["byAp"] == [row(label) for label in [*order, 3]]
    assert seen["byApUp"] == [row(label) for label in [*order[::-1], 3]]  # what is not known comes last
    assert seen["sorting"][2] == "ascending" and set(seen["sorting"][:2] + seen["sorting"][3:]) == {"none"}
    assert [cells[0] for cells in seen["byName"]][1:] == ["a, b & c", "dog", NAMES[3]]
    assert seen["fromTable"]["label"] == "a, b & c"
    assert seen["before"] == 60 and seen["after"] == [SHOWN, True]
    assert seen["pressed"] == seen["chip"] == seen["focused"]
    assert (
        seen["caption"]
        == f"attention A: {seen['chip'].removeprefix('✓').removeprefix('✗').removeprefix('○').strip()[:-5]}"
    )


def test_regions_are_drawn_over_the_photograph(answers, tmp_path):
    regions = random_regions(N, C)
    sees = StandInPredictor(NAMES, answers[0], THRESHOLDS, random_maps(N, C), regions)
    path = tmp_path / "page.html"
    path.write_text(views.answers_page(sees, StandInSource(["a"]), "M", [], 1, "first"), encoding="utf-8")
    question = """(window, document) => ({ options: [...document.getElementById("map").options].map((e) => e.value),
      caption: document.querySelector(".card p").textContent, canvases: document.querySelectorAll("canvas").length,
      texts: [...document.querySelectorAll(".photo text")].map((e) => e.textContent),
      photo: ["left", "top", "width", "height"].map((n) => document.querySelector("img").getBoundingClientRect()[n]),
      boxes: [...document.querySelectorAll(".photo rect")].map((e) => e.getBoundingClientRect().toJSON()) })"""
    maps, boxes, none = ask(path, ["", "map=found", "map=none"], question)
    assert maps["options"] == ["A", "U", "found", "none"] and maps["boxes"] == none["boxes"] == []
    label = int(answers[0][0].argmax())
    assert boxes["caption"] == f"proposals: {NAMES[label]}" and boxes["canvases"] == 0
    best = np.argsort(-regions["found"][0, :, label])[:5][::-1]  # the best on top
    assert boxes["texts"] == [f"{score:.2f}" for score in regions["found"][0, best, label]]
    left, top, width, height = boxes["photo"]
    drawn = [
        [
            (b["top"] - top) / height,
            (b["left"] - left) / width,
            (b["bottom"] - top) / height,
            (b["right"] - left) / width,
        ]
        for b in boxes["boxes"]
    ]
    np.testing.assert_allclose(drawn, regions["boxes"][0, best], atol=0.02)


def test_page_without_truth_or_maps(answers, tmp_path):
    plain = StandInPredictor(NAMES, answers[0], THRESHOLDS)
    path = tmp_path / "page.html"
    path.write_text(
        views.answers_page(plain, StandInSource([f"{i}" for i in range(N)]), "M", [], N, "first"), encoding="utf-8"
    )
    question = """(window, document) => ({ ...document.body.dataset, metrics: document.getElementById("metrics").hidden,
      canvases: document.querySelectorAll("canvas").length, chips: document.querySelector(".chips").textContent,
      options: [...document.getElementById("error").options].map((option) => option.value) })"""
    whole, dog = ask(path, ["", "label=dog&threshold=0.6"], question)
    assert whole["metrics"] and whole["canvases"] == 0 and int(whole["images"]) == N
    assert whole["options"] == ["all", "present", "neither"] and "right" not in whole
    assert int(dog["images"]) == (answers[0][:, 0].astype(np.float64) > 0.6).sum()
    assert "✓" in dog["chips"]
