-- purpose: What listens where, and since when.
-- column: first_time | when it began to, as far as that was recorded
-- column: last_time | when it last began to
-- column: n | how often it did
-- column: protocol | tcp, mptcp
-- column: local | address and port; 0.0.0.0 and [::] are all of the host
-- column: pid | process that did
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Only what began to listen while conntape record --events listen was running is on a tape. Whether it still does is not told.
-- false-positives: A service that is restarted. A shell, an interpreter or a file below /tmp that listens is a finding.
-- example: conntape query listeners --since 7d
SELECT
  min(time) AS first_time,
  max(time) AS last_time,
  sum(count) AS n,
  protocol,
  CASE
    WHEN local_port IS NULL THEN local_address
    WHEN local_address GLOB '*:*' THEN '[' || local_address || ']:' || local_port
    ELSE local_address || ':' || local_port
  END AS local,
  pid,
  user,
  container,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM listeners
GROUP BY process_id, user, container, protocol, local
ORDER BY max(time_ns) DESC, local
