-- purpose: When the recorder was blind or lost connections, and why.
-- column: from_time | first moment of the gap; NULL when it is not known
-- column: to_time | its end; NULL while it is open
-- column: cause | why
-- column: lost | connections known to be lost in it; NULL: an unknown number
-- column: detail | more about the cause
-- note: A gap with cause "removed" is a segment that retention has removed; what it held is in the detail.
-- note: A gap with cause "start" is the time before the tape began.
-- example: conntape query gaps --since yesterday
SELECT from_time, to_time, cause, lost, detail
FROM gaps
ORDER BY from_ns, id
