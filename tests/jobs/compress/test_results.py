"""The coded models of docs/results are whole, and run."""

from pathlib import Path

import numpy as np
import pytest
from paretune_codec import pack, unpack
from paretune_compress.runtime import open_interpreter

MODELS = Path(__file__).parents[3] / "docs/results/models"


@pytest.mark.parametrize("name", ["lenet300_100", "lenet5", "dscnn", "resnet8"])
def test_a_committed_model_comes_back_and_answers(name, tmp_path):
    coded = (MODELS / f"{name}.ptz").read_bytes()
    file = tmp_path / "model.tflite"
    file.write_bytes(unpack(coded))
    assert pack(file.read_bytes()) == coded
    interpreter = open_interpreter(file, threads=1)
    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (entry["dtype"], end["dtype"]) == (np.int8, np.int8)
    answers = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.normal(entry["quantization"][1], 1 + 6 * seed, entry["shape"])
        interpreter.set_tensor(entry["index"], np.clip(values, -128, 127).astype(np.int8))
        interpreter.invoke()
        answers.add(interpreter.get_tensor(end["index"]).tobytes())
    assert len(answers) > 1
