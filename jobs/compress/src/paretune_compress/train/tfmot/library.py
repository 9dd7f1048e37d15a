"""Keras 2 and tfmot, imported so that the process keeps the Keras it has.

To import this module is to import TensorFlow: it is done inside the trainer only.
"""

import os
import warnings
from typing import Any

import tensorflow as tf

_NAME = "TF_USE_LEGACY_KERAS"


def _load() -> tuple[Any, Any]:
    """tf_keras and tfmot.

    tfmot sets a variable of the environment, for which `tf.keras` is Keras 2 wherever it is first used after
    that. It is used here before, and the variable is put back.
    """
    before = os.environ.get(_NAME)
    tf.keras.__name__  # noqa: B018 - decides what tf.keras is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization
        import tf_keras
    if before is None:
        os.environ.pop(_NAME, None)
    else:
        os.environ[_NAME] = before
    return tf_keras, tensorflow_model_optimization


keras, tfmot = _load()
