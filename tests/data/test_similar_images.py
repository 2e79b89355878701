"""Equal and nearly equal pictures: which are found, and that a split keeps them together."""

import numpy as np
from PIL import Image, ImageEnhance

from srn_tf.data.csv_file import CsvFile
from srn_tf.data.similar_images import Groups, picture_hash, similar_pairs


def picture(seed, size=(64, 48)):
    """A picture of soft patches, unlike that of any other seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def save(folder):
    """Four pictures; of the first, a smaller one, a recompressed one and a brighter one."""
    for seed in range(4):
        picture(seed).save(folder / f"{seed}.png")
    picture(0).resize((40, 30)).save(folder / "4.png")
    picture(0).save(folder / "5.jpg", quality=60)
    ImageEnhance.Brightness(picture(0)).enhance(0.9).save(folder / "6.png")
    (folder / "7.png").write_bytes(b"damaged")
    Image.new("RGB", (8, 8)).save(folder / "8.png")
    Image.new("RGB", (9, 9)).save(folder / "9.png")  # of one colour: like no other
    return [f"{i}.png" if i != 5 else "5.jpg" for i in range(10)]


def test_a_hash_by_hand(tmp_path):
    """From dark to bright and back: the first four of eight differences are no falls, the others are."""
    row = [10, 20, 30, 40, 50, 40, 30, 20, 10]
    Image.fromarray(np.tile(np.array(row, np.uint8), (8, 1))).save(tmp_path / "a.png")
    assert picture_hash(tmp_path / "a.png") == int("00001111" * 8, 2)


def test_pairs(tmp_path):
    paths = [tmp_path / name for name in save(tmp_path)]
    groups = Groups(10)
    for one, other in similar_pairs(paths):
        groups.join(one, other)
    assert [groups.of(index) for index in range(10)] == [0, 1, 2, 3, 0, 0, 0, 7, 8, 9]


def test_every_near_pair_is_joined(monkeypatch):
    """Against comparing all with all, for hashes a few bits from each other."""
    random = np.random.default_rng(0)
    centres = [int(value) for value in random.integers(0, 2**63, 20)]
    hashes = [
        centre ^ sum(1 << int(bit) for bit in random.choice(64, random.integers(0, 4), replace=False))
        for centre in centres
        for _ in range(5)
    ]
    monkeypatch.setattr("srn_tf.data.similar_images.picture_hash", lambda path: hashes[path])
    found, expected = Groups(100), Groups(100)
    for one, other in similar_pairs(range(100)):
        found.join(one, other)
    for one in range(100):
        for other in range(one):
            if bin(hashes[one] ^ hashes[other]).count("1") <= 3:
                expected.join(one, other)
    assert [found.of(i) for i in range(100)] == [expected.of(i) for i in range(100)]


def test_splits_of_similar_images_and_of_a_column(tmp_path):
    names = [name for name in save(tmp_path) if name != "7.png"]
    lines = [f"{name},{'ab'[i % 2]},{i // 3}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels,film", *lines]))
    options = {**CsvFile.OPTIONS, "csv": "labels.csv", "test_fraction": 0.4}
    source = CsvFile.read(str(tmp_path), {**options, "group_similar": True})
    found = [{photo.path for photo in source.splits[split]} for split in ("train", "test")]
    assert any({"0.png", "4.png", "5.jpg", "6.png"} <= split for split in found) and all(found)
    assert "1 groups of two or more images stay together in a split: 4 images, the largest of 4." in source.notes

    source = CsvFile.read(str(tmp_path), {**options, "group_column": "film"})
    found = [{names.index(photo.path) // 3 for photo in source.splits[split]} for split in ("train", "test")]
    assert not found[0] & found[1] and found[0] | found[1] == {0, 1, 2}
    assert "3 groups of two or more images stay together in a split: 9 images, the largest of 3." in source.notes
