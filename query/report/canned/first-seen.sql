-- purpose: Destinations, or pairs of program and destination, that are new in the window.
-- arg: by destination|pair = pair | what is new: a destination, or a pair of program and destination
-- window: parameters
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- column: first_time | when it was seen first
-- column: n | connects to it in the window
-- column: pid | process that was the first
-- column: user | its user
-- column: exe | its program
-- column: remote | address and port, or path
-- column: outcome | what became of the first
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: What is new depends on how far back the tape goes: the coverage statement says so.
-- note: A connect that a program of a cgroup sent elsewhere counts for the address that it went to, not for the one that it asked for; see requested in conntape query who.
-- false-positives: Addresses of content networks and clouds change by the hour. A tape that has just begun finds everything new.
-- example: conntape query first-seen --since 1d
-- example: conntape query first-seen destination --since 2h
WITH seen AS (
  SELECT
    min(time_ns) AS first_ns, -- and so the columns beside it are of that row
    time AS first_time,
    sum(CASE WHEN time_ns >= ns(:since) THEN count ELSE 0 END) AS n,
    pid,
    user,
    exe,
    remote,
    CASE WHEN probe THEN 'name probe' ELSE outcome END AS outcome,
    coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
    ancestry
  FROM connections
  WHERE coalesce(time_ns < ns(:until), 1)
    AND (:all OR NOT probe AND family IS NOT 'unspec')
  GROUP BY remote, CASE :by WHEN 'pair' THEN coalesce(exe, '[' || comm || ']') END
)
SELECT first_time, n, pid, user, exe, remote, outcome, cmdline, ancestry
FROM seen
WHERE first_ns >= ns(:since)
ORDER BY first_ns, remote
