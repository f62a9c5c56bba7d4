"""Fault injection for stores: killed writers, failing disks, lost power, flipped bytes, many processes."""
