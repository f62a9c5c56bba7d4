"""The files of a store, on a local disk or in object storage.

``protocol.Place`` names the few operations that a store needs. ``local.LocalPath`` and ``bucket.ObjectPath`` provide
them: durable writes, atomic names and bounded reads.
"""
