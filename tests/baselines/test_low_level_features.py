"""Low-level features as a source of KNN: which images have which role, their labels and scaled features."""

import numpy as np
import pytest

from srn_tf.baselines.knn_run import evaluate_knn
from srn_tf.baselines.low_level_features import LowLevelFeatures
from srn_tf.data.nus_wide import NusWide
from srn_tf.errors import InputError
from tests.baselines import nus_folder
from tests.data.folder_of_images import prepared

HELD_OUT = [0, 10, 20]
TRAIN = [line for line in range(21) if line not in HELD_OUT]


@pytest.fixture
def folder(tmp_path):
    return nus_folder.write(tmp_path / "nus")


def scaled(split, lines, train_lines):
    """Mean 0 and deviation 1 over the training images; constant columns are 0."""
    train = nus_folder.features("train")[train_lines]
    deviation = train.std(axis=0)
    varies = deviation > 1e-9
    result = np.zeros((len(lines), 1134))
    result[:, varies] = (nus_folder.features(split)[lines] - train.mean(axis=0))[:, varies] / deviation[varies]
    return result


def test_roles_in_the_official_order(folder):
    source = LowLevelFeatures(folder, folder)
    images = source.read()
    assert source.num_train == 18 and list(images) == ["train", "validation", "test"]
    for role, lines in (("train", TRAIN), ("validation", HELD_OUT), ("test", range(5))):
        split = "test" if role == "test" else "train"
        found = images[role]
        assert found.names.tolist() == [nus_folder.names(split)[line] for line in lines]
        np.testing.assert_array_equal(found.labels, nus_folder.truth(split)[list(lines)])
        assert (found.labels.dtype, found.features.dtype) == (np.int8, np.float32)
        np.testing.assert_allclose(found.features, scaled(split, list(lines), TRAIN), atol=1e-5)
    assert np.ptp(images["train"].features[:, -1]) == 0  # the constant column


def test_roles_of_a_prepared_data_set_and_images_of_another_split(folder, tmp_path):
    nus_folder.write_images(folder)
    builder = prepared(NusWide, tmp_path / "data", folder)
    images = LowLevelFeatures(folder, folder, tmp_path / "data").read()
    stored = {
        split: [record["name"].decode() for record in builder.as_dataset(split=split).as_numpy_iterator()]
        for split in ("train", "test")
    }
    assert images["validation"].names.tolist() == stored["train"][:2]  # a tenth of 21
    assert images["train"].names.tolist() == stored["train"][2:]
    assert images["test"].names.tolist() == stored["test"] != nus_folder.names("test")
    lines = {role: [int(name[:-4].split("_")[1]) for name in found.names] for role, found in images.items()}
    for role, found in images.items():
        split = "test" if role == "test" else "train"
        np.testing.assert_array_equal(found.labels, nus_folder.truth(split)[lines[role]])
        np.testing.assert_allclose(found.features, scaled(split, lines[role], lines["train"]), atol=1e-5)
    # Prepared images of another split.
    lists = [folder / "ImageList" / f"{suffix}Imagelist.txt" for suffix in ("Train", "Test")]
    lists[1].write_text(lists[1].read_text().replace("test_3", "other"))
    message = (
        "test images prepared in .* official test list. Received: 1 of 5 that are not, the first Flickr/tag/test_3.jpg"
    )
    with pytest.raises(InputError, match=message):
        LowLevelFeatures(folder, folder, tmp_path / "data")
    with pytest.raises(InputError, match="nus_wide must be prepared in .*nowhere"):
        LowLevelFeatures(folder, folder, tmp_path / "nowhere")


def test_whole_evaluation(folder, tmp_path):
    """Sky is on each second image, which the first column tells; clouds are on all; no other label has a positive."""
    metrics = evaluate_knn(LowLevelFeatures(folder, folder), [1, 3, 5], 0.0, str(tmp_path / "out"))
    assert (metrics["dataset"], metrics["protocol"], metrics["images"]) == ("nus_wide", "nus_wide", 5)
    assert metrics["distance"] == "manhattan" and set(metrics["validation_mAP"]) == {"1", "3", "5"}
    result = metrics["outputs"]["knn"]
    assert result["num_labels_in_mAP"] == 2
    assert [result["AP"][label] is not None for label in (nus_folder.CLOUDS, nus_folder.SKY)] == [True, True]
    # Exactly three labels: clouds are in all 18 neighbours' labels, so among the three of every image.
    assert result["top3"]["P-O"] <= 100 * 2 / 3 and result["AP"][nus_folder.CLOUDS] == 100


def test_lists_differ_from_the_official_ones_is_a_warning(folder, caplog):
    LowLevelFeatures(folder, folder)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "Warning: nus_wide: train rows: found 21, published 161,789." in warnings


def test_an_image_twice_in_the_list(folder):
    """Such rows are merged, and the features, which go by lines, would be those of other images."""
    path = folder / "ImageList" / "TrainImagelist.txt"
    path.write_text(path.read_text().replace("train_2.jpg", "train_0.jpg"))
    with pytest.raises(InputError, match="official train list must name each image once.* 21 lines, 20 images"):
        LowLevelFeatures(folder, folder)


def test_features_of_another_list(folder):
    path = folder / "Low_Level_Features" / "Test_Normalized_WT.dat"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="Test_Normalized_WT.dat must have one line per image .* 5. Received: 4 lines"):
        LowLevelFeatures(folder, folder).read()


def test_one_training_image(folder):
    for path in [folder / "ImageList" / "TrainImagelist.txt", *(folder / "Groundtruth").rglob("*_Train.txt")]:
        path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match="TrainImagelist.txt must list at least two images. Received: 1 image."):
        LowLevelFeatures(folder, folder)


def test_missing_folders(folder, tmp_path):
    with pytest.raises(InputError, match="features_dir must be a folder. Received: .*nowhere"):
        LowLevelFeatures(tmp_path / "nowhere", folder)
    with pytest.raises(
        InputError, match="source_dir must be a folder with .* Received: .*nowhere, which is not a folder"
    ):
        LowLevelFeatures(folder, tmp_path / "nowhere")
