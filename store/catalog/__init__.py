"""Everything about images except their features, in one SQLite file: ``catalog.sqlite``.

Other public modules: ``datasets`` (`Dataset`), ``files`` (`SeenFile`, `FileStat`), ``ledger`` (`Failure`).
"""

from penult.store.catalog.catalog import Catalog

__all__ = ["Catalog"]
