-- purpose: A process with its ancestors and descendants, and all that they connected to.
-- arg: process integer | a pid, or a process_id where the pid was used more than once
-- param: all flag | show each destination of a scan, port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- fold: scans
-- column: relation | ancestor, itself or descendant
-- column: process | name and pid, indented below its parent
-- column: start_time | when it was forked
-- column: user | its user
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: remote | what it connected to, a row each; NULL: nothing
-- column: outcome | what became of them, with the bytes of those that ended and the longest duration; name probe for a port-0 UDP probe
-- column: n | connects
-- column: first_time | when the first of them was issued
-- column: process_id | its row in processes
-- note: Only processes that connected, and their ancestors, are on a tape: a child that never connected is not.
-- note: Ten or more destinations that differ in address or port alone are folded into one row, unless --all is given; the SQL has each.
-- note: The window narrows what they connected to, and not the processes.
-- false-positives: A pid is used again after a while, and one process may run several programs: each is shown, one after another.
-- example: conntape query tree 901
-- example: conntape query tree 901 --since 2h --format jsonl
WITH RECURSIVE
known AS MATERIALIZED ( -- a process has a row in each segment: the first that tells its parent is asked
  SELECT
    process_id, parent_id, pid, comm, start_time, user, coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
    min(segment + 1000000000 * (parent_id IS NULL)) AS asked
  FROM processes
  GROUP BY process_id
),
up(origin, process_id, parent_id, level) AS (
  SELECT process_id, process_id, parent_id, 0 FROM known WHERE pid = :process OR process_id = :process
  UNION
  SELECT origin, known.process_id, known.parent_id, level - 1 FROM up JOIN known ON known.process_id = up.parent_id WHERE level > -200
),
down(origin, process_id, level, place) AS ( -- place sorts children below their parent, in order of their start
  SELECT process_id, process_id, 0, '0' FROM known WHERE pid = :process OR process_id = :process
  UNION
  SELECT origin, known.process_id, level + 1, place || printf('/%s %020d', start_time, known.process_id)
  FROM down JOIN known ON known.parent_id = down.process_id WHERE level < 200
),
member AS (
  SELECT origin, process_id, level, '' AS place FROM up WHERE level < 0
  UNION ALL
  SELECT origin, process_id, level, place FROM down
),
shown AS (
  SELECT origin, process_id, level, place, replace(hex(zeroblob(level - min(level) OVER (PARTITION BY origin))), '00', '  ') AS indent FROM member
),
connected AS (
  SELECT
    process_id, min(time_ns) AS first_ns, min(time) AS first_time, sum(count) AS n,
    remote,
    outcome_words(CASE WHEN probe THEN 'name probe' ELSE outcome END, sum(count), max(duration_ns), sum(bytes_sent), sum(bytes_received)) AS outcome
  FROM connections
  WHERE process_id IN (SELECT process_id FROM member)
    AND (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY process_id, remote, CASE WHEN probe THEN 'name probe' ELSE outcome END
)
SELECT
  CASE WHEN level < 0 THEN 'ancestor' WHEN level = 0 THEN 'itself' ELSE 'descendant' END AS relation,
  indent || comm || '(' || pid || ')' AS process,
  start_time,
  user,
  cmdline,
  remote,
  outcome,
  n,
  first_time,
  process_id
FROM shown
JOIN known USING (process_id)
LEFT JOIN connected USING (process_id)
ORDER BY origin, place, level, first_ns, remote, outcome
