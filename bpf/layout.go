package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cilium/ebpf/btf"
)

// layoutTypes are the C types by which what is left in each map is read: rings, counters, sends and attempts in flight.
var layoutTypes = map[string][]string{
	"connects":    {"connect_small", "connect_large", "via", "connect_flags"},
	"processes":   {"process", "process_kind", "process_flags"},
	"outcomes":    {"outcome", "outcome_kind", "closed_by"},
	"events":      {"connect_short", "connect_small", "connect_large", "via", "connect_flags"},
	"dns_answers": {"answer"},
	"counters":    {"counter"},
	"sends":       {"send_key", "send", "unix_send_key", "unix_send"},
	"in_flight":   {"connect_large"},
}

// layouts identifies each: programs of two versions that have the same hand over the same bytes. It is made of the compiled types, so that
// nobody has to remember to count it up.
func layouts() (map[string]string, error) {
	spec, err := loadConnect()
	if err != nil {
		return nil, fmt.Errorf("read compiled programs: %w", err)
	}
	of := make(map[string]string, len(layoutTypes))
	for _, name := range slices.Sorted(maps.Keys(layoutTypes)) {
		h := sha256.New()
		for _, typeName := range layoutTypes[name] {
			t, err := spec.Types.AnyTypeByName(typeName)
			if err != nil {
				return nil, fmt.Errorf("find type %s: %w", typeName, err)
			}
			describeType(h, typeName, t)
		}
		of[name] = hex.EncodeToString(h.Sum(nil)[:8])
	}
	return of, nil
}

// describeType writes the names, places and sizes of fields, and the values of an enum.
func describeType(to io.Writer, name string, t btf.Type) {
	t = btf.UnderlyingType(t)
	size, _ := btf.Sizeof(t) // of an enum or a struct it is known
	fmt.Fprintf(to, "%s %d {", name, size)
	switch t := t.(type) {
	case *btf.Struct:
		for _, m := range t.Members {
			fmt.Fprintf(to, "%d ", m.Offset)
			describeType(to, m.Name, m.Type)
		}
	case *btf.Enum:
		for _, v := range t.Values {
			fmt.Fprintf(to, "%s %d,", v.Name, v.Value)
		}
	}
	fmt.Fprint(to, "}")
}
