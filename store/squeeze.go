package store

import "time"

// squeeze is what happens while others take the room that is to stay free. The tape
// must not grow then; but if it gave way at once, whoever fills the disk for a
// moment, a backup or an intruder, would erase the history. So it stays as large as
// it was, and what is new pushes out what is oldest. If it lasts, the tape becomes a
// tenth smaller every hour, until it takes no more than Limits.leastKept. A disk
// that is full is another matter: then the oldest goes for whatever is new.
type squeeze struct {
	most  int64     // bytes that the tape may take
	since time.Time // it has been as little as that
	last  time.Time // others were seen to take too much
}

// giveBackEvery is how often a tape that is squeezed becomes smaller, and for how
// long it is known how large it was: room that it gave up, and others took, is no
// reason to give up more.
const giveBackEvery = time.Hour

// allowed returns the most that the tape may take, which takes kept bytes: at least
// least.
func (s *squeeze) allowed(kept, least int64) int64 {
	now := time.Now()
	switch {
	case now.Sub(s.last) >= giveBackEvery:
		s.most, s.since = kept, now
	case now.Sub(s.since) >= giveBackEvery:
		s.most, s.since = s.most-s.most/10, now
	}
	s.last, s.most = now, max(s.most, least)
	return s.most
}

// room is the size of a tape for which there is room all the same, 0 when nobody
// takes too much.
func (s *squeeze) room() int64 {
	if time.Since(s.last) >= giveBackEvery {
		return 0
	}
	return s.most
}
