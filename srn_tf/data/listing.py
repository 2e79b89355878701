"""What every form of a user's own labels is read to, and the way from there to a source, the same for all of them.

A form is one reader (`csv_table`, `coco_json`, `voc_xml`, `folders`, `label_studio`, `cvat`, `huggingface`) that yields
a `Listing`: images with the names of their labels, perhaps boxes, perhaps a split. Labels, splits and checks
follow here.
"""

import collections
import dataclasses
import difflib
import itertools
import os

import numpy as np

from srn_tf.data.label_names import clean_name, in_short, made_of_others, repeated
from srn_tf.data.photo_finder import PhotoFinder
from srn_tf.data.similar_images import Groups, similar_pairs
from srn_tf.data.source import (
    Example,
    Photo,
    Source,
    SparseLabels,
    check_photos,
    option_file,
    positive_labels,
    read_text,
    unique_rows,
)
from srn_tf.data.splitting import matrix_of, split_photos
from srn_tf.errors import InputError

SPLITS = {
    **{"train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation"},
    "test": "test",
}
"""What a column, a folder or a file may call a split, in small letters -> split."""

_MOST_NAMED = 50  # labels in a message

OPTIONS = {
    "labels_file": "",
    "skip_missing": False,
    "group_similar": False,
    "test_fraction": 0.2,
    "validation_fraction": 0.0,
    "split_seed": 0,
}
"""Options of every form, see `own_photos.OwnPhotos`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """An image of a listing, or one of several statements about it, which must agree.

    Attributes:
        where: str, its place in the file, for messages.
        path: str, the photograph's, "/" between parts, see `photo_finder.PhotoFinder`.
        present: frozenset of the names of its labels.
        split: "train", "validation" or "test"; None where the listing does not say.
        objects: pairs (box, label name), boxes as of `source.Example`.
        aliases: other paths that the file may have, the likeliest first.
        group: str, photographs with the same one are not divided by a split; None: the image is in no group.
        unspecified: frozenset of the names of labels that may be there or not; the others are absent.
    """

    where: str
    path: str
    present: frozenset
    split: str | None = None
    objects: tuple = ()
    aliases: tuple = ()
    group: str | None = None
    unspecified: frozenset = frozenset()


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a file or folder lists.

    Attributes:
        path: str, its path.
        rows: Rows, at least one.
        labels: names of its labels in order; None where they are those of the rows, by the alphabet.
        kind: str, what a label is in it, such as "column".
        unused: names of such that are no labels.
        form: pairs (what, how it was read), as of `source.Source`.
        notes: lines for the user.
        advice: str, what to do about rows that contradict each other.
        split_by: str, what says the split, if anything.
        may_be_unspecified: whether labels may be unspecified: they are stored as 0 then, absent ones as -1.
        several: str, what to do about names that are probably several names; "" where those do not occur.
    """

    path: str
    rows: tuple
    labels: tuple | None = None
    kind: str = "column"
    unused: tuple = ()
    form: tuple = ()
    notes: tuple = ()
    advice: str = "Correct or remove one of the rows."
    split_by: str = ""
    may_be_unspecified: bool = False
    several: str = ""

    @property
    def kinds(self):
        """The plural of `kind`."""
        return {"category": "categories"}.get(self.kind, f"{self.kind}s")

    @property
    def has_split(self):
        """Whether the rows say their split."""
        return self.rows[0].split is not None


def read_labels_file(options, source_dir):
    """Reads the labels that the user has listed.

    Args:
        options: dict with "labels_file", the path of a text file with one name per line, "" for none.
        source_dir: str or path.
    Returns:
        tuple of names in order; None for no file.
    Raises:
        InputError: the file is missing, has no name, or one twice.
    """
    if not options["labels_file"]:
        return None
    path = option_file(options["labels_file"], source_dir)
    names = [clean_name(line) for line in read_text(path, "the labels file").split("\n")]
    names = [name for name in names if name]
    if not names:
        raise InputError(f"{path} must have one label name per line. Received: no name. Add the names.")
    twice = repeated(names)
    if twice:
        raise InputError(f"{path}: label names must differ. Received: {twice[0]!r} twice. Remove one.")
    return tuple(names)


