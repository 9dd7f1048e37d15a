"""The example package of docs/examples/plugin does what its README says."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from paretune_compress.data import PreparedSplit, plugins, prepare
from paretune_compress.quality.registry import made
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import TensorInfo
from paretune_store.steps import StepCache

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "plugin"
IMAGE = (TensorInfo(name="image", shape=(1, 4, 4, 1), dtype="float32"),)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as an installer would leave it: its source on the path, its entry points beside."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "site" / "paretune_example_plugin-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"]
    (metadata / "METADATA").write_text("".join(lines))
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))


def write_idx(folder: Path, x: np.ndarray, y: np.ndarray) -> str:
    for name, array in (("images-idx3", x), ("labels-idx1", y)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"train-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    return str(folder / "train")


def opened(tmp_path: Path, uri: str, form: str = "idx"):
    return prepare(
        DataRequest(uri=uri, format=form), Split.EVALUATION, IMAGE, StepCache(tmp_path / "c"), classes=3
    )


def test_a_data_set_of_a_plugin_is_prepared_like_any_other(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = np.arange(96).reshape(6, 4, 4) % 256, np.arange(6) % 3
    uri = write_idx(tmp_path, x, y)
    info = opened(tmp_path, uri)
    batch = next(PreparedSplit(info, Scaling()).batches(6))
    np.testing.assert_array_equal(batch.inputs["image"][..., 0], x)
    np.testing.assert_array_equal(batch.labels, y)

    def unread(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("paretune_compress.data.npy.write", unread)
    assert opened(tmp_path, uri) == info
    write_idx(tmp_path, x[::-1], y)
    with pytest.raises(AssertionError, match="read again"):
        opened(tmp_path, uri)


def test_what_a_plugin_gives_is_checked_too(installed: None, tmp_path: Path) -> None:
    uri = write_idx(tmp_path, np.zeros((6, 4, 5)), np.arange(6) % 3)
    with pytest.raises(StageError, match=r"\[6, 4, 5\]"):
        opened(tmp_path, uri)
    uri = write_idx(tmp_path, np.zeros((6, 4, 4)), np.arange(6))
    with pytest.raises(StageError, match="label 5 at sample 5 is out of range"):
        opened(tmp_path, uri)


def test_a_plugin_that_fails_is_named(installed: None, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="plugin 'idx' failed: FileNotFoundError") as caught:
        opened(tmp_path, str(tmp_path / "none"))
    assert caught.value.reason is Reason.DATA_UNREADABLE
    with pytest.raises(StageError, match="known are idx, images, npy, npz"):
        opened(tmp_path, str(tmp_path), "tfds")


def test_an_array_that_lies_about_its_shape_is_refused(tmp_path: Path) -> None:
    class Liar:
        shape, dtype = (6, 4, 4), np.dtype(np.uint8)

        def __getitem__(self, rows: slice) -> np.ndarray:
            return np.zeros((1, 2), np.uint8)

    source = plugins._array("x", Liar())
    with pytest.raises(plugins.DataFault, match=r"gave \[1, 2\] for \[0:6\]"):
        list(source.pieces())


def test_the_metric_of_the_example_is_the_mean_recall(installed: None) -> None:
    metric = made("balancedAccuracy")
    outputs = {"scores": np.eye(2, dtype=np.float32)[[0, 0, 0, 0]]}
    metric.update(outputs, np.array([0, 0, 0, 1]), {})
    found = metric.result()
    assert found.value == 0.5
    assert 0 <= found.low <= 0.5 <= found.high <= 1
