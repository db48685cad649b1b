package indicator

import "strings"

// A number after an address, in a table without a header, may be its port, and may be a score, a count, a year or the number of a
// network. One row does not tell, so that such rows wait until the list has ended: all its numbers tell what they are.

// besides are addresses with the numbers that follow them.
type besides struct {
	rows    []besideRow
	noPorts int // numbers that are no port: those above 65535, or with a point
}

// besideRow is a row with such a number.
type besideRow struct {
	list  []*Indicator
	port  uint16
	more  bool // another number follows
	line  int
	label string
}

// usualPorts are ports that lists name often: of services, and of remote control. A list of ports has some of them.
var usualPorts = func() map[uint16]bool {
	all := make(map[uint16]bool)
	for _, port := range []uint16{
		20, 21, 22, 23, 25, 53, 69, 79, 80, 81, 82, 88, 110, 111, 123, 135, 137, 139, 143, 161, 389, 443, 445, 447, 449, 465, 500, 502, 514, 587, 623, 631, 636, 853, 873,
		990, 993, 995, 1080, 1194, 1337, 1433, 1521, 1604, 1723, 1883, 2000, 2049, 2052, 2053, 2078, 2082, 2083, 2086, 2087, 2095, 2096, 2222, 2323, 2375, 2376, 2404,
		3128, 3306, 3333, 3389, 3478, 4242, 4433, 4443, 4444, 4445, 4449, 4500, 4782, 5000, 5001, 5004, 5005, 5038, 5060, 5061, 5222, 5353, 5432, 5555, 5556, 5601,
		5672, 5900, 5901, 5938, 5985, 5986, 6000, 6379, 6443, 6606, 6660, 6661, 6662, 6663, 6664, 6665, 6666, 6667, 6668, 6669, 6697, 6881, 7000, 7001, 7070, 7443, 7547, 7707,
		7777, 8000, 8001, 8008, 8009, 8010, 8080, 8081, 8082, 8083, 8085, 8086, 8087, 8088, 8089, 8090, 8118, 8161, 8200, 8333, 8443, 8444, 8500, 8531, 8787, 8800, 8808, 8834, 8848, 8880,
		8888, 8899, 9000, 9001, 9002, 9003, 9009, 9030, 9042, 9050, 9051, 9090, 9091, 9092, 9100, 9150, 9200, 9300, 9443, 9443, 9943, 9999, 10000, 10001, 10250, 10443,
		11211, 12345, 13337, 15672, 18080, 20000, 22222, 25565, 27015, 27017, 28015, 31337, 37215, 44818, 47808, 49152, 50000, 50050, 50051, 51820, 52869, 54321, 55553, 55555, 60000, 60001, 61616,
	} {
		all[port] = true
	}
	return all
}()

// isBareNumber reports whether a cell is digits alone, perhaps in quotes: nothing says what it counts.
func isBareNumber(text string) bool {
	text = strings.Trim(text, `"' `)
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// isNoPort reports whether a cell is a number that cannot be a port.
func isNoPort(text string) bool {
	digits := strings.Trim(text, `"' %`)
	if strings.Trim(digits, "0123456789.-") != "" || strings.Count(digits, ".") > 1 || strings.Trim(digits, "0.-") == "" {
		return false
	}
	_, ok := parsePortNumber(digits)
	return !ok
}

// What numbers beside addresses can be.
const (
	areUnclear = iota
	arePorts
	areOthers
)

// leastNumbers is how many different numbers tell that they are no ports, if none of them cannot be one.
const leastNumbers = 3

// kind tells it. A third of the ports of a list are usual ones, and all that are below 100; other numbers are mostly no usual
// port, and small.
func (b *besides) kind() int {
	usual, small, odd := 0, true, false
	distinct := make(map[uint16]bool)
	for _, row := range b.rows {
		if distinct[row.port] {
			continue
		}
		distinct[row.port] = true
		if usualPorts[row.port] {
			usual++
		} else {
			odd = odd || row.port <= 100
		}
		small = small && row.port < 1024
	}
	switch {
	case b.noPorts > 0:
		return areOthers
	case !odd && 3*usual >= len(distinct):
		return arePorts
	case small && len(distinct) >= leastNumbers:
		return areOthers
	}
	return areUnclear
}

// settleBesides reads the rows that waited.
func (r *Reading) settleBesides() {
	kind := r.besides.kind()
	for _, row := range r.besides.rows {
		switch kind {
		case arePorts:
			r.note(portBeside)
			if row.more {
				r.leaveOut(anotherNumber)
			}
			r.add(row.line, row.label, withPorts(row.list, []uint16{row.port})...)
		case areOthers:
			r.note(numberBeside)
			r.add(row.line, strings.TrimSpace(portText(row.port)+" "+row.label), row.list...)
		default:
			r.problem(row.line, row.list[0].Text+" "+portText(row.port), "the number after it may be a port or anything else, and the list does not tell: give the table a header")
		}
	}
	r.besides = besides{}
}
