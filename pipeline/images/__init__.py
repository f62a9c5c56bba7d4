"""Lists images of any source, reads their bytes and decodes them to pixels.

Other packages use `listing` (all sources), `image_file`, `reading`, `decode`, `decoder_pool` and `views`.
"""
