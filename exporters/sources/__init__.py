"""Sources of pretrained networks: one sub-package per framework.

``lookup`` finds the source of a prefix; ``base`` defines what every source returns.
"""
