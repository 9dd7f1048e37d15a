"""Which classes a Keras config may name. A config is data until a class that it names builds something.

Lambda layers hold Python bytecode, which legacy files run while they load; custom classes name code that is
not Keras's own. Whatever is not on the lists below is refused before Keras sees the file.
"""

from collections.abc import Iterator
from typing import Any

from paretune_contract.failure import Reason, StageError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LAYERS = _words(
    """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average AveragePooling1D
    AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
    Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose Convolution1D Convolution2D
    Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense
    Embedding Flatten Functional GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU
    Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Model MultiHeadAttention Multiply
    Normalization PReLU Permute RMSNormalization RNN RandomContrast RandomCrop RandomFlip RandomRotation
    RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D
    SeparableConvolution2D Sequential SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D
    SpatialDropout3D SpectralNormalization StackedRNNCells Subtract ThresholdedReLU TimeDistributed
    UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)
OTHERS = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
    VarianceScaling Zeros
    L1 L2 L1L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm RadialConstraint
    DTypePolicy Policy FloatDTypePolicy TensorShape
    __keras_tensor__ __tuple__ __ellipsis__ __slice__
    """
)
"""Initializers, regularizers, constraints, types; and what stands for a tensor between two layers."""
OPERATION_MODULES = ("keras.src.ops.numpy", "keras.src.ops.nn")
OPERATIONS = _words(
    """
    Abs Absolute Add Clip Concatenate Divide ExpandDims Exp GetItem LeakyRelu Log Matmul Max Maximum Mean Min
    Minimum Multiply Negative Power Prod Reciprocal Relu Relu6 Reshape Rsqrt Sigmoid HardSigmoid HardSilu Silu
    Gelu Softmax Sqrt Square Squeeze Stack Subtract Sum Tanh Transpose TrueDivide
    """
)
"""Arithmetic between layers of a Keras 3 model."""
TENSORFLOW_FUNCTIONS = _words(
    """
    __operators__.add __operators__.getitem clip_by_value concat expand_dims math.add math.divide math.exp
    math.maximum math.minimum math.multiply math.pow math.reduce_max math.reduce_mean math.reduce_sum
    math.rsqrt math.sigmoid math.sqrt math.square math.subtract math.tanh math.truediv nn.relu nn.relu6
    nn.sigmoid nn.softmax reshape squeeze stack transpose
    """
)
"""The same in legacy files, as TFOpLambda; others of these can read and write files."""
PACKAGES = frozenset({"keras", "tf_keras"})
_DEPTH = 100


def check_config(config: Any, uri: str) -> None:
    """Look at every class that a config names.

    Raises:
        StageError: MODEL_UNSAFE naming the layer and the class.
        RecursionError: when the config is nested absurdly.
    """
    for where, entry in _entries(config, "the model", 0):
        problem = _problem(entry)
        if problem:
            raise StageError(
                Reason.MODEL_UNSAFE,
                f"{uri}: {where} {problem}; "
                "write it with Keras's own layers, or give the model as SavedModel or .tflite",
            )


def _problem(entry: dict[str, Any]) -> str | None:  # noqa: PLR0911 - a checklist
    """What is wrong with an entry that names a class, as the end of a sentence."""
    name, module, registered = entry.get("class_name"), entry.get("module"), entry.get("registered_name")
    if not isinstance(name, str):
        return f"has the class name {name!r}; expected a string"
    if name in ("Lambda", "__lambda__"):
        return "is a Lambda, which runs Python code out of the file"
    if name == "function":
        return f"holds the function {str(entry.get('config'))[:100]!r}, which is code outside of the file"
    if isinstance(registered, str) and registered not in (name, "") and not registered.startswith("keras>"):
        return f"is of the custom class {registered!r}"
    if module is not None and not (isinstance(module, str) and _is_keras(module)):
        return f"is of class {name!r} of the module {module!r}, which is not Keras's"
    if name in ("TFOpLambda", "SlicingOpLambda"):
        config = entry.get("config")
        function = config.get("function") if isinstance(config, dict) else None
        if function in TENSORFLOW_FUNCTIONS:
            return None
        return (
            f"calls the TensorFlow function {str(function)[:100]!r}, which is not on the list of arithmetic"
        )
    if isinstance(module, str) and module.startswith("keras.src.ops"):
        if module in OPERATION_MODULES and name in OPERATIONS:
            return None
        return f"is the operation {module}.{name}, which is not on the list of arithmetic"
    if name not in LAYERS | OTHERS:
        return f"is of class {name!r}, which is not one of the Keras layers that are read"
    return None


def _is_keras(module: str) -> bool:
    parts = module.split(".")
    if module == "builtins" or parts[:2] == ["tensorflow", "keras"]:
        return True
    return parts[0] in PACKAGES and all(part.isidentifier() for part in parts)


def _entries(value: Any, where: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dict that names a class, with the layer that it stands in."""
    if depth > _DEPTH:
        raise RecursionError("the config is nested too deeply")
    if isinstance(value, dict):
        inner = where
        if "class_name" in value:
            config = value.get("config")
            name = value.get("name") or (config.get("name") if isinstance(config, dict) else None)
            if isinstance(name, str):
                inner = f"layer {name[:100]!r}" if depth else f"model {name[:100]!r}"
            yield inner, value
        for part in value.values():
            yield from _entries(part, inner, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from _entries(part, where, depth + 1)
