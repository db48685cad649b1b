-- purpose: Connects that a security module denied, or that look as if something had.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: shapes WHERE hook_errno > 0 OR errno IN (1, 13) | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: verdict | denied: a security module said no; forbidden: connect(2) returned EPERM or EACCES, and it is not known why, or it was something else
-- column: errno | error as a number
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Whether a module said no is known with the backends fexit and kprobe. With cgroup it is always "forbidden".
-- false-positives: EACCES and EPERM also come from a firewall of this host, from a path without permission, and from a broadcast address.
-- example: conntape query denied --since 1d
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  CASE outcome WHEN 'denied' THEN 'denied' ELSE 'forbidden' END AS verdict,
  coalesce(nullif(hook_errno, 0), errno) AS errno,
  pid,
  user,
  container,
  remote,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM connections
WHERE (outcome = 'denied' OR errno IN (1, 13))
  AND (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, remote, verdict, 5
ORDER BY min(time_ns), remote
