package retain

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store/segment"
	"github.com/conntape/conntape/store/sqlitefile"
)

// Limits bound what a tape takes up and how long it is kept. Zero values set no
// bound.
type Limits struct {
	// MaxBytes is the most that all files of the tape take at any instant, as
	// allocated: segments, WAL, what sealing needs meanwhile, the log; but not legal
	// holds, which have a bound of their own.
	MaxBytes int64
	// MaxAge is how long a segment is kept after its last event.
	MaxAge time.Duration
	// KeepFree is what the tape leaves free on the file system when it takes room,
	// in bytes and in percent of it; the larger of the two counts. Room that the
	// tape has taken it keeps, whatever others do: see room.
	KeepFree        int64
	KeepFreePercent int
	// Reserve sets aside on the disk what the tape may take and does not yet, see
	// reserve. Only with MaxBytes.
	Reserve bool
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

// A segment is closed when, sealed, it will have a 48th of the room of the tape (a 32nd without slots), or
// when it spans an eighth of its age. The more segments, the less goes when the
// oldest is removed, and the less must be kept for sealing.
const (
	segmentsInAge = 8
)

// What sealing makes of a closed segment, in percent of its size: the sealed file is
// as a rule 115 to 130, and 141 when one process connects to nothing twice. Beside
// the closed file, the copy and the file in which the index is sorted take 156 at the
// most, both measured. What is small takes at least sealingFloor.
const (
	SealedPercent  = 130
	sealingPercent = 160
	SealingFloor   = 128 << 10
)

// OtherFiles is what everything that is no segment may grow by between two looks
// at it.
const OtherFiles = 256 << 10

func (l Limits) Check() error {
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

// bounded reports whether anything bounds the size of the tape.
func (l Limits) bounded() bool { return l.MaxBytes > 0 || l.KeepFree > 0 || l.KeepFreePercent > 0 }

// Room is how large a tape may become that has taken so many bytes of the disk, 0 for
// any size: MaxBytes, but nothing of what is to stay free. There is a recording on a
// disk that is never emptier, too: a quarter of what is to stay free the tape may
// take, up to an eighth of MaxBytes.
func (l Limits) Room(taken int64, d Disk) int64 {
	if !l.bounded() {
		return 0
	}
	most := l.MaxBytes
	if most == 0 {
		most = math.MaxInt64
	}
	least := min(most/8, l.keepFree(d)/4)
	return max(MinMaxBytes, min(most, max(least, taken, taken+d.Available-l.keepFree(d))))
}

// SegmentBytes is the size at which an active segment is closed on a tape of that
// size.
func SegmentBytes(room int64) int64 {
	return max(segment.LeastSegment, room/segment.SegmentsInBudget*100/SealedPercent)
}

// SealingBytes is what sealing takes beside a closed segment of that size.
func SealingBytes(closed int64) int64 { return max(SealingFloor, closed/100*sealingPercent) }

// SegmentAge is the age at which an active segment is closed, 0 never.
func (l Limits) SegmentAge() time.Duration { return l.MaxAge / segmentsInAge }

// MostWALPages bounds what the WAL keeps between two batches, on a tape of any size.
const MostWALPages = 8192

// WALBytes is the size that the WAL may keep between two batches, and the most that
// one transaction may add.
func WALBytes(room int64) int64 {
	if room == 0 {
		return MostWALPages * sqlitefile.PageSize
	}
	return max(64*sqlitefile.PageSize, min(MostWALPages*sqlitefile.PageSize, room/64))
}

// Disk is how things stand on a file system.
type Disk struct {
	Free      int64 // bytes that this process can still write
	Available int64 // bytes that an unprivileged one can
	ForRoot   int64 // bytes that only this process can, as it is root
	Total     int64 // bytes
	Files     int64 // that can still be made
}

// ext4Reserve is the most that ext4 keeps for its own use, in blocks, or a
// 50th of all if that is less (ext4_calculate_resv_clusters).
const ext4Reserve = 4096

// ReadDisk looks at the file system of dir.
func ReadDisk(dir string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, fmt.Errorf("look at file system: %w", err)
	}
	d := Disk{Available: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize, Files: int64(st.Ffree)}
	d.Free = d.Available
	if os.Geteuid() == 0 { // some file systems keep blocks for root
		d.Free = int64(st.Bfree) * st.Bsize
		d.ForRoot = d.Free - d.Available
	}
	if int64(st.Type)&0xffffffff == unix.EXT4_SUPER_MAGIC { // it keeps some for itself, which count as free
		d.ForRoot = max(0, d.ForRoot-min(int64(st.Blocks)/50, ext4Reserve)*st.Bsize)
	}
	if st.Files == 0 { // as many as there is room for (btrfs)
		d.Files = math.MaxInt64
	}
	return d, nil
}

// keepFree is the number of bytes to keep free on d.
func (l Limits) keepFree(d Disk) int64 {
	return max(l.KeepFree, d.Total/100*int64(l.KeepFreePercent))
}
