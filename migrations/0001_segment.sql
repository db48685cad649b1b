-- Schema version 1: one segment of a tape.
--
-- Times are nanoseconds since the Unix epoch on the segment's own clock:
-- CLOCK_BOOTTIME + boot.offset_ns of the boot at hand. That clock never goes
-- back, not even over a restart of the host; the table clock says how far the
-- wall clock was from it, and when.
-- Text that came from elsewhere is escaped (docs of store.Escape): it is always
-- printable, and the raw bytes can be had back.

-- The segment describes itself. Exactly one row.
CREATE TABLE segment (
  id               INTEGER PRIMARY KEY CHECK (id = 1),
  number           INTEGER NOT NULL,  -- as in the file name
  tape_id          TEXT    NOT NULL,  -- 128 random bits in hex, the same in every segment of a tape
  state            TEXT    NOT NULL CHECK (state IN ('active', 'stopped', 'closed')),
  schema_version   INTEGER NOT NULL,
  compatible       INTEGER NOT NULL,  -- feature bits: unknown ones may be read, not written
  incompatible     INTEGER NOT NULL,  -- feature bits: unknown ones may not even be read
  created_ns       INTEGER NOT NULL,
  heartbeat_ns     INTEGER NOT NULL,  -- recording was alive at this time
  closed_ns        INTEGER,           -- when it was closed for good
  committed_ns     INTEGER NOT NULL,  -- CLOCK_REALTIME at the last commit
  batches          INTEGER NOT NULL,  -- number of commits
  host             TEXT    NOT NULL,
  machine_id       TEXT    NOT NULL,
  previous_number  INTEGER,           -- segment before this one
  previous_batches INTEGER,           -- number of its commits that count, NULL all
  previous_hash    BLOB               -- of its file, once it is sealed
) STRICT;

-- One boot of the host that was recorded here: 1, 2, ... in order. The times of a
-- boot, on the segment clock, are those from its offset_ns to that of the next.
CREATE TABLE boot (
  id        INTEGER PRIMARY KEY,
  boot_id   TEXT    NOT NULL,
  kernel    TEXT    NOT NULL,
  offset_ns INTEGER NOT NULL,         -- segment clock minus CLOCK_BOOTTIME
  first_ns  INTEGER NOT NULL,         -- recording began in it, on the segment clock
  last_ns   INTEGER                   -- recording was last alive in it; NULL: this is the newest
) STRICT;

-- One recorder that wrote to this segment. boot and start_boot_ns are the same in
-- every segment that it wrote to: that is how one run is told from another.
CREATE TABLE run (
  id            INTEGER PRIMARY KEY,
  boot          INTEGER NOT NULL,
  start_boot_ns INTEGER NOT NULL,     -- CLOCK_BOOTTIME, maybe before this segment began
  pid           INTEGER NOT NULL,
  version       TEXT    NOT NULL,
  backend       TEXT    NOT NULL,
  blind_spots   TEXT    NOT NULL      -- one a line
) STRICT;

