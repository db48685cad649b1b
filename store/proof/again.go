package proof

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/conntape/conntape/store/tapedir"
	"github.com/conntape/conntape/store/tapelog"
)

// lookAt checks segments, one per processor at a time, from the newest on: those are being recorded and may soon be
// sealed.
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

// verifyTries limits the repeated checks of segments that a recorder sealed or removed during a check.
const verifyTries = 5

// lookAgain reads the log again for segments with problems. It drops a segment that has expired meanwhile, and checks a
// segment again if the log says more about it now.
func (v *tapeVerifier) lookAgain(ctx context.Context, results []*segmentVerifier) ([]*segmentVerifier, error) {
	// The recorder writes the leaf of an expiry before it removes the file: both may have happened just now.
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
		book, changed, err := v.readAgain(ctx)
		if err != nil {
			return nil, err
		}
		if !changed {
			break
		}
		before := v.book
		v.book = book
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

// readAgain reads the log again. It must continue the log read before, with the same first key; its problems count as
// those of the first reading. changed reports whether there are new leaves, all valid.
func (v *tapeVerifier) readAgain(ctx context.Context) (book *logBook, changed bool, err error) {
	book = newLogBook()
	key := v.o.Key
	if key == "" {
		key = v.log.First
	}
	r, err := tapelog.Verify(filepath.Join(v.at, tapedir.LogDir), tapelog.VerifyOptions{Key: key, Head: v.log.Head, Leaf: until(ctx, book.take)})
	if errors.Is(err, tapelog.ErrNoLog) {
		v.problem(Problem{File: tapedir.LogDir, What: "the log was removed while the tape was verified"})
		return v.book, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	altered := false
	for _, f := range r.Findings {
		if slices.Contains(v.log.Findings, f) {
			continue
		}
		altered = true
		v.problem(Problem{File: filepath.Join(tapedir.LogDir, f.Part), Since: f.Since, What: "the log was altered while the tape was verified: " + f.Problem})
	}
	if altered || r.Last.Seq == v.log.Last.Seq {
		return v.book, false, nil
	}
	for _, p := range book.problems {
		if !slices.Contains(v.book.problems, p) {
			v.problem(p)
		}
	}
	v.log = r
	return book, true, nil
}

// late checks segments below the newest that were missing in the listing: a segment being salvaged has no name for a
// moment.
func (v *tapeVerifier) late(ctx context.Context, results []*segmentVerifier, names tapedir.Names) ([]*segmentVerifier, error) {
	now, err := tapedir.ReadNames(v.at)
	if err != nil {
		return nil, err
	}
	var late []*segmentVerifier
	for _, n := range now.Files {
		if n < names.Highest && !slices.Contains(names.Files, n) {
			late = append(late, v.segment(n))
		}
	}
	v.lookAt(ctx, late)
	results = append(results, late...)
	slices.SortFunc(results, func(a, b *segmentVerifier) int { return a.number - b.number })
	return results, nil
}

// missing reports segments that are in the log but not in the directory, and other files with a segment's name. The
// recorder writes the leaf of an expiry before it removes the file, so a log read afterwards has the leaf.
func (v *tapeVerifier) missing(ctx context.Context, results []*segmentVerifier, others []tapedir.Other) error {
	newest := 0
	for _, s := range results {
		newest = max(newest, s.number)
	}
	gone := map[int]string{} // problem by number
	for _, o := range others {
		gone[o.Number] = o.Error()
	}
	expiring := false
	for _, b := range v.book.inOrder() {
		if b.expired || gone[b.number] != "" || slices.ContainsFunc(results, func(s *segmentVerifier) bool { return s.number == b.number }) {
			continue
		}
		if info, err := os.Lstat(filepath.Join(v.at, tapedir.SegmentName(b.number))); err == nil && info.Mode().IsRegular() && b.number > newest {
			continue // it began during the check
		}
		gone[b.number], expiring = "the segment was removed, and the log tells of no expiry", true
	}
	book := v.book
	if expiring && v.log != nil {
		var err error
		if book, _, err = v.readAgain(ctx); err != nil {
			return err
		}
	}
	for _, n := range slices.Sorted(maps.Keys(gone)) {
		is := book.segments[n]
		if is != nil && is.expired && !slices.ContainsFunc(others, func(o tapedir.Other) bool { return o.Number == n }) {
			continue
		}
		p := Problem{Segment: n, File: tapedir.SegmentName(n), What: gone[n]}
		if is != nil {
			p.Since = is.lastSeen
		}
		v.out.Segments = append(v.out.Segments, VerifiedSegment{Number: n, File: tapedir.SegmentName(n), State: "missing"})
		v.out.Problems = append(v.out.Problems, p)
	}
	slices.SortFunc(v.out.Segments, func(a, b VerifiedSegment) int { return a.Number - b.Number })
	return nil
}
