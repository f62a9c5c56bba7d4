"""The shard file: its layout, checksums and key table. Nothing outside the store imports these modules."""
