-- Version 1 of the catalog. Each row carries a seal: a checksum over its other values, checked at every read.
-- A path is TEXT, or a BLOB where the file system's name for it is no valid Unicode.
CREATE TABLE files (
    path ANY PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    key BLOB NOT NULL,
    seal INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (
    path ANY PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL,
    first_seen TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    arguments TEXT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT,
    receipt TEXT,
    seal INTEGER NOT NULL
) STRICT;
CREATE TABLE heads (
    name TEXT PRIMARY KEY,
    card TEXT NOT NULL,
    recorded TEXT NOT NULL,
    seal INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- How many versions a dataset has ever had: numbers are not used twice, and a version that vanished is noticed.
CREATE TABLE datasets (
    name TEXT PRIMARY KEY,
    newest INTEGER NOT NULL,
    seal INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- contents is JSON: rows, and for each column its name, kind and the digests of its blocks. NULL where removed.
CREATE TABLE versions (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    created TEXT NOT NULL,
    digest TEXT NOT NULL,
    contents TEXT,
    seal INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
-- Pieces of columns, named by the SHA-256 of their bytes before compression, so that versions share what is equal.
CREATE TABLE blocks (
    digest BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
