package bpf

import (
	"cmp"
	"slices"
	"strings"
	"testing"
)

// script returns the records of one thread: "o1 n1" is connect 1 as an old and then as a new program saw it, a microsecond apart. "N" is a
// new record of a connect that had begun before, "O" an old one of a connect that never returned for it, "R" and "r" what a new and an old
// program make of a return of which they saw no begin, and "." a millisecond.
func script(text string) (all []sight, names map[ID]string) {
	names = map[ID]string{}
	at := uint64(1e9)
	for word := range strings.FieldsSeq(text) {
		if at += 1000; word == "." {
			at += 1e6
			continue
		}
		who := word[:1]
		s := sight{id: ID{at, 7}, to: "the same", isNew: strings.Contains("nNR", who), lacks: strings.Count("NORrRr", who), alone: strings.Contains("Rr", who)}
		names[s.id] = word
		all = append(all, s)
	}
	return all, names
}

// Each connect is told once, by whichever of the two saw more of it, even where all that is known of them is the same.
func TestTwins(t *testing.T) {
	const never, always = 0, ^uint64(0)
	for _, c := range []struct {
		name     string
		newFirst bool
		attached uint64
		all      string
		old, new string // left out
	}{
		{"the old ones alone", true, never, "o1 o2 o3", "", ""},
		{"new first", true, never, "o1 n2 o2 n3 o3 n4 n5", "o2 o3", ""},
		{"old first", false, never, "o1 o2 n2 o3 n3 n4 n5", "o2 o3", ""},
		{"the new ones begin later while they are attached", true, always, "o1 o2 n2 . o3 n3 . n4 o4 n5", "o2 o3 o4", ""},
		{"the clock went back", false, never, "o1 n1 . n2 o2 . o3 n3", "o1 o2 o3", ""},
		{"nothing is alike by chance when they are", true, never, "o1 . n2", "", ""},
		{"the new ones saw the return alone", true, always, "o1 N1 . n2 o2", "o2", "N1"},
		{"the old ones went before it returned", true, never, "n1 O1 n2", "O1", ""},
		{"the old ones saw the return alone, later", false, never, "o1 n1 . n2 . . . r2 . n3 . r3 n4", "o1 r2 r3", ""},
		{"the new ones saw the return alone, later", true, always, "o1 . . . R1 o2 . . . R2 . n3 o3", "o3", "R1 R2"},
		{"the new ones saw the return alone, the old ones no verdict", false, always, "O1 R1 . O2 n2", "O2", "R1"},
		{"both saw returns alone", false, never, "r1 R1 . r2 R2 . r3", "r1 r2", ""},
		{"a return that the new ones did not see", false, never, "o1 n1 . r2 . n3", "o1", ""},
	} {
		all, names := script(c.all)
		old, poor := twinsOf(all, c.newFirst, c.attached)
		if got := named(old, names); got != c.old {
			t.Errorf("%s: old %q are left out, want %q", c.name, got, c.old)
		}
		if got := named(poor, names); got != c.new {
			t.Errorf("%s: new %q are left out, want %q", c.name, got, c.new)
		}
	}
}

func named(ids map[ID]struct{}, names map[ID]string) string {
	var in []ID
	for id := range ids {
		in = append(in, id)
	}
	slices.SortFunc(in, func(a, b ID) int { return cmp.Compare(a.BootTime, b.BootTime) })
	var out []string
	for _, id := range in {
		out = append(out, names[id])
	}
	return strings.Join(out, " ")
}

// Threads, sockets and addresses tell connects apart.
func TestOthersAreNoTwins(t *testing.T) {
	base := sight{id: ID{1e9, 7}, cookie: 5, to: "a", isNew: true}
	for name, change := range map[string]func(*sight){
		"thread": func(s *sight) { s.id.Tid = 8 }, "socket": func(s *sight) { s.cookie = 6 }, "address": func(s *sight) { s.to = "b" }, "program": func(s *sight) { s.isNew = true },
	} {
		other := sight{id: ID{1e9 + 1, 7}, cookie: 5, to: "a"}
		change(&other)
		if old, poor := twinsOf([]sight{base, other}, true, 0); len(old)+len(poor) > 0 {
			t.Errorf("another %s: a twin", name)
		}
	}
	same := sight{id: ID{1e9 + 1, 7}, to: "a"} // its cookie is not known
	if old, _ := twinsOf([]sight{base, same}, true, 0); len(old) != 1 {
		t.Error("the same: no twin")
	}
}