-- Counters of a run: absolute since the recorder started. "first" is the value
-- when the run came to this segment, so value - first happened here. The account
-- of a run is the value in the newest segment that has the run.
CREATE TABLE counter (
  run   INTEGER NOT NULL,
  name  TEXT    NOT NULL,
  first INTEGER NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- From this time on, wall clock = segment clock + offset_ns.
CREATE TABLE clock (
  id        INTEGER PRIMARY KEY,      -- segment clock
  offset_ns INTEGER NOT NULL,
  kind      TEXT    NOT NULL,         -- start, tick, step, resume
  sync      TEXT                      -- what the kernel said of its discipline
) STRICT;

-- A time in which we were blind or lost events. A loss is told once: one that
-- lasts over several segments is told in parts.
CREATE TABLE gap (
  id      INTEGER PRIMARY KEY,
  from_ns INTEGER,                    -- NULL: since always
  to_ns   INTEGER,                    -- NULL: still open
  cause   TEXT    NOT NULL,
  lost    INTEGER,                    -- NULL: nobody knows
  detail  TEXT
) STRICT;

-- One execution of one program. The id is made of boot id and key, and so is the
-- same in every segment.
CREATE TABLE process (
  id                INTEGER PRIMARY KEY,
  boot              INTEGER NOT NULL,
  tgid              INTEGER NOT NULL,
  start_boot_ns     INTEGER NOT NULL, -- CLOCK_BOOTTIME, not the segment clock
  exec_number       INTEGER NOT NULL,
  exec_boot_ns      INTEGER,          -- CLOCK_BOOTTIME, NULL unknown
  parent            INTEGER,          -- a process id, NULL unknown or none
  ppid              INTEGER,
  pid_in_ns         INTEGER,
  comm              TEXT,
  exe               TEXT,
  script            TEXT,
  cmdline           TEXT,
  cmdline_truncated INTEGER NOT NULL,
  cwd               TEXT,
  uid               INTEGER,
  gid               INTEGER,
  euid              INTEGER,
  user              TEXT,
  loginuid          INTEGER,          -- NULL unset
  session_id        INTEGER,          -- NULL unset
  cgroup_id         INTEGER,
  cgroup            TEXT,
  container         TEXT,
  unit              TEXT,
  exe_deleted       INTEGER NOT NULL,
  exe_memfd         INTEGER NOT NULL,
  exe_device        INTEGER,          -- major << 20 | minor
  exe_inode         INTEGER,
  exe_file          INTEGER,          -- the file that it executes as it was at the exec: id of hash, NULL unknown
  mntns             INTEGER,
  pidns             INTEGER,
  netns             INTEGER,
  userns            INTEGER,
  utsns             INTEGER,
  ipcns             INTEGER,
  cgroupns          INTEGER,
  mntns_is_host     INTEGER,          -- 1, 0 another, NULL unknown
  source            TEXT    NOT NULL,
  ancestry          TEXT    NOT NULL,
  batch             INTEGER NOT NULL  -- commit that wrote it
) STRICT;

-- A file that processes execute or interpret, as it was at one time, and its digests. They may come after its processes, and
-- then in a later segment. The id is made of device, inode, ctime, size and what is known of the exec, and so is the same in every segment.
CREATE TABLE hash (
  id       INTEGER PRIMARY KEY,
  device   INTEGER NOT NULL,          -- major << 20 | minor
  inode    INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL,          -- since the Unix epoch
  size     INTEGER NOT NULL,          -- bytes
  sha256   BLOB,                      -- NULL: it was not read (yet), see source
  sha1     BLOB,
  md5      BLOB,
  source   TEXT    NOT NULL,          -- pending, or as in column hash_source of view processes
  batch    INTEGER NOT NULL           -- commit that wrote it
) STRICT;

-- The file of a script that a process interprets, which is found later than the process is written.
CREATE TABLE script (
  process INTEGER PRIMARY KEY,
  hash    INTEGER NOT NULL,           -- 0: not found yet
  batch   INTEGER NOT NULL            -- commit that wrote it
) STRICT;

-- State of a thread when it connected. user, cgroup and container are NULL when
-- they are those of the process, '' when unknown or none.
CREATE TABLE task (
  id         INTEGER PRIMARY KEY,
  process    INTEGER NOT NULL,
  tid        INTEGER NOT NULL,
  comm       TEXT    NOT NULL,
  uid        INTEGER NOT NULL,
  gid        INTEGER NOT NULL,
  euid       INTEGER NOT NULL,
  user       TEXT,
  loginuid   INTEGER,
  session_id INTEGER,
  netns      INTEGER,
  cgroup_id  INTEGER,
  cgroup     TEXT,
  container  TEXT
) STRICT;

-- A socket address, and which one was asked for to get there, by what name, or who was reached there. The first index keeps addresses unique and finds them by
-- text; the other finds where connects to an address were sent.
CREATE TABLE endpoint (
  id        INTEGER PRIMARY KEY,
  family    INTEGER NOT NULL,
  address   TEXT    NOT NULL,
  port      INTEGER NOT NULL,         -- -1 none
  raw       BLOB    NOT NULL,         -- the sockaddr, addrlen bytes
  requested INTEGER NOT NULL DEFAULT 0, -- endpoint that the caller asked for, and a cgroup's program sent here; 0: this one
  peer      INTEGER NOT NULL DEFAULT 0, -- process that a connect to a UNIX socket reached; 0: unknown
  names     TEXT    NOT NULL DEFAULT '', -- that were looked up before, and led here, or that the client named, with a space between two; '': unknown
  name_source TEXT  NOT NULL DEFAULT '', -- who got the answer: dns, stub, unattributed; what the client said: sni, http; '' without names
  UNIQUE (address, port, family, raw, requested, peer, names, name_source)
) STRICT;
CREATE INDEX endpoint_requested ON endpoint (requested) WHERE requested <> 0;

-- What connects have in common.
CREATE TABLE shape (
  id             INTEGER PRIMARY KEY,
  socket_family  INTEGER NOT NULL,
  type           INTEGER NOT NULL,
  protocol       INTEGER NOT NULL,
  via            TEXT    NOT NULL,
  address_source TEXT    NOT NULL,
  backend        TEXT    NOT NULL,
  hook_errno     INTEGER,             -- NULL: cannot be known
  errno          INTEGER,             -- NULL: not seen
  addrlen        INTEGER NOT NULL,
  final          INTEGER              -- errno that the connection came to: 0 established, 125 given up by the caller; NULL unknown
) STRICT;

-- One connect. id = time; two in the same nanosecond: the next free one.
-- No other index while the segment is active.
CREATE TABLE connection (
  id     INTEGER PRIMARY KEY,
  task   INTEGER NOT NULL,
  remote INTEGER NOT NULL,
  shape  INTEGER NOT NULL,
  local  INTEGER,                     -- endpoint, NULL not bound
  fd     INTEGER,
  cookie INTEGER,                     -- socket cookie, two's complement
  outcome BLOB                        -- what became of it (docs/format.md); NULL unknown
) STRICT;

-- Only for connections that stand for more than one.
CREATE TABLE repeat (
  id      INTEGER PRIMARY KEY,        -- of the connection
  count   INTEGER NOT NULL,
  last_ns INTEGER NOT NULL
) STRICT;

-- A commit that wrote connections, and what is chained by hash up to it (docs/format.md):
-- its connections are those above the newest of the commit before, up to its own,
-- without those in late; and those that late has for it.
CREATE TABLE batch (
  id       INTEGER PRIMARY KEY,       -- number of the commit
  newest   INTEGER NOT NULL,          -- highest id of connection after it
  task     INTEGER NOT NULL,          -- likewise of task
  endpoint INTEGER NOT NULL,          -- of endpoint
  shape    INTEGER NOT NULL,          -- of shape
  chain    BLOB    NOT NULL           -- SHA-256
) STRICT;

-- A connection that was written when younger ones were there already.
CREATE TABLE late (
  id    INTEGER PRIMARY KEY,          -- of the connection
  batch INTEGER NOT NULL
) STRICT;

-- A connection that was given another shape after it was written: it had returned.
CREATE TABLE changed (
  id    INTEGER NOT NULL,             -- of the connection
  batch INTEGER NOT NULL,             -- that changed it
  shape INTEGER NOT NULL,             -- that it had before
  PRIMARY KEY (id, batch)
) STRICT, WITHOUT ROWID;

-- A connection whose client named the server after it was written: it was given another endpoint.
CREATE TABLE renamed (
  connection INTEGER NOT NULL,
  batch      INTEGER NOT NULL,        -- that changed it
  remote     INTEGER NOT NULL         -- that it had before
) STRICT;

-- What became of a connection later than it was written. The last batch counts.
CREATE TABLE ending (
  id      INTEGER NOT NULL,           -- of the connection; of one in an earlier segment: its time on this segment's clock
  cookie  INTEGER NOT NULL,           -- 0: the connection is in this segment; else the socket's, -1 unknown
  batch   INTEGER NOT NULL,           -- that wrote it
  final   INTEGER NOT NULL,           -- as in shape
  outcome BLOB    NOT NULL,           -- as in connection
  PRIMARY KEY (id, cookie, batch)
) STRICT, WITHOUT ROWID;

-- What a socket did beside connecting, or several that are alike: shape.via says what. A connection that was accepted may have several
-- rows, the first when it was accepted and more when it ended: those of one window, task, local, remote, peer and shape are one.
CREATE TABLE event (
  id       INTEGER PRIMARY KEY,       -- when the first of them happened; two in the same nanosecond: the next free one
  batch    INTEGER NOT NULL,          -- commit that wrote it
  window   INTEGER NOT NULL,          -- when the first one of all of its rows happened
  task     INTEGER,                   -- NULL: nobody knows who asked
  shape    INTEGER NOT NULL,
  local    INTEGER,                   -- endpoint, NULL not bound
  remote   INTEGER,                   -- endpoint of the peer, or the server that answered, its port 0 where several are counted; NULL none, or not kept
  peer_pid INTEGER,                   -- process at the other end of a UNIX socket
  count    INTEGER NOT NULL,          -- that happened: 0 when it only tells of ends
  last_ns  INTEGER NOT NULL,          -- when the last one happened
  ended    INTEGER NOT NULL,          -- of all that were accepted, those that ended: of these is what follows
  failed   INTEGER NOT NULL,          -- by an error
  sent     INTEGER,                   -- bytes that peers acknowledged, NULL: none has ended
  received INTEGER,                   -- bytes
  longest  INTEGER,                   -- ns from accept to end
  question TEXT,                      -- of an answer by DNS: name that was asked for; by which a client called the server; NULL of several, whose names found no room
  asked    INTEGER,                   -- its type, 65536 by TLS, 65537 by HTTP, 0 of several; NULL: it is none of these
  rcode    INTEGER,                   -- NULL: no answer
  answers  TEXT,                      -- records, with a space between two
  ttl      INTEGER,                   -- seconds; NULL: no record
  netns    INTEGER                    -- network namespace of who asked, where task is NULL
) STRICT;

-- What the connections above those of the block before are about, up to this id,
-- without those in late: a reader passes over blocks that do not have what it looks
-- for. Lists as in docs/format.md; NULL: anything. Sealing makes better ones, and
-- takes these out.
CREATE TABLE block (
  id      INTEGER PRIMARY KEY,        -- highest id of connection when it was written
  remotes BLOB,
  tasks   BLOB
) STRICT;

-- The public views. They read as text in any SQLite shell, with no function of
-- ours. The clock row with id 0 makes every time find one.

-- Whose end may still be told: connections from followed_ns on, NULL none, and those that were seen open since. Only the run that records now tells it, and one
-- whose outcome may have been among those lost by lost_ns is not waited for. A recorder commits every 10 seconds.
CREATE VIEW recording AS
SELECT
  r.start_boot_ns + b.offset_ns AS run_ns,
  l.lost_ns AS lost_ns,
  z.state = 'closed' AS closed,
  CASE WHEN z.state = 'active' AND z.committed_ns / 1000000000 > strftime('%s', 'now') - 300
    THEN max(r.start_boot_ns + b.offset_ns, coalesce(l.lost_ns + 1, 0)) END AS followed_ns
FROM segment z, run r JOIN boot b ON b.id = r.boot,
  (SELECT max(coalesce(to_ns, from_ns)) AS lost_ns FROM gap WHERE cause = 'outcomes lost') l
ORDER BY r.id DESC LIMIT 1;

CREATE VIEW connections AS
SELECT
  c.id AS id,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (c.id + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (c.id + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= c.id ORDER BY k.id DESC LIMIT 1) AS time,
  c.id AS time_ns,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (coalesce(r.last_ns, c.id) + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (coalesce(r.last_ns, c.id) + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= coalesce(r.last_ns, c.id) ORDER BY k.id DESC LIMIT 1) AS last_time,
  coalesce(r.count, 1) AS count,
  p.tgid AS pid,
  t.tid AS tid,
  p.ppid AS ppid,
  t.comm AS comm,
  p.exe AS exe,
  p.cmdline AS cmdline,
  p.cwd AS cwd,
  t.uid AS uid,
  nullif(coalesce(t.user, p.user), '') AS user,
  t.gid AS gid,
  t.euid AS euid,
  t.loginuid AS loginuid,
  t.session_id AS session_id,
  nullif(coalesce(t.container, p.container), '') AS container,
  nullif(coalesce(t.cgroup, p.cgroup), '') AS cgroup,
  t.netns AS netns,
  CASE e.family
    WHEN 0 THEN 'unspec' WHEN 1 THEN 'unix' WHEN 2 THEN 'ipv4' WHEN 10 THEN 'ipv6'
    WHEN 16 THEN 'netlink' WHEN 17 THEN 'packet' WHEN 40 THEN 'vsock'
    WHEN 29 THEN 'can' WHEN 30 THEN 'tipc' WHEN 31 THEN 'bluetooth' WHEN 38 THEN 'alg'
    WHEN 42 THEN 'qipcrtr' WHEN 43 THEN 'smc' WHEN 44 THEN 'xdp'
    WHEN 65535 THEN NULL -- an address too short to have one
    ELSE 'family ' || e.family END AS family,
  CASE s.type
    WHEN 1 THEN 'stream' WHEN 2 THEN 'dgram' WHEN 3 THEN 'raw' WHEN 4 THEN 'rdm'
    WHEN 5 THEN 'seqpacket' WHEN 6 THEN 'dccp' WHEN 10 THEN 'packet'
    ELSE 'type ' || s.type END AS type,
  CASE
    WHEN s.socket_family NOT IN (2, 10) AND (s.via <> 'frame' OR s.protocol = 0) THEN nullif(s.protocol || '', '0')
    WHEN s.protocol = 6 THEN 'tcp' WHEN s.protocol = 17 THEN 'udp'
    WHEN s.protocol = 1 THEN 'icmp' WHEN s.protocol = 58 THEN 'ipv6-icmp'
    WHEN s.protocol = 132 THEN 'sctp' WHEN s.protocol = 136 THEN 'udplite'
    WHEN s.protocol = 262 THEN 'mptcp'
    ELSE s.protocol || '' END AS protocol,
  c.fd AS fd,
  s.via AS via,
  l.address AS local_address,
  coalesce(nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 0)
    SELECT v + x * s FROM d WHERE k = 0 AND x < 128) / 4 % 65536, 0), nullif(l.port, -1)) AS local_port,
  e.address AS remote_address,
  nullif(e.port, -1) AS remote_port,
  CASE
    WHEN e.family NOT IN (2, 10) OR e.port < 0 THEN NULL -- too short to hold an address
    WHEN e.family = 10 AND e.address GLOB '::ffff:*.*' THEN substr(e.address, 8)
    ELSE e.address END AS remote_ip,
  s.address_source AS address_source,
  s.hook_errno AS hook_errno,
  s.errno AS errno,
  CASE
    WHEN s.hook_errno > 0 THEN 'denied'
    ELSE CASE coalesce(CASE WHEN s.errno NOT IN (0, 4, 11, 115, 512) THEN s.errno END, s.final, s.errno, -1)
      WHEN -1 THEN CASE WHEN s.via = 'snapshot' AND c.id >= (SELECT followed_ns FROM recording) THEN 'in progress' ELSE 'unknown' END
      WHEN 0 THEN CASE
        WHEN e.family = 0 THEN 'disconnected'
        WHEN s.type IN (1, 5) THEN 'established'
        ELSE 'set' END
      WHEN 111 THEN 'refused'
      WHEN 110 THEN 'timed out'
      WHEN 92 THEN 'unreachable' WHEN 100 THEN 'unreachable' WHEN 101 THEN 'unreachable' WHEN 112 THEN 'unreachable' WHEN 113 THEN 'unreachable'
      WHEN 32 THEN 'reset' WHEN 103 THEN 'reset' WHEN 104 THEN 'reset'
      WHEN 125 THEN 'aborted'
      WHEN 4 THEN 'interrupted' WHEN 512 THEN 'interrupted'
      WHEN 106 THEN 'already connected' -- EISCONN
      WHEN 114 THEN 'already connecting' -- EALREADY: the row of the attempt before tells what came of it
      WHEN 11 THEN CASE WHEN c.id >= (SELECT followed_ns FROM recording) THEN 'in progress' ELSE 'unknown' END
      WHEN 115 THEN CASE WHEN c.id >= (SELECT followed_ns FROM recording) THEN 'in progress' ELSE 'unknown' END
      ELSE 'failed' END END AS outcome,
  s.backend AS backend,
  p.id AS process_id,
  p.parent AS parent_id,
  p.ancestry AS ancestry,
  CASE s.socket_family
    WHEN 0 THEN 'unspec' WHEN 1 THEN 'unix' WHEN 2 THEN 'ipv4' WHEN 10 THEN 'ipv6'
    WHEN 16 THEN 'netlink' WHEN 17 THEN 'packet' WHEN 40 THEN 'vsock'
    WHEN 29 THEN 'can' WHEN 30 THEN 'tipc' WHEN 31 THEN 'bluetooth' WHEN 38 THEN 'alg'
    WHEN 42 THEN 'qipcrtr' WHEN 43 THEN 'smc' WHEN 44 THEN 'xdp'
    ELSE 'family ' || s.socket_family END AS socket_family,
  s.addrlen AS addrlen,
  c.cookie AS cookie,
  lower(hex(e.raw)) AS remote_raw,
  (SELECT number FROM segment) AS segment,
  coalesce(CASE WHEN s.errno NOT IN (0, 4, 11, 115, 512) THEN s.errno END, s.final, CASE WHEN s.errno <> 115 THEN s.errno END) AS outcome_errno,
  nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 1)
    SELECT v + x * s FROM d WHERE k = 1 AND x < 128), 0) - 1 AS established_ns,
  1000 * (nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 2)
    SELECT v + x * s FROM d WHERE k = 2 AND x < 128), 0) - 1) AS duration_ns,
  nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 3)
    SELECT v + x * s FROM d WHERE k = 3 AND x < 128), 0) - 1 AS bytes_sent,
  nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 4)
    SELECT v + x * s FROM d WHERE k = 4 AND x < 128), 0) - 1 AS bytes_received,
  nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 5)
    SELECT v + x * s FROM d WHERE k = 5 AND x < 128), 0) - 1 AS retransmits,
  nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 6)
    SELECT v + x * s FROM d WHERE k = 6 AND x < 128), 0) - 1 AS rtt_us,
  CASE (WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 0)
    SELECT v + x * s FROM d WHERE k = 0 AND x < 128) % 4 WHEN 1 THEN 'local' WHEN 2 THEN 'remote' END AS closed_by,
  CASE
    WHEN s.final IS NULL AND s.errno <> 115 THEN 'connect'
    WHEN s.final IS NULL AND (s.errno IS NULL OR s.protocol NOT IN (6, 262)) THEN NULL -- nothing else tells
    WHEN s.final <> 0 OR (WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 2)
    SELECT v + x * s FROM d WHERE k = 2 AND x < 128) > 0 THEN 'kernel'
    ELSE (SELECT CASE
        WHEN told_ns >= followed_ns THEN iif(s.final = 0, 'open', NULL)
        WHEN told_ns < run_ns THEN 'recording ended'
        WHEN closed THEN 'not in this file'
        WHEN told_ns <= lost_ns THEN 'outcomes lost'
        ELSE 'recording ended' END
      FROM recording JOIN (SELECT c.id + 1000 * coalesce((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 7)
    SELECT v + x * s FROM d WHERE k = 7 AND x < 128), 0) AS told_ns)) END AS outcome_source,
  (SELECT q.address FROM endpoint q WHERE q.id = e.requested) AS requested_address,
  (SELECT nullif(q.port, -1) FROM endpoint q WHERE q.id = e.requested) AS requested_port,
  1000 * nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 7)
    SELECT v + x * s FROM d WHERE k = 7 AND x < 128), 0) AS open_ns,
  CASE
    WHEN e.port = -1 THEN e.address
    WHEN e.family = 10 AND e.address GLOB '::ffff:*.*' THEN substr(e.address, 8) || ':' || e.port
    WHEN e.family IN (2, 10) AND e.address GLOB '*:*' THEN '[' || e.address || ']:' || e.port
    ELSE e.address || ':' || e.port END AS remote,
  coalesce(s.hook_errno > 0, 0) OR coalesce(CASE WHEN s.errno NOT IN (0, 4, 11, 115, 512) THEN s.errno END, s.final, s.errno, -1)
    NOT IN (-1, 0, 4, 11, 32, 103, 104, 106, 114, 115, 512) AS failed,
  s.type = 2 AND e.port = 0 AS probe,
  (SELECT u.tgid FROM process u WHERE u.id = e.peer) AS peer_pid,
  (SELECT u.exe FROM process u WHERE u.id = e.peer) AS peer_exe,
  (SELECT nullif(u.unit, '') FROM process u WHERE u.id = e.peer) AS peer_unit,
  (SELECT lower(hex(h.sha256)) FROM hash h WHERE h.id = p.exe_file AND h.sha256 IS NOT NULL) AS exe_sha256,
  (SELECT lower(hex(h.sha1)) FROM hash h WHERE h.id = p.exe_file AND h.sha1 IS NOT NULL) AS exe_sha1,
  (SELECT lower(hex(h.md5)) FROM hash h WHERE h.id = p.exe_file AND h.md5 IS NOT NULL) AS exe_md5,
  coalesce((SELECT h.source FROM hash h WHERE h.id = p.exe_file AND h.source <> 'pending'), 'unknown') AS hash_source,
  (SELECT lower(hex(h.sha256)) FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.sha256 IS NOT NULL) AS script_sha256,
  (SELECT lower(hex(h.sha1)) FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.sha1 IS NOT NULL) AS script_sha1,
  (SELECT lower(hex(h.md5)) FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.md5 IS NOT NULL) AS script_md5,
  iif(p.script IS NOT NULL, coalesce((SELECT h.source FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.source <> 'pending'), 'unknown'), NULL) AS script_hash_source,
  nullif(e.names, '') AS remote_name,
  nullif(e.name_source, '') AS name_source