def read_files(source_dir, options, flag, read):
    """Reads the file that lists the images, or the file of each split, whose rows then say that split.

    Args:
        source_dir: str or path.
        options: dict of the data set's options.
        flag: str, the option that names the file; `test_<flag>` and `validation_<flag>` name those of other splits.
        read: function path -> Listing.
    Returns:
        list of Listings.
    Raises:
        InputError: options that exclude each other, or as `read`.
    """
    example = {"csv": "labels.csv"}.get(flag, "FILE")
    if not options[flag]:
        raise InputError(f"{flag} must name the file that lists the images. Received: none. Give --{flag}={example}.")
    paths = {"train": options[flag], "test": options[f"test_{flag}"], "validation": options[f"validation_{flag}"]}
    paths = {split: path for split, path in paths.items() if path}
    if "validation" in paths and "test" not in paths:
        raise InputError(
            f"validation_{flag} needs test_{flag}. Received: validation_{flag} alone. Give --test_{flag} as well."
        )
    listings = {split: read(option_file(path, source_dir)) for split, path in paths.items()}
    if len(listings) == 1:
        return list(listings.values())
    for listing in listings.values():
        if listing.has_split:
            raise InputError(
                f"Images must be split by their list itself or by test_{flag}, not by both. Received: test_{flag}, and "
                f"{listing.split_by} in {listing.path}. Remove one of them."
            )
    return [
        dataclasses.replace(listing, rows=tuple(dataclasses.replace(row, split=split) for row in listing.rows))
        for split, listing in listings.items()
    ]


def to_source(listings, source_dir, options, listed=None):
    """Makes a source of what was listed.

    Args:
        listings: Listings, at least one. Either all rows say a split or none does.
        source_dir: str or path.
        options: dict with `OPTIONS`.
        listed: of `read_labels_file`.
    Returns:
        source.Source: positive labels are 1, others 0; or -1, and 0 where they are unspecified. Photographs are split
        as their rows say, or else by iterative stratification, see `splitting.stratified_split`.
    Raises:
        InputError: listings that contradict themselves, each other or the labels, images that are missing or in two
            splits, no label, or splits without images.
    """
    listings = [_only(listing, listed) for listing in listings]
    _check_splits(listings, options)
    labels = _read_labels(listings, listed and option_file(options["labels_file"], source_dir), listed)
    finder = PhotoFinder(source_dir)
    rows = []
    for listing in listings:
        beside = finder.folder_of(listing.path)
        rows += [
            dataclasses.replace(row, path=finder.find(row.where, (row.path, *row.aliases), beside))
            for row in listing.rows
        ]
    split_of = value_of_each(rows, "split")
    index = {name: number for number, name in enumerate(labels)}
    absent = -1 if any(listing.may_be_unspecified for listing in listings) else 0
    truth_of, num_merged = unique_rows(
        (
            (
                row.where,
                row.path,
                (
                    _truth(row, index, absent),
                    tuple((box, index[name]) for box, name in row.objects),
                ),
            )
            for row in rows
        ),
        listings[0].advice,
    )
    num_listed, notes = len(truth_of), []
    if options["skip_missing"]:
        found = {path: truth for path, truth in truth_of.items() if finder.has(path)}
        num_missing = num_listed - len(found)
        if found and num_missing:  # else none is left, as the next check says
            truth_of = found
            first = next(row.path for row in rows if row.path not in truth_of)
            notes.append(
                f"{num_missing:,} of {num_listed:,} images are missing and left out, as --skip_missing says, the first "
                f"{first}."
            )
    check_photos(
        source_dir,
        truth_of,
        _paths(listings),
        "Write paths relative to source_dir."
        if options["skip_missing"]
        else "Write paths relative to source_dir, remove the rows of images that are not there, or leave them out with "
        "--skip_missing.",
    )
    photos = [Photo(path, (Example(path, *truth),)) for path, truth in truth_of.items()]
    if not listings[0].has_split:
        splits = split_photos(
            photos,
            matrix_of((truth.positives for truth, _ in truth_of.values()), len(labels)),
            options["split_seed"],
            options["test_fraction"],
            options["validation_fraction"],
            _groups(rows, photos, source_dir, options["group_similar"], notes),
        )
    else:
        splits = {split: [] for split in dict.fromkeys(SPLITS.values()) if split in split_of.values()}
        for photo in photos:
            splits[split_of[photo.path]].append(photo)
    if absent:
        _check_specified(splits, _paths(listings))
    return Source(
        labels,
        splits,
        notes=(
            *_notes(listings, finder, num_merged),
            *notes,
            *_label_notes(labels, splits, is_drawn=not listings[0].has_split),
        ),
        warnings=_warnings(listings, labels) if listed is None and listings[0].labels is None else (),
        form=(*listings[0].form, ("split", _how_split(listings, options))),
    )


