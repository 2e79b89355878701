"""Asks an exported model for predictions. Needs TensorFlow and the folder, no model code."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from srn_tf.choices import ENGINES, TTA
from srn_tf.data.views import Views
from srn_tf.errors import InputError
from srn_tf.labels import known_states, label_index
from srn_tf.models.model import Map, Regions
from srn_tf.program import command, tool
from srn_tf.runs.work_dir import WorkDir, versions_in
from srn_tf.serving.engines import EXPECTED, EXTRA, open_engine
from srn_tf.serving.images import refusal, to_image_files
from srn_tf.serving.model_server import ModelServerEngine
from srn_tf.serving.signatures import file_reader

DESCRIPTION = os.path.join(EXTRA, "export.json")
"""Where an export describes itself, below its folder."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a model gave one label of one image the probability it did.

    Attributes:
        label: its name.
        probability: float in [0, 1], of the final answer.
        threshold: float in (0, 1).
        predicted: whether the probability exceeds it.
        maps: name -> float32 (H, W) over the grid of the network, row 0 at the top of the image: those of the model's
            maps, such as A (attention, sums to 1) and U (A * sigmoid(S)), and what else it has, such as S (confidence).
        regions: name -> (boxes float32 (R, 4), scores float32 (R,)) of each of the model's regions, the highest score
            first; a box is ymin, xmin, ymax, xmax in fractions of the image.
        logits: name -> float, the label's logit in every output.
    """

    label: str
    probability: float
    threshold: float
    predicted: bool
    maps: dict
    regions: dict
    logits: dict


class Predictor:
    """An export of `export.export`, loaded.

    Images are given as a list of N, each of them a path, the bytes of an image file, a uint8 (H, W, 3) array in RGB or
    a PIL image, of any sizes; see `images.to_image_files`. All of them are held in memory at once, so many images are
    better given in batches. No images give empty answers.

    Args:
        saved_model_dir: the folder of one version, e.g. RUN/export/1.
        engine: one of `choices.ENGINES`, what computes the answers. All but TensorFlow need a file of their own in the
            export, and packages; they give probabilities alone. How far these are off stands in export.json.
        tta: one of `choices.TTA`. Answers are then the mean probability over the views of an image, see
            `data.views.Views`, which are asked about one after the other.
        server: keyword arguments of `model_server.ModelServerEngine` from `server` on, or None: OpenVINO Model Server
            computes the answers, and `engine` must be its default.

    Attributes:
        labels: list of C str, the label names in order.
        thresholds: float64 (C,), in (0, 1).
        image_size: side of the square the network sees, pixels.
        square_px: side of the square that an image is resized to, from which views are cut, pixels.
        maps: list of models.model.Map, what `explain` gives of each label as a map; empty if the model has none.
        regions: list of models.model.Regions, what `explain` gives of each label as boxes with scores; likewise.
        trained_on: str, fingerprint of the data set it was trained on, None where that is not recorded.
        training_positives: list of C int, training images with each label, None likewise.

    Raises:
        InputError: the folder is missing, holds no SavedModel, a damaged one or one of another project; the engine
            cannot be had; or both an engine and a server are given.
    """

    def __init__(self, saved_model_dir, engine=ENGINES[0], tta=TTA[0], server=None):
        self._path = os.fspath(saved_model_dir)
        if server is not None and engine != ENGINES[0]:
            raise InputError(
                f"engine says what computes the answers here. Received: engine={engine!r} with a server, which has its "
                "own engine. Remove one of them."
            )
        _check_folder(self._path)
        self._engine = open_engine(engine, self._path) if server is None else None
        described = _read_description(self._path)
        self.labels, self.thresholds, self.image_size, self.maps, self.regions, run = described
        self.trained_on, self.training_positives = run.get("fingerprint"), run.get("training_positives")
        self._tta, self._views = tta, Views(tta, self.image_size)
        self.square_px = self._views.square_px
        if server is not None:
            self._engine = ModelServerEngine(self._path, len(self.labels), **server)

    @functools.cached_property
    def identity(self):
        """str, a digest of graph, weights, a server's version and tta: another model or thresholds have another."""
        digest = hashlib.sha256()
        for path in self._engine.files:
            digest.update(path.read_bytes())
        digest.update(self._engine.served.encode())
        if self._tta != TTA[0]:
            digest.update(self._tta.encode())
        return digest.hexdigest()

    def answer(self, images, known=None):
        """Gives every label's probability in every image, and what it decides.

        Args:
            images: list of N, see the class.
            known: what is known of the images already, a dict such as {"dog": 1, "cat": 0}, 1 for a label that is in
                them, 0 for one that is not; or a list of N such dicts. The other labels are answered in view of it, and
                these as given. None: nothing.
        Returns:
            dict: "probabilities" float32 (N, C), in [0, 1]; "predicted" bool (N, C), whether they exceed `thresholds`.
        Raises:
            InputError: an image of another kind, too large, or one that cannot be read or decoded; known labels that
                the model does not have or cannot use.
        """
        if known is None:
            return self._ask("serving_default", images)
        images = list(images)
        if isinstance(known, Mapping):
            states = np.tile(known_states(known, self.labels), [len(images), 1])
        elif len(known) == len(images):
            states = np.reshape([known_states(one, self.labels) for one in known], [-1, len(self.labels)])
        else:
            raise InputError(
                f"known must be a dict, or a list of one per image. Received: {len(known)} for {len(images)} images."
            )
        rule = "Only a model that was trained with known labels can use them"
        return self._ask("serve_known", images, rule, "Use a C-Tran (--model=c_tran)", states)

    def predict(self, images, known=None):
        """Gives the probabilities of `answer` alone: float32 (N, C)."""
        return self.answer(images, known)["probabilities"]

    def predict_labels(self, images, known=None):
        """Names the predicted labels of every image: list of N lists of str, in the order of `labels`."""
        predicted = self.answer(images, known)["predicted"]
        return [[self.labels[label] for label in np.flatnonzero(row)] for row in predicted]

    def explain(self, image, label):
        """Says what one label's probability in one image came of.

        Args:
            image: one image, see the class.
            label: one of `labels`.
        Returns:
            Explanation.
        Raises:
            InputError: as `answer`; no such label; or the model has nothing that explains its answer.
        """
        index = label_index(label, self.labels)
        answer = self.explain_batch([image])
        regions = {one.name: one.of_label(answer, 0, index) for one in self.regions}
        of_regions = {name for one in self.regions for name in one.outputs}
        row = {name: values[0, ..., index] for name, values in answer.items() if name not in of_regions}
        probability, predicted = row.pop("probabilities"), row.pop("predicted")
        return Explanation(
            label=label,
            probability=float(probability),
            threshold=float(self.thresholds[index]),
            predicted=bool(predicted),
            maps={name: values for name, values in row.items() if values.ndim == 2},
            regions=regions,
            logits={name: float(value) for name, value in row.items() if value.ndim == 0},
        )

    def explain_batch(self, images):
        """Gives the answers together with all that led to them.

        Args:
            images: list of N, see the class.
        Returns:
            dict: "probabilities" and "predicted" as `answer`; and what the model names, the last axis being the
            labels: maps (N, H, W, C) such as A (attention, sums to 1 over the grid), S (confidence, logits) and U
            (A * sigmoid(S)); and logits (N, C) such as y_hat, y_cls, y_att and y_sr; and the two outputs of each of
            `regions`. All float32 but "predicted".
        Raises:
            InputError: as `answer`, or the model has nothing that explains its answer.
        """
        return self._ask("explain", images, "Only a model with maps or regions can explain its answers", "Use an SRN")

    def embed(self, images):
        """Gives the pooled features of the main net, by which images can be compared.

        Args:
            images: list of N, see the class.
        Returns:
            float32 (N, D).
        Raises:
            InputError: as `answer`, or the model gives no features.
        """
        return self._ask("embed", images, "Only a model that was exported with features can embed", "Export it again")[
            "embedding"
        ]

    def _ask(self, name, images, rule="", remedy="", known=None):
        """Asks the engine for a signature; returns its outputs as arrays, without the label names."""
        if name not in self._engine.signatures:
            raise InputError(f"{rule}. Received: {self._path}, {self._engine.lacking(name, remedy)}")
        has_views = self._tta != TTA[0]
        if has_views and name != "serving_default":
            call = "known labels" if name == "serve_known" else f"a call for {name}"
            raise InputError(
                "tta averages plain answers, not those with known labels, maps or embeddings. Received: "
                f"tta={self._tta!r} with {call}. Leave one of them out."
            )
        files = to_image_files(images)
        try:
            has_views = has_views and files
            answer = self._ask_views(files) if has_views else self._engine.ask(name, files, known)
        except tf.errors.InvalidArgumentError as error:
            raise self._find_refused(files, error) from error
        if "probabilities" in answer:
            answer.setdefault("predicted", answer["probabilities"] > self.thresholds)
        return answer

    @functools.cached_property
    def _read_squares(self):
        """Function, files -> uint8 (N, R, R, 3), the squares that views are cut from."""
        read = file_reader(self.square_px)
        return lambda files: tf.cast(self._views.rounded(read(tf.constant(files))), tf.uint8)

    def _ask_views(self, files):
        """The mean of the probabilities over all views of each file."""
        squares = self._read_squares(files)
        views = (self._views.cut(squares, index).numpy() for index in range(self._views.count))
        return {"probabilities": sum(self._engine.ask_pixels(view) for view in views) / np.float32(self._views.count)}

    def _find_refused(self, files, error):
        """Says which is the first image that has no answer, and why: ImageError."""
        for position, file in enumerate(files):
            try:
                self._engine.ask("serving_default", [file])
            except tf.errors.InvalidArgumentError as own_error:
                return refusal(position, len(files), own_error.message)
        return refusal("?", len(files), error.message)


