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

// Limits limit the size and the age of a tape. Zero values set no limit.
type Limits struct {
	// MaxBytes limits the allocated size of all files of the tape at any instant: segments, WAL, temporary files of
	// sealing, the log. It excludes legal holds, which have a limit of their own.
	MaxBytes int64
	// MaxAge is how long a segment is kept after its last event.
	MaxAge time.Duration
	// KeepFree is the space to leave free on the file system when the tape grows, in bytes and in percent; the larger of
	// the two counts. The tape keeps space that it already has, even if others fill the disk: see Room.
	KeepFree        int64
	KeepFreePercent int
	// Reserve allocates the space that the tape may take but does not use yet. It needs MaxBytes.
	Reserve bool
	// MaxHeldBytes limits the segments under legal holds.
	MaxHeldBytes int64
}

// Defaults of a recorder.
const (
	DefaultMaxBytes        = 2 << 30
	DefaultMaxAge          = 90 * 24 * time.Hour
	DefaultKeepFreePercent = 5
	DefaultMaxHeldBytes    = 2 << 30
	// MinMaxBytes is the smallest MaxBytes: rotation needs it.
	MinMaxBytes = 8 << 20
)

// A segment is closed when it will be, sealed, a 48th of the tape's room (a 32nd without slots), or when it spans an
// eighth of MaxAge. With more segments, removing the oldest loses less history and sealing needs less space.
const (
	segmentsInAge = 8
)

// Space for sealing, in percent of the closed segment. The sealed file is usually 115 to 130 percent, and 141 when no
// process connects twice to the same endpoint. With the closed file, the copy and the sort file take 156 at most. Both
// were measured. A small segment takes at least SealingFloor.
const (
	SealedPercent  = 130
	sealingPercent = 160
	SealingFloor   = 128 << 10
)

// OtherFiles is the growth to allow for other files between two measurements.
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

// bounded reports whether the size of the tape is limited.
func (l Limits) bounded() bool { return l.MaxBytes > 0 || l.KeepFree > 0 || l.KeepFreePercent > 0 }

// Room returns the largest size of a tape that has taken bytes on disk d, 0 for any: MaxBytes, but not the space to keep
// free. On a disk that is always full there has to be a recording too, so the tape may take a quarter of the space to
// keep free, up to an eighth of MaxBytes.
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

// SegmentBytes is the size at which the open segment is closed, on a tape with this room.
func SegmentBytes(room int64) int64 {
	return max(segment.LeastSegment, room/segment.SegmentsInBudget*100/SealedPercent)
}

// SealingBytes is the space that sealing needs besides a closed segment of this size.
func SealingBytes(closed int64) int64 { return max(SealingFloor, closed/100*sealingPercent) }

// SegmentAge is the age at which the open segment is closed; 0: never.
func (l Limits) SegmentAge() time.Duration { return l.MaxAge / segmentsInAge }

// MostWALPages limits the WAL between two batches, on a tape of any size.
const MostWALPages = 8192

// WALBytes limits the size of the WAL between two batches, and the growth by one transaction.
func WALBytes(room int64) int64 {
	if room == 0 {
		return MostWALPages * sqlitefile.PageSize
	}
	return max(64*sqlitefile.PageSize, min(MostWALPages*sqlitefile.PageSize, room/64))
}

// Disk is the state of a file system.
type Disk struct {
	Free      int64 // bytes that this process can still write
	Available int64 // bytes that an unprivileged process can
	ForRoot   int64 // bytes that only this process can, because it is root
	Total     int64 // bytes
	Files     int64 // files that can still be made
}

// ext4Reserve limits ext4's own reserve, in blocks: a 50th of all blocks if that is less (ext4_calculate_resv_clusters).
const ext4Reserve = 4096

// ReadDisk returns the state of dir's file system.
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
	if int64(st.Type)&0xffffffff == unix.EXT4_SUPER_MAGIC { // its own reserve counts as free
		d.ForRoot = max(0, d.ForRoot-min(int64(st.Blocks)/50, ext4Reserve)*st.Bsize)
	}
	if st.Files == 0 { // no limit (btrfs)
		d.Files = math.MaxInt64
	}
	return d, nil
}

// keepFree is the number of bytes to keep free on d.
func (l Limits) keepFree(d Disk) int64 {
	return max(l.KeepFree, d.Total/100*int64(l.KeepFreePercent))
}
