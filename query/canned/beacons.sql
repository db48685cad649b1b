-- purpose: Programs that connect to one destination at regular intervals.
-- param: least integer = 6 | least number of connects; fewer say nothing about their intervals
-- param: score integer = 80 | least score, from 0 to 100
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: score | 100 is a clock, 50 is chance; see the notes
-- column: interval | median interval in seconds
-- column: jitter | median distance of the intervals from it, in seconds
-- column: n | connects
-- column: sparkline | seconds with connects in each 24th of the time from the first to the last, as a share of the most; · is none
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: remote | address and port, or path
-- column: cmdline | arguments of one of its processes, or its name in brackets
-- column: ancestry | its ancestors, and itself last
-- note: Scored after RITA (Active Countermeasures), adapted to connects without sizes. Of the intervals between connects, Q1, Q2, Q3 are the quartiles.
-- note: skew = 1 - |Q1 + Q3 - 2 Q2| / (Q3 - Q1), the Bowley skewness turned over; 1 when Q3 = Q1 or Q2 is one of the two. Random arrivals are skewed, a timer with jitter is not.
-- note: spread = 1 - MAD / Q2, not below 0; MAD is the median of |interval - Q2|. A timer with 30% of jitter has about 0.85, random arrivals 0.3.
-- note: score = 100 (skew + spread) / 2. Quartiles are those of the nearest rank.
-- note: Connects of one program, user and container are put together whatever process made them; those within the same second count as one.
-- false-positives: Anything with a timer: cron, NTP, health checks, monitoring agents, update checks, keep-alives. They are known by program and destination.
-- example: conntape query beacons --since 1d
-- example: conntape query beacons --least 20 --score 90
WITH
beat AS ( -- one for each second with connects of a pair
  SELECT
    coalesce(exe, '[' || comm || ']') AS exe, user, container,
    CASE
      WHEN remote_port IS NULL THEN remote_address
      WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
      ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
    END AS remote,
    max(time_ns) AS last_ns,
    sum(count) AS n, min(time) AS first_time, max(last_time) AS last_time,
    coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline, ancestry
  FROM connections
  WHERE (:all OR family <> 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))
  GROUP BY 1, 2, 3, 4, time_ns / 1000000000
),
pair AS (
  SELECT *, last_ns - lag(last_ns) OVER (PARTITION BY exe, user, container, remote ORDER BY last_ns) AS gap
  FROM beat
),
ranked AS (
  SELECT *,
    row_number() OVER (PARTITION BY exe, user, container, remote ORDER BY gap) AS rank,
    count(*) OVER (PARTITION BY exe, user, container, remote) AS gaps
  FROM pair
  WHERE gap IS NOT NULL
),
quartile AS (
  SELECT exe, user, container, remote, gaps,
    max(CASE WHEN rank = 1 + CAST(round((gaps - 1) * 0.25) AS INTEGER) THEN gap END) AS q1,
    max(CASE WHEN rank = 1 + CAST(round((gaps - 1) * 0.50) AS INTEGER) THEN gap END) AS q2,
    max(CASE WHEN rank = 1 + CAST(round((gaps - 1) * 0.75) AS INTEGER) THEN gap END) AS q3
  FROM ranked
  GROUP BY exe, user, container, remote
  HAVING gaps + 1 >= :least
),
distance AS (
  SELECT quartile.*, abs(gap - q2) AS away,
    row_number() OVER (PARTITION BY quartile.exe, quartile.user, quartile.container, quartile.remote ORDER BY abs(gap - q2)) AS rank
  FROM ranked
  JOIN quartile ON quartile.exe = ranked.exe AND quartile.user IS ranked.user
    AND quartile.container IS ranked.container AND quartile.remote = ranked.remote
),
scored AS (
  SELECT exe, user, container, remote, q2, away AS mad,
    CASE WHEN q3 = q1 OR q2 IN (q1, q3) THEN 1.0 ELSE 1 - abs(q1 + q3 - 2 * q2) / CAST(q3 - q1 AS REAL) END AS skew,
    max(0, 1 - away / CAST(q2 AS REAL)) AS spread
  FROM distance
  WHERE rank = 1 + CAST(round((gaps - 1) * 0.50) AS INTEGER)
),
total AS (
  SELECT exe, user, container, remote, min(last_ns) AS first_beat, max(last_ns) AS last_beat, sum(n) AS n,
    min(first_time) AS first_time, max(last_time) AS last_time, cmdline, ancestry
  FROM beat
  GROUP BY exe, user, container, remote
),
found AS (
  SELECT round(50 * (skew + spread), 1) AS score, q2, mad, total.*
  FROM scored
  JOIN total USING (exe, remote)
  WHERE scored.user IS total.user AND scored.container IS total.container
    AND round(50 * (skew + spread), 1) >= :score
),
part AS (
  SELECT exe, user, container, remote, part, count(*) AS beats,
    max(count(*)) OVER (PARTITION BY exe, user, container, remote) AS most
  FROM (
    SELECT beat.exe, beat.user, beat.container, beat.remote,
      min(23, (beat.last_ns - first_beat) * 24 / (last_beat - first_beat)) AS part
    FROM found
    JOIN beat ON beat.exe = found.exe AND beat.remote = found.remote
      AND beat.user IS found.user AND beat.container IS found.container
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
  round(q2 / 1e9, 3) AS interval,
  round(mad / 1e9, 3) AS jitter,
  n,
  (
    SELECT group_concat(step, '')
    FROM (
      SELECT substr('·▁▂▃▄▅▆▇█', 1 + coalesce((8 * beats + most - 1) / most, 0), 1) AS step
      FROM every
      LEFT JOIN part ON part.part = every.part AND part.exe = found.exe AND part.remote = found.remote
        AND part.user IS found.user AND part.container IS found.container
      ORDER BY every.part
    )
  ) AS sparkline,
  first_time,
  last_time,
  user,
  container,
  exe,
  remote,
  cmdline,
  ancestry
FROM found
ORDER BY score DESC, n DESC, remote
