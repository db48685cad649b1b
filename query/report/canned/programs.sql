-- purpose: Which programs connected, by the hash of their file, the newest first.
-- param: limit integer = 50 | most rows to show; 0 for all
-- param: all flag | count port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: first_time | when one of its processes first connected
-- column: last_time | when one last did
-- column: n | connects
-- column: processes | processes that made them
-- column: remotes | addresses and ports, or paths, that they went to
-- column: most | up to three of these that most went to, with the connects to each
-- column: exe | path of the program; of a script, of its interpreter
-- column: sha256 | SHA-256 of the program; NULL: it is not known, and source says why
-- column: source | how the hash is known, or why it is not: see hash_source in docs/schema.md
-- column: script | SHA-256 of the script that it interprets; NULL: none, or it was not read
-- note: One path with two hashes is a program that was replaced; one hash with two paths, a program that was copied.
-- false-positives: An upgrade replaces many programs at once. A new program that nobody installed, or one that runs from memory or below /tmp, is a finding.
-- example: conntape query programs --since 7d
-- example: conntape query programs --limit 0 --format csv
WITH part AS (
  SELECT exe, comm, exe_sha256, hash_source, script_sha256, process_id, remote,
    min(time) AS first_time, max(last_time) AS last_time, sum(count) AS n
  FROM connections
  WHERE (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY exe, comm, exe_sha256, hash_source, script_sha256, process_id, remote
),
numbered AS (
  SELECT *, dense_rank() OVER (ORDER BY coalesce(exe, '[' || comm || ']'), exe_sha256, hash_source, script_sha256) AS program FROM part
),
place AS (
  SELECT program, remote, sum(n) AS n, row_number() OVER (PARTITION BY program ORDER BY sum(n) DESC, remote) AS place
  FROM numbered GROUP BY program, remote
)
SELECT
  min(first_time) AS first_time,
  max(last_time) AS last_time,
  sum(n) AS n,
  count(DISTINCT process_id) AS processes,
  count(DISTINCT remote) AS remotes,
  (SELECT group_concat(remote || ' (' || n || ')', ' ' ORDER BY place) FROM place WHERE place.program = numbered.program AND place <= 3) AS most,
  coalesce(exe, '[' || comm || ']') AS exe,
  exe_sha256 AS sha256,
  hash_source AS source,
  script_sha256 AS script
FROM numbered
GROUP BY program
ORDER BY first_time DESC, exe, sha256
LIMIT :limit
