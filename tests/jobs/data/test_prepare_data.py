"""Opening data sets: what fits is prepared once, what does not is refused with its cause."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paretune_compress.data import PreparedSplit, prepare, prepare_noted
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import TensorInfo
from paretune_store.files import sha256_file
from paretune_store.steps import StepCache

UNSCALED = Scaling()
IMAGE = (TensorInfo(name="image", shape=(1, 4, 4, 1), dtype="FLOAT32"),)
TWO = (
    TensorInfo(name="left", shape=(1, 3), dtype="FLOAT32"),
    TensorInfo(name="serving_default_right:0", shape=(1, 2), dtype="FLOAT32"),
)
X = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4, 1)
Y = np.arange(10, dtype=np.int64) % 3


def saved(tmp_path: Path, **arrays: np.ndarray) -> DataRequest:
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    return DataRequest(uri=str(tmp_path / "set.npz"))


def folder_of(tmp_path: Path, **arrays: np.ndarray) -> DataRequest:
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return DataRequest(uri=str(folder))


def refused(tmp_path: Path, request: DataRequest, inputs=IMAGE, classes: int | None = None) -> StageError:
    with pytest.raises(StageError) as caught:
        prepare(request, Split.EVALUATION, inputs, StepCache(tmp_path / "cache"), classes=classes)
    assert caught.value.message.startswith("dataset.evaluation")
    assert request.uri in caught.value.message
    return caught.value


def everything(tmp_path: Path, request: DataRequest, inputs=IMAGE, scaling: Scaling = UNSCALED):
    info = prepare(request, Split.TRAIN, inputs, StepCache(tmp_path / "cache"), scaling=scaling)
    split = PreparedSplit(info, scaling)
    return info, next(split.batches(split.samples))


@pytest.mark.parametrize("save", [saved, folder_of])
def test_an_npz_and_a_folder_of_npy_give_the_same_samples_and_digest(tmp_path: Path, save: Callable) -> None:
    info, batch = everything(tmp_path, save(tmp_path, x=X, y=Y))
    np.testing.assert_array_equal(batch.inputs["image"], X.astype(np.float32))
    np.testing.assert_array_equal(batch.labels, Y)
    assert (info.samples, info.inputs["image"].shape, info.inputs["image"].dtype) == (10, X.shape, "uint8")
    other, _ = everything(tmp_path, (saved if save is folder_of else folder_of)(tmp_path, x=X, y=Y))
    assert other.digest == info.digest
    changed, _ = everything(tmp_path, save(tmp_path, x=X + 1, y=Y))
    assert changed.digest != info.digest


def test_a_folder_of_npy_is_used_where_it_is(tmp_path: Path) -> None:
    request = folder_of(tmp_path, x=X, y=Y)
    info, _ = everything(tmp_path, request)
    assert info.folder == request.uri
    assert (info.inputs["image"].file, info.labels and info.labels.file) == ("x.npy", "y.npy")
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_set_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [saved(tmp_path, x=X, y=Y), folder_of(tmp_path, x=X, y=Y)]
    before = [everything(tmp_path, request)[0] for request in requests]

    def unread(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("paretune_compress.data.npy.rows", unread)
    monkeypatch.setattr("paretune_compress.data.npz.rows", unread)
    assert [everything(tmp_path, request)[0] for request in requests] == before
    np.save(Path(requests[1].uri) / "x.npy", X[:, ::-1])
    with pytest.raises(AssertionError, match="read again"):
        everything(tmp_path, requests[1])


def test_a_missing_axis_of_1_is_added_and_noted(tmp_path: Path) -> None:
    request = saved(tmp_path, x=X[..., 0])
    info, notes = prepare_noted(request, Split.TRAIN, IMAGE, StepCache(tmp_path / "cache"))
    assert info.inputs["image"].shape == (10, 4, 4, 1)
    assert info.labels is None
    assert any("[10, 4, 4] is used as [10, 4, 4, 1]" in note for note in notes)
    assert PreparedSplit(info, Scaling()).labels() is None


@pytest.mark.parametrize("shape", [(10, 4, 5), (10, 16), (10, 4, 4, 3), (10, 1, 4, 4, 1), (10,)])
def test_another_mismatch_names_both_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    error = refused(tmp_path, saved(tmp_path, x=np.zeros(shape, np.uint8)))
    assert error.reason is Reason.DATA_MISMATCH
    assert str(list(shape)) in error.message
    assert "[1, 4, 4, 1]" in error.message


def test_several_inputs_go_by_their_names(tmp_path: Path) -> None:
    left, right = np.ones((5, 3), np.float32), np.zeros((5, 2), np.float64)
    _, batch = everything(tmp_path, saved(tmp_path, left=left, right=right, other=np.array(["a"])), TWO)
    assert sorted(batch.inputs) == ["left", "serving_default_right:0"]
    assert {array.dtype for array in batch.inputs.values()} == {np.dtype(np.float32)}
    error = refused(tmp_path, saved(tmp_path, left=left, wrong=right), TWO)
    assert "'serving_default_right:0'" in error.message
    assert "found: left, wrong" in error.message


def test_labels_of_shape_n_1_are_class_indices_too(tmp_path: Path) -> None:
    _, batch = everything(tmp_path, folder_of(tmp_path, x=X, y=Y[:, None]))
    np.testing.assert_array_equal(batch.labels, Y)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.where(np.arange(10) == 7, 3, Y), "label 3 at sample 7 is out of range; the model has 3 classes"),
        (np.where(np.arange(10) == 4, -1, Y), "label -1 at sample 4 is out of range"),
        (Y.astype(np.float32), "labels are float32"),
        (np.eye(3, dtype=np.int64)[Y], "take their argmax"),
        (Y[:9], "'x' has 10, 'y' has 9"),
    ],
)
def test_labels_that_do_not_fit_are_named(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    error = refused(tmp_path, saved(tmp_path, x=X, y=labels), classes=3)
    assert error.reason is Reason.DATA_MISMATCH
    assert said in error.message


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_values_that_are_no_finite_float32_are_refused_with_their_place(tmp_path: Path, value: float) -> None:
    x = X.astype(np.float64)
    x[6, 1, 2, 0] = value
    for save in (saved, folder_of):
        assert "at sample 6 (position [1, 2, 0])" in refused(tmp_path, save(tmp_path, x=x)).message


def test_scale_and_offset_are_applied_by_last_axis(tmp_path: Path) -> None:
    x = np.full((2, 4, 4, 3), 10, np.uint8)
    inputs = (TensorInfo(name="image", shape=(1, 4, 4, 3), dtype="FLOAT32"),)
    scaling = Scaling(scale=(0.5, 1.0, 2.0), offset=-1.0)
    _, batch = everything(tmp_path, folder_of(tmp_path, x=x), inputs, scaling)
    assert batch.inputs["image"][1, 2, 3].tolist() == [4.0, 9.0, 19.0]
    with pytest.raises(StageError, match=r"dataset\.scale has 3 values; the last axis .* has 1"):
        prepare(saved(tmp_path, x=X), Split.TRAIN, IMAGE, StepCache(tmp_path / "c"), scaling=scaling)


def test_the_source_is_not_changed_by_scaling(tmp_path: Path) -> None:
    x = np.ones((3, 4, 4, 1), np.float32)
    request = folder_of(tmp_path, x=x)
    everything(tmp_path, request, IMAGE, Scaling(scale=3.0))
    np.testing.assert_array_equal(np.load(Path(request.uri) / "x.npy"), x)


def test_batches_follow_the_indices(tmp_path: Path) -> None:
    info = prepare(folder_of(tmp_path, x=X, y=Y), Split.TRAIN, IMAGE, StepCache(tmp_path / "c"))
    split = PreparedSplit(info, Scaling())
    order = np.array([9, 0, 3, 3, 7])
    batches = list(split.batches(2, indices=order))
    assert [len(batch.labels) for batch in batches if batch.labels is not None] == [2, 2, 1]
    seen = np.concatenate([batch.inputs["image"] for batch in batches])
    np.testing.assert_array_equal(seen, X[order].astype(np.float32))
    with pytest.raises(ValueError, match=r"outside 0\.\.9"):
        split.batches(2, indices=np.array([10]))


def test_a_prepared_file_that_changed_is_noticed(tmp_path: Path) -> None:
    request = folder_of(tmp_path, x=X, y=Y)
    info = prepare(request, Split.TRAIN, IMAGE, StepCache(tmp_path / "c"))
    np.save(Path(request.uri) / "x.npy", X[:4])
    with pytest.raises(StageError, match="the file has changed") as caught:
        next(PreparedSplit(info, Scaling()).batches(1))
    assert caught.value.reason is Reason.DATA_UNREADABLE


@pytest.mark.parametrize("order", ["fortran", "big-endian"])
def test_arrays_in_another_order_are_turned_around(tmp_path: Path, order: str) -> None:
    x = np.asfortranarray(X) if order == "fortran" else X.astype(">i4")
    for save in (saved, folder_of):
        _, batch = everything(tmp_path, save(tmp_path, x=x))
        np.testing.assert_array_equal(batch.inputs["image"], X.astype(np.float32))


# --- hostile files ------------------------------------------------------------------------------------------


def npy_bytes(shape: str, descr: str = "'<f4'", data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode() + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (npy_bytes("(1000000, 4, 4, 1)", data=b"12"), "truncated"),
        (npy_bytes("(10, 9999999999999)"), "absurd shape"),
        (npy_bytes("(10, 999999999999)"), "in one sample"),
        (npy_bytes("(-1, 4, 4, 1)"), "absurd shape"),
        (npy_bytes("(" + "1," * 40 + ")"), "absurd shape"),
        (npy_bytes("(0, 4, 4, 1)"), "no samples"),
        (npy_bytes("()"), "single value"),
        (npy_bytes("(1, 4, 4, 1)", "'|O'", b"\x80\x04K\x01."), "Python objects"),
        (npy_bytes("(1, 4, 4, 1)", "[('a', '<f4')]", bytes(64)), "expected booleans, integers or floats"),
        (npy_bytes("(1, 4, 4, 1)", "__import__('os')"), "damaged header"),
        (npy_bytes("(1, 4, 4, 1)", "'<U8'"), "expected booleans, integers or floats"),
        (npy_bytes("((1, 4, 4, 1)", data=bytes(64)), "damaged header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "header of 2,147,483,647 bytes"),
        (b"\x93NUMPY\x07\x00", "version 7.0"),
        (b"\x80\x04K\x01.", "no .npy"),
        (b"", "no .npy"),
    ],
)
def test_a_hostile_npy_is_refused_before_it_is_read(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x.npy").write_bytes(content)
    error = refused(tmp_path, DataRequest(uri=str(tmp_path / "set")))
    assert error.reason is Reason.DATA_UNREADABLE
    assert cause in error.message
    with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    assert cause in refused(tmp_path, DataRequest(uri=str(tmp_path / "set.npz"))).message


def test_a_pickle_beside_the_samples_is_left_alone(tmp_path: Path) -> None:
    _, batch = everything(tmp_path, saved(tmp_path, x=X, y=Y, remarks=np.array([{"a": 1}], object)))
    assert len(batch.inputs["image"]) == 10


def test_a_truncated_or_damaged_npz_is_refused(tmp_path: Path) -> None:
    request = saved(tmp_path, x=np.random.default_rng(0).integers(0, 255, (200, 4, 4, 1), np.uint8))
    path = Path(request.uri)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged or truncated" in refused(tmp_path, request).message
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(broken))
    assert "damaged" in refused(tmp_path, request).message


@pytest.mark.parametrize(
    ("prepare_place", "cause"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "neither .npy files nor images"),
        (lambda path: path.write_text("x,y\n1,2\n"), "the format is not known"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "the format is not known"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, prepare_place: Callable, cause: str) -> None:
    prepare_place(tmp_path / "it")
    assert cause in refused(tmp_path, DataRequest(uri=str(tmp_path / "it"))).message


def test_a_format_that_is_not_installed_names_those_that_are(tmp_path: Path) -> None:
    error = refused(tmp_path, DataRequest(uri="mnist://train", format="tfds"))
    assert "format 'tfds' is unknown; known are images, npy, npz" in error.message


# --- images -------------------------------------------------------------------------------------------------


def picture(
    path: Path, color: tuple[int, int, int], size: tuple[int, int] = (8, 6), form: str = "PNG"
) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), color).save(path, form)


def test_a_folder_of_images_is_decoded_resized_and_labelled_by_class_name(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "set" / "cat" / f"{number}.png", (255, 0, 0))
        picture(tmp_path / "set" / "dog" / f"{number}.jpg", (0, 0, 255), form="JPEG")
    (tmp_path / "set" / "cat" / "notes.txt").write_text("not an image")
    inputs = (TensorInfo(name="image", shape=(1, 4, 5, 3), dtype="FLOAT32"),)
    info, batch = everything(tmp_path, DataRequest(uri=str(tmp_path / "set")), inputs)
    assert (info.samples, info.class_names) == (12, ("cat", "dog"))
    assert batch.labels is not None
    assert batch.inputs["image"].shape == (12, 4, 5, 3)
    for label, channel in ((0, 0), (1, 2)):
        pixels = batch.inputs["image"][batch.labels == label]
        assert len(pixels) == 6
        assert (pixels.argmax(axis=-1) == channel).all()
    assert set(batch.labels[:6]) == {0, 1}, "the first half mixes the classes"


def test_images_become_gray_where_the_model_takes_one_channel(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "a" / "1.png", (255, 255, 255))
    _, batch = everything(tmp_path, DataRequest(uri=str(tmp_path / "set")))
    assert batch.inputs["image"].shape == (1, 4, 4, 1)
    assert (batch.inputs["image"] == 255).all()


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "cat" / "good.png", (1, 2, 3))
    whole = (tmp_path / "set" / "cat" / "good.png").read_bytes()
    for content in (b"", b"GIF89a", whole[:40], b"<svg/>"):
        (tmp_path / "set" / "cat" / "bad.png").write_bytes(content)
        assert (
            "image cat/bad.png is corrupt"
            in refused(tmp_path, DataRequest(uri=str(tmp_path / "set"))).message
        )


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    path = tmp_path / "set" / "cat" / "bomb.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(buffer.getvalue())
    error = refused(tmp_path, DataRequest(uri=str(tmp_path / "set")))
    assert "image cat/bomb.png" in error.message


def test_images_need_a_model_that_takes_images(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "cat" / "1.png", (1, 2, 3))
    request = DataRequest(uri=str(tmp_path / "set"))
    error = refused(tmp_path, request, (TensorInfo(name="x", shape=(1, 16), dtype="FLOAT32"),))
    assert (error.reason, "[1, 16]" in error.message) == (Reason.DATA_MISMATCH, True)
    assert "the model has 2" in refused(tmp_path, request, TWO).message
    (tmp_path / "set" / "empty").mkdir()
    assert "the class 'empty' holds no image" in refused(tmp_path, request).message


def test_the_prepared_folder_says_what_was_seen(tmp_path: Path) -> None:
    info, _ = everything(tmp_path, saved(tmp_path, x=X, y=Y))
    seen = json.loads((Path(info.folder) / "arrays.json").read_text())
    assert (seen["labels.npy"]["low"], seen["labels.npy"]["high"]) == ([0, 0], [2, 2])
    assert len(sha256_file(Path(info.folder) / "labels.npy")) == 64
