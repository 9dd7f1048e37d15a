"""Every coder gives back what it was given, over made-up values."""

import numpy as np
import pytest
from paretune_codec import huffman, rans, static
from paretune_codec.errors import CorruptPtz
from paretune_codec.logistic import END, SQUASH, STRETCH
from paretune_codec.matrix import Matrix, Shape, class_of, stride_of
from paretune_codec.mixing import Coder, Slots
from paretune_codec.numbers import LARGEST, Numbers, wrap
from paretune_codec.prior import primed


def _symbols(seed: int, count: int, spread: float) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    rng = np.random.default_rng(seed)
    return np.clip(np.round(rng.laplace(0, spread, count)), -128, 127).astype(np.int8).view(np.uint8)


CASES = [(0, 1, 5.0), (1, 7, 0.1), (2, 500, 40.0), (3, 70_000, 3.0), (4, 4_000, 0.05)]


@pytest.mark.parametrize(("seed", "count", "spread"), CASES)
def test_huffman_codes_come_back_within_a_bit_of_the_entropy(seed: int, count: int, spread: float) -> None:
    symbols = _symbols(seed, count, spread)
    counts = np.bincount(symbols, minlength=256)
    lengths = huffman.lengths_of(counts.tolist())
    data = huffman.encode(symbols, lengths)
    shares = counts[counts > 0] / count

    assert (huffman.decode(data, lengths, count) == symbols).all()
    assert len(data) == huffman.size_of(counts.tolist(), lengths)
    assert len(data) * 8 <= count * (1 - float((shares * np.log2(shares)).sum())) + 8


def test_huffman_codes_are_never_longer_than_15_bits() -> None:
    counts = [2**i for i in range(40)] + [0] * 216
    lengths = huffman.lengths_of(counts)

    assert max(lengths) == 15
    assert sum(2.0**-n for n in lengths if n) <= 1


def test_lengths_that_are_no_code_are_refused() -> None:
    for lengths in ([1, 1, 1] + [0] * 253, [0] * 256, [16] + [0] * 255):
        with pytest.raises(CorruptPtz):
            huffman.decode(b"\0\0\0", lengths, 3)
    with pytest.raises(CorruptPtz, match="missing"):
        huffman.decode(b"\0", [1, 1] + [0] * 254, 9)


@pytest.mark.parametrize("lanes", [1, 4, 64])
@pytest.mark.parametrize(("seed", "count", "spread"), CASES)
def test_rans_comes_back_near_the_entropy(seed: int, count: int, spread: float, lanes: int) -> None:
    symbols = _symbols(seed, count, spread)
    counts = np.bincount(symbols, minlength=256)
    table = rans.frequencies(counts.tolist())
    data = rans.encode(symbols, table, lanes)
    shares = counts[counts > 0] / count

    assert sum(table) == rans.TOTAL
    assert (rans.decode(data, table, lanes, count) == symbols).all()
    assert len(data) <= -1.02 * count * float((shares * np.log2(shares)).sum()) / 8 + 4 * lanes + 8


def test_rans_refuses_words_that_are_missing_or_left_over() -> None:
    symbols = _symbols(5, 3000, 20.0)
    table = rans.frequencies(np.bincount(symbols, minlength=256).tolist())
    for lanes in (1, 64):
        data = rans.encode(symbols, table, lanes)
        for damaged in (data[:-2], data + b"\0\0", data[:3], data[:-1]):
            with pytest.raises(CorruptPtz):
                rans.decode(damaged, table, lanes, 3000)


def test_planes_of_wide_elements_come_back() -> None:
    values = np.random.default_rng(0).normal(0, 1, 5000).astype("<f4").tobytes()
    coder, side = Coder(), static.Side()
    static.code_planes(Numbers(coder), side, values, 4, len(values), static.plan(values, 4))
    data = coder.finish()

    assert len(data) + len(side.content) < 0.9 * len(values)
    assert (
        static.code_planes(Numbers(Coder(data)), static.Side(side.content), b"", 4, len(values), []) == values
    )