FROM connection c
JOIN endpoint e ON e.id = c.remote
JOIN task t ON t.id = c.task
JOIN process p ON p.id = t.process
JOIN shape s ON s.id = c.shape
LEFT JOIN repeat r ON r.id = c.id
LEFT JOIN ending f ON f.id = c.id AND f.cookie = 0 AND f.batch = (SELECT max(batch) FROM ending WHERE id = c.id AND cookie = 0)
LEFT JOIN endpoint l ON l.id = coalesce(nullif((WITH RECURSIVE d(h, i, k, v, s, x) AS (
      SELECT h, 1, 0, 0, 1, 16 * instr('123456789ABCDEF', substr(h, 1, 1)) + instr('123456789ABCDEF', substr(h, 2, 1))
      FROM (SELECT hex(coalesce(f.outcome, c.outcome)) AS h) WHERE h <> ''
      UNION ALL
      SELECT h, i + 1, k + (x < 128), CASE WHEN x < 128 THEN 0 ELSE v + (x - 128) * s END, CASE WHEN x < 128 THEN 1 ELSE s * 128 END,
        16 * instr('123456789ABCDEF', substr(h, 2 * i + 1, 1)) + instr('123456789ABCDEF', substr(h, 2 * i + 2, 1))
      FROM d WHERE 2 * i < length(h) AND k <= 0)
    SELECT v + x * s FROM d WHERE k = 0 AND x < 128) / 262144, 0), c.local);

