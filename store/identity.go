package store

import (
	"crypto/sha256"
	"encoding/binary"
)

// processIDBits keeps an id exact in a float64, which JSON readers and spreadsheets use.
const processIDBits = 53

// processID returns the id of a process: the first 53 bits of the SHA-256 of
// the boot id's text, NUL, and tgid, start and exec number, big endian. It is
// the same in every segment. 0 is never returned.
func processID(bootID string, key ProcessKey) int64 {
	buf := make([]byte, 0, 64)
	buf = append(buf, bootID...)
	buf = append(buf, 0)
	buf = binary.BigEndian.AppendUint32(buf, key.Tgid)
	buf = binary.BigEndian.AppendUint64(buf, key.StartBoot)
	buf = binary.BigEndian.AppendUint32(buf, key.Exec)
	sum := sha256.Sum256(buf)
	id := int64(binary.BigEndian.Uint64(sum[:8]) >> (64 - processIDBits))
	if id == 0 {
		return 1
	}
	return id
}

// nextProcessID returns the next id to try if id belongs to another key.
func nextProcessID(id int64) int64 {
	if id == 1<<processIDBits-1 {
		return 1
	}
	return id + 1
}
