"""The files of a store, on a local disk or in object storage.

``protocol.StoragePath`` lists the operations that a store needs: durable writes, atomic names and bounded reads.
``local.LocalPath`` and ``bucket.ObjectPath`` provide them.
"""
