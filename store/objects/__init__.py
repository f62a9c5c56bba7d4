"""Stores on object storage: the same shards and manifests as objects, and the catalog as numbered generations."""
