package store

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// A hash is known later than the process that it is of: files are read slowly. So the row of a process has the id of its
// file, which the writer can compute at once, and the digests come to the segment that is active then. A row of hash with
// source pending says that a reader has to look for them in the segments after this one. Only rows with digests, and scripts
// that were found, are in the chain: the others may be replaced.

// File is a file that processes execute or interpret, as it was at one time. The caller keeps one *File per distinct value,
// and sets its digests when it has them; any goroutine may.
type File struct {
	Device uint32 // major<<20 | minor, as the kernel's dev_t
	Inode  uint64 // 0: a file that was not found, which is one with all that were not found for the same reason
	Ctime  uint64 // ns since the Unix epoch
	Size   uint64 // bytes

	FileSystem uint32 // its magic number, 0 unknown; not kept

	// Later means that this is how it was at some time after the exec, not at it.
	Later bool

	digests atomic.Pointer[Digests]
	mark    mark // of its row with digests
}

// Digests are those of a file, or why there are none.
type Digests struct {
	Known  bool
	SHA256 [sha256.Size]byte
	SHA1   [sha1.Size]byte
	MD5    [md5.Size]byte
	Source string // as in column hash_source; never sourcePending
}

// Script is the file that a process interprets.
type Script struct {
	Process *Process
	File    *File
}

// sourcePending is the source of a file whose digests have not come yet.
const sourcePending = "pending"

// SetDigests sets the digests of a file. Pass the file in a Batch too: its processes may be written already.
func (f *File) SetDigests(d *Digests) { f.digests.Store(d) }

// Digests returns what was set last, nil nothing.
func (f *File) Digests() *Digests { return f.digests.Load() }

// id is the row of a file in table hash: the first 53 bits of SHA-256 of what makes it another file; 0 for nil.
func (f *File) id() int64 {
	if f == nil {
		return 0
	}
	b := binary.BigEndian.AppendUint32([]byte("file\x00"), f.Device)
	for _, n := range []uint64{f.Inode, f.Ctime, f.Size} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if f.Later {
		b = append(b, 1)
	}
	if d := f.digests.Load(); f.Inode == 0 && d != nil {
		b = append(b, d.Source...)
	}
	sum := sha256.Sum256(b)
	return max(1, int64(binary.BigEndian.Uint64(sum[:8])>>(64-processIDBits)))
}

// addFiles writes what is known of the files of a process that is about to be written.
func (in *interner) addFiles(process int64, p *Process) error {
	if p.ExeFile == nil {
		return nil
	}
	if err := in.segment.writeFile(p.ExeFile); err != nil || p.Script == "" {
		return err
	}
	return in.segment.exec(`INSERT OR IGNORE INTO script (process, hash, batch) VALUES (?, 0, ?)`, process, in.segment.chainer.batch)
}

// writeFiles writes the digests and the scripts of a batch, after its processes.
func (s *activeSegment) writeFiles(files []*File, scripts []Script) error {
	for _, f := range files {
		if err := s.writeFile(f); err != nil {
			return err
		}
	}
	for i := range scripts {
		if err := s.writeScript(&scripts[i]); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file and its digests, if they are known and not written yet.
func (s *activeSegment) writeFile(f *File) error {
	if _, ok := f.mark.get(s.intern.epoch); ok {
		return nil
	}
	id, d := f.id(), f.digests.Load()
	if d == nil {
		d = &Digests{Source: sourcePending}
	}
	var sums [3]any
	if d.Known {
		sums = [3]any{d.SHA256[:], d.SHA1[:], d.MD5[:]}
	}
	err := s.exec(`INSERT INTO hash (id, device, inode, ctime_ns, size, sha256, sha1, md5, source, batch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
		ON CONFLICT (id) DO UPDATE SET sha256 = ?6, sha1 = ?7, md5 = ?8, source = ?9, batch = ?10 WHERE sha256 IS NULL AND ?9 <> 'pending'`,
		id, int64(f.Device), int64(f.Inode), int64(f.Ctime), int64(f.Size), sums[0], sums[1], sums[2], d.Source, s.chainer.batch)
	if err != nil {
		return fmt.Errorf("write hash: %w", err)
	}
	if d.Known {
		if s.conn.Changes() == 1 {
			s.chainer.files.Files = append(s.chainer.files.Files, id)
		}
		f.mark.set(s.intern.epoch, id)
	}
	return nil
}

// writeScript writes the file of a process's script. The first one counts: it was read nearest to the exec.
func (s *activeSegment) writeScript(i *Script) error {
	if err := s.writeFile(i.File); err != nil {
		return err
	}
	process, ok := i.Process.mark.get(s.intern.epoch)
	if !ok { // it is in an earlier segment
		process = processID(s.bootID, i.Process.Key)
	}
	err := s.exec(`INSERT INTO script (process, hash, batch) VALUES (?1, ?2, ?3) ON CONFLICT (process) DO UPDATE SET hash = ?2, batch = ?3 WHERE hash = 0`,
		process, i.File.id(), s.chainer.batch)
	if err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	if s.conn.Changes() == 1 {
		s.chainer.files.Scripts = append(s.chainer.files.Scripts, process)
	}
	return nil
}
