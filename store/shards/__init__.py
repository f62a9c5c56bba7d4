"""The shard file: its layout, checksums and key table."""
