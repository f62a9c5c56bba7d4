"""What runs where on this machine, why not faster, and what will be the bottleneck."""
