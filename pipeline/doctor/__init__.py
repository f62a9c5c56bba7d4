"""Reports how fast this machine extracts and which part is the bottleneck; see `diagnosis.diagnose`."""
