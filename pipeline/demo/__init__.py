"""The demo: the main job on pictures that penult draws itself."""
