"""Finds images in folders, archives, tables and URLs, reads them, and decodes them to pixels.

`listing` finds the images of a source, `image_file` describes one, and `reading` reads its bytes. `decode` and
`decoder_pool` decode it, and `views` transforms the pixels.
"""