-- Connections that were accepted, those of a listener from one peer in ten minutes in one row unless each was asked for.
CREATE VIEW inbound AS
SELECT
  v.id AS id,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.id + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.id + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.id ORDER BY k.id DESC LIMIT 1) AS time,
  v.id AS time_ns,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.last_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.last_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.last_ns ORDER BY k.id DESC LIMIT 1) AS last_time,
  v.count AS count,
  p.tgid AS pid,
  t.tid AS tid,
  p.ppid AS ppid,
  t.comm AS comm,
  p.exe AS exe,
  p.cmdline AS cmdline,
  p.cwd AS cwd,
  t.uid AS uid,
  nullif(coalesce(t.user, p.user), '') AS user,
  t.gid AS gid,
  t.euid AS euid,
  t.loginuid AS loginuid,
  t.session_id AS session_id,
  nullif(coalesce(t.container, p.container), '') AS container,
  nullif(coalesce(t.cgroup, p.cgroup), '') AS cgroup,
  t.netns AS netns,
  CASE s.socket_family
    WHEN 0 THEN 'unspec' WHEN 1 THEN 'unix' WHEN 2 THEN 'ipv4' WHEN 10 THEN 'ipv6' WHEN 40 THEN 'vsock'
    ELSE 'family ' || s.socket_family END AS family,
  CASE s.type
    WHEN 1 THEN 'stream' WHEN 2 THEN 'dgram' WHEN 3 THEN 'raw' WHEN 4 THEN 'rdm'
    WHEN 5 THEN 'seqpacket' WHEN 6 THEN 'dccp' WHEN 10 THEN 'packet'
    ELSE 'type ' || s.type END AS type,
  CASE
    WHEN s.socket_family NOT IN (2, 10) THEN nullif(s.protocol || '', '0')
    WHEN s.protocol = 6 THEN 'tcp' WHEN s.protocol = 17 THEN 'udp'
    WHEN s.protocol = 1 THEN 'icmp' WHEN s.protocol = 58 THEN 'ipv6-icmp'
    WHEN s.protocol = 132 THEN 'sctp' WHEN s.protocol = 136 THEN 'udplite'
    WHEN s.protocol = 262 THEN 'mptcp'
    ELSE s.protocol || '' END AS protocol,
  l.address AS local_address,
  nullif(l.port, -1) AS local_port,
  e.address AS remote_address,
  nullif(nullif(e.port, -1), 0) AS remote_port,
  CASE
    WHEN e.family NOT IN (2, 10) OR e.port < 0 THEN NULL -- too short to hold an address
    WHEN e.family = 10 AND e.address GLOB '::ffff:*.*' THEN substr(e.address, 8)
    ELSE e.address END AS remote_ip,
  v.peer_pid AS peer_pid,
  CASE WHEN v.failed >= v.count THEN 'failed' ELSE 'established' END AS outcome,
  v.ended AS ended,
  v.failed AS failed,
  v.sent AS bytes_sent,
  v.received AS bytes_received,
  v.longest AS longest_ns,
  s.backend AS backend,
  p.id AS process_id,
  p.parent AS parent_id,
  p.ancestry AS ancestry,
  (SELECT number FROM segment) AS segment