def _truth(row, index, absent):
    """The labels of a row as they are stored; index is a dict label name -> place."""
    positives = sorted(index[name] for name in row.present)
    unspecified = sorted(index[name] for name in row.unspecified if name in index and name not in row.present)
    return SparseLabels(len(index), absent, tuple(positives), tuple(unspecified) if absent else ())


def _check_specified(splits, paths):
    """InputError where images that are evaluated on have no label that is known to be absent: AP would be 100."""
    for split in set(splits) - {"train"}:
        if splits[split] and all(-1 not in photo.examples[0].labels for photo in splits[split]):
            raise InputError(
                f"{paths}: the {split} images must have absent labels, with 0. Received: only 1 and unspecified. Write "
                "0 for labels that are known to be absent."
            )


def _how_split(listings, options):
    if not listings[0].has_split:
        shares = f"{options['test_fraction']:.0%} test"
        if options["validation_fraction"]:
            shares += f", {options['validation_fraction']:.0%} validation"
        return f"drawn, each label with its share: {shares}"
    return listings[0].split_by if len(listings) == 1 else "a file for each"


def _only(listing, listed):
    """A listing with the labels that the user has listed, as far as it names its labels itself."""
    if listed is None or listing.labels is None or set(listing.labels) <= set(listed):
        return listing
    kept = frozenset(listing.labels) & frozenset(listed)
    rows = tuple(
        dataclasses.replace(
            row,
            present=row.present & kept,
            objects=tuple(pair for pair in row.objects if pair[1] in kept),
        )
        for row in listing.rows
    )
    labels = tuple(name for name in listing.labels if name in kept)
    unused = (*listing.unused, *(name for name in listing.labels if name not in kept))
    return dataclasses.replace(listing, labels=labels, rows=rows, unused=unused)


def _check_splits(listings, options):
    """Raises InputError unless all rows say a split or none does, and unless there are rows of train and test."""
    rows = [row for listing in listings for row in listing.rows]
    splits = {row.split for row in rows}
    if splits == {None}:
        return
    if None in splits:
        without = next(row for row in rows if row.split is None)
        raise InputError(
            f"{without.where}: either all images must have a split or none. Received: {without.path} without one, "
            "others with one. Set it, or remove it everywhere."
        )
    if options["group_similar"] or any(row.group is not None for row in rows):
        flag = "--group_similar" if options["group_similar"] else "--group_column"
        raise InputError(
            f"Groups are for images that srn_tf splits. Received: {flag} for images that come with splits. Remove it."
        )
    if options["validation_fraction"]:
        raise InputError(
            f"validation_fraction is for images that srn_tf splits. Received: {options['validation_fraction']} for "
            "images that come with splits. Remove --validation_fraction."
        )
    for split in ("train", "test"):
        if split not in splits:
            raise InputError(
                f"{_paths(listings)} must have training and test images. Received: no row with split {split}. Set the "
                f"split of some rows to {split}, or remove the splits to have the images split."
            )


def _read_labels(listings, listed_in, listed):
    """Returns the label names in order, and makes sure that all listings agree with them.

    Args:
        listings: Listings.
        listed_in, listed: the user's file of labels and its names; None for none.
    Raises:
        InputError: no label at all; a name that is not among the labels, or a label that a listing should name and
            does not.
    """
    labels = listed
    if listed is None:
        listed_in, labels = _list_labels(listings)
    known = set(labels)
    for listing in listings:
        in_header = ((f"{listing.path}, header", name) for name in listing.labels or ())
        in_rows = ((row.where, name) for row in listing.rows for name in sorted(row.present))
        for where, name in itertools.chain(in_header, in_rows):
            if name not in known:
                similar = difflib.get_close_matches(name, labels)
                hint = f"Did you mean {' or '.join(map(repr, similar))}? " if similar else ""
                raise InputError(
                    f"{where}: labels must be among the {len(labels)} of {listed_in}. Received: {name!r}. "
                    f"{hint}Correct the name, or add it to {listed_in}."
                )
        named = known if listing.labels is None else set(listing.labels)
        missing = [name for name in labels if name not in named]
        if missing:
            kind = listing.kind
            others = f", but {listing.kinds} {in_short(listing.unused)}" if listing.unused else ""
            raise InputError(
                f"{listing.path} must have a {kind} for every label of {listed_in}. Received: no {kind} for "
                f"{_in_short(missing)}{others}. Add or rename the {kind}(s)."
            )
    return labels


