"""Ports of the host that lead to machines: who holds one, and the nftables table that forwards them."""
