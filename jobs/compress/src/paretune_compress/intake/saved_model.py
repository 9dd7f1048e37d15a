"""SavedModels read as data: which operations would run."""

from pathlib import Path

from paretune_contract.failure import Reason, StageError

UNSAFE = frozenset(
    """
    ReadFile WriteFile PyFunc PyFuncStateless EagerPyFunc MatchingFiles ImmutableConst LoadLibrary Save SaveSlices
    WholeFileReader WholeFileReaderV2 TextLineReader TFRecordReader FixedLengthRecordReader TextLineDataset
    TFRecordDataset FixedLengthRecordDataset PrintV2 Print DebugIdentity DebugIdentityV2 SaveDataset LoadDataset
    RpcClient RpcCall RpcServer FileSystemSetConfiguration
    """.split()
)
RESTORING = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "StringJoin"})
"""Every SavedModel holds these, in the functions that load its own variables."""


def check_saved_model(path: Path, uri: str) -> None:
    """Refuse operations that touch files, processes or Python.

    Raises:
        StageError: MODEL_UNREADABLE when saved_model.pb is damaged; MODEL_UNSAFE naming the operation.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{uri}: saved_model.pb is truncated or damaged ({error})"
        ) from error
    if not model.meta_graphs:
        raise StageError(Reason.MODEL_UNREADABLE, f"{uri}: saved_model.pb holds no graph")
    for graph in model.meta_graphs:
        nodes = [*graph.graph_def.node, *(n for f in graph.graph_def.library.function for n in f.node_def)]
        for node in nodes:
            if node.op in UNSAFE:
                raise StageError(
                    Reason.MODEL_UNSAFE,
                    f"{uri}: operation {node.name!r} is a {node.op}, which touches files or Python; remove it "
                    "from the model",
                )
