package indicator

import "strings"

// mispAttribute reads an attribute of MISP: a type, a value, and flags that may be booleans, numbers or texts. ports are
// the ports of the attribute's object.
func (w *walker) mispAttribute(row *jsonRow, ports []string) {
	var fields []field
	for _, f := range row.fields {
		switch f.name {
		case "type":
			f.role = roleType
		case "value":
			f.role = roleValue
		case "comment":
			f.role = roleLabel
		case "to_ids":
			f.role = roleDetect
		case "deleted":
			f.role = roleDeleted
		default:
			continue // category, uuid, times
		}
		fields = append(fields, f)
	}
	fields = append(fields, field{roleLabel, "info", w.event})
	for _, port := range ports {
		fields = append(fields, field{rolePort, "dst-port", port})
	}
	if why := w.reading.row(fields, w.objects); why != "" {
		text := row.get("value")
		if text == "" {
			text = row.text()
		}
		w.reading.problem(w.objects, text, why)
	}
}

// mispObject reads the attributes of one object. The object's port applies to its addresses and names and is never an
// indicator by itself, even if the port's own to_ids flag is off: an ip-port object with the flag only at its address
// still means this port.
func (w *walker) mispObject() {
	var ports []string
	var others []*jsonRow
	for _, row := range w.group {
		w.objects++
		switch {
		case row.get("type") != "port" || isTrue(row.get("deleted")):
			others = append(others, row)
		case strings.HasPrefix(row.get("object_relation"), "src"):
			w.reading.leaveOut(sourceBeside)
		default:
			ports = append(ports, row.get("value"))
		}
	}
	if len(others) == 0 {
		for range ports {
			w.reading.leaveOut("a port of an object without an address")
		}
	}
	for _, row := range others {
		own := ports
		if row.get("type") == "ip-src" {
			own = nil
		}
		w.mispAttribute(row, own)
	}
}
