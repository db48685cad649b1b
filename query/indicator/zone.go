package indicator

import (
	"net/netip"
	"strings"
)

// A response policy zone, as a file or from dig: the names and addresses that it blocks, not the addresses that it answers with.
// https://datatracker.ietf.org/doc/html/draft-vixie-dnsop-dns-rpz

var (
	zoneSetting = expr(`^\$(?:ORIGIN|TTL|INCLUDE|GENERATE)\s+(\S+)`)
	zoneRecord  = expr(`^(\S+)?\s+(?:[0-9]+[smhdwSMHDW]?\s+)?(?:IN\s+)?(?:[0-9]+[smhdwSMHDW]?\s+)?(SOA|NS|CNAME|A|AAAA|TXT|MX|DNAME)\s+(.*)$`)
	policyName  = expr(`(?i)(?:^|\.)rpz-(ip|client-ip|nsdname|nsip)\.?$`)
)

const answersWith = "what a resolver answers with"

// zone is what the lines of a zone's file said so far about those that follow.
type zone struct {
	isZone bool
	origin string // ends with a dot; "": unknown
}

// zoneLine reads a line of a zone's file. It returns false for a line before the zone's own, and for all that it does not know.
func (t *textReader) zoneLine(line string) bool {
	if found := zoneSetting.FindStringSubmatch(line); found != nil {
		t.zone.isZone = true
		if strings.HasPrefix(line, "$ORIGIN") {
			t.zone.origin = strings.ToLower(strings.TrimSuffix(found[1], ".") + ".")
		}
		t.leaveOut(aroundIndicators)
		return true
	}
	found := zoneRecord.FindStringSubmatch(line)
	if found == nil {
		return false
	}
	owner, kind := strings.ToLower(found[1]), found[2]
	if kind == "SOA" {
		t.zone.isZone = true
		if owner != "@" && strings.HasSuffix(owner, ".") {
			t.zone.origin = owner
		}
	}
	if !t.zone.isZone {
		return false
	}
	relative := owner
	if t.zone.origin != "" {
		relative = strings.TrimSuffix(strings.TrimSuffix(owner, t.zone.origin), ".")
	}
	switch {
	case kind == "SOA" || kind == "NS" || kind == "TXT" || kind == "MX" || owner == "" || owner == "@" || relative == "":
		t.leaveOut(aroundIndicators)
		return true
	case policyName.MatchString(relative):
		t.plainLine(relative+" CNAME "+found[3], t.line)
		return true
	case strings.HasPrefix(found[3], "rpz-passthru"):
		t.leaveOut(passes)
		return true
	}
	c, ok := readCell(strings.TrimPrefix(relative, "*."))
	if !ok || !c.is(Name) {
		t.problem(t.line, line, notIndicator)
		return true
	}
	if answer, err := netip.ParseAddr(strings.TrimSpace(found[3])); err == nil && !answer.IsUnspecified() && !answer.IsLoopback() || kind == "CNAME" && len(strings.Trim(found[3], "*. ")) > 0 && !strings.HasPrefix(found[3], "rpz-") {
		t.leaveOut(answersWith)
	}
	t.add(t.line, "", c.list...)
	return true
}
