"""Train a small depthwise-separable network on handwritten digits, and write what a study needs.

The 1,797 images of 8 x 8 pixels come with scikit-learn (UCI optical recognition of handwritten digits,
Alpaydin and Kaynak 1998), so nothing is downloaded. Usage: `python train.py FOLDER`; the folder then holds

- `model.keras`: 19,146 parameters, softmax over ten classes, input float32 [N, 8, 8, 1] in 0..1;
- `train.npz`, `calibration.npz`, `evaluation.npz`, `test.npz`: `x` uint8 [N, 8, 8, 1] in 0..16, `y` int64.

The pixels stay integers as they were scanned; `scale: 0.0625` in study.yaml maps them to the model's 0..1.
"""

import argparse
import math
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 0
EPOCHS = 20
LEARNING_RATE = 3e-3
BATCH = 64
SHARES = {"calibration": 100, "evaluation": 400, "test": 297}  # images; train has the other 1,000
WHITE = 16  # largest pixel value

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def splits() -> dict[str, Split]:
    """The digits in disjoint parts, each with every class in its share of the whole."""
    digits = load_digits()
    x, y = digits.images.astype(np.uint8)[..., np.newaxis], digits.target.astype(np.int64)
    parts: dict[str, Split] = {}
    for name, images in SHARES.items():
        x, part_x, y, part_y = train_test_split(x, y, test_size=images, stratify=y, random_state=SEED)
        parts[name] = part_x, part_y
    return {"train": (x, y), **parts}


def network() -> keras.Model:
    """A stem and three depthwise-separable blocks with batch normalization, as keyword spotters have them."""

    def normalized(tensor: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.ReLU()(keras.layers.BatchNormalization()(tensor))

    inputs = keras.Input((8, 8, 1), name="image")
    tensor = normalized(keras.layers.Conv2D(32, 3, padding="same", use_bias=False, name="stem")(inputs))
    for number, (filters, strides) in enumerate([(64, 1), (64, 2), (128, 1)], start=1):
        depthwise = keras.layers.DepthwiseConv2D(
            3, strides, padding="same", use_bias=False, name=f"depthwise_{number}"
        )
        tensor = normalized(depthwise(tensor))
        pointwise = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"pointwise_{number}")
        tensor = normalized(pointwise(tensor))
    tensor = keras.layers.GlobalAveragePooling2D()(tensor)
    tensor = keras.layers.Dropout(0.2)(tensor)
    return keras.Model(
        inputs, keras.layers.Dense(10, activation="softmax", name="digit")(tensor), name="digits"
    )


def shifted(x: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each image moved by up to one pixel in both directions."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = rng.integers(0, 3, (2, len(x)))
    return np.stack([image[r : r + 8, c : c + 8] for image, r, c in zip(padded, rows, columns, strict=True)])


def augmented(x: NDArray[np.uint8], y: NDArray[np.int64]) -> Split:
    """The images as they are, and three shifted copies of each."""
    rng = np.random.default_rng(SEED)
    return np.concatenate([x, *(shifted(x, rng) for _ in range(3))]), np.tile(y, 4)


def cosine(epoch: int, _: float) -> float:
    """Learning rate of an epoch: from the peak down towards zero by half a cosine."""
    return LEARNING_RATE * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the network of the demo and write its data.")
    parser.add_argument("folder", type=Path, help="where model.keras and the .npz files go")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(SEED)
    data = splits()
    for name, (x, y) in data.items():
        np.savez_compressed(folder / f"{name}.npz", x=x, y=y)

    x, y = augmented(*data["train"])
    model = network()
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # compiling for a network this small takes longer than training it
    )
    decay = keras.callbacks.LearningRateScheduler(cosine)
    model.fit(x.astype(np.float32) / WHITE, y, batch_size=BATCH, epochs=EPOCHS, callbacks=[decay], verbose=0)
    model.optimizer.learning_rate = LEARNING_RATE / 10  # saved with the model; fine-tuning starts from it

    x, y = data["evaluation"]
    _, accuracy = model.evaluate(x.astype(np.float32) / WHITE, y, verbose=0)
    model.save(folder / "model.keras")
    print(f"{model.count_params():,} parameters, accuracy {accuracy:.4f} on evaluation.npz")  # noqa: T201


if __name__ == "__main__":
    main()
