-- purpose: Connects that were refused, timed out, were unreachable or failed otherwise.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: shapes WHERE NOT coalesce(hook_errno > 0, 0) AND errno NOT IN (0, 4, 11, 114, 115, 512) | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: outcome | what became of them
-- column: errno | error of connect(2) as a number
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: connect(2) of a nonblocking socket returns before it can fail, with "in progress": such a failure is not known.
-- false-positives: Programs that try IPv6 first without a route to it, health checks of what is down, and a service that starts before the one it needs.
-- example: conntape query failed --since 2h
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  outcome,
  errno,
  pid,
  user,
  container,
  CASE
    WHEN remote_port IS NULL THEN remote_address
    WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
    ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
  END AS remote,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM connections
WHERE outcome IN ('refused', 'timed out', 'unreachable', 'failed')
  AND (:all OR family <> 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))
GROUP BY process_id, user, container, remote, outcome, errno
ORDER BY n DESC, min(time_ns), remote
