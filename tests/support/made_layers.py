"""Layer descriptions for tests that need no file."""

from paretune_contract.model import LayerInfo


def layer(
    name: str, operator: str = "CONV_2D", shape: tuple[int, ...] = (16, 3, 3, 16), **values
) -> LayerInfo:
    """A prunable layer unless told otherwise."""
    size = 1
    for d in shape:
        size *= d
    defaults = {
        "weight_tensor": 1, "weights": size, "macs": size, "trainable": True, "prunable": True,
        "clusterable": True, "int4": True,
    }  # fmt: skip
    return LayerInfo(name=name, operator=operator, weight_shape=shape, **{**defaults, **values})
