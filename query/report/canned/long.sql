-- purpose: Connections that were, or are, open for the longest time.
-- param: limit integer = 20 | most connections to show; 0 for all
-- column: time | when the connect was issued
-- column: state | open: when recording was last alive; ended
-- column: seconds | how long it was open, or has been until recording was last alive
-- column: lasted | the same in words
-- column: pid | process that issued the connect
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: bytes_sent | that the peer has acknowledged; NULL: unknown
-- column: bytes_received | in order; NULL: unknown
-- column: outcome | what became of it
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Connections of which nobody will tell the end are left out: those that a recorder followed which was stopped since then.
-- false-positives: Connection pools, message brokers, SSH sessions of administrators, and agents that hold one connection for ever.
-- example: conntape query long --since 7d
-- example: conntape query long --limit 5
WITH lasting AS (
  SELECT *, coalesce(duration_ns, (SELECT max(to_ns) FROM segments) - time_ns) AS ns
  FROM connections
  WHERE (duration_ns IS NOT NULL OR outcome_source = 'open')
    AND (established_ns IS NOT NULL OR outcome IN ('established', 'reset'))
)
SELECT
  time,
  CASE WHEN duration_ns IS NULL THEN 'open' ELSE 'ended' END AS state,
  round(max(ns, 0) / 1e9, 3) AS seconds,
  duration_words(ns) AS lasted,
  pid,
  user,
  container,
  remote,
  bytes_sent,
  bytes_received,
  outcome,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM lasting
ORDER BY ns DESC, time_ns
LIMIT :limit
