"""All that is known of images except their features, in one SQLite file."""

from penult.store.catalog.catalog import Catalog

__all__ = ["Catalog"]