FROM (SELECT min(id) AS id, max(last_ns) AS last_ns, task, shape, local, remote, peer_pid, sum(count) AS count, sum(ended) AS ended, sum(failed) AS failed,
    sum(sent) AS sent, sum(received) AS received, max(longest) AS longest
  FROM event GROUP BY window, task, local, remote, peer_pid, shape) v
JOIN task t ON t.id = v.task
JOIN process p ON p.id = t.process
JOIN shape s ON s.id = v.shape
LEFT JOIN endpoint l ON l.id = v.local
LEFT JOIN endpoint e ON e.id = v.remote
WHERE s.via = 'accept';

-- Sockets that began to listen, or listened when recording began (snapshot); a datagram socket does when it is bound.
CREATE VIEW listeners AS
SELECT
  v.id AS id,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.id + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.id + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.id ORDER BY k.id DESC LIMIT 1) AS time,
  v.id AS time_ns,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.last_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.last_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.last_ns ORDER BY k.id DESC LIMIT 1) AS last_time,
  v.count AS count,
  p.tgid AS pid,
  t.tid AS tid,
  p.ppid AS ppid,
  t.comm AS comm,
  p.exe AS exe,
  p.cmdline AS cmdline,
  p.cwd AS cwd,
  t.uid AS uid,
  nullif(coalesce(t.user, p.user), '') AS user,
  t.gid AS gid,
  t.euid AS euid,
  t.loginuid AS loginuid,
  t.session_id AS session_id,
  nullif(coalesce(t.container, p.container), '') AS container,
  nullif(coalesce(t.cgroup, p.cgroup), '') AS cgroup,
  t.netns AS netns,
  s.via AS action,
  CASE s.address_source WHEN 'snapshot' THEN 'snapshot' ELSE 'hook' END AS source,
  CASE s.socket_family
    WHEN 0 THEN 'unspec' WHEN 1 THEN 'unix' WHEN 2 THEN 'ipv4' WHEN 10 THEN 'ipv6' WHEN 40 THEN 'vsock'
    ELSE 'family ' || s.socket_family END AS family,
  CASE s.type
    WHEN 1 THEN 'stream' WHEN 2 THEN 'dgram' WHEN 3 THEN 'raw' WHEN 4 THEN 'rdm'
    WHEN 5 THEN 'seqpacket' WHEN 6 THEN 'dccp' WHEN 10 THEN 'packet'
    ELSE 'type ' || s.type END AS type,
  CASE
    WHEN s.socket_family NOT IN (2, 10) THEN nullif(s.protocol || '', '0')
    WHEN s.protocol = 6 THEN 'tcp' WHEN s.protocol = 17 THEN 'udp'
    WHEN s.protocol = 1 THEN 'icmp' WHEN s.protocol = 58 THEN 'ipv6-icmp'
    WHEN s.protocol = 132 THEN 'sctp' WHEN s.protocol = 136 THEN 'udplite'
    WHEN s.protocol = 262 THEN 'mptcp'
    ELSE s.protocol || '' END AS protocol,
  l.address AS local_address,
  nullif(l.port, -1) AS local_port,
  s.backend AS backend,
  p.id AS process_id,
  p.parent AS parent_id,
  p.ancestry AS ancestry,
  (SELECT number FROM segment) AS segment
