"""The tensorflow-datasets builder that all data sets with a downloaded source share.

A subclass reads its layout into a `source.Source`. From there the way is the same for all, on one machine or on
Apache Beam: photographs in mixed order, cut into shards; every shard reads its plan, opens its photographs,
writes records and a report; the reports are judged (`audit`), and only then is the data set there.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from srn_tf.data import examples
from srn_tf.data.audit import Audit, AuditStop
from srn_tf.data.shards import RemoteShard, Shard, in_order, plan_shards, watching
from srn_tf.data.source import option_file
from srn_tf.data.source_files import truth_digest, write_stamps
from srn_tf.data.workers import parallel_map
from srn_tf.errors import InputError
from srn_tf.program import command

_WHOLE_SHARE = 0.11
"""Share of a train split that store_size leaves alone where runs hold their validation images out of it: the tenth that
they take by default, and something for damaged images."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a preparation runs; nothing of it changes the records.

    Attributes:
        processes: worker processes; 0 takes one per CPU, 1 works without any.
        max_rejected: share of the images, 0 to 1, that may be damaged.
        allow_overlap: keep images that are in two splits.
        fail_on_mismatch: stop at anything that would be a warning.
    """

    processes: int = 0
    max_rejected: float = 0.001
    allow_overlap: bool = False
    fail_on_mismatch: bool = False


def not_prepared(builder, has_source):
    """What to raise for a data set that must be there: InputError with the command that prepares it.

    Args:
        builder: tfds.core.DatasetBuilder.
        has_source: whether it is made from a download.
    """
    source = f" {builder.SOURCE_FLAGS}" if has_source else ""
    return InputError(
        f"Data set {builder.name} must be prepared in {builder.data_dir_root}. Received: no {builder.data_dir}. "
        f"Prepare it: {command('prepare_data')} --dataset={builder.name}{source} --data_dir={builder.data_dir_root}"
    )


class SourceBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Builds records from a downloaded source; see the subclasses.

    The order of the records is that of a hash of the photographs' paths: mixed, and the same every time.

    The option store_size resizes training images only. What is evaluated on keeps its pixels, since a served model gets
    them, too: the splits `test` and `validation`, or the beginning of `train`, from which a run cuts its validation
    images where there is no such split.

    Class attributes of a subclass:
        DESCRIPTION, CITATION, HOMEPAGE: str.
        OPTIONS: dict, option name -> default; all options that change the records, without those every data set has.
        FILE_OPTIONS: names of those options that are paths of the user's own files, "" for none.
        SOURCE_FLAGS: str, flags of tools/prepare_data.py that name the source, in messages.
        LABELS: C names, or None where only the source has them.
        read: static method (source_dir, options) -> source.Source; reads and checks everything but the images.

    Args:
        data_dir: folder that holds prepared data sets.
        source_dir: folder of the download; not needed for a data set that is prepared, or where
            `download_and_prepare` gets it as `manual_dir`.
        options: dict, options that differ from their defaults; None takes a prepared data set as it is.
        settings: Settings.
    Raises:
        InputError: an unknown option, or a value of another type than its default.
    """

    DESCRIPTION = CITATION = HOMEPAGE = ""
    OPTIONS = {}
    FILE_OPTIONS = ()
    SOURCE_FLAGS = "--source_dir=DOWNLOADED"
    LABELS = None
    COMMON_OPTIONS = {"store_size": 0}

    # Checksums of downloads: none. tfds would look for them beside the module, by way of a package
    # (importlib_resources) that it does not install.
    url_infos = None

    def __init__(self, *, data_dir=None, source_dir=None, options=None, settings=Settings(), **kwargs):
        self._source_dir = None if source_dir is None else os.path.abspath(source_dir)
        self.asked_options = None if options is None else self._complete(options)
        self._settings = settings
        super().__init__(data_dir=data_dir, **kwargs)

    @staticmethod
    def read(source_dir, options):
        """Reads and checks everything but the images: source.Source."""
        raise NotImplementedError

    @classmethod
    def label_names(cls, options):
        """Returns the label names in the order of the records, None if only the source has them."""
        del options  # for subclasses
        return cls.LABELS

    @property
    def source_dir(self):
        """Absolute path of the download, None if it was not given."""
        return self._source_dir

    @property
    def options(self):
        """All options: those asked for, else the defaults."""
        return self.asked_options if self.asked_options is not None else self._complete({})

    def recorded_options(self):
        """All options as they are stored with the records: of a file its name and a hash of its content.

        Raises:
            InputError: such a file is missing.
        """
        recorded = dict(self.options)
        for name in self.FILE_OPTIONS:
            if recorded[name]:
                path = option_file(recorded[name], self._source_dir or ".")
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                recorded[name] = f"{os.path.basename(path)} (sha256 {digest[:16]})"
        return recorded

    @functools.cached_property
    def source(self):
        """The download, read and checked once."""
        if self._source_dir is None:
            raise not_prepared(self, has_source=True)
        source = self.read(self._source_dir, self.options)
        for split, photos in source.splits.items():
            if not photos:
                raise InputError(
                    f"Split {split} of {self.name} must have at least one image. Received: none with these options. "
                    "Change the options, or complete the download."
                )
        return source

    def _complete(self, options):
        defaults = {**self.COMMON_OPTIONS, **self.OPTIONS}
        for name, value in options.items():
            if name not in defaults:
                raise InputError(
                    f"Options of {self.name} must be among {', '.join(defaults)}. Received: {name!r}. Remove it."
                )
            if not isinstance(value, type(defaults[name])):
                raise InputError(
                    f"Option {name} of {self.name} must be of type {type(defaults[name]).__name__}. Received: "
                    f"{value!r}."
                )
        return {**defaults, **options}

    def _info(self):
        if (self.data_path / "metadata.json").exists():
            names = examples.label_names(self)
        else:
            names = self.label_names(self.options)
            names = self.source.labels if names is None else names
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            citation=self.CITATION,
            homepage=self.HOMEPAGE,
            features=examples.features(names),
            metadata=examples.metadata(names),
            disable_shuffling=True,  # The order is made here.
        )

    def _download_and_prepare(self, dl_manager, download_config=None):
        if self._source_dir is None:  # tfds' own way to say where the download is.
            self._source_dir = os.fspath(dl_manager.manual_dir)
        options = self.recorded_options()  # of the files as they are now, not after hours
        source, settings = self.source, self._settings
        audit = Audit(self.name, source, settings.max_rejected, settings.allow_overlap, settings.fail_on_mismatch)
        audit.check_counts()
        on_beam = bool(download_config and (download_config.beam_runner or download_config.beam_options))
        num_photos = sum(map(len, source.splits.values()))
        infos = []
        try:
            with (
                tqdm(total=num_photos, desc=f"prepare {self.name}", unit="image", disable=None) as bar,
                parallel_map(1 if on_beam else settings.processes, num_photos) as spread,
            ):
                for split, photos in source.splits.items():
                    plan = self._plan(split, photos)
                    make = self._make_on_beam if on_beam else functools.partial(self._make_here, spread)
                    # One call of tfds a split: its Beam pipeline is one for all, and would run again with each.
                    with make(split, plan, audit, bar) as self._shards:
                        super()._download_and_prepare(dl_manager, download_config)
                    infos += [self._with_true_lengths(info) for info in self.info.splits.values()]
            summary = audit.finish()
        except AuditStop as error:
            lists = audit.write_lists(self.data_dir_root, f"{self.name}_")
            found = f" Those found so far are listed in {', '.join(map(os.fspath, lists))}." if lists else ""
            raise InputError(f"{error}{found}") from None
        self.info.set_splits(tfds.core.SplitDict(infos))
        self.info.metadata.update(
            options=options,
            label_counts=audit.label_counts(),
            source={"truth": truth_digest(source), "files": audit.files_digest()},
            audit=summary,
        )
        audit.write_lists(self.data_path)
        write_stamps(self.data_path, audit.stamps)
        for earlier in self.data_dir_root.glob(f"{self.name}_*.csv"):  # of a preparation that was stopped
            if earlier.name in (f"{self.name}_rejected.csv", f"{self.name}_equal_images.csv"):
                earlier.unlink()

    def _plan(self, split, photos):
        """The shards of a split: list of (size that their images are resized to, 0 for none; Photos)."""
        store_size, num_whole = self.options["store_size"], len(photos)
        if store_size and split == "train":
            photos = in_order(split, photos)
            num_whole = 0
            if "validation" not in self.source.splits:
                ends = np.cumsum([len(photo.examples) for photo in photos])
                num_whole = int(np.searchsorted(ends, _WHOLE_SHARE * ends[-1])) + 1
        parts = ((0, photos[:num_whole]), (store_size, photos[num_whole:]))
        return [
            (size, shard) for size, part in parts if part for shard in plan_shards(split, part, self._source_dir, size)
        ]

    def _shard_iterators_per_split(self, dl_manager):
        del dl_manager  # the source has been read
        return self._shards

    @contextlib.contextmanager
    def _make_here(self, spread, split, plan, audit, bar):
        """The shards of a split, to be made by this machine one after another."""

        def tell(report):
            bar.update()
            audit.add(split, report)

        yield {split: [Shard(self._source_dir, size, photos, tell, spread) for size, photos in plan]}

    @contextlib.contextmanager
    def _make_on_beam(self, split, plan, audit, bar):
        """The shards of a split, to be made by Beam's workers; their reports are read when all are done."""
        shards = []
        for index, (size, photos) in enumerate(plan):
            name = f"{split}-{index:05d}"
            shards.append(RemoteShard(self._source_dir, size, os.fspath(self.data_path), name))
            shards[-1].write_plan(photos)
        with watching(shards, [len(photos) for _, photos in plan], bar):
            yield {split: shards}
        for shard in shards:
            for report in shard.take_reports():
                audit.add(split, report)

    def _with_true_lengths(self, info):
        """Mends what tfds 4.9.10 makes of Beam's shards: from the eleventh on, it mixes up whose length is whose."""
        path = self.data_path / f"{self.name}-{info.name}.shard_infos.json"
        if not path.exists():
            return info
        length_of = {int(index): length for index, length in json.loads(path.read_text()).items()}
        path.unlink()
        return info.replace(shard_lengths=[length_of[index] for index in sorted(length_of)])
