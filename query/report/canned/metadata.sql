-- purpose: Connects to the metadata services of clouds, which hand out credentials.
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: endpoints WHERE address IN (SELECT address FROM asked) | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: service | whose metadata service has that address
-- column: remote | address and port, or path
-- column: requested | address and port that were asked for, where a program of a cgroup sent it to remote; NULL: remote
-- column: outcome | what became of them; name probe for a port-0 UDP probe
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: A connect that a program of a cgroup sent elsewhere, to an agent that answers for the service, is found by what it asked for.
-- false-positives: Agents and libraries of the cloud ask for their own credentials all day. A shell, curl, or a web server that asks is a finding.
-- example: conntape query metadata --since 7d
WITH metadata(address, service) AS (
  VALUES ('169.254.169.254', 'AWS, Azure, Google Cloud, OpenStack and others'), ('fd00:ec2::254', 'AWS'),
    ('fd20:ce::254', 'Google Cloud'), ('169.254.170.2', 'AWS ECS task credentials'), ('169.254.170.23', 'AWS EKS pod identity'),
    ('fd00:ec2::23', 'AWS EKS pod identity'), ('168.63.129.16', 'Azure host'), ('100.100.100.200', 'Alibaba Cloud'),
    ('192.0.0.192', 'Oracle Cloud')
),
asked AS MATERIALIZED ( -- there are far fewer addresses than connects
  SELECT DISTINCT endpoints.address, service
  FROM endpoints
  JOIN metadata ON metadata.address = endpoints.ip
),
reached AS (
  SELECT *, remote_address AS its_address FROM connections
  WHERE remote_address IN (SELECT address FROM asked)
  UNION ALL
  SELECT *, requested_address AS its_address FROM connections
  WHERE requested_address IN (SELECT address FROM asked) AND remote_address NOT IN (SELECT address FROM asked)
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  service,
  remote,
  CASE WHEN ip_plain(requested_address) GLOB '*:*' THEN '[' || ip_plain(requested_address) || ']:' ELSE ip_plain(requested_address) || ':' END || requested_port AS requested,
  CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome,
  pid,
  user,
  container,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM reached
CROSS JOIN asked ON asked.address = its_address
WHERE (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, remote, requested, 7
ORDER BY min(time_ns), remote
