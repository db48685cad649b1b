-- purpose: Destinations that only one program connected to, and only a few times.
-- param: most integer = 3 | most connects that are still rare
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: first_time | when the first of them was issued
-- column: n | connects
-- column: pid | process that was the first
-- column: user | its user
-- column: exe | its program
-- column: remote | address and port, or path
-- column: outcome | what became of the first
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: A person who browses makes many of these. On a server, compare with what the same program usually does: see conntape query first-seen.
-- example: conntape query rare --since 1d
-- example: conntape query rare --most 1
SELECT first_time, n, pid, user, exe, remote, outcome, cmdline, ancestry
FROM (
  SELECT
    min(time_ns) AS first_ns, -- and so the columns beside it are of that row
    time AS first_time,
    sum(count) AS n,
    count(DISTINCT coalesce(exe, '[' || comm || ']')) AS programs,
    pid,
    user,
    exe,
    remote,
    CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome,
    coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
    ancestry
  FROM connections
  WHERE (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY remote
) AS destination
WHERE programs = 1 AND n <= :most
ORDER BY n, first_ns, remote
