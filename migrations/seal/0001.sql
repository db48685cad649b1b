-- What sealing adds to a segment of schema version 1. The rows that were
-- recorded stay as they are; all of this can be computed from them again.
-- An hour is id / 3600000000000 of a connection, on the segment clock.

-- Exactly one row. Its table is the sign that the segment is sealed.
CREATE TABLE seal (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  format   INTEGER NOT NULL,          -- of the tables in this file: 1
  rows     INTEGER NOT NULL,          -- of connection
  connects INTEGER NOT NULL,          -- that they stand for: sum of count
  first_ns INTEGER,                   -- lowest id of connection, NULL none
  last_ns  INTEGER                    -- highest
) STRICT;

-- A program as one user ran it in one container. Many processes are one image.
CREATE TABLE image (
  id        INTEGER PRIMARY KEY,
  exe       TEXT,
  script    TEXT,
  uid       INTEGER NOT NULL,
  user      TEXT,                     -- NULL unknown
  container TEXT                      -- NULL none
) STRICT;

-- When each thread state connected: finds the rows of a process, which are those
-- of its tasks between first_ns and last_ns, without an index over all rows.
CREATE TABLE activity (
  task     INTEGER NOT NULL,
  hour     INTEGER NOT NULL,
  image    INTEGER NOT NULL,
  rows     INTEGER NOT NULL,
  connects INTEGER NOT NULL,
  first_ns INTEGER NOT NULL,
  last_ns  INTEGER NOT NULL,
  PRIMARY KEY (task, hour)
) STRICT, WITHOUT ROWID;

-- Who connected where, how it went, and how often, by the hour.
CREATE TABLE traffic (
  remote   INTEGER NOT NULL,          -- endpoint
  image    INTEGER NOT NULL,
  hour     INTEGER NOT NULL,
  shape    INTEGER NOT NULL,
  rows     INTEGER NOT NULL,
  connects INTEGER NOT NULL,
  first_ns INTEGER NOT NULL,          -- id of the first row
  last_ns  INTEGER NOT NULL,          -- id of the last row
  PRIMARY KEY (remote, image, hour, shape)
) STRICT, WITHOUT ROWID;

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

CREATE INDEX connection_remote ON connection (remote);
