"""Rows under keys, durably: spaces, their shards, and what keeps them whole."""
