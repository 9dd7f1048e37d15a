"""SavedModels read as data: which operations would run, and when."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paretune_contract.failure import Reason, StageError

UNSAFE = re.compile(
    r"ReadFile|WriteFile|MatchingFiles|ImmutableConst|FileSystem.*|.*PyFunc.*|.*Reader.*|.*Dataset.*|.*Iterator.*|"
    r"InitializeTable.*|.*Summary.*|PrintV?2?|Debug.*|LoadAndRemapMatrix|GenerateVocabRemapping|"
    r"(De|En)codeProto.*|Save|SaveSlices|Restore|RestoreSlice|Remote.*|Rpc.*|_?(Host)?(Send|Recv)|Collective.*|"
    r"Xla.*|TPU.*|TRT.*|LoadLibrary|Abort"
)
"""Operations that touch files, processes, the network or Python; none has a place in a network."""
SAVERS = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
"""Every SavedModel holds these, in two functions of its own that nothing here calls."""
_SAVER_FUNCTION = re.compile(r"__inference__?traced_(save|restore)_\d+")
_RUN_ON_LOADING = frozenset({"_initialize", "_create_resource"})


def check_saved_model(path: Path, uri: str) -> None:
    """Refuse, before TensorFlow loads it, what would touch files, processes or Python.

    Raises:
        StageError: MODEL_UNREADABLE when saved_model.pb is damaged; MODEL_UNSAFE naming the operation;
            MODEL_UNSUPPORTED when TensorFlow 1 wrote it, whose files name operations to run on loading.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # a file error, or protobuf's
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{uri}: saved_model.pb is truncated or damaged ({error})"
        ) from error
    if not model.meta_graphs:
        raise StageError(Reason.MODEL_UNREADABLE, f"{uri}: saved_model.pb holds no graph")
    for graph in model.meta_graphs:
        if not graph.object_graph_def.nodes:
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: it was written by TensorFlow 1; load and save it with TensorFlow 2",
            )
        for function in graph.graph_def.library.function:
            own = _SAVER_FUNCTION.fullmatch(function.signature.name) is not None
            refuse_unsafe(function.node_def, uri, savers=own)
        refuse_unsafe(graph.graph_def.node, uri, savers=True)  # the main graph is never run
        for node in graph.object_graph_def.nodes:
            for child in node.children:
                if child.local_name in _RUN_ON_LOADING:
                    raise StageError(
                        Reason.MODEL_UNSAFE,
                        f"{uri}: it holds a table or another resource that runs code on loading "
                        f"({child.local_name}); remove it from the model",
                    )


def check_graph(graph: Any, uri: str) -> None:
    """Refuse unsafe operations in a GraphDef and its functions, those of savers included.

    Raises:
        StageError: MODEL_UNSAFE naming the operation.
    """
    refuse_unsafe(graph.node, uri, savers=False)
    called = set(_called(graph))
    for function in graph.library.function:
        if function.signature.name in called:
            refuse_unsafe(function.node_def, uri, savers=False)


def refuse_unsafe(nodes: Iterable[Any], uri: str, *, savers: bool) -> None:
    """Look at the operations of one function; `savers` lets those pass that save and restore variables."""
    for node in nodes:
        if UNSAFE.fullmatch(node.op) or (node.op in SAVERS and not savers):
            raise StageError(
                Reason.MODEL_UNSAFE,
                f"{uri}: operation {node.name!r} is a {node.op}, which touches files, processes or Python; "
                "remove it from the model",
            )


def _called(graph: Any) -> Iterator[str]:
    """Names of the functions that the graph's own nodes call, directly or not."""
    functions = {function.signature.name: function for function in graph.library.function}
    nodes, done = list(graph.node), set[str]()
    while nodes:
        node = nodes.pop()
        names = [node.op, *(v.func.name for v in node.attr.values())]
        names += [f.name for v in node.attr.values() for f in v.list.func]
        for name in names:
            if name in functions and name not in done:
                done.add(name)
                nodes.extend(functions[name].node_def)
                yield name