FROM (SELECT min(id) AS id, max(last_ns) AS last_ns, task, shape, local, sum(count) AS count
  FROM event GROUP BY window, task, local, shape) v
JOIN task t ON t.id = v.task
JOIN process p ON p.id = t.process
JOIN shape s ON s.id = v.shape
LEFT JOIN endpoint l ON l.id = v.local
WHERE s.via = 'listen' OR s.via = 'bind' AND s.type = 2 AND s.socket_family IN (1, 2, 10) AND s.protocol NOT IN (1, 58);

-- Sockets and devices that can see packets of others, or make packets as they like; and which socket was bound where. Likewise.
CREATE VIEW sockets_opened AS
SELECT
  v.id AS id,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.id + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.id + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.id ORDER BY k.id DESC LIMIT 1) AS time,
  v.id AS time_ns,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.last_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.last_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.last_ns ORDER BY k.id DESC LIMIT 1) AS last_time,
  v.count AS count,
  p.tgid AS pid,
  t.tid AS tid,
  p.ppid AS ppid,
  t.comm AS comm,
  p.exe AS exe,
  p.cmdline AS cmdline,
  p.cwd AS cwd,
  t.uid AS uid,
  nullif(coalesce(t.user, p.user), '') AS user,
  t.gid AS gid,
  t.euid AS euid,
  t.loginuid AS loginuid,
  t.session_id AS session_id,
  nullif(coalesce(t.container, p.container), '') AS container,
  nullif(coalesce(t.cgroup, p.cgroup), '') AS cgroup,
  t.netns AS netns,
  s.via AS action,
  CASE s.address_source WHEN 'snapshot' THEN 'snapshot' ELSE 'hook' END AS source,
  CASE s.socket_family
    WHEN 0 THEN NULL -- a device
    WHEN 1 THEN 'unix' WHEN 2 THEN 'ipv4' WHEN 10 THEN 'ipv6' WHEN 17 THEN 'packet' WHEN 44 THEN 'xdp'
    ELSE 'family ' || s.socket_family END AS family,
  CASE
    WHEN s.socket_family = 0 THEN NULL
    WHEN s.type = 1 THEN 'stream' WHEN s.type = 2 THEN 'dgram' WHEN s.type = 3 THEN 'raw'
    WHEN s.type = 5 THEN 'seqpacket' WHEN s.type = 10 THEN 'packet'
    ELSE 'type ' || s.type END AS type,
  CASE
    WHEN s.socket_family = 17 AND s.protocol = 3 THEN 'all'
    WHEN s.socket_family = 17 AND s.protocol = 2048 THEN 'ipv4'
    WHEN s.socket_family = 17 AND s.protocol = 2054 THEN 'arp'
    WHEN s.socket_family = 17 AND s.protocol = 34525 THEN 'ipv6'
    WHEN s.socket_family = 17 AND s.protocol = 34958 THEN 'eapol'
    WHEN s.socket_family = 17 AND s.protocol = 35020 THEN 'lldp'
    WHEN s.socket_family = 17 AND s.protocol > 0 THEN printf('0x%04x', s.protocol)
    WHEN s.socket_family NOT IN (2, 10) THEN nullif(s.protocol || '', '0')
    WHEN s.protocol = 6 THEN 'tcp' WHEN s.protocol = 17 THEN 'udp'
    WHEN s.protocol = 1 THEN 'icmp' WHEN s.protocol = 58 THEN 'ipv6-icmp'
    WHEN s.protocol = 132 THEN 'sctp' WHEN s.protocol = 136 THEN 'udplite'
    WHEN s.protocol = 262 THEN 'mptcp' WHEN s.protocol = 255 THEN 'raw'
    ELSE s.protocol || '' END AS protocol,
  l.address AS local_address,
  nullif(l.port, -1) AS local_port,
  s.backend AS backend,
  p.id AS process_id,
  p.parent AS parent_id,
  p.ancestry AS ancestry,
  (SELECT number FROM segment) AS segment
FROM (SELECT min(id) AS id, max(last_ns) AS last_ns, task, shape, local, sum(count) AS count
  FROM event GROUP BY window, task, local, shape) v
JOIN task t ON t.id = v.task
JOIN process p ON p.id = t.process
JOIN shape s ON s.id = v.shape
LEFT JOIN endpoint l ON l.id = v.local
WHERE s.via NOT IN ('accept', 'listen', 'lookup');

