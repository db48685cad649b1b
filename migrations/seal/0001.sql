-- What sealing adds to a segment of schema version 1. The rows that were
-- recorded stay as they are; all of this can be computed from them again.

-- Exactly one row. Its table is the sign that the segment is sealed.
CREATE TABLE seal (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  format   INTEGER NOT NULL,          -- of the tables in this file: 1
  rows     INTEGER NOT NULL,          -- of connection
  connects INTEGER NOT NULL,          -- that they stand for: sum of count
  first_ns INTEGER,                   -- lowest id of connection, NULL none
  last_ns  INTEGER                    -- highest
) STRICT;

-- The connections of an endpoint: who made them, how they went, and when each was.
-- In parts that fit a page. docs/format.md says what is in a list.
CREATE TABLE posting (
  remote   INTEGER NOT NULL,          -- endpoint
  part     INTEGER NOT NULL,          -- 0, 1, ... in order
  rows     INTEGER NOT NULL,          -- of connection in this part
  connects INTEGER NOT NULL,          -- that they stand for
  first_ns INTEGER NOT NULL,          -- lowest id in this part
  last_ns  INTEGER NOT NULL,          -- highest
  list     BLOB    NOT NULL,
  PRIMARY KEY (remote, part)
) STRICT, WITHOUT ROWID;

-- The endpoints that a task connected to, in parts likewise.
CREATE TABLE reach (
  task    INTEGER NOT NULL,
  part    INTEGER NOT NULL,           -- 0, 1, ... in order
  remotes BLOB    NOT NULL,           -- ids of endpoint, ascending
  PRIMARY KEY (task, part)
) STRICT, WITHOUT ROWID;
