package store

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound what a tape takes up and how long it is kept. Zero values set no
// bound.
type Limits struct {
	// MaxBytes is the most that all files of the tape take at any instant:
	// segments, WAL, what sealing needs meanwhile, the log; but not legal holds,
	// which have a bound of their own.
	MaxBytes int64
	// MaxAge is how long a segment is kept after its last event.
	MaxAge time.Duration
	// KeepFree is what is to stay free on the file system, in bytes and in
	// percent of it; the larger of the two counts. The tape does not grow into it;
	// when others do, see squeeze.
	KeepFree        int64
	KeepFreePercent int
	// MaxHeldBytes is the most that segments under legal holds take.
	MaxHeldBytes int64
}

// Defaults for a recorder that was told nothing else.
const (
	DefaultMaxBytes        = 2 << 30
	DefaultMaxAge          = 90 * 24 * time.Hour
	DefaultKeepFreePercent = 5
	DefaultMaxHeldBytes    = 2 << 30
	// MinMaxBytes is the least that rotation can work with.
	MinMaxBytes = 8 << 20
)

// A segment is closed when it has grown to an eighth of the size of the tape,
// with what sealing will add to it, or spans an eighth of its age.
const segmentsInBudget = 8

// What sealing does to the size of a segment, in percent of what it was: what it
// adds (29 bytes a connection become 37, and 43 when each is of other parties than
// those around it), and what it takes meanwhile, beside that, which is the copy that
// it works on and the temporary file in which the index is sorted. What is small has
// at least sealingFloor.
const (
	sealedPercent  = 150
	sealingPercent = 100 + 60
	sealingFloor   = 128 << 10
)

// otherFiles is what everything that is no segment may grow by between two looks
// at it.
const otherFiles = 256 << 10

func (l Limits) check() error {
	switch {
	case l.MaxBytes < 0, l.MaxAge < 0, l.KeepFree < 0, l.MaxHeldBytes < 0:
		return errors.New("a limit is negative")
	case l.MaxBytes != 0 && l.MaxBytes < MinMaxBytes:
		return fmt.Errorf("a tape of %d bytes is too small: %d is the least", l.MaxBytes, int64(MinMaxBytes))
	case l.KeepFreePercent < 0 || l.KeepFreePercent > 99:
		return fmt.Errorf("%d%% of the disk cannot be kept free", l.KeepFreePercent)
	}
	return nil
}

// leastSegment is the size below which an active segment is not closed for its
// size, bytes.
const leastSegment = 512 << 10

// segmentBytes is the size at which an active segment is closed when there is room
// for a tape of that size: so that with what sealing adds it is an eighth of it, or
// of the limit.
func (l Limits) segmentBytes(most int64) int64 {
	if l.MaxBytes > 0 {
		most = min(most, l.MaxBytes)
	}
	return max(leastSegment, most/segmentsInBudget*100/sealedPercent)
}

// ahead is what is left of the room when the oldest segment goes: some batches are
// written while its file is removed. Of MaxBytes it is as much as the WAL keeps.
func (l Limits) ahead(d disk) int64 { return min(l.walBytes(), d.total/64) }

// leastKept is what a tape may take of the room that is to stay free: a quarter of
// it, but no more than an eighth of what it may take at all.
func (l Limits) leastKept(d disk) int64 {
	most := l.MaxBytes
	if most == 0 {
		most = DefaultMaxBytes
	}
	return min(most/segmentsInBudget, l.keepFree(d)/4)
}

// segmentAge is the age at which an active segment is closed, 0 never.
func (l Limits) segmentAge() time.Duration { return l.MaxAge / segmentsInBudget }

// walBytes is the size that the WAL may keep between two batches.
func (l Limits) walBytes() int64 {
	if l.MaxBytes == 0 {
		return checkpointPagesMax * pageSize
	}
	return max(64*pageSize, min(checkpointPagesMax*pageSize, l.MaxBytes/64))
}

// disk is how things stand on a file system.
type disk struct {
	free, total int64 // bytes
	files       int64 // that can still be made
}

// readDisk asks for what an unprivileged process could use, since what is
// reserved for root is not ours to take.
func readDisk(dir string) (disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return disk{}, fmt.Errorf("look at file system: %w", err)
	}
	d := disk{free: int64(st.Bavail) * st.Bsize, total: int64(st.Blocks) * st.Bsize, files: int64(st.Ffree)}
	if st.Files == 0 { // as many as there is room for (btrfs)
		d.files = math.MaxInt64
	}
	return d, nil
}

// keepFree is the number of bytes to keep free on d.
func (l Limits) keepFree(d disk) int64 {
	return max(l.KeepFree, d.total/100*int64(l.KeepFreePercent))
}
