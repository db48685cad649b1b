package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/conntape/conntape/store/tapelog"
)

// lookAt looks at segments, as many at a time as there are processors, from the
// newest on: those are being recorded and may soon be sealed.
func (v *tapeVerifier) lookAt(ctx context.Context, segments []*segmentVerifier) {
	var work sync.WaitGroup
	next := make(chan *segmentVerifier)
	for range min(runtime.GOMAXPROCS(0), len(segments)) {
		work.Go(func() {
			for s := range next {
				s.run(ctx)
			}
		})
	}
	for _, s := range slices.Backward(segments) {
		if ctx.Err() != nil {
			break
		}
		next <- s
	}
	close(next)
	work.Wait()
}

// verifyTries is how often segments are looked at again that a recorder sealed or
// removed while they were looked at.
const verifyTries = 5

// lookAgain asks the log once more about segments with which something is wrong.
// One that has expired meanwhile is left out; one of which the log says more now
// is looked at again.
func (v *tapeVerifier) lookAgain(ctx context.Context, results []*segmentVerifier) ([]*segmentVerifier, error) {
	// The leaf of an expiry comes first, then the file goes: that may have been just now.
	results = slices.DeleteFunc(results, func(s *segmentVerifier) bool {
		if len(s.problems) == 0 || s.book == nil || !s.book.expired {
			return false
		}
		_, err := os.Lstat(s.path)
		return errors.Is(err, fs.ErrNotExist)
	})
	for range verifyTries {
		if v.log == nil || ctx.Err() != nil || !slices.ContainsFunc(results, func(s *segmentVerifier) bool { return len(s.problems) > 0 }) {
			break
		}
		book := newLogBook()
		r, err := tapelog.Verify(filepath.Join(v.dir, logDir), tapelog.VerifyOptions{Leaf: book.take})
		if err != nil {
			return nil, err
		}
		if r.Last.Seq == v.log.Last.Seq {
			break // nothing has happened
		}
		before := v.book
		v.book, v.log = book, r
		var again []*segmentVerifier
		results = slices.DeleteFunc(results, func(s *segmentVerifier) bool {
			is, was := book.segments[s.number], before.segments[s.number]
			if len(s.problems) > 0 && is != nil && is.expired && (was == nil || !was.expired) {
				return true
			}
			return false
		})
		for i, s := range results {
			is, was := book.segments[s.number], before.segments[s.number]
			if len(s.problems) > 0 && is != nil && (was == nil || is.lastLeaf != was.lastLeaf) {
				results[i] = &segmentVerifier{tape: v, number: s.number, path: s.path, book: is}
				again = append(again, results[i])
			}
		}
		v.lookAt(ctx, again)
	}
	return results, nil
}

// missing reports segments that the log knows and the directory does not have.
// The leaf of an expiry is written before the file goes: a log that is read
// afterwards has it.
func (v *tapeVerifier) missing(results []*segmentVerifier) error {
	var gone []*loggedSegment
	for _, b := range v.book.inOrder() {
		if b.expired || slices.ContainsFunc(results, func(s *segmentVerifier) bool { return s.number == b.number }) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(v.dir, segmentName(b.number))); errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, b)
		} // else it was begun while the others were looked at
	}
	if len(gone) == 0 {
		return nil
	}
	book := newLogBook()
	if _, err := tapelog.Verify(filepath.Join(v.dir, logDir), tapelog.VerifyOptions{Leaf: book.take}); err != nil {
		return err
	}
	for _, b := range gone {
		if is := book.segments[b.number]; is != nil && is.expired {
			continue
		}
		v.out.Segments = append(v.out.Segments, VerifiedSegment{Number: b.number, File: segmentName(b.number), State: "missing"})
		v.out.Problems = append(v.out.Problems, Problem{Segment: b.number, File: segmentName(b.number), Since: b.lastSeen,
			What: "the segment was removed, and the log tells of no expiry"})
	}
	slices.SortFunc(v.out.Segments, func(a, b VerifiedSegment) int { return a.Number - b.Number })
	return nil
}
