-- purpose: Every process that touched an address, a range, a port or a path, or whose program has a hash.
-- arg: indicator remote | an address, a CIDR such as 10.0.0.0/8, address:port, a port, a name that was looked up, in which * stands for anything, the path or @name of a UNIX socket, or the SHA-256, SHA-1 or MD5 of a program or script
-- param: port integer | only connects to this port of the address or range
-- param: all flag | show port-0 UDP probes of name resolution and AF_UNSPEC disconnects too
-- narrow: indicator | for speed alone; the SQL is the whole question
-- column: first_time | when the first of them was issued
-- column: last_time | when the last one was
-- column: n | connects
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: remote | address and port, or path
-- column: name | names that were looked up and led there; NULL: none that is known
-- column: requested | address and port that were asked for, where a program of a cgroup sent it to remote; NULL: remote
-- column: peer | program and pid of the daemon that a UNIX connect reached; NULL: another kind, or nobody knows
-- column: outcome | what became of them, with the bytes of those that ended and the longest duration; name probe for a port-0 UDP probe
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: ::ffff:192.0.2.1 is 192.0.2.1, and IPv6 may be written in any form.
-- note: A connect that a program of a cgroup sent elsewhere is found by what it asked for, too.
-- note: A name is compared as a whole: example.com is not www.example.com, which *.example.com is. Who looked a name up and never connected is in query names.
-- note: A path that begins with / or @ is compared as a whole, any other with the last elements of paths: docker.sock is /run/docker.sock too. A number alone is a port, of any protocol.
-- note: Of a hash, nothing is found of programs that were not read: see hash_source in conntape query programs.
-- false-positives: An address may be shared: by a content network, by a proxy, by everybody behind one translator.
-- example: conntape query who 203.0.113.0/24
-- example: conntape query who 203.0.113.10 --port 443 --since 7d
-- example: conntape query who 203.0.113.10:443
-- example: conntape query who www.example.com
-- example: conntape query who 22
-- example: conntape query who /run/docker.sock
-- example: conntape query who e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
WITH touched AS ( -- of these, all but one are empty: what the indicator is decides
  SELECT *, remote_port AS its_port FROM connections
  WHERE :indicator NOT GLOB '*[^0-9]*' AND remote_port = CAST(:indicator AS INTEGER)
  UNION ALL
  SELECT *, remote_port AS its_port FROM connections
  WHERE ip_plain(:indicator) IS NULL AND family = 'unix' AND :indicator GLOB '*[^0-9]*'
    AND (remote_address = :indicator OR :indicator NOT GLOB '[/@]*' AND substr(remote_address, -1 - length(:indicator)) = '/' || :indicator)
  UNION ALL
  SELECT *, remote_port AS its_port FROM connections -- a program, unless it is a path by that name too
  WHERE length(:indicator) IN (32, 40, 64) AND :indicator NOT GLOB '*[^0-9A-Fa-f]*' AND process_id IN (
    SELECT process_id FROM processes
    WHERE lower(:indicator) IN (exe_sha256, exe_sha1, exe_md5, script_sha256, script_sha1, script_md5))
    AND NOT (family = 'unix' AND (remote_address = :indicator OR substr(remote_address, -1 - length(:indicator)) = '/' || :indicator))
  UNION ALL
  SELECT *, remote_port AS its_port FROM connections -- a name, with * for anything
  WHERE ip_plain(:indicator) IS NULL AND :indicator GLOB '*[A-Za-z*]*' AND :indicator NOT GLOB '*[^-A-Za-z0-9._*\]*'
    AND NOT (length(:indicator) IN (32, 40, 64) AND :indicator NOT GLOB '*[^0-9A-Fa-f]*')
    AND family <> 'unix' AND ' ' || remote_name || ' ' GLOB '* ' || lower(rtrim(:indicator, '.')) || ' *'
  UNION ALL
  SELECT *, remote_port AS its_port FROM connections -- one address, also in its IPv6 form
  WHERE :indicator GLOB '*[^0-9]*' AND remote_address IN (ip_plain(:indicator), '::ffff:' || ip_plain(:indicator)) AND family IN ('ipv4', 'ipv6')
  UNION ALL
  SELECT *, remote_port AS its_port FROM connections -- a range, and an address with a scope
  WHERE coalesce(ip_plain(:indicator), ip_plain(substr(:indicator, 1, instr(:indicator, '/') - 1))) IS NOT NULL AND family IN ('ipv4', 'ipv6') AND remote_address IN (
    SELECT address FROM endpoints
    WHERE address BETWEEN cidr_start(:indicator) AND cidr_start(:indicator) || '~' AND cidr_match(address, :indicator)
    UNION
    SELECT address FROM endpoints
    WHERE address BETWEEN '::ffff:' || cidr_start(:indicator) AND '::ffff:' || cidr_start(:indicator) || '~' AND cidr_match(address, :indicator)
    EXCEPT SELECT ip_plain(:indicator)
    EXCEPT SELECT '::ffff:' || ip_plain(:indicator))
  UNION ALL
  SELECT *, requested_port AS its_port FROM connections -- what was asked for and sent elsewhere, unless it is among those above
  WHERE requested_address IS NOT NULL AND CASE
    WHEN :indicator NOT GLOB '*[^0-9]*' THEN requested_port = CAST(:indicator AS INTEGER) AND remote_port <> CAST(:indicator AS INTEGER)
    WHEN coalesce(ip_plain(:indicator), ip_plain(substr(:indicator, 1, instr(:indicator, '/') - 1))) IS NOT NULL
      THEN cidr_match(requested_address, :indicator) AND NOT (cidr_match(remote_address, :indicator) AND (:port IS NULL OR remote_port = :port))
    END
)
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  pid,
  user,
  container,
  remote,
  remote_name AS name,
  CASE WHEN ip_plain(requested_address) GLOB '*:*' THEN '[' || ip_plain(requested_address) || ']:' ELSE ip_plain(requested_address) || ':' END || requested_port AS requested,
  coalesce(peer_exe || '(' || peer_pid || ')', 'pid ' || peer_pid) AS peer,
  outcome_words(CASE WHEN probe THEN 'name probe' ELSE outcome END, sum(count), max(duration_ns), sum(bytes_sent), sum(bytes_received)) AS outcome,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM touched
WHERE (:port IS NULL OR its_port = :port)
  AND (:all OR NOT probe AND family IS NOT 'unspec')
GROUP BY process_id, user, container, remote, name, requested, peer, CASE WHEN probe THEN 'name probe' ELSE outcome END
ORDER BY min(time_ns), remote, name, peer