-- Names that were looked up, as the answers of DNS servers tell them: those of a process about one name, with the same records, in ten
-- minutes are one row.
CREATE VIEW lookups AS
SELECT
  v.id AS id,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.id + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.id + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.id ORDER BY k.id DESC LIMIT 1) AS time,
  v.id AS time_ns,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (v.last_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (v.last_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= v.last_ns ORDER BY k.id DESC LIMIT 1) AS last_time,
  v.count AS count,
  v.question AS name,
  CASE v.asked
    WHEN 0 THEN NULL WHEN 1 THEN 'A' WHEN 2 THEN 'NS' WHEN 5 THEN 'CNAME' WHEN 6 THEN 'SOA' WHEN 12 THEN 'PTR' WHEN 15 THEN 'MX' WHEN 16 THEN 'TXT'
    WHEN 28 THEN 'AAAA' WHEN 33 THEN 'SRV' WHEN 43 THEN 'DS' WHEN 48 THEN 'DNSKEY' WHEN 64 THEN 'SVCB' WHEN 65 THEN 'HTTPS'
    WHEN 65536 THEN 'SNI' WHEN 65537 THEN 'HOST' WHEN 10 THEN 'NULL' WHEN 252 THEN 'AXFR' WHEN 255 THEN 'ANY'
    ELSE 'TYPE' || v.asked END AS type,
  CASE v.rcode
    WHEN 0 THEN 'NOERROR' WHEN 1 THEN 'FORMERR' WHEN 2 THEN 'SERVFAIL' WHEN 3 THEN 'NXDOMAIN' WHEN 4 THEN 'NOTIMP' WHEN 5 THEN 'REFUSED'
    ELSE 'RCODE' || v.rcode END AS rcode,
  nullif(v.answers, '') AS answers,
  v.ttl AS ttl,
  p.tgid AS pid,
  t.tid AS tid,
  p.ppid AS ppid,
  t.comm AS comm,
  p.exe AS exe,
  p.cmdline AS cmdline,
  p.cwd AS cwd,
  t.uid AS uid,
  nullif(coalesce(t.user, p.user), '') AS user,
  t.gid AS gid,
  t.euid AS euid,
  t.loginuid AS loginuid,
  t.session_id AS session_id,
  nullif(coalesce(t.container, p.container), '') AS container,
  nullif(coalesce(t.cgroup, p.cgroup), '') AS cgroup,
  coalesce(t.netns, v.netns) AS netns,
  CASE s.protocol WHEN 6 THEN 'tcp' ELSE 'udp' END AS protocol,
  e.address AS server_address,
  nullif(e.port, -1) AS server_port,
  s.backend AS backend,
  p.id AS process_id,
  p.parent AS parent_id,
  p.ancestry AS ancestry,
  (SELECT number FROM segment) AS segment
FROM (SELECT min(id) AS id, max(last_ns) AS last_ns, task, shape, remote, sum(count) AS count, question, asked, rcode, answers, max(ttl) AS ttl, netns
  FROM event WHERE asked IS NOT NULL GROUP BY window, task, netns, remote, shape, question, asked, rcode, answers) v
LEFT JOIN task t ON t.id = v.task
LEFT JOIN process p ON p.id = t.process
JOIN shape s ON s.id = v.shape
LEFT JOIN endpoint e ON e.id = v.remote;

CREATE VIEW processes AS
SELECT
  p.id AS process_id,
  p.parent AS parent_id,
  p.tgid AS pid,
  p.ppid AS ppid,
  p.pid_in_ns AS pid_in_ns,
  p.comm AS comm,
  p.exe AS exe,
  p.script AS script,
  p.cmdline AS cmdline,
  p.cmdline_truncated AS cmdline_truncated,
  p.cwd AS cwd,
  p.uid AS uid,
  nullif(p.user, '') AS user,
  p.gid AS gid,
  p.euid AS euid,
  p.loginuid AS loginuid,
  p.session_id AS session_id,
  nullif(p.cgroup, '') AS cgroup,
  nullif(p.container, '') AS container,
  nullif(p.unit, '') AS unit,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (p.start_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = p.boot) + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (p.start_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = p.boot) + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= p.start_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = p.boot) ORDER BY k.id DESC LIMIT 1) AS start_time,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (p.exec_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = p.boot) + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (p.exec_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = p.boot) + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= p.exec_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = p.boot) ORDER BY k.id DESC LIMIT 1) AS exec_time,
  p.exec_number AS exec_number,
  p.exe_deleted AS exe_deleted,
  p.exe_memfd AS exe_memfd,
  p.exe_device AS exe_device,
  p.exe_inode AS exe_inode,
  p.mntns AS mntns,
  p.pidns AS pidns,
  p.netns AS netns,
  p.userns AS userns,
  p.utsns AS utsns,
  p.ipcns AS ipcns,
  p.cgroupns AS cgroupns,
  p.source AS source,
  p.ancestry AS ancestry,
  p.cgroup_id AS cgroup_id,
  (SELECT number FROM segment) AS segment,
  (SELECT b.boot_id FROM boot b WHERE b.id = p.boot) AS boot_id,
  p.mntns_is_host AS mntns_is_host,
  (SELECT lower(hex(h.sha256)) FROM hash h WHERE h.id = p.exe_file AND h.sha256 IS NOT NULL) AS exe_sha256,
  (SELECT lower(hex(h.sha1)) FROM hash h WHERE h.id = p.exe_file AND h.sha1 IS NOT NULL) AS exe_sha1,
  (SELECT lower(hex(h.md5)) FROM hash h WHERE h.id = p.exe_file AND h.md5 IS NOT NULL) AS exe_md5,
  coalesce((SELECT h.source FROM hash h WHERE h.id = p.exe_file AND h.source <> 'pending'), 'unknown') AS hash_source,
  (SELECT lower(hex(h.sha256)) FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.sha256 IS NOT NULL) AS script_sha256,
  (SELECT lower(hex(h.sha1)) FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.sha1 IS NOT NULL) AS script_sha1,
  (SELECT lower(hex(h.md5)) FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.md5 IS NOT NULL) AS script_md5,
  iif(p.script IS NOT NULL, coalesce((SELECT h.source FROM hash h JOIN script i ON i.hash = h.id WHERE i.process = p.id AND h.source <> 'pending'), 'unknown'), NULL) AS script_hash_source,
  (SELECT h.size FROM hash h WHERE h.id = p.exe_file) AS exe_size
FROM process p;

