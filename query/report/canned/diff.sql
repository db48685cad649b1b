-- purpose: What programs connected to in one window and not in another, or much more, or much less.
-- param: base_since time | start of the other window
-- param: base_until time | end of the other window; without both, the time of the same length before the window
-- param: factor integer = 10 | report changes by this factor or more too; 0 for only new and gone
-- window: parameters
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: change | new, gone, more or less
-- column: exe | program
-- column: remote | address and port, or path
-- column: n | connects in the window
-- column: base_n | connects in the other window
-- column: first_time | when the first in either was issued
-- column: last_time | when the last one was
-- column: pid | a process of the program
-- note: With --against another tape is compared, whole or in the window of --base-since and --base-until; --since is not needed then.
-- note: Connects are counted, not rates: give windows of the same length where more and less matter.
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: Addresses of content networks and clouds change by the hour, and nights differ from days. Compare with the same hours of another day.
-- example: conntape query diff --since 1h
-- example: conntape query diff --since today --base-since 2026-06-24 --base-until 2026-06-25
WITH
edge AS (
  SELECT
    ns(:since) AS since,
    coalesce(ns(:until), (SELECT max(to_ns) + 1 FROM segments)) AS until
),
bound AS (
  SELECT since, until,
    coalesce(ns(:base_since), CASE WHEN :base_until IS NULL THEN since - (until - since) ELSE 0 END) AS base_since,
    coalesce(ns(:base_until), since) AS base_until
  FROM edge
),
pair AS (
  SELECT
    coalesce(exe, '[' || comm || ']') AS exe,
    remote,
    sum(CASE WHEN time_ns >= since AND time_ns < until THEN count ELSE 0 END) AS n,
    sum(CASE WHEN time_ns >= base_since AND time_ns < base_until THEN count ELSE 0 END) AS base_n,
    min(time) AS first_time,
    max(last_time) AS last_time,
    max(pid) AS pid
  FROM connections, bound
  WHERE (time_ns >= since AND time_ns < until OR time_ns >= base_since AND time_ns < base_until)
    AND (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY 1, 2
),
judged AS (
  SELECT *, CASE
      WHEN base_n = 0 THEN 'new'
      WHEN n = 0 THEN 'gone'
      WHEN :factor > 0 AND n >= :factor * base_n AND n > base_n THEN 'more'
      WHEN :factor > 0 AND base_n >= :factor * n AND base_n > n THEN 'less'
    END AS change
  FROM pair
)
SELECT
  change,
  exe,
  remote,
  n,
  base_n,
  first_time,
  last_time,
  pid
FROM judged
WHERE change IS NOT NULL
ORDER BY CASE change WHEN 'new' THEN 1 WHEN 'more' THEN 2 WHEN 'less' THEN 3 ELSE 4 END, max(n, base_n) DESC, exe, remote