def _list_labels(listings):
    """Returns the file that says which labels there are, for messages, and their names in order."""
    for listing in listings:
        if listing.labels:
            return listing.path, listing.labels
    names = set().union(*(row.present for listing in listings for row in listing.rows))
    if not names:
        raise InputError(f"{_paths(listings)} must name at least one label. Received: no label in any row. Add labels.")
    return _paths(listings), tuple(sorted(names))


def value_of_each(rows, name):
    """What the rows of each image say.

    Args:
        rows: list of Row.
        name: "split" or "group".
    Returns:
        dict: path -> that field of its rows.
    Raises:
        InputError: the rows of an image differ in it.
    """
    first = {}
    for row in rows:
        known = first.setdefault(row.path, row)
        received, before = getattr(row, name), getattr(known, name)
        if received != before:
            raise InputError(
                f"{row.where}: an image must be in one {name}. Received: {row.path} in {received or 'none'} here, and "
                f"in {before or 'none'} in {known.where}. Correct or remove one of the rows."
            )
    return {path: getattr(row, name) for path, row in first.items()}


def _groups(rows, photos, source_dir, is_similar, notes):
    """The group of each photograph, None for no groups: those that the rows name, joined by those of similar images.

    Args:
        rows: Rows with the paths of their files.
        photos: Photos.
        source_dir: str or path.
        is_similar: bool, whether similar images are a group.
        notes: list, to which a line on the groups is added.
    """
    named = {row.path: row.group for row in rows}
    if not is_similar and set(named.values()) == {None}:
        return None
    joined = Groups(len(photos))
    first = {}
    for index, photo in enumerate(photos):
        if named[photo.path] is not None:
            joined.join(first.setdefault(named[photo.path], index), index)
    if is_similar:
        for one, other in similar_pairs([os.path.join(source_dir, photo.path) for photo in photos]):
            joined.join(one, other)
    groups = [joined.of(index) for index in range(len(photos))]
    sizes = collections.Counter(groups)
    several = [size for size in sizes.values() if size > 1]
    largest = f", the largest of {max(several):,}" if several else ""
    notes.append(
        f"{len(several):,} groups of two or more images stay together in a split: {sum(several):,} images{largest}."
    )
    return groups


def _paths(listings):
    return ", ".join(listing.path for listing in listings)


def _notes(listings, finder, num_merged):
    notes = []
    for listing in listings:
        notes += listing.notes
        if listing.unused:
            notes.append(f"{listing.path}: {listing.kinds} not used: {_in_short(listing.unused)}.")
    if finder.moved:
        written, path = next(iter(finder.moved.items()))
        notes.append(
            f"{len(finder.moved):,} images were found by the end of their path, the first: {written} is {path}."
        )
    if num_merged:
        notes.append(f"{num_merged} rows merged with an earlier row of the same image.")
    return notes


def _warnings(listings, labels):
    several = made_of_others(labels) if listings[0].several else ()
    if not several:
        return ()
    return (
        f"{_paths(listings)}: some labels consist of other labels' names: {in_short(several)}. {listings[0].several} "
        "If not, list all labels in a file for --labels_file.",
    )


def _label_notes(labels, splits, is_drawn):
    """Returns lines on labels that no image of a split has, or all have; of drawn splits, on those of one side only."""
    notes, counts_of = [], {}
    for split, photos in splits.items():
        found = (index for photo in photos for index in positive_labels(photo.examples[0].labels))
        counts_of[split] = np.bincount(np.fromiter(found, np.int64), minlength=len(labels))

    def named(is_meant):
        return [labels[index] for index in np.flatnonzero(is_meant)]

    for split, counts in counts_of.items():
        if not counts.all():
            notes.append(f"No image of {split} has: {_in_short(named(counts == 0))}.")
    if is_drawn:
        is_missing = (counts_of["train"] == 0) | (counts_of["test"] == 0)
        torn = named(is_missing & (sum(counts_of.values()) > 1))
        if torn:
            notes.append(
                f"Of the labels on two or more images, {len(torn):,} could not be both in train and in test: "
                f"{_in_short(torn)}."
            )
    everywhere = [counts == len(splits[split]) for split, counts in counts_of.items()]
    if np.all(everywhere, axis=0).any():
        names = sorted(named(np.all(everywhere, axis=0)))
        notes.append(f"Every image has: {_in_short(names)}. Nothing can be learned from these labels.")
    return notes


def _in_short(names):
    """Names for a line: at most `_MOST_NAMED`. The preview and the prepared data have the counts of all."""
    others = f" and {len(names) - _MOST_NAMED:,} others" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + others