def _matrix(
    seed: int,
) -> tuple["np.ndarray[tuple[int, int], np.dtype[np.int64]]", Shape, list[int], list[int]]:
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(1, 30)), int(rng.integers(1, 60))
    values = (
        np.round(rng.laplace(0, rng.choice([0.5, 3, 60]), (rows, columns))).astype(np.int64).clip(-500, 500)
    )
    values[rng.random(values.shape) < rng.choice([0, 0.5, 0.9, 1])] = 0
    values[rng.random(rows) < 0.2] = 0
    values[:, rng.random(columns) < 0.2] = 0
    alive = rng.integers(0, 21, int(rng.integers(0, 9))).tolist()
    born = rng.integers(0, 21, rows).tolist() if rng.random() < 0.5 else []
    return values, Shape(rows, columns, int(rng.integers(1, columns + 1))), alive, born


def test_matrices_come_back() -> None:
    for seed in range(60):
        values, shape, alive, born = _matrix(seed)
        coder = Coder()
        encoder = Matrix(coder, shape, alive, born)
        encoder.code(values)
        decoder = Matrix(Coder(coder.finish()), shape, alive, born)

        assert (decoder.code(None) == values).all(), seed
        assert decoder.row_classes == encoder.row_classes
        assert decoder.row_classes == [class_of(int(n)) for n in (values != 0).sum(1)]


def test_a_sparse_matrix_costs_less_than_its_entropy_when_its_rows_differ() -> None:
    rng = np.random.default_rng(0)
    density = rng.choice([0.0, 0.01, 0.4], (100, 1), p=[0.6, 0.2, 0.2])
    values = (rng.random((100, 100)) < density).astype(np.int64) * rng.choice([-1, 1], (100, 100))
    coder = Coder()
    Matrix(coder, Shape(100, 100, 1)).code(values)
    shares = np.unique(values, return_counts=True)[1] / values.size

    assert len(coder.finish()) < -0.75 * values.size * float((shares * np.log2(shares)).sum()) / 8


def test_the_stride_of_an_image_is_its_width() -> None:
    rng = np.random.default_rng(0)
    image = (rng.random((1, 20, 17)) < 0.3).repeat(40, 0).cumsum(1) % 3
    values = (image * (rng.random(image.shape) < 0.9)).reshape(40, 340)

    assert stride_of(values.astype(np.int64), range(2, 60)) == 17


def test_numbers_and_texts_come_back() -> None:
    rng = np.random.default_rng(0)
    wholes = [wrap(int(v)) for v in rng.integers(-(2**62), 2**62, 20)] + [
        0,
        -1,
        1,
        2**63 - 1,
        -(2**63) + 1,
        0,
        5,
        5,
    ]
    unsigned = [0, 1, 2, 63, 64, 4096, 2**32, LARGEST]
    floats = [*rng.normal(0, 1, 20).astype(np.float32).view(np.uint32).tolist(), 0, 0, 1 << 31, (1 << 32) - 1]
    text = b"model/conv2d/Conv2D;model/conv2d_1/Conv2D;model/conv2d_1/BiasAdd" + rng.bytes(20)

    def run(numbers: Numbers, known: bool) -> list[object]:
        return [
            *(numbers.step(70, v if known else 0) for v in wholes),
            *(numbers.unsigned(71, v if known else 0) for v in unsigned),
            *(numbers.float_bits(72, v if known else 0) for v in floats),
            *(numbers.recent(74, v if known else 0, i % 4, 0) for i, v in enumerate(wholes)),
            numbers.text(75, text if known else b"", len(text)),
            numbers.text(75, text if known else b"", len(text)),
        ]

    coder = Coder()
    run(primed(coder), known=True)
    made = run(primed(Coder(coder.finish())), known=False)

    assert made == [*wholes, *unsigned, *floats, *wholes, text, text]


def test_rewinding_leaves_no_trace() -> None:
    straight, detour = Coder(), Coder()
    one, two = primed(straight), primed(detour)
    for numbers in (one, two):
        numbers.step(70, 12345)
    mark = two.mark()
    two.text(75, b"another way", 11)
    two.step(70, -99)
    two.rewind(mark)
    for numbers in (one, two):
        numbers.text(75, b"the same way", 12)

    assert straight.finish() == detour.finish()


def test_stretch_is_the_inverse_of_squash() -> None:
    assert sorted(STRETCH) == STRETCH
    assert all(abs(SQUASH[STRETCH[p >> 4] + END] - p) <= 300 for p in range(64, 65472, 16))
    assert SQUASH[END] == 32768


def test_a_sure_bit_costs_next_to_nothing() -> None:
    coder, bank, weights = Coder(), Slots(1), [65536]
    for _ in range(10_000):
        coder.bit(bank, (0,), weights, 1)

    assert len(coder.finish()) < 20
