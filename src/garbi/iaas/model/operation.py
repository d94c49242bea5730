"""An operation: a request that takes time, with its progress and the cause of its failure."""

from garbi.iaas_api.operations import Operation as Operation
from garbi.iaas_api.operations import OperationKind as OperationKind
from garbi.iaas_api.operations import OperationState as OperationState
