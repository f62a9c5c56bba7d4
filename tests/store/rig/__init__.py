"""A rig that makes stores go wrong: killed writers, failing disks, lost power, flipped bytes, crowds of processes."""
