package indicator

import (
	"net/netip"
	"slices"
	"strings"
)

// The number of a version may look like an address: OpenSSL 1.1.1.0, firmware 10.2.3.4, nginx:1.2.3.4. The word before it tells.

const isVersion = "it may be the number of a version: put it on a line alone to look for it"

// beforeVersion are words before the number of a version.
var beforeVersion = words{"version", "versions", "ver", "v", "release", "build", "firmware", "revision", "rev", "section", "oid"}

// beforeAddress are words before an address, which tell that four small numbers are one.
var beforeAddress = words{
	"ip", "ips", "ipv4", "addr", "address", "addresses", "host", "hosts", "server", "servers", "c2", "cnc", "ioc", "node", "peer", "client", "dns", "resolver", "proxy", "gateway", "net", "network",
	"range", "subnet", "source", "destination", "src", "dst", "saddr", "daddr", "remote", "attacker", "scanner", "botnet", "malware", "malicious", "bad", "evil", "hosted",
	"to", "from", "at", "by", "via", "with", "and", "or", "of", "for", "is", "are", "was", "on", "in", "not", "the", "und", "von", "mit", "through", "thru", "until", "till", "bis", "between",
	"deny", "drop", "block", "reject", "ban", "add", "route", "any", "tcp", "udp", "icmp", "all", "contacts", "contacted", "connects", "connected", "resolves", "resolved", "seen",
}

// maybeVersion reports whether a text that looks like an address may be the number of a version, by the word before it. Behind a word that
// is neither, four small numbers may be.
func maybeVersion(before, text string) bool {
	if !looksLikeAddress(text) {
		return false
	}
	all := strings.Fields(strings.ToLower(before))
	if len(all) == 0 {
		return false
	}
	word := strings.Trim(all[len(all)-1], ".,:;=\"'()[]{}$")
	if beforeVersion.has(word) {
		return true
	}
	return word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") == "" && !beforeAddress.has(word) && areSmall(text)
}

// areSmall reports whether all numbers of an address are, and it is neither of a private network nor one that everybody knows.
func areSmall(text string) bool {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() || a.IsPrivate() || slices.Contains([]string{"1.0.0.1", "8.8.4.4"}, text) {
		return false
	}
	n := a.As4()
	return max(n[0], n[1], n[2], n[3]) < 32 && min(n[0], n[1], n[2], n[3]) < max(n[0], n[1], n[2], n[3])
}
