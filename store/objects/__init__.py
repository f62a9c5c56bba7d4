"""A store in object storage: rows are read from there, while the catalog and the heads have local copies."""
