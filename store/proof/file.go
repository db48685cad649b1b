package proof

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/conntape/conntape/store/failure"
	"github.com/conntape/conntape/store/sqlitefile"
)

// checkFile compares the file of a sealed segment with its seal, and each page with its sum. It checks the sums even if
// the hash of the file is right: queries trust the sums, and the one who sealed the segment may have lied.
func (s *segmentVerifier) checkFile(ctx context.Context) {
	seal, f, err := s.book.sealLeaf(), (*sealedFile)(nil), error(nil)
	if info, err := s.file.Stat(); err == nil && info.Size() > seal.Size { // too large: it is not read
		s.altered = true
		s.fail(s.rightUntil(), "it has %d bytes and had %d when it was sealed: it was altered since", info.Size(), seal.Size)
		return
	}
	if f, err = readSealed(ctx, s.file, s.tape.progress); err != nil {
		if s.altered = true; ctx.Err() == nil {
			s.fail(s.rightUntil(), "it cannot be read: %v", failure.Bare(err))
		}
		return
	}
	switch sum := [32]byte(f.hash.Sum(nil)); {
	case sum == seal.SHA256:
		s.sum, s.hashed = sum, true
	case f.size != seal.Size:
		s.fail(s.rightUntil(), "it has %d bytes and had %d when it was sealed: it was altered since", f.size, seal.Size)
	default:
		s.fail(s.rightUntil(), "its hash is not the one that the log has: it was altered since it was sealed")
	}
	switch {
	case f.sumsErr != nil:
		s.fail(s.rightUntil(), "its page sums cannot be used: %v", f.sumsErr)
	case f.sums.Hash() != seal.PageSums:
		s.fail(s.rightUntil(), "its page sums are not those that the log has")
	case f.wrong > 0:
		s.fail(s.rightUntil(), "%d of its pages are not as they were sealed: page %s", f.wrong, f.names)
	}
	s.altered = !s.hashed || f.sumsErr != nil || f.wrong > 0
}

// sealedFile is the result of reading a sealed segment once.
type sealedFile struct {
	hash    hash.Hash
	size    int64
	sums    *sqlitefile.Sums
	sumsErr error
	wrong   int    // pages that differ from their sums
	names   string // the first of them
}

// namedPages limits the altered pages that are named.
const namedPages = 3

// readSealed reads the file once.
func readSealed(ctx context.Context, file *os.File, progress func(int64)) (*sealedFile, error) {
	f := &sealedFile{hash: sha256.New()}
	if f.sums, f.sumsErr = sqlitefile.SumsOf(file); f.sumsErr != nil && !errors.Is(f.sumsErr, sqlitefile.ErrNoSums) && !errors.Is(f.sumsErr, sqlitefile.ErrDamaged) {
		return nil, f.sumsErr
	}
	if err := f.read(ctx, file, progress); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *sealedFile) read(ctx context.Context, file *os.File, progress func(int64)) error {
	for buffer := make([]byte, 1<<20); ; {
		n, err := io.ReadFull(file, buffer)
		f.hash.Write(buffer[:n])
		f.check(buffer[:n])
		f.size += int64(n)
		progress(int64(n))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// check compares the next pages.
func (f *sealedFile) check(pages []byte) {
	if f.sums == nil {
		return
	}
	for n := uint32(f.size/sqlitefile.PageSize) + 1; n <= f.sums.Pages() && len(pages) >= sqlitefile.PageSize; n, pages = n+1, pages[sqlitefile.PageSize:] {
		if f.sums.Check(n, pages[:sqlitefile.PageSize]) == nil {
			continue
		}
		switch f.wrong++; {
		case f.wrong == 1:
			f.names = fmt.Sprint(n)
		case f.wrong <= namedPages:
			f.names += fmt.Sprintf(", %d", n)
		case f.wrong == namedPages+1:
			f.names += ", …"
		}
	}
}
