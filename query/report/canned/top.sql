-- purpose: What connected most, or was connected to most.
-- arg: what process|destination|port|user|container = process | what to count by: process (its program), destination, port, user or container
-- param: by connects|bytes|bytes_sent|bytes_received = connects | order by connects, or by the bytes both ways, sent or received of connections that ended
-- param: limit integer = 20 | most rows to show; 0 for all
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: name | program, destination, port, user or container; (none) for connects without one
-- column: n | connects
-- column: percent | share of all connects, or of all bytes that --by names
-- column: programs | different programs
-- column: destinations | addresses and ports, or paths
-- column: failed | refused, timed out, unreachable, aborted, failed or denied
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: bar | that share, as a share of the largest, in 20 steps
-- column: bytes_sent | of connections that ended, each byte once; NULL: of none is it known, or --by is connects
-- column: bytes_received | likewise
-- note: Bytes are read one connection after another, connects are counted: --by bytes takes longer.
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: The top is what this host is for. What is missing from it, or new in it, tells more: see conntape query diff.
-- example: conntape query top
-- example: conntape query top destination --since 2h --limit 10
-- example: conntape query top destination --by bytes_sent
WITH counted AS (
  SELECT
    coalesce(CASE :what
      WHEN 'process' THEN coalesce(exe, '[' || comm || ']')
      WHEN 'destination' THEN remote
      WHEN 'port' THEN protocol || '/' || remote_port || coalesce(' ' || port_name(remote_port, protocol), '')
      WHEN 'user' THEN coalesce(user, uid)
      WHEN 'container' THEN container
    END, '(none)') AS name,
    sum(count) AS n,
    count(DISTINCT coalesce(exe, '[' || comm || ']')) AS programs,
    count(DISTINCT remote) AS destinations,
    sum(failed * count) AS failed,
    min(time) AS first_time,
    max(last_time) AS last_time,
    CASE WHEN :by <> 'connects' THEN sum(bytes_sent) END AS sent,
    CASE WHEN :by <> 'connects' THEN sum(bytes_received) END AS received
  FROM connections
  WHERE (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY 1
),
measured AS (
  SELECT *, CASE :by
      WHEN 'connects' THEN n
      WHEN 'bytes_sent' THEN coalesce(sent, 0)
      WHEN 'bytes_received' THEN coalesce(received, 0)
      ELSE coalesce(sent, 0) + coalesce(received, 0)
    END AS much
  FROM counted
)
SELECT
  name,
  n,
  round(100.0 * much / nullif(sum(much) OVER (), 0), 1) AS percent,
  programs,
  destinations,
  failed,
  first_time,
  last_time,
  replace(hex(zeroblob(coalesce((20 * much + max(much) OVER () - 1) / nullif(max(much) OVER (), 0), 0))), '00', '█') AS bar,
  sent AS bytes_sent,
  received AS bytes_received
FROM measured
ORDER BY much DESC, name
LIMIT :limit
