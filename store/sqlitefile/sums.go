package sqlitefile

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sumsMagic begins the trailer after the sums. The digit is the version of the format.
const sumsMagic = "conntape sums 1\n"

// SumsEnd is the length of the trailer: magic, page size, number of pages, and a CRC-32 of the sums and the trailer.
const SumsEnd = len(sumsMagic) + 3*4

// mostPages limits the pages of a file with sums: 64 GiB; the sums take 64 MiB of memory.
const mostPages = 1 << 24

// ErrNoSums means that a file has no page sums at its end.
var ErrNoSums = errors.New("it has no sums of its pages")

// PageError means that a page differs from its sum.
type PageError struct{ Page uint32 } // from 1 on

// Error names the page.
func (e *PageError) Error() string { return fmt.Sprintf("page %d is not as it was sealed", e.Page) }

// Unwrap returns ErrDamaged.
func (e *PageError) Unwrap() error { return ErrDamaged }

// Sums are the CRC-32 (IEEE) of each page of a file, by position. They are safe for concurrent use.
type Sums struct{ all []byte } // as they are in the file

// AppendSums is AppendSumsContext to the end.
func AppendSums(path string, length int64) error {
	return AppendSumsContext(context.Background(), path, length)
}

// AppendSumsContext computes the sums of a database that nobody has open, and writes them after its last page, or at the end of
// a file of length bytes if that is longer, with zeros between. It replaces everything after the last page. It does not
// sync. Errors are ErrDamaged, of the operating system, or the cause why ctx ended.
func AppendSumsContext(ctx context.Context, path string, length int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("write page sums: %w", err)
	}
	return errors.Join(WriteSums(ctx, f, length), f.Close())
}

// WriteSums is AppendSums for a file that is open for reading and writing.
func WriteSums(ctx context.Context, f *os.File, length int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write page sums: %w", err)
		}
	}()
	pages, err := countPages(f)
	if err != nil {
		return err
	}
	all := make([]byte, 0, 4*int(pages)+SumsEnd)
	page := make([]byte, PageSize)
	for n := range int64(pages) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := f.ReadAt(page, n*PageSize); err != nil {
			return err
		}
		all = binary.BigEndian.AppendUint32(all, crc32.ChecksumIEEE(page))
	}
	all = append(all, sumsMagic...)
	all = binary.BigEndian.AppendUint32(all, PageSize)
	all = binary.BigEndian.AppendUint32(all, pages)
	all = binary.BigEndian.AppendUint32(all, crc32.ChecksumIEEE(all))
	end := int64(pages) * PageSize
	at := max(end, length-int64(len(all)))
	if err := writeZeros(f, end, at); err != nil {
		return err
	}
	if _, err := f.WriteAt(all, at); err != nil {
		return err
	}
	return f.Truncate(at + int64(len(all)))
}

// writeZeros writes zeros from one offset to another.
func writeZeros(f *os.File, from, to int64) error {
	for zeros := make([]byte, min(1<<20, to-from)); from < to; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// countPages returns the number of pages in a database's header.
func countPages(f *os.File) (uint32, error) {
	var header [100]byte
	if _, err := f.ReadAt(header[:], 0); err != nil {
		return 0, err
	}
	size, pages := binary.BigEndian.Uint16(header[16:]), binary.BigEndian.Uint32(header[28:])
	info, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case size != PageSize:
		return 0, damaged("pages of %d bytes", size)
	case pages == 0 || pages > mostPages || int64(pages) > info.Size()/PageSize:
		return 0, damaged("%d pages in %d bytes", pages, info.Size())
	}
	return pages, nil
}

// ReadSums reads the sums at the end of a file of size bytes. Errors are ErrNoSums, ErrDamaged if the sums are damaged,
// or of r.
func ReadSums(r io.ReaderAt, size int64) (*Sums, error) {
	end := make([]byte, SumsEnd)
	if size < PageSize+int64(SumsEnd) {
		return nil, ErrNoSums
	}
	if _, err := r.ReadAt(end, size-int64(SumsEnd)); err != nil {
		return nil, fmt.Errorf("read page sums: %w", err)
	}
	if string(end[:len(sumsMagic)]) != sumsMagic {
		return nil, ErrNoSums
	}
	pageSize, pages := binary.BigEndian.Uint32(end[len(sumsMagic):]), binary.BigEndian.Uint32(end[len(sumsMagic)+4:])
	if pageSize != PageSize || pages > mostPages || size < int64(pages)*(PageSize+4)+int64(SumsEnd) {
		return nil, damaged("sums of %d pages in %d bytes", pages, size)
	}
	all := make([]byte, 4*int(pages)+SumsEnd)
	if _, err := r.ReadAt(all, size-int64(len(all))); err != nil {
		return nil, fmt.Errorf("read page sums: %w", err)
	}
	if at := len(all) - 4; crc32.ChecksumIEEE(all[:at]) != binary.BigEndian.Uint32(all[at:]) {
		return nil, damaged("the sums of its pages are not as they were sealed")
	}
	return &Sums{all}, nil
}

// SumsOf is ReadSums of a file.
func SumsOf(f *os.File) (*Sums, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read page sums: %w", err)
	}
	return ReadSums(f, info.Size())
}

// Pages returns the number of pages.
func (s *Sums) Pages() uint32 { return uint32((len(s.all) - SumsEnd) / 4) }

// Hash returns the SHA-256 of the sums and the trailer.
func (s *Sums) Hash() [32]byte { return sha256.Sum256(s.all) }

// Check returns a *PageError if page n, from 1 on, differs from its sum or does not exist.
func (s *Sums) Check(n uint32, page []byte) error {
	if n == 0 || n > s.Pages() || crc32.ChecksumIEEE(page) != binary.BigEndian.Uint32(s.all[4*(n-1):]) {
		return &PageError{n}
	}
	return nil
}
