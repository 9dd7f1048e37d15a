"""Which classes a Keras config may name. A config is data until one of these builds a layer from it.

Lambda layers hold Python bytecode, which legacy files run while they load; registered or custom classes name
code that is not Keras's own. Both are refused before Keras sees the file.
"""

from collections.abc import Iterator
from typing import Any

from paretune_contract.failure import Reason, StageError

LAYERS = frozenset(
    """
    Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D
    AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate Conv1D
    Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Convolution1D Convolution2D Cropping1D
    Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU Embedding Flatten Functional
    GRU GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GRUCell Identity InputLayer LSTM LSTMCell
    LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Model
    MultiHeadAttention Multiply Normalization PReLU Permute RNN RandomContrast RandomCrop RandomFlip
    RandomRotation RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D
    SeparableConv2D SeparableConvolution2D Sequential SimpleRNN SimpleRNNCell Softmax SpatialDropout1D
    SpatialDropout2D SpatialDropout3D StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D
    UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
)
OTHERS = frozenset(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm RadialConstraint
    Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lion Nadam RMSprop SGD LossScaleOptimizer
    CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay
    BinaryCrossentropy CategoricalCrossentropy SparseCategoricalCrossentropy MeanSquaredError
    MeanAbsoluteError Huber KLDivergence Poisson CosineSimilarity Hinge LogCosh
    Accuracy BinaryAccuracy CategoricalAccuracy SparseCategoricalAccuracy TopKCategoricalAccuracy
    SparseTopKCategoricalAccuracy AUC Precision Recall MeanMetricWrapper Mean
    DTypePolicy Policy TensorShape FloatDTypePolicy
    __tensor__ __keras_tensor__ __numpy__ __tuple__ __ellipsis__ __typespec__ __slice__ __complex__
    """.split()
)
FORBIDDEN = frozenset({"__lambda__", "__bytes__", "function"})
MODULES = ("keras", "tensorflow.keras", "tf_keras", "tensorflow.python.keras", "builtins")
_DEPTH = 100


def check_config(config: Any, uri: str) -> None:
    """Look at every class that a config names.

    Raises:
        StageError: MODEL_UNSAFE naming the layer and the class.
    """
    for where, entry in _entries(config, "the model", 0):
        name = entry.get("class_name")
        if not isinstance(name, str):
            continue
        if name == "Lambda" or name in FORBIDDEN:
            raise StageError(
                Reason.MODEL_UNSAFE,
                f"{uri}: {where} is a {name}, which runs Python code of the file; write it with Keras layers "
                "or operations, or give the model as SavedModel or .tflite",
            )
        registered, module = entry.get("registered_name"), entry.get("module")
        foreign = isinstance(module, str) and not module.startswith(MODULES)
        package = isinstance(registered, str) and ">" in registered and not registered.startswith("keras")
        if name not in LAYERS | OTHERS or foreign or package:
            origin = registered if package else f"{module}.{name}" if foreign else name
            raise StageError(
                Reason.MODEL_UNSAFE,
                f"{uri}: {where} is of class {origin!r}, which is not one of Keras's layers that intake builds; "
                "give the model as SavedModel or .tflite",
            )


def _entries(value: Any, where: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if depth > _DEPTH:
        raise RecursionError("the config is nested too deeply")
    if isinstance(value, dict):
        inner = where
        if "class_name" in value:
            config = value.get("config")
            name = config.get("name") if isinstance(config, dict) else value.get("name")
            if isinstance(name, str):
                inner = f"layer {name!r}" if depth else f"model {name!r}"
            yield inner, value
        for part in value.values():
            yield from _entries(part, inner, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from _entries(part, where, depth + 1)
