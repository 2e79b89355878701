"""tools/compare.py as a user runs it; it needs no TensorFlow."""

import csv
import functools

import pytest

from tests.comparison.small_runs import PERFECT, WEAK, write_run
from tests.tools.running import assert_refused, run_without_tensorflow

run_tool = functools.partial(run_without_tensorflow, "compare")


@pytest.fixture
def runs(tmp_path):
    coco = {"dataset": "coco2014", "protocol": "coco"}
    return [
        write_run(tmp_path / "main", {"model": "main_net"}, WEAK, output="y_cls", final="y_cls", **coco),
        write_run(tmp_path / "srn_0", {"model": "srn", "seed": 0}, PERFECT, **coco),
        write_run(tmp_path / "srn_1", {"model": "srn", "seed": 1}, WEAK, **coco),
    ]


def test_compare(runs, tmp_path):
    output = tmp_path / "new" / "out"
    result = run_tool(*runs, f"--output={output}", "--bootstrap=100")
    assert (result.returncode, result.stderr) == (0, "")
    assert "coco2014, test split: 4 images, 3 labels, percent" in result.stdout
    assert "94.4 ± 7.9*" in result.stdout and "Zhu et al., CVPR 2017, Table 2" in result.stdout
    written = {path.name: path.read_bytes() for path in output.iterdir()}
    pictures = ["ap_difference_2.png", "cooccurrence_2.png"]
    assert sorted(written) == sorted(["table.md", "table.html", "table.csv", "differences.csv", *pictures])
    for name in pictures:
        assert written[name].startswith(b"\x89PNG") and name in written["table.md"].decode()
    assert written["table.html"].decode().count("data:image/png;base64,") == 2
    assert "**94.4 ± 7.9**" in written["table.md"].decode()
    rows = list(csv.DictReader(written["differences.csv"].decode().splitlines()))
    assert (rows[0]["row"], rows[0]["reference"], rows[0]["metric"]) == ("srn", "main_net", "mAP")
    assert float(rows[0]["difference"]) == pytest.approx(100 / 18)


def test_one_run_has_a_table_alone(runs, tmp_path):
    output = tmp_path / "out"
    result = run_tool(runs[0], f"--output={output}")
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(path.name for path in output.iterdir()) == ["table.csv", "table.html", "table.md"]
    assert "88.9" in result.stdout and "Differences" not in result.stdout


@pytest.mark.slow
def test_bad_runs(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    scenes = write_run(tmp_path / "scenes", {"model": "srn"})
    output = tmp_path / "out"
    for arguments, parts in (
        ([], ("At least one run is needed",)),
        ([tmp_path / "empty"], ("work_dir must be a run of tools/train.py", "empty")),
        (
            [runs[0], "--split=validation"],
            (f"tools/evaluate.py --work_dir={runs[0]} --data_dir=DATA --split=validation",),
        ),
        ([runs[0], scenes], ("must have the same data set. Received: coco2014 in ", "scenes in ")),
    ):
        assert_refused(run_tool(*arguments, f"--output={output}"), *parts)
    assert not output.exists()


@pytest.mark.slow
def test_bad_flags(runs, tmp_path):
    assert_refused(run_tool(runs[0]), "--output must have a value", "compare.py --help.")
    assert_refused(run_tool(runs[0], f"--output={tmp_path}", "--bootstrap=10"), "bootstrap", "100")
    (tmp_path / "file").touch()
    assert_refused(
        run_tool(runs[0], f"--output={tmp_path}/file"),
        "--output must be a writable folder",
    )


def test_help():
    result = run_tool("--help")
    assert result.returncode == 0 and "RUN..." in result.stdout and "--bootstrap" in result.stdout
