-- What is known about kept images. The bytes themselves stand in the object store, under {sha256}.{extension}.
-- Times are milliseconds since 1970-01-01T00:00:00Z.

-- One row for each distinct file. It is written after its bytes are durable, so a row here promises the bytes.
CREATE TABLE image (
    sha256        TEXT    NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    format        TEXT    NOT NULL CHECK (format IN ('png', 'jpeg', 'webp')),
    width         INTEGER NOT NULL CHECK (width > 0),
    height        INTEGER NOT NULL CHECK (height > 0),
    bytes         INTEGER NOT NULL CHECK (bytes > 0),
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The public names: {unix seconds}_{first 12 digits of the sha256}.{extension}.
CREATE TABLE alias (
    name          TEXT    NOT NULL PRIMARY KEY,
    sha256        TEXT    NOT NULL REFERENCES image (sha256),
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each finished request.
CREATE TABLE generation (
    id              INTEGER PRIMARY KEY,
    -- The caller's name for the request; callers may use one twice.
    request_id      TEXT    NOT NULL,
    -- The name of the key that asked.
    principal       TEXT    NOT NULL,
    backend         TEXT    NOT NULL,
    model           TEXT    NOT NULL,
    prompt          TEXT    NOT NULL,
    negative_prompt TEXT,
    -- The request's other parameters as a JSON object (src/wire.rs).
    parameters      TEXT    NOT NULL,
    created_at_ms   INTEGER NOT NULL
) STRICT;

-- One row for each picture of a generation. Equal pictures made in the same second share an alias.
CREATE TABLE picture (
    generation_id  INTEGER NOT NULL REFERENCES generation (id) ON DELETE CASCADE,
    position       INTEGER NOT NULL,
    alias          TEXT    NOT NULL REFERENCES alias (name),
    -- Decimal text: a backend's seed may be larger than SQLite's integers.
    seed           TEXT,
    revised_prompt TEXT,
    PRIMARY KEY (generation_id, position)
) STRICT, WITHOUT ROWID;

-- One row, rewritten to find out whether the database can be written.
CREATE TABLE probe (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms INTEGER NOT NULL
) STRICT;