def _check_folder(path):
    """Raises InputError for a folder without a SavedModel."""
    if not os.path.isdir(path):
        raise InputError(
            f"{EXPECTED} Received: {path}, which is not a folder. Check the path, or make one with {tool('export')}."
        )
    if not tf.saved_model.contains_saved_model(path):
        raise InputError(f"{EXPECTED} Received: {path}, {_what_lies_in(path)}")


def _what_lies_in(path):
    """What a folder is that is no SavedModel, and what to give in its place, as the end of a sentence."""
    for base in (path, os.path.join(path, "export")):
        versions = versions_in(base)
        if versions:
            return f"a folder of versions. Give one of them; the newest is {os.path.join(base, str(versions[-1]))}."
    if os.path.isfile(WorkDir(path).run):
        return f"a run without an export. Make one: {command('export')} --work_dir={path}"
    return "which has no saved_model.pb. Check the path."


def _read_description(path):
    """Reads what an export says of itself, see `Predictor`'s attributes; InputError if it is not there."""
    try:
        with open(os.path.join(path, DESCRIPTION), encoding="utf-8") as file:
            description = json.load(file)
        labels = [str(label) for label in description["labels"]]
        thresholds = np.broadcast_to(np.float64(description["thresholds"]), [len(labels)])
        maps = [Map(**{**a_map, "range": tuple(a_map["range"])}) for a_map in description["maps"]]
        regions = [Regions(**regions) for regions in description["regions"]]
        run = dict(description["run"])
        if run.get("training_positives") is not None:
            np.array(run["training_positives"], np.int64).reshape([len(labels)])  # ValueError: not one per label
        return labels, thresholds, int(description["image_size"]), maps, regions, run
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{EXPECTED} Received: {path}, whose {DESCRIPTION} is unusable ({type(error).__name__}: {error}). Copy "
            "the whole folder, or export the run again."
        ) from error
