"""Decides whether the graph of a SavedModel does no more than compute.

A TensorFlow graph is a program, which may read and write files, call Python and talk to other machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

_NOT_STATELESS = re.compile(
    "^_|File|Dataset|Iterator|Reader|Summary|Py|Print|Debug|Dump|Xla|T[Pp][Uu]|Custom|Proto|Vocab|Abort|Mlir|Remote|Rpc"
    "|Service|Snapshot|Collective|Nccl|Save|Restore|Checkpoint|KernelLabel|Send|Recv|Stub|ImmutableConst|^Copy"
)
"""Operations that TensorFlow calls stateless although they read files (`ImmutableConst` maps any), or run no graph."""
_RANDOM = (
    *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "ParameterizedTruncatedNormal"),
    *("RandomShuffle", "RandomGamma", "RandomPoisson", "RandomPoissonV2", "Multinomial", "StatefulUniform"),
    *("StatefulUniformInt", "StatefulUniformFullInt", "StatefulStandardNormalV2", "StatefulTruncatedNormal"),
    *("StatefulRandomBinomial", "RngSkip", "RngReadAndSkip", "NonDeterministicInts", "StatelessRandomGetAlg"),
)
_VARIABLES = (
    *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    *("VarIsInitializedOp", "VariableShape", "DisableCopyOnRead", "DestroyResourceOp", "ResourceGather"),
    *("ResourceGatherNd", "ResourceStridedSliceAssign"),
    *(f"ResourceScatter{how}" for how in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Update")),
    *(f"ResourceScatterNd{how}" for how in ("Add", "Sub", "Min", "Max", "Update")),
)
_TABLES = (
    *("HashTableV2", "MutableHashTableV2", "MutableHashTableOfTensorsV2", "MutableDenseHashTableV2"),
    *("AnonymousHashTable", "AnonymousMutableHashTable", "AnonymousMutableHashTableOfTensors"),
    *("AnonymousMutableDenseHashTable", "InitializeTableV2", "LookupTableFindV2", "LookupTableSizeV2"),
    *("LookupTableExportV2", "LookupTableImportV2", "LookupTableInsertV2", "LookupTableRemoveV2"),
)
_ARRAYS = tuple(
    f"TensorArray{how}V3"
    for how in ("", "Read", "Write", "Gather", "Scatter", "Concat", "Split", "Size", "Grad", "Close")
)
_OTHERS = ("StatefulPartitionedCall", "If", "While", "Case", "Assert", "CheckNumerics", "CheckNumericsV2", "Empty")
_STATEFUL = {*_RANDOM, *_VARIABLES, *_TABLES, *_ARRAYS, *_OTHERS, "GuaranteeConst", "IsResourceHandleRefCounting"}
_STATEFUL |= {"CudnnRNN", "CudnnRNNV2", "CudnnRNNV3", "StackV2", "StackPushV2", "StackPopV2", "StackCloseV2"}
_MOST_NAMED = 3


def refused(functions: Sequence[Any], nodes: Iterable[Any]) -> str:
    """Return the operations among these that may do more than compute, in words; empty: there are none."""
    known = _stateful_by_name()
    names = [node.op for function in functions for node in function.node_def] + [node.op for node in nodes]
    called = {function.signature.name for function in functions} - known.keys()
    bad = list(dict.fromkeys(name for name in names if name not in called and not _computes(name, known)))
    more = f" and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    return ", ".join(name[:100] for name in bad[:_MOST_NAMED]) + more


def _computes(name: str, stateful: dict[str, bool]) -> bool:
    if name not in stateful:
        return False  # of a library that is loaded besides TensorFlow
    return name in _STATEFUL if stateful[name] else not _NOT_STATELESS.search(name)


def _stateful_by_name() -> dict[str, bool]:
    """Return whether each operation that TensorFlow knows in this process has effects, by its own account."""
    operations = op_def_pb2.OpList()
    operations.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {operation.name: operation.is_stateful for operation in operations.op}
