-- purpose: How many connects there were, bucket by bucket; an empty one is a row too.
-- param: seconds integer | length of a bucket in seconds; without it a round length, for at most 48 buckets in the window
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: time | beginning of the bucket
-- column: n | connects
-- column: programs | different programs
-- column: destinations | addresses and ports, or paths, connected to
-- column: failed | refused, timed out, unreachable, aborted or failed
-- column: denied | denied by a security module
-- column: bar | n, as a share of the largest, in 20 steps
-- note: Buckets are cut in UTC on the clock of the segment, which does not jump when the host's clock is set.
-- note: An empty bucket may also be one in which nothing was recorded: see conntape query gaps.
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: A peak is often a backup, a package upgrade, or a monitoring system that starts again.
-- example: conntape query timeline --since 2d
-- example: conntape query timeline --seconds 60 --since 2h
WITH RECURSIVE
bucket AS (
  SELECT
    time_ns / 1000000000 / max(coalesce(:seconds, 3600), 1) AS b,
    sum(count) AS n,
    count(DISTINCT coalesce(exe, '[' || comm || ']')) AS programs,
    count(DISTINCT remote) AS destinations,
    sum(CASE WHEN failed AND outcome <> 'denied' THEN count ELSE 0 END) AS failed,
    sum(CASE WHEN outcome = 'denied' THEN count ELSE 0 END) AS denied
  FROM connections
  WHERE (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY b
),
every(b) AS (
  SELECT min(b) FROM bucket HAVING min(b) IS NOT NULL
  UNION ALL
  SELECT b + 1 FROM every WHERE b < (SELECT max(b) FROM bucket)
)
SELECT
  strftime('%Y-%m-%dT%H:%M:%S', every.b * max(coalesce(:seconds, 3600), 1), 'unixepoch') || '.000000000Z' AS time,
  coalesce(n, 0) AS n,
  coalesce(programs, 0) AS programs,
  coalesce(destinations, 0) AS destinations,
  coalesce(failed, 0) AS failed,
  coalesce(denied, 0) AS denied,
  replace(hex(zeroblob((20 * coalesce(n, 0) + (SELECT max(n) FROM bucket) - 1) / (SELECT max(n) FROM bucket))), '00', '█') AS bar
FROM every
LEFT JOIN bucket ON bucket.b = every.b
ORDER BY every.b
