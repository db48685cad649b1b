-- purpose: What containers connected to, by program.
-- param: id text | only containers with this text in their name, such as the first digits of an id
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: tasks WHERE coalesce(t.container, p.container) <> '' | for speed alone; the SQL is the whole question
-- column: container | container
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: processes | executions of that program
-- column: user | its user
-- column: exe | program
-- column: remote | address and port, or path
-- column: outcome | what became of them; name probe for a port-0 UDP probe
-- false-positives: A container is known by its cgroup. A process in one that conntape does not know of is not in this list, though its cgroup is in connections.
-- example: conntape query container --since 1d
-- example: conntape query container --id 4f1c
SELECT
  container,
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  count(DISTINCT process_id) AS processes,
  user,
  exe,
  remote,
  CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome
FROM connections
WHERE container IS NOT NULL
  AND instr(container, :id) > 0
  AND (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY container, user, exe, remote, 9
ORDER BY container, min(time_ns), remote
