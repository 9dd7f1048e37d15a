"""A file without what no interpreter needs."""

from ai_edge_litert import schema_py_generated as schema

from .. import flatbuffer as fb


def lean(model: fb.Model) -> None:
    """Strip names, metadata and spare buffers in place, and put tensors in the order of their use.

    A model of one input and one output needs no signature either; one of several keeps it, and the names of
    its ends, since whoever feeds it must tell them apart. Models of several subgraphs are left as they are.
    """
    if len(model.subgraphs) != 1:
        return
    graph = model.subgraphs[0]
    model.description, model.metadata, model.metadataBuffer = None, None, None
    graph.name = None
    ends = [int(t) for t in (*graph.inputs, *graph.outputs)]
    alone = len(graph.inputs) == 1 and len(graph.outputs) == 1
    order = dict.fromkeys(int(t) for op in graph.operators for t in (*op.inputs, *op.outputs) if t >= 0)
    order.update(dict.fromkeys(ends))
    place = {old: new for new, old in enumerate(order)}
    if alone:
        model.signatureDefs = None
    for signature in model.signatureDefs or []:
        for end in (*(signature.inputs or []), *(signature.outputs or [])):
            end.tensorIndex = place[int(end.tensorIndex)]
    tensors, buffers = [], [schema.BufferT()]
    moved: dict[int, int] = {}
    for old in order:
        tensor = graph.tensors[old]
        if alone or old not in ends:
            tensor.name = None
        if fb.is_constant(model, old):
            if tensor.buffer not in moved:
                moved[tensor.buffer] = len(buffers)
                buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = moved[tensor.buffer]
        else:
            tensor.buffer = 0
        if fb.type_name(tensor) == "FLOAT32":
            tensor.quantization = None
        tensors.append(tensor)
    for op in graph.operators:
        op.inputs = [place.get(int(t), -1) for t in op.inputs]
        op.outputs = [place[int(t)] for t in op.outputs]
    graph.inputs = [place[int(t)] for t in graph.inputs]
    graph.outputs = [place[int(t)] for t in graph.outputs]
    graph.tensors, model.buffers = tensors, buffers
