-- purpose: What connected most, or was connected to most.
-- arg: by process|destination|port|user|container = process | what to count by: process (its program), destination, port, user or container
-- param: limit integer = 20 | most rows to show; 0 for all
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: name | program, destination, port, user or container; (none) for connects without one
-- column: n | connects
-- column: percent | share of all connects
-- column: programs | different programs
-- column: destinations | addresses and ports, or paths
-- column: failed | refused, timed out, unreachable, aborted, failed or denied
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: bar | n, as a share of the largest, in 20 steps
-- false-positives: The top is what this host is for. What is missing from it, or new in it, tells more: see conntape query diff.
-- example: conntape query top
-- example: conntape query top destination --since 2h --limit 10
WITH counted AS (
  SELECT
    coalesce(CASE :by
      WHEN 'process' THEN coalesce(exe, '[' || comm || ']')
      WHEN 'destination' THEN CASE
        WHEN remote_port IS NULL THEN remote_address
        WHEN remote_ip GLOB '*:*' THEN '[' || remote_ip || ']:' || remote_port
        ELSE coalesce(remote_ip, remote_address) || ':' || remote_port
      END
      WHEN 'port' THEN protocol || '/' || remote_port || coalesce(' ' || port_name(remote_port, protocol), '')
      WHEN 'user' THEN coalesce(user, uid)
      WHEN 'container' THEN container
    END, '(none)') AS name,
    sum(count) AS n,
    count(DISTINCT coalesce(exe, '[' || comm || ']')) AS programs,
    count(DISTINCT coalesce(remote_ip, remote_address) || ' ' || coalesce(remote_port, '')) AS destinations,
    sum(CASE WHEN outcome IN ('refused', 'timed out', 'unreachable', 'aborted', 'failed', 'denied') THEN count ELSE 0 END) AS failed,
    min(time) AS first_time,
    max(last_time) AS last_time
  FROM connections
  WHERE (:all OR family IS NOT 'unspec' AND NOT (type = 'dgram' AND remote_port IS 0))
  GROUP BY 1
)
SELECT
  name,
  n,
  round(100.0 * n / sum(n) OVER (), 1) AS percent,
  programs,
  destinations,
  failed,
  first_time,
  last_time,
  replace(hex(zeroblob((20 * n + max(n) OVER () - 1) / max(n) OVER ())), '00', '█') AS bar
FROM counted
ORDER BY n DESC, name
LIMIT :limit
