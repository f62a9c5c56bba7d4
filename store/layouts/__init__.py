"""Features in other people's layouts: written from a store, and read into one."""

from penult.store.layouts.transfer import LAYOUTS, Exported, Imported, Layout, export_store, import_store, layout_named

__all__ = ["LAYOUTS", "Exported", "Imported", "Layout", "export_store", "import_store", "layout_named"]
