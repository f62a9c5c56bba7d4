"""From a head to one file that runs anywhere, and what it says of images."""
