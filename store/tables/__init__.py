"""Tables of samples in memory: reading, writing, joining, comparing and splitting.

Public modules: ``table`` (`Table`), ``columns``, ``formats``, ``sheets``, ``joining``, ``differences``, ``leaks`` and
``splits``.
"""
