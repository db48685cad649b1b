package main

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"
)

// The questions of docs/fleet.md, answered from the rows of the tapes.

// grouped puts rows together by a key.
func grouped(all []fleetRow, key func(fleetRow) string) map[string][]fleetRow {
	groups := map[string][]fleetRow{}
	for _, r := range all {
		groups[key(r)] = append(groups[key(r)], r)
	}
	return groups
}

func sum(rows []fleetRow) (n int64) {
	for _, r := range rows {
		n += r.Count
	}
	return n
}

func first(rows []fleetRow) fleetRow {
	return slices.MinFunc(rows, func(a, b fleetRow) int { return a.Time.Compare(b.Time) })
}

func last(rows []fleetRow) time.Time {
	return slices.MaxFunc(rows, func(a, b fleetRow) int { return a.LastTime.Compare(b.LastTime) }).LastTime
}

// distinct is how many values rows have.
func distinct(rows []fleetRow, of func(fleetRow) string) int {
	seen := map[string]bool{}
	for _, r := range rows {
		seen[of(r)] = true
	}
	return len(seen)
}

func hostOf(r fleetRow) string { return r.host }

// reached are the rows whose destination has an IP address.
func reached(all []fleetRow) []fleetRow {
	return slices.DeleteFunc(slices.Clone(all), func(r fleetRow) bool { return r.RemoteIP == nil })
}

func fleetWho(all []fleetRow) (answer []string) {
	of := slices.DeleteFunc(reached(all), func(r fleetRow) bool { return *r.RemoteIP != "45.155.205.233" })
	for _, g := range grouped(of, func(r fleetRow) string { return cells(r.host, r.Exe, r.User, r.RemotePort, r.Outcome) }) {
		r := g[0]
		answer = append(answer, cells(r.host, r.Exe, r.User, r.RemotePort, r.Outcome, sum(g), at(first(g).Time), at(last(g))))
	}
	return answer
}

func fleetFirstSeen(all []fleetRow) (answer []string) {
	newest := slices.MaxFunc(all, func(a, b fleetRow) int { return a.Time.Compare(b.Time) }).Time
	for _, g := range grouped(reached(all), func(r fleetRow) string { return cells(r.RemoteIP, r.RemotePort) }) {
		if f := first(g); !at(f.Time).Before(at(newest).Add(-24 * time.Hour)) {
			answer = append(answer, cells(f.RemoteIP, f.RemotePort, at(f.Time), f.host, distinct(g, hostOf), sum(g)))
		}
	}
	return answer
}

func fleetRare(all []fleetRow) (answer []string) {
	for _, g := range grouped(reached(all), func(r fleetRow) string { return cells(r.Exe, r.RemoteIP, r.RemotePort) }) {
		if f := first(g); distinct(g, hostOf) == 1 && sum(g) <= 3 {
			answer = append(answer, cells(f.Exe, f.RemoteIP, f.RemotePort, f.host, sum(g), at(f.Time)))
		}
	}
	return answer
}

func fleetLateral(all []fleetRow) (answer []string) {
	of := slices.DeleteFunc(reached(all), func(r fleetRow) bool {
		ip := netip.MustParseAddr(*r.RemoteIP)
		return !ip.IsPrivate() || r.RemotePort == nil || !slices.Contains([]int64{22, 135, 139, 445, 3389, 5985, 5986}, *r.RemotePort)
	})
	for _, g := range grouped(of, func(r fleetRow) string { return cells(r.host, r.Exe, r.User, r.RemotePort) }) {
		r := g[0]
		answer = append(answer, cells(r.host, r.Exe, r.User, r.RemotePort, distinct(g, func(r fleetRow) string { return *r.RemoteIP }), at(first(g).Time), at(last(g))))
	}
	return answer
}

func fleetBeacons(all []fleetRow) (answer []string) {
	type beacon struct {
		key    string
		n      int
		median float64
		spread float64
	}
	var found []beacon
	for key, g := range grouped(reached(all), func(r fleetRow) string { return cells(r.host, r.Exe, r.RemoteIP, r.RemotePort) }) {
		slices.SortFunc(g, func(a, b fleetRow) int { return cmp.Compare(a.TimeNS, b.TimeNS) })
		var gaps []float64
		for i := 1; i < len(g); i++ {
			if gap := float64(g[i].TimeNS-g[i-1].TimeNS) / 1e9; gap > 0 {
				gaps = append(gaps, gap)
			}
		}
		slices.Sort(gaps)
		if len(gaps) < 20 || quantile(gaps, 0.5) < 5 {
			continue
		}
		found = append(found, beacon{key, len(gaps), quantile(gaps, 0.5), (quantile(gaps, 0.75) - quantile(gaps, 0.25)) / quantile(gaps, 0.5)})
	}
	slices.SortFunc(found, func(a, b beacon) int { return cmp.Or(cmp.Compare(a.spread, b.spread), cmp.Compare(a.key, b.key)) })
	for _, b := range found[:min(50, len(found))] {
		answer = append(answer, cells(b.key, b.n, b.median, b.spread))
	}
	return answer
}

// quantile interpolates between the two sorted values beside it, as SQL's PERCENTILE_CONT does.
func quantile(sorted []float64, q float64) float64 {
	place := q * float64(len(sorted)-1)
	low := int(math.Floor(place))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (place-float64(low))*(sorted[high]-sorted[low])
}
