package recorder

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/conntape/conntape/store"
)

// A recorder that begins knows no names, but programs keep those that they asked for before. The tape has the answers that the
// last recorder read.

// recallWithin is how far back a recorder looks for names that are good still.
const recallWithin = time.Hour

// recallNames returns the names of this boot that are good still. The tape must not be open yet. Without them recording goes on
// all the same.
func recallNames(ctx context.Context, o *Options, bootID string) []store.KnownName {
	if !o.Events.Names {
		return nil
	}
	known, err := store.FindNames(ctx, o.Dir, bootID, bootNow(), recallWithin, time.Duration(nameSlack), mostNamings)
	if err != nil {
		o.Logger.Warn("names that were looked up before are not known", "error", err)
	}
	return known
}

// recall learns names that are on the tape, the newest first, as long as there is room.
func (g *namings) recall(known []store.KnownName) {
	for i := range known {
		k := &known[i]
		n := naming{name: k.Name, from: k.Last, source: store.NameUnattributed}
		n.until = k.Last + min(uint64(k.TTL)*uint64(time.Second), longestTTL) + nameSlack
		if k.Tgid != 0 {
			n.asker, n.source = lifeKey{k.StartBoot, k.Tgid}, ""
			if isStub(k.Exe) {
				n.source = store.NameStub
			}
		}
		if k.NetNS == 0 {
			continue
		}
		for record := range strings.FieldsSeq(k.Answers) {
			address, err := netip.ParseAddr(record)
			if err != nil { // another kind of record
				continue
			}
			if g.n >= mostNamings || len(g.by[n.asker]) >= mostNamingsEach {
				break
			}
			g.learn(placeKey{k.NetNS, address}, n)
		}
	}
}
