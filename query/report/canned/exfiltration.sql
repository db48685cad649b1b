-- purpose: Programs that sent much more than they received, to a destination that is new or rare.
-- window: parameters
-- param: mib integer = 1 | least MiB that were sent
-- param: times integer = 4 | how many times as much was sent as received, at least
-- param: most integer = 3 | most connects to a destination on the whole tape that is still rare
-- column: first_time | when the first of the connects was issued
-- column: n | connects of the program to it in the window
-- column: bytes_sent | each byte once; of a connection that is open, up to the last look at it
-- column: bytes_received | likewise
-- column: moved | the same in words, with the longest duration
-- column: why | new: nobody connected to it before the window; rare: one program does, and seldom
-- column: pid | process that was the first
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: Connections that are open count with what they had moved at the last look, five minutes ago at most. Loopback is left out. What is new depends on how far back the tape goes: the coverage statement says so.
-- note: Connects of one program, user and container to one address and port are put together, so that a file that is sent in many parts is seen too.
-- note: Of what is sent without a connect, as tunnels through DNS and ICMP do, nobody knows what came back: it counts as nothing.
-- false-positives: Backups, uploads of artifacts and of logs, mail. They are known by program and destination, and seldom new.
-- example: conntape query exfiltration --since 1d
-- example: conntape query exfiltration --mib 100 --times 10
WITH
moved AS MATERIALIZED (
  SELECT
    min(time_ns) AS first_ns, -- and so the columns beside it are of that row
    time AS first_time,
    sum(count) AS n,
    sum(bytes_sent) AS sent,
    sum(bytes_received) AS received,
    pid,
    user,
    container,
    remote_ip,
    remote,
    coalesce(exe, '[' || comm || ']') AS program,
    exe,
    coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
    ancestry
  FROM connections
  WHERE time_ns >= ns(:since) AND coalesce(time_ns < ns(:until), 1)
    AND family IN ('ipv4', 'ipv6') AND remote_ip IS NOT NULL AND NOT cidr_match(remote_ip, '127.0.0.0/8') AND NOT cidr_match(remote_ip, '::1')
  GROUP BY program, user, container, remote
  HAVING sent >= 1048576 * :mib AND sent >= :times * coalesce(received, 0)
),
seen AS MATERIALIZED ( -- of these destinations, on the whole tape
  SELECT
    remote,
    min(time_ns) AS first_ns,
    sum(count) AS n,
    count(DISTINCT coalesce(exe, '[' || comm || ']')) AS programs
  FROM connections
  WHERE remote_address IN (SELECT remote_ip FROM moved UNION SELECT '::ffff:' || remote_ip FROM moved)
    AND family IN ('ipv4', 'ipv6') AND coalesce(time_ns < ns(:until), 1)
  GROUP BY 1
),
longest AS MATERIALIZED ( -- not among the columns of moved: of max, the columns beside it would be of another row
  SELECT coalesce(exe, '[' || comm || ']') AS program, user, container, remote, max(duration_ns) AS ns
  FROM connections
  WHERE remote_address IN (SELECT remote_ip FROM moved UNION SELECT '::ffff:' || remote_ip FROM moved)
    AND family IN ('ipv4', 'ipv6') AND time_ns >= ns(:since) AND coalesce(time_ns < ns(:until), 1)
  GROUP BY 1, 2, 3, 4
)
SELECT
  first_time,
  moved.n AS n,
  sent AS bytes_sent,
  received AS bytes_received,
  outcome_words('established', moved.n, longest.ns, sent, received) AS moved,
  CASE
    WHEN seen.first_ns < ns(:since) THEN 'rare'
    WHEN programs = 1 AND seen.n <= :most THEN 'new and rare'
    ELSE 'new'
  END AS why,
  pid,
  moved.user AS user,
  moved.container AS container,
  moved.remote AS remote,
  exe,
  cmdline,
  ancestry
FROM moved
JOIN seen ON seen.remote = moved.remote
JOIN longest ON longest.program = moved.program AND longest.user IS moved.user AND longest.container IS moved.container AND longest.remote = moved.remote
WHERE seen.first_ns >= ns(:since) OR programs = 1 AND seen.n <= :most
ORDER BY sent DESC, moved.first_ns, moved.remote
