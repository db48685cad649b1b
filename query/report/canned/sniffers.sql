-- purpose: Who can sniff or forge here: raw, ping, packet and XDP sockets, filters on sockets, TUN and TAP devices.
-- column: first_time | when the first of them was opened
-- column: last_time | when the last one was, or was given an option
-- column: n | how often the process did any of it
-- column: points | how suspicious it is, the most suspicious first
-- column: reason | what the process can do with it, and what is unusual about its program
-- column: opened | what it opened: family, type and protocol of sockets, interfaces that they are bound to, devices
-- column: pid | process
-- column: user | its user
-- column: container | its container; NULL: none that is known
-- column: exe | its program
-- column: cmdline | its arguments, or its name in brackets when there are none
-- column: ancestry | its ancestors, and itself last
-- note: points: reads every packet 4, packets of one protocol 2; of other hosts too (promiscuous) 3; before the kernel does, and sends what nothing counts (XDP) 3; sends past the queues of devices 1; reads or makes TCP and UDP packets 4, any IP packet 3, with an address that it chooses 2; reads or makes ICMP messages 2, pings 0; a filter on such a socket 1, on a socket of TCP or UDP 3; packets shared by several 1; a TUN or TAP device 2. The program was run from memory 5, deleted 3, where anybody can write 4; in a container 1.
-- note: A filter on a socket that sees all packets is how a backdoor waits for the one packet that wakes it, and how each DHCP client waits for an answer.
-- note: What was open when recording began is here once for each process that had it, with the time of that start (source in sockets_opened is snapshot); to whom a descriptor is handed later is not, nor are devices of before. Nothing tells whether a socket is open still. Backends differ: see docs/capture.md.
-- false-positives: DHCP clients, NetworkManager, systemd-networkd, wpa_supplicant, lldpd, chronyd, keepalived and monitoring open packet and raw sockets; ping and traceroute ICMP ones; VPNs and virtual machines TUN and TAP devices; tcpdump and nmap all of it, when somebody looks for a fault.
-- example: conntape query sniffers
-- example: conntape query sniffers --since 7d --format csv
WITH
program AS (
  SELECT process_id, max(exe_memfd) AS memfd, max(exe_deleted) AS deleted, max(coalesce(script, exe)) AS path
  FROM processes
  GROUP BY process_id
),
step AS ( -- what one row tells
  SELECT *,
    action = 'socket' AND family IN ('ipv4', 'ipv6') AND type = 'raw' AS raw,
    action IN ('socket', 'bind') AND family = 'packet' AS packet,
    CASE
      WHEN action = 'socket' THEN concat_ws(' ', family, type, protocol)
      WHEN action = 'bind' AND family IN ('packet', 'xdp') THEN 'bound to ' || local_address
      WHEN action IN ('tun', 'tap') THEN action || ' ' || local_address
      ELSE action END AS did
  FROM sockets_opened
  WHERE action <> 'bind' OR family IN ('packet', 'xdp') OR type = 'raw'
  ORDER BY time_ns, segment, id
),
who AS (
  SELECT process_id, user, container,
    min(time) AS first_time, max(last_time) AS last_time, min(time_ns) AS first_ns, sum(count) AS n,
    max(pid) AS pid, max(exe) AS exe, max(cmdline) AS cmdline, max(comm) AS comm, max(ancestry) AS ancestry,
    group_concat(DISTINCT did) AS opened,
    max(packet AND protocol IS 'all') AS every,
    max(packet AND protocol IS NOT NULL AND protocol <> 'all') AS some,
    max(family IS 'xdp') AS xdp,
    max(action = 'promiscuous') AS promiscuous,
    max(raw AND protocol IN ('tcp', 'udp')) AS transport,
    max(raw AND protocol NOT IN ('tcp', 'udp', 'icmp', 'ipv6-icmp')) AS ip,
    max(raw AND protocol IN ('icmp', 'ipv6-icmp')) AS icmp,
    max(action = 'hdrincl') AS hdrincl,
    max(action = 'socket' AND type = 'dgram' AND family IN ('ipv4', 'ipv6')) AS ping,
    max(action IN ('filter', 'bpf') AND (family = 'packet' OR type = 'raw' OR protocol IN ('icmp', 'ipv6-icmp'))) AS filter,
    max(action IN ('filter', 'bpf') AND family <> 'packet' AND type <> 'raw' AND protocol NOT IN ('icmp', 'ipv6-icmp')) AS watch,
    max(action = 'fanout') AS fanout,
    max(action = 'bypass') AS bypass,
    max(action IN ('tun', 'tap')) AS device
  FROM step
  GROUP BY process_id, user, container
),
judged AS (
  SELECT *, coalesce(memfd, 0) AS in_memory, coalesce(deleted AND NOT memfd, 0) AS gone,
    coalesce(path GLOB '/tmp/*' OR path GLOB '/var/tmp/*' OR path GLOB '/dev/shm/*' OR path GLOB '/run/user/*', 0) AS writable
  FROM who
  LEFT JOIN program USING (process_id)
)
SELECT
  first_time,
  last_time,
  n,
  4 * every + 2 * (some AND NOT every) + 3 * promiscuous + 3 * xdp + 4 * transport + 3 * ip + 2 * hdrincl + 2 * icmp + filter + 3 * watch + fanout + bypass + 2 * device
    + 5 * in_memory + 3 * gone + 4 * writable + (container IS NOT NULL) AS points,
  concat_ws(', ',
    CASE WHEN every THEN 'reads every packet' WHEN some THEN 'reads packets of a protocol' END,
    CASE WHEN promiscuous THEN 'those of other hosts too' END,
    CASE WHEN xdp THEN 'takes packets before the kernel, sends what nothing counts' END,
    CASE WHEN transport THEN 'reads or makes TCP or UDP packets' END,
    CASE WHEN ip THEN 'reads or makes IP packets' END,
    CASE WHEN hdrincl THEN 'with an address that it chooses' END,
    CASE WHEN icmp THEN 'reads or makes ICMP messages' END,
    CASE WHEN filter THEN 'waits for packets that a filter lets through' END,
    CASE WHEN watch THEN 'filters what comes to a socket' END,
    CASE WHEN fanout THEN 'shares packets with others' END,
    CASE WHEN bypass THEN 'sends past the queues of devices' END,
    CASE WHEN device THEN 'is a network device' END,
    CASE WHEN ping THEN 'pings' END,
    CASE WHEN in_memory THEN 'run from memory' WHEN gone THEN 'deleted' END,
    CASE WHEN writable THEN 'where anybody can write' END,
    CASE WHEN container IS NOT NULL THEN 'in a container' END) AS reason,
  opened,
  pid,
  user,
  container,
  exe,
  coalesce(nullif(cmdline, ''), '[' || comm || ']') AS cmdline,
  ancestry
FROM judged
ORDER BY points DESC, first_ns, pid
