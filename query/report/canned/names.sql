-- purpose: Which names each program looked up, or called a server by, since when and how often, and what came back.
-- param: name text | only names like this; * stands for anything
-- column: first_time | when the first answer came
-- column: last_time | when the last one came
-- column: n | answers
-- column: name | name that was asked for; NULL: several, which were too many to keep
-- column: type | types of records that were asked for; SNI, HOST: the program called a server so, in TLS or HTTP
-- column: rcode | what servers said: NOERROR, NXDOMAIN
-- column: answers | the newest answer that has records
-- column: pid | process that asked; NULL: nobody knows
-- column: user | its user
-- column: exe | its program
-- column: ancestry | its ancestors, and itself last
-- note: Only answers by DNS on port 53 are on a tape, and with record --names sni,http what clients say, and not the names that a program asked a stub such as systemd-resolved for by D-Bus or varlink: of these the stub is the process.
-- false-positives: Content networks have names that look made up. Many names below one domain that are all new, or of type TXT, are a tunnel's; many that do not exist are a generator's.
-- example: conntape query names --since 2h
-- example: conntape query names --name www.example.com
SELECT
  min(time) AS first_time,
  max(last_time) AS last_time,
  sum(count) AS n,
  name,
  group_concat(DISTINCT type) AS type,
  group_concat(DISTINCT rcode) AS rcode,
  substr(max(CASE WHEN answers IS NOT NULL THEN last_time || answers END), length(min(last_time)) + 1) AS answers,
  pid,
  user,
  exe,
  ancestry
FROM lookups
WHERE coalesce(:name, '') = '' OR name GLOB lower(rtrim(:name, '.'))
GROUP BY process_id, user, container, name
ORDER BY min(time_ns), name
