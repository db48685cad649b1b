-- purpose: Programs that connect to one destination at regular intervals.
-- param: least integer = 6 | least number of connects; fewer say nothing about their intervals
-- param: score integer = 80 | least score, from 0 to 100
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: score | of 100: a quarter each for times, sizes, histogram and duration, times twice where sizes is NULL; see the notes
-- column: usual | how usual it is, the least usual first: 1 for each of those that the notes name
-- column: times | how even the intervals are, of 100
-- column: sizes | how alike the bytes sent are, and how few, of 100; NULL: known of too few connects
-- column: histogram | how even the connects lie over the time from the first to the last, of 100
-- column: duration | how much of the window they are in, or how many follow each other without one missing, of 100
-- column: interval | median interval in seconds
-- column: jitter | median distance of the intervals from it, in seconds
-- column: n | connects
-- column: programs | different programs that connect to the destination
-- column: alike | destinations to which the program has beacons
-- column: days | days (UTC) with connects
-- column: sparkline | seconds with connects in each 24th of the time from the first to the last, as a share of the most; · is none
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: remote | address and port, or path
-- column: cmdline | arguments of one of its processes, or its name in brackets
-- column: ancestry | its ancestors, and itself last
-- note: Scored after RITA v5 (Active Countermeasures). Where sizes are not known, times counts for them. Of the intervals between beats, Q1, Q2, Q3 are the quartiles, of the nearest rank.
-- note: times = 100 (skew + spread) / 2. skew = 1 - |Q1 + Q3 - 2 Q2| / (Q3 - Q1), the Bowley skewness turned over; 1 when Q3 - Q1 is at most a second or a tenth of Q2, or Q2 is one of the two. spread = 1 - MAD / Q2, not below 0; MAD is the median of |interval - Q2|. A timer with 30% of jitter has about 90, random arrivals 55.
-- note: sizes = 100 (skew + spread + few) / 3 of bytes_sent of the newest 1,000 connects (rows) that the pair has, NULL when it is known of fewer than least of them. skew and spread are as for times, but skew is 1 when Q3 - Q1 is at most 16 bytes or a tenth of Q2. few = 1 - Q2 / 64 KiB, not below 0. Check-ins of one size have about 100, padded by a random part of their size 85, uploads of any size 30.
-- note: histogram = 100 (1 - standard deviation / mean) of the beats in each of up to 24 equal parts of their time (4 beats each at least); or 0.9 of that over the parts that have any, if those are 6 or more: a host may be off by night. Fewer than 24 beats prove less: it is that share of 24 of it.
-- note: duration = 100 times the share of the window from the first beat to the last, or the most beats that follow each other within 2 Q2 divided by 24, whatever is more, at most 100.
-- note: usual is 1 for what went on already when the window began, which is the first connect of any program in it (the first beat of the pair is in the first 24th of the window, or within 2 Q2), 1 for a destination that is not on the Internet, 1 for one of more than 2 programs (or where the program has as many beacons alike), 1 for more than 9. Rows of the same are in the order of the score. Ask for a window that begins before the suspicion does.
-- note: A filter such as --exe chooses pairs that have a connection which passes; each is measured over all its connections, and programs and alike are those of all of the window.
-- note: Connects of one program, user and container are put together whatever process made them; those within the same second, or a tenth of Q3 after another, count as one beat.
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: Anything with a timer: cron, NTP, health checks, monitoring agents, update checks, keep-alives. They are known by program and destination.
-- example: conntape query beacons --since 1d
-- example: conntape query beacons --least 20 --score 90
WITH
sent AS ( -- by the newest connects of a pair
  SELECT *,
    row_number() OVER (PARTITION BY exe, user, container, remote ORDER BY bytes_sent) - 1 AS rank,
    count(*) OVER (PARTITION BY exe, user, container, remote) AS known
  FROM (
    SELECT coalesce(exe, '[' || comm || ']') AS exe, user, container, remote, bytes_sent,
      row_number() OVER (PARTITION BY coalesce(exe, '[' || comm || ']'), user, container, remote ORDER BY time_ns DESC) AS age
    FROM main.connections
    WHERE (:all OR NOT probe AND family IS NOT 'unspec')
  )
  WHERE age <= 1000 AND bytes_sent IS NOT NULL
),
sent_quartile AS (
  SELECT *,
    max(CASE WHEN rank = CAST(round((known - 1) * 0.25) AS INTEGER) THEN bytes_sent END) OVER (PARTITION BY exe, user, container, remote) AS q1,
    max(CASE WHEN rank = CAST(round((known - 1) * 0.50) AS INTEGER) THEN bytes_sent END) OVER (PARTITION BY exe, user, container, remote) AS q2,
    max(CASE WHEN rank = CAST(round((known - 1) * 0.75) AS INTEGER) THEN bytes_sent END) OVER (PARTITION BY exe, user, container, remote) AS q3
  FROM sent
  WHERE known >= :least
),
sent_away AS (
  SELECT *,
    abs(bytes_sent - q2) AS away,
    row_number() OVER (PARTITION BY exe, user, container, remote ORDER BY abs(bytes_sent - q2)) - 1 AS nearness
  FROM sent_quartile
),
sized AS MATERIALIZED (
  SELECT exe, user, container, remote,
    (CASE WHEN q3 - q1 <= max(16, q2 / 10) OR q2 IN (q1, q3) THEN 1.0 ELSE 1 - abs(q1 + q3 - 2 * q2) / CAST(q3 - q1 AS REAL) END
      + max(0, 1 - away / CAST(max(1, q2) AS REAL)) + max(0, 1 - q2 / 65536.0)) / 3 AS sizes
  FROM sent_away
  WHERE nearness = CAST(round((known - 1) * 0.50) AS INTEGER)
),
span AS MATERIALIZED ( -- of all connections in the window, also of those that a filter leaves out
  SELECT
    (SELECT time_ns FROM main.connections WHERE (:all OR NOT probe AND family IS NOT 'unspec') ORDER BY time_ns LIMIT 1) AS first_ns,
    (SELECT time_ns FROM main.connections WHERE (:all OR NOT probe AND family IS NOT 'unspec') ORDER BY time_ns DESC LIMIT 1) AS last_ns
),
passing AS MATERIALIZED ( -- pairs that have a connection which a filter lets through: they are shown, and measured over all that they have
  SELECT DISTINCT
    coalesce(exe, '[' || comm || ']') AS exe, user, container,
    remote
  FROM connections
  WHERE (:all OR NOT probe AND family IS NOT 'unspec')
),
beat AS ( -- one for each second with connects of a pair
  SELECT
    coalesce(exe, '[' || comm || ']') AS exe, user, container,
    remote,
    min(CASE WHEN remote_port IS NULL THEN 1 ELSE coalesce(is_private(coalesce(remote_ip, remote_address)), 1) END) AS near,
    min(time_ns) AS first_ns, max(time_ns) AS last_ns,
    sum(count) AS n, min(time) AS first_time, max(last_time) AS last_time,
    coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry
  FROM main.connections
  WHERE (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY 1, 2, 3, 4, time_ns / 1000000000
),
total AS (
  SELECT exe, user, container, remote, near, sum(n) AS n, min(first_time) AS first_time, max(last_time) AS last_time, cmdline, ancestry
  FROM beat
  GROUP BY exe, user, container, remote
),
shared AS (
  SELECT remote, count(DISTINCT exe) AS programs
  FROM beat
  GROUP BY remote
),
spaced AS (
  SELECT *, last_ns - lag(last_ns) OVER (PARTITION BY exe, user, container, remote ORDER BY last_ns) AS step
  FROM beat
),
stepped AS ( -- the first has no step, and sorts before all
  SELECT *,
    row_number() OVER (PARTITION BY exe, user, container, remote ORDER BY step) - 1 AS rank,
    count(step) OVER (PARTITION BY exe, user, container, remote) AS steps
  FROM spaced
),
kept AS ( -- without what follows another closely
  SELECT exe, user, container, remote, last_ns
  FROM (
    SELECT *,
      max(CASE WHEN rank = 1 + CAST(round((steps - 1) * 0.75) AS INTEGER) THEN step END) OVER (PARTITION BY exe, user, container, remote) AS q3
    FROM stepped
  )
  WHERE step IS NULL OR 10 * step >= q3
),
pair AS (
  SELECT *,
    last_ns - lag(last_ns) OVER (PARTITION BY exe, user, container, remote ORDER BY last_ns) AS gap,
    count(*) OVER (PARTITION BY exe, user, container, remote) AS beats,
    min(last_ns) OVER (PARTITION BY exe, user, container, remote) AS first_beat,
    max(last_ns) OVER (PARTITION BY exe, user, container, remote) AS last_beat
  FROM kept
),
ranked AS (
  SELECT *, row_number() OVER (PARTITION BY exe, user, container, remote ORDER BY gap) - 1 AS rank
  FROM pair
  WHERE beats >= :least AND beats >= 2
),
quartile AS (
  SELECT *,
    max(CASE WHEN rank = 1 + CAST(round((beats - 2) * 0.25) AS INTEGER) THEN gap END) OVER (PARTITION BY exe, user, container, remote) AS q1,
    max(CASE WHEN rank = 1 + CAST(round((beats - 2) * 0.50) AS INTEGER) THEN gap END) OVER (PARTITION BY exe, user, container, remote) AS q2,
    max(CASE WHEN rank = 1 + CAST(round((beats - 2) * 0.75) AS INTEGER) THEN gap END) OVER (PARTITION BY exe, user, container, remote) AS q3,
    min(24, max(1, beats / 4)) AS parts
  FROM ranked
),
placed AS (
  SELECT *,
    abs(gap - q2) AS away,
    row_number() OVER (PARTITION BY exe, user, container, remote ORDER BY abs(gap - q2)) - 1 AS nearness,
    coalesce(sum(gap > 2 * q2) OVER (PARTITION BY exe, user, container, remote ORDER BY last_ns), 0) AS island,
    min(parts - 1, (last_ns - first_beat) * parts / (last_beat - first_beat)) AS part
  FROM quartile
),
crowded AS (
  SELECT *,
    count(*) OVER (PARTITION BY exe, user, container, remote, part) AS crowd,
    count(*) OVER (PARTITION BY exe, user, container, remote, island) AS run
  FROM placed
),
measured AS (
  SELECT exe, user, container, remote, q1, q2, q3, beats, parts, first_beat, last_beat,
    max(CASE WHEN nearness = 1 + CAST(round((beats - 2) * 0.50) AS INTEGER) THEN away END) AS mad,
    sum(crowd) AS squares, count(DISTINCT part) AS used, max(run) AS run, count(DISTINCT last_ns / 86400000000000) AS days
  FROM crowded
  GROUP BY exe, user, container, remote
),
scored AS (
  SELECT *,
    (CASE WHEN q3 - q1 <= max(1000000000, q2 / 10) OR q2 IN (q1, q3) THEN 1.0 ELSE 1 - abs(q1 + q3 - 2 * q2) / CAST(q3 - q1 AS REAL) END
      + max(0, 1 - mad / CAST(q2 AS REAL))) / 2 AS times,
    max(0, 1 - sqrt(parts * squares - beats * beats) / beats,
      CASE WHEN used >= 6 THEN 0.9 * (1 - sqrt(used * squares - beats * beats) / beats) ELSE 0 END) * min(1, beats / 24.0) AS histogram,
    min(1, max(CAST(last_beat - first_beat AS REAL) / max(1, (SELECT last_ns - first_ns FROM span)), run / 24.0)) AS duration
  FROM measured
),
judged AS (
  SELECT scored.*, sizes,
    round(CASE WHEN sizes IS NULL THEN 50 * times + 25 * histogram + 25 * duration ELSE 25 * times + 25 * sizes + 25 * histogram + 25 * duration END, 1) AS score
  FROM scored
  LEFT JOIN sized ON sized.exe = scored.exe AND sized.remote = scored.remote AND sized.user IS scored.user AND sized.container IS scored.container
),
found AS (
  SELECT *, first_beat - (SELECT first_ns FROM span) < max(2 * q2, (SELECT last_ns - first_ns FROM span) / 24) AS settled, count(*) OVER (PARTITION BY exe) AS alike
  FROM judged
  WHERE score >= :score
),
drawn AS (
  SELECT exe, user, container, remote, part, count(*) AS beats,
    max(count(*)) OVER (PARTITION BY exe, user, container, remote) AS most
  FROM (
    SELECT exe, user, container, remote, min(23, (last_ns - first_beat) * 24 / (last_beat - first_beat)) AS part
    FROM placed
  )
  GROUP BY exe, user, container, remote, part
),
every(part) AS (
  SELECT 0
  UNION ALL
  SELECT part + 1 FROM every WHERE part < 23
)
SELECT
  score,
  settled + near + (max(programs, alike) > 2) + (max(programs, alike) > 9) AS usual,
  round(100 * times, 1) AS times,
  round(100 * sizes, 1) AS sizes,
  round(100 * histogram, 1) AS histogram,
  round(100 * duration, 1) AS duration,
  round(q2 / 1e9, 3) AS interval,
  round(mad / 1e9, 3) AS jitter,
  total.n,
  programs,
  alike,
  days,
  (
    SELECT group_concat(step, '')
    FROM (
      SELECT substr('·▁▂▃▄▅▆▇█', 1 + coalesce((8 * drawn.beats + most - 1) / most, 0), 1) AS step
      FROM every
      LEFT JOIN drawn ON drawn.part = every.part AND drawn.exe = found.exe AND drawn.remote = found.remote
        AND drawn.user IS found.user AND drawn.container IS found.container
      ORDER BY every.part
    )
  ) AS sparkline,
  first_time,
  last_time,
  found.user AS user,
  found.container AS container,
  found.exe AS exe,
  found.remote AS remote,
  cmdline,
  ancestry
FROM found
JOIN total ON total.exe = found.exe AND total.remote = found.remote AND total.user IS found.user AND total.container IS found.container
JOIN shared ON shared.remote = found.remote
JOIN passing ON passing.exe = found.exe AND passing.remote = found.remote AND passing.user IS found.user AND passing.container IS found.container
ORDER BY usual, score DESC, total.n DESC, found.remote
