-- What plugins keep of their own, each under its id. Keys are compared by their bytes.
CREATE TABLE plugin_value (
    plugin        TEXT    NOT NULL,
    key           BLOB    NOT NULL,
    value         BLOB    NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;
