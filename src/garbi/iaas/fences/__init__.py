"""Proof that a node's machines do not run there any more: without one, nothing of an unreachable node runs elsewhere."""
