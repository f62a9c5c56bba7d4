"""Where images come from, one module for each kind of source; `penult.pipeline.extraction.images` chooses."""
