from pathlib import Path

import pytest
from paretune.tracking.tflite_io import NotTfLiteError, read_ports
from support.made_study import tflite


def test_inputs_and_outputs_are_read_from_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite("a"))
    inputs, outputs = read_ports(path)
    assert [(p.name, p.dtype, p.shape, p.scale) for p in inputs] == [
        ("serving_default_x:0", "float32", (1, 8, 8, 1), None)
    ]
    assert [(p.name, p.dtype, p.shape) for p in outputs] == [("call:0", "float32", (1, 10))]


def test_a_quantized_input_has_its_scale_and_zero_point(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite("a", dtype=9))
    (port,), _ = read_ports(path)
    assert (port.dtype, port.scale, port.zero_point) == ("int8", 0.5, -128)


def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"PK\x03\x04 not a model at all")
    with pytest.raises(NotTfLiteError, match=r"model\.tflite"):
        read_ports(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = tflite("a")
    path = tmp_path / "model.tflite"
    refused = 0
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            read_ports(path)
        except NotTfLiteError:
            refused += 1
    assert refused > 10


def test_offsets_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64)
    with pytest.raises(NotTfLiteError, match="damaged"):
        read_ports(path)
