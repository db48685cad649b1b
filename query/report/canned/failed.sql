-- purpose: Connects that were refused, timed out, were unreachable or failed otherwise.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: shapes WHERE NOT coalesce(hook_errno > 0, 0) AND coalesce(CASE WHEN errno NOT IN (0, 4, 11, 115, 512) THEN errno END, final, errno) NOT IN (0, 4, 11, 32, 103, 104, 106, 114, 115, 512) | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: outcome | what became of them
-- column: errno | error that it came to, as a number
-- column: pid | process; NULL: several, see the notes
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Of TCP it is what became of the connection in the end, also where connect(2) returned before; of other nonblocking sockets that is not known.
-- note: EISCONN (already connected) and EALREADY (already connecting) are no failures.
-- note: Sockets that the C library tries first and hosts do not have, such as nscd's, are one row each, the last ones: exe says how many programs tried.
-- false-positives: Programs that try IPv6 first without a route to it, health checks of what is down, and a service that starts before the one it needs.
-- example: conntape query failed --since 2h
WITH tried AS (
  SELECT *, errno = 2 AND family = 'unix' AND remote_address IN ('/var/run/nscd/socket', '/run/nscd/socket', '/var/lib/sss/pipes/nss',
    '/var/run/avahi-daemon/socket', '/run/avahi-daemon/socket', '/run/systemd/userdb/io.systemd.DynamicUser', '/run/systemd/resolve/io.systemd.Resolve') AS usual
  FROM connections
  WHERE outcome IN ('refused', 'timed out', 'unreachable', 'aborted', 'failed')
    AND (:all OR NOT probe AND family IS NOT 'unspec')
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  outcome,
  outcome_errno AS errno,
  CASE WHEN NOT usual THEN pid END AS pid,
  CASE WHEN NOT usual THEN user END AS user,
  CASE WHEN NOT usual THEN container END AS container,
  remote,
  CASE WHEN usual THEN count(DISTINCT exe) || ' programs' ELSE exe END AS exe,
  CASE WHEN NOT usual THEN coalesce(nullif(cmdline, ''), '[' || comm || ']') END AS cmdline,
  CASE WHEN NOT usual THEN ancestry END AS ancestry
FROM tried
GROUP BY CASE WHEN NOT usual THEN process_id END, CASE WHEN NOT usual THEN user END, CASE WHEN NOT usual THEN container END, remote, outcome, outcome_errno, usual
ORDER BY usual, n DESC, min(time_ns), remote
