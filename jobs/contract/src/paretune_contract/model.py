"""What intake found in the source model."""

from enum import StrEnum

from pydantic import Field

from .base import Document


class SourceFormat(StrEnum):
    """Formats that intake reads."""

    KERAS = "keras"
    H5 = "h5"
    SAVED_MODEL = "savedModel"
    TFLITE = "tflite"


class TensorInfo(Document):
    """An input or output of the model."""

    name: str
    shape: tuple[int, ...] = Field(description="Shape with batch 1 in front.")
    dtype: str


class LayerInfo(Document):
    """One operator with weights, in execution order."""

    name: str = Field(
        description="Name of the operator's output tensor in the float .tflite; regexes match it."
    )
    operator: str = Field(description="LiteRT operator, such as CONV_2D.")
    weight_tensor: int = Field(description="Index of the weight tensor in the float .tflite.")
    weight_shape: tuple[int, ...]
    weights: int
    macs: int = Field(description="Multiply-accumulates of one inference.")
    trainable: bool = Field(description="Fine-tuning can change it.")
    prunable: bool = Field(description="Sparsity applies to it (depthwise and tiny layers are left alone).")
    clusterable: bool
    int4: bool = Field(description="int4 weights are possible for this operator.")


class ModelInfo(Document):
    """The normalised model: one float .tflite, from which everything starts."""

    uri: str
    format: SourceFormat
    source_sha256: str
    path: str = Field(description="Absolute path of the float .tflite.")
    sha256: str
    bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[LayerInfo, ...]
    parameters: int
    macs: int
    untrainable: tuple[str, ...] = Field(
        (), description="Operators that fine-tuning cannot pass a gradient through; empty = trainable."
    )
    compile_config: dict[str, str | float] = Field(
        default_factory=dict,
        description="`loss`, `optimizer`, `learningRate` of the source, where it says so.",
    )