CREATE VIEW programs AS
SELECT
  p.exe AS exe,
  iif(p.exe IS NULL, p.comm, NULL) AS comm,
  p.script AS script,
  (SELECT lower(hex(h.sha256)) FROM hash h WHERE h.id = p.exe_file AND h.sha256 IS NOT NULL) AS exe_sha256,
  (SELECT lower(hex(h.sha1)) FROM hash h WHERE h.id = p.exe_file AND h.sha1 IS NOT NULL) AS exe_sha1,
  (SELECT lower(hex(h.md5)) FROM hash h WHERE h.id = p.exe_file AND h.md5 IS NOT NULL) AS exe_md5,
  coalesce((SELECT h.source FROM hash h WHERE h.id = p.exe_file AND h.source <> 'pending'), 'unknown') AS hash_source,
  (SELECT lower(hex(h.sha256)) FROM hash h WHERE h.id = f.script_file AND h.sha256 IS NOT NULL) AS script_sha256,
  (SELECT lower(hex(h.sha1)) FROM hash h WHERE h.id = f.script_file AND h.sha1 IS NOT NULL) AS script_sha1,
  (SELECT lower(hex(h.md5)) FROM hash h WHERE h.id = f.script_file AND h.md5 IS NOT NULL) AS script_md5,
  iif(p.script IS NOT NULL, coalesce((SELECT h.source FROM hash h WHERE h.id = f.script_file AND h.source <> 'pending'), 'unknown'), NULL) AS script_hash_source,
  (SELECT h.size FROM hash h WHERE h.id = p.exe_file) AS exe_size,
  f.processes AS processes,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (f.first_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (f.first_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= f.first_ns ORDER BY k.id DESC LIMIT 1) AS first_time,
  p.id AS process_id,
  p.tgid AS pid,
  (SELECT number FROM segment) AS segment
FROM (SELECT q.id AS first, count(*) AS processes, i.hash AS script_file, min(q.exec_boot_ns + (SELECT b.offset_ns FROM boot b WHERE b.id = q.boot)) AS first_ns
  FROM process q LEFT JOIN script i ON i.process = q.id
  GROUP BY q.exe, iif(q.exe IS NULL, q.comm, NULL), q.exe_file, q.script, i.hash) f
JOIN process p ON p.id = f.first;

CREATE VIEW endpoints AS
SELECT
  e.id AS id,
  CASE e.family
    WHEN 0 THEN 'unspec' WHEN 1 THEN 'unix' WHEN 2 THEN 'ipv4' WHEN 10 THEN 'ipv6'
    WHEN 16 THEN 'netlink' WHEN 17 THEN 'packet' WHEN 40 THEN 'vsock'
    WHEN 29 THEN 'can' WHEN 30 THEN 'tipc' WHEN 31 THEN 'bluetooth' WHEN 38 THEN 'alg'
    WHEN 42 THEN 'qipcrtr' WHEN 43 THEN 'smc' WHEN 44 THEN 'xdp'
    WHEN 65535 THEN NULL -- an address too short to have one
    ELSE 'family ' || e.family END AS family,
  e.address AS address,
  nullif(e.port, -1) AS port,
  CASE
    WHEN e.family NOT IN (2, 10) OR e.port < 0 THEN NULL -- too short to hold an address
    WHEN e.family = 10 AND e.address GLOB '::ffff:*.*' THEN substr(e.address, 8)
    ELSE e.address END AS ip,
  lower(hex(e.raw)) AS raw,
  (SELECT number FROM segment) AS segment,
  (SELECT q.address FROM endpoint q WHERE q.id = e.requested) AS requested_address,
  (SELECT nullif(q.port, -1) FROM endpoint q WHERE q.id = e.requested) AS requested_port,
  (SELECT u.tgid FROM process u WHERE u.id = e.peer) AS peer_pid,
  nullif(e.names, '') AS name,
  nullif(e.name_source, '') AS name_source
FROM endpoint e;

CREATE VIEW gaps AS
SELECT
  g.id AS id,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (g.from_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (g.from_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= g.from_ns ORDER BY k.id DESC LIMIT 1) AS from_time,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (g.to_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (g.to_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= g.to_ns ORDER BY k.id DESC LIMIT 1) AS to_time,
  g.cause AS cause,
  g.lost AS lost,
  g.detail AS detail,
  g.from_ns AS from_ns,
  g.to_ns AS to_ns,
  (SELECT number FROM segment) AS segment
FROM gap g;

CREATE VIEW segments AS
SELECT
  z.number AS segment,
  z.tape_id AS tape_id,
  z.state AS state,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (z.created_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (z.created_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= z.created_ns ORDER BY k.id DESC LIMIT 1) AS from_time,
  (SELECT strftime('%Y-%m-%dT%H:%M:%S', (z.heartbeat_ns + k.offset_ns) / 1000000000, 'unixepoch')
      || printf('.%09dZ', (z.heartbeat_ns + k.offset_ns) % 1000000000)
    FROM clock k WHERE k.id <= z.heartbeat_ns ORDER BY k.id DESC LIMIT 1) AS to_time,
  z.host AS host,
  z.machine_id AS machine_id,
  (SELECT boot_id FROM boot ORDER BY id DESC LIMIT 1) AS boot_id,
  (SELECT kernel FROM boot ORDER BY id DESC LIMIT 1) AS kernel,
  (SELECT version FROM run ORDER BY id DESC LIMIT 1) AS version,
  (SELECT backend FROM run ORDER BY id DESC LIMIT 1) AS backend,
  (SELECT blind_spots FROM run ORDER BY id DESC LIMIT 1) AS blind_spots,
  (SELECT coalesce(sum(CASE n.name WHEN 'seen' THEN n.value - n.first ELSE n.first - n.value END), 0)
    FROM counter n WHERE n.name IN ('seen', 'handed_over')) AS seen,
  (SELECT coalesce(sum(n.value - n.first), 0) FROM counter n WHERE n.name = 'stored') AS stored,
  (SELECT coalesce(sum(n.value - n.first), 0) FROM counter n WHERE n.name = 'coalesced') AS coalesced,
  (SELECT coalesce(sum(n.value - n.first), 0) FROM counter n WHERE n.name = 'excluded') AS excluded,
  (SELECT coalesce(sum(n.value - n.first), 0) FROM counter n WHERE n.name = 'lost') AS lost,
  printf('%08d.db', z.number) AS path,
  z.schema_version AS schema_version,
  z.created_ns AS from_ns,
  z.heartbeat_ns AS to_ns,
  z.batches AS batches,
  (SELECT count(*) FROM run) AS runs,
  (SELECT count(*) FROM boot) AS boots
FROM segment z;
