-- purpose: What listens where, and since when.
-- column: first_time | when it began to, as far as that was recorded
-- column: last_time | when it last began to
-- column: source | hook: it was seen to; snapshot: it did already when recording began, and first_time is when that was
-- column: n | how often it did
-- column: protocol | tcp, mptcp, sctp; udp and its like: a socket that was bound; unix
-- column: local | address and port, 0.0.0.0 and [::] being all of the host; or path
-- column: pid | process that did
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Only what listened when conntape record --events listen,bind began to run, or began to listen while it ran, is on a tape: TCP and UNIX sockets with listen, UDP and UNIX datagram sockets with bind. Whether it still does is not told, but each start of a recorder tells what listens then.
-- false-positives: A service that is restarted; a client of UDP that binds its socket, as resolvers do. A shell, an interpreter or a file below /tmp that listens is a finding.
-- example: conntape query listeners --since 7d
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  CASE WHEN min(iif(source = 'snapshot', time_ns, NULL)) <= min(time_ns) THEN 'snapshot' ELSE 'hook' END AS source,
  sum(count) AS n,
  coalesce(protocol, family) AS protocol,
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
GROUP BY process_id, user, container, coalesce(protocol, family), local
ORDER BY max(time_ns) DESC, local
