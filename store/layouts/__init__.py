"""Exports features to the file layouts of other programs, and imports features from them."""

from penult.store.layouts.transfer import LAYOUTS, Exported, Imported, Layout, export_store, import_store, layout_named

__all__ = ["LAYOUTS", "Exported", "Imported", "Layout", "export_store", "import_store", "layout_named"]
