"""Losses of fine-tuning, over logits where the model ends in a softmax or a sigmoid."""

from collections.abc import Sequence
from typing import Any

from paretune_contract.training import Loss

TFTensor = Any
TEMPERATURE = 2.0
"""Softens the teacher's probabilities (Hinton et al. 2015)."""


def label_loss(loss: Loss, output: TFTensor, logits: TFTensor, target: TFTensor) -> TFTensor:
    """Mean loss of a batch against the labels.

    Args:
        loss: which one.
        output: the model's first output, [batch, ...].
        logits: the same before its final SOFTMAX or LOGISTIC; the cross-entropies take an output without
            one for logits.
        target: integer classes [batch, ...], one-hot or real values in the output's shape.
    """
    import tensorflow as tf

    if loss is Loss.CATEGORICAL_CROSSENTROPY:
        classes = int(logits.shape[-1])
        flat = tf.reshape(logits, [-1, classes])
        one_hot = target.shape.rank == logits.shape.rank and target.shape[-1] == classes > 1
        if one_hot and target.dtype.is_floating:
            hot = tf.reshape(tf.cast(target, tf.float32), [-1, classes])
            return -tf.reduce_mean(tf.reduce_sum(hot * tf.nn.log_softmax(flat), axis=-1))
        numbers = tf.reshape(tf.cast(target, tf.int32), [-1])
        if one_hot:
            numbers = tf.argmax(tf.reshape(target, [-1, classes]), axis=-1, output_type=tf.int32)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(numbers, flat))
    if loss is Loss.BINARY_CROSSENTROPY:
        goal = tf.reshape(tf.cast(target, tf.float32), tf.shape(logits))
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(goal, logits))
    goal = tf.reshape(tf.cast(target, tf.float32), tf.shape(output))
    return tf.reduce_mean(tf.math.squared_difference(output, goal))


def distillation_loss(
    logits: Sequence[TFTensor], ends: Sequence[str], teacher: Sequence[TFTensor], probabilities: bool
) -> TFTensor:
    """Mean distance of a batch from the float model's logits, over all outputs.

    Outputs that end in a softmax (and the first one where the loss takes it for logits) by Kullback-Leibler
    divergence at temperature 2, sigmoids by cross-entropy, others by squared error.

    Args:
        logits: of the network in training, [batch, ...] each.
        ends: `SOFTMAX`, `LOGISTIC` or "" for each output.
        teacher: logits of the float model, same shapes.
        probabilities: the first output counts as logits of classes although no SOFTMAX follows.
    """
    import tensorflow as tf

    total = 0.0
    for i, (own, end, goal) in enumerate(zip(logits, ends, teacher, strict=True)):
        if end == "SOFTMAX" or (i == 0 and probabilities and end == ""):
            soft = tf.nn.softmax(goal / TEMPERATURE)
            log_ratio = tf.nn.log_softmax(goal / TEMPERATURE) - tf.nn.log_softmax(own / TEMPERATURE)
            divergence = tf.reduce_sum(soft * log_ratio, axis=-1)
            total += tf.reduce_mean(divergence) * TEMPERATURE**2
        elif end == "LOGISTIC":
            total += tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(goal), own))
        else:
            total += tf.reduce_mean(tf.math.squared_difference(own, goal))
    return total
