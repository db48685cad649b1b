package recorder

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// loser is a process whose attempts were lost, or all children of one.
type loser struct {
	pid, uid    uint32
	comm        string // raw; of children that of one of them
	n           uint64 // attempts
	first, last uint64 // of them, ns CLOCK_BOOTTIME
	parent      lifeKey
	children    bool // pid is their parent's
}

// losers are the processes that a gap cost attempts. When there are many, those who lost least are counted by parent, and
// when there are many parents, not at all.
type losers struct {
	of       map[lifeKey]*loser
	families map[lifeKey]*loser
}

const (
	mostLosers  = 256 // kept
	namedLosers = 8   // said
)

// lose counts lost attempts of a process.
func (l *losers) lose(k lifeKey, lost loser) {
	if l.of == nil {
		l.of, l.families = map[lifeKey]*loser{}, map[lifeKey]*loser{}
	}
	if lost.children {
		l.foldOne(lost)
		return
	}
	if one := l.of[k]; one != nil {
		one.add(lost)
		return
	}
	if len(l.of) == mostLosers {
		l.fold()
	}
	l.of[k] = &lost
}

func (l *loser) add(more loser) {
	l.n += more.n
	l.first, l.last = min(l.first, more.first), max(l.last, more.last)
}

// fold counts the half of the processes that lost least by parent.
func (l *losers) fold() {
	keys := slices.SortedFunc(maps.Keys(l.of), func(a, b lifeKey) int { return compareLosers(l.of[a], l.of[b]) })
	for _, k := range keys[mostLosers/2:] {
		l.foldOne(*l.of[k])
		delete(l.of, k)
	}
}

func (l *losers) foldOne(one loser) {
	family := l.families[one.parent]
	switch {
	case family != nil:
		family.add(one)
	case len(l.families) < mostLosers:
		one.pid, one.children = one.parent.tgid, true
		l.families[one.parent] = &one
	}
}

// add counts all those of more.
func (l *losers) add(more *losers) {
	for k, one := range more.of {
		l.lose(k, *one)
	}
	for _, one := range more.families {
		l.foldOne(*one)
	}
}

// text names those who lost most of what a gap lost, or made most of what it excluded: verb says which. Times are since its start.
func (l *losers) text(from, lost uint64, verb string) string {
	if len(l.of)+len(l.families) == 0 {
		return ""
	}
	list := slices.AppendSeq(slices.Collect(maps.Values(l.of)), maps.Values(l.families))
	slices.SortFunc(list, compareLosers)
	var b strings.Builder
	for _, one := range list[:min(len(list), namedLosers)] {
		b.WriteString("; ")
		if one.children {
			fmt.Fprintf(&b, "children of pid %d, such as", one.pid)
		} else {
			fmt.Fprintf(&b, "pid %d", one.pid)
		}
		fmt.Fprintf(&b, " (%s) of uid %d %s %d from %s to %s", one.comm, one.uid, verb, one.n,
			since(from, one.first), since(from, one.last))
		lost -= min(lost, one.n)
	}
	if lost > 0 {
		fmt.Fprintf(&b, "; others %s %d", verb, lost)
	}
	return b.String()
}

// compareLosers puts first who lost most.
func compareLosers(a, b *loser) int {
	return cmp.Or(-cmp.Compare(a.n, b.n), cmp.Compare(a.pid, b.pid))
}

// since is a time in seconds after the start of a gap.
func since(from, at uint64) string {
	return fmt.Sprintf("%+.3f s", float64(int64(at-from))/1e9)
}
