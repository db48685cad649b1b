package main

import (
	"cmp"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conntape/conntape/store"
	"github.com/conntape/conntape/test/testtape"
)

const fleetHosts = 20

// The questions of docs/fleet.md, as they are there, have the same answers in DuckDB over the partitions of twenty hosts as the twenty
// tapes give, whose rows conntape reads and this test puts together.
func TestFleetQuestions(t *testing.T) {
	dir := t.TempDir()
	program, fleet := filepath.Join(dir, "conntape"), filepath.Join(dir, "fleet")
	build := exec.Command("go", "build", "-o", program, "./cmd/conntape")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var all []fleetRow
	for i := range fleetHosts {
		host, tape := fmt.Sprintf("host%02d", i), filepath.Join(dir, fmt.Sprint("tape", i))
		writeFleetTape(t, tape, host, i)
		conntape(t, program, "export", "--partition", fleet, "--dir", tape, "--quiet")
		all = append(all, readFleetTape(t, program, tape, host)...)
	}

	asked := fleetSQL(t)
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(strings.ReplaceAll(asked["duckdb table"], "/srv/fleet", fleet)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"who": fleetWho(all), "first-seen": fleetFirstSeen(all), "rare": fleetRare(all), "lateral": fleetLateral(all), "beacons": fleetBeacons(all),
	} {
		if asked[name] == "" || len(want) < 5 {
			t.Fatalf("%s: no question, or only %d rows in the tapes", name, len(want))
		}
		got := answerOf(t, db, asked[name])
		slices.Sort(got) // rows that the order does not tell apart come as they like
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: DuckDB has %d rows, the tapes %d\n%s", name, len(got), len(want), firstDifference(got, want))
		}
	}
}

// fleetSQL returns the SQL of docs/fleet.md by the words behind ```sql.
func fleetSQL(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]string{}
	for _, block := range regexp.MustCompile("(?s)```sql ([a-z -]+)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		asked[block[1]] = block[2]
	}
	return asked
}

// A visit is a connect of a fleet's host.
type visit struct {
	at  time.Duration // since its tape began
	exe string
	to  string // address and port, or the path of a UNIX socket
}

// visitsOf makes up two days of a host: a beacon, programs that all hosts have with destinations of theirs, some that one host has or three
// have, others that come on the second day, and connects to other hosts' remote-control ports.
func visitsOf(i int) (visits []visit) {
	random := rand.New(rand.NewPCG(uint64(i), 0))
	add := func(at time.Duration, exe, to string) { visits = append(visits, visit{at, exe, to}) }
	anytime := func() time.Duration { return time.Hour + time.Duration(random.Int64N(int64(47*time.Hour))) }
	second := func() time.Duration { return 40*time.Hour + time.Duration(random.Int64N(int64(8*time.Hour))) }
	for at := time.Hour; at < 20*time.Hour; at += 5*time.Minute + time.Duration(random.IntN(20_000))*time.Millisecond {
		add(at, "/opt/agent", "45.155.205.233:443")
	}
	for range 100 {
		add(anytime(), "/usr/bin/curl", fmt.Sprintf("203.0.113.%d:443", random.IntN(9)))
		add(anytime(), "/usr/bin/curl", fmt.Sprintf("[2001:db8::%d]:443", random.IntN(9)))
		add(anytime(), "/usr/bin/logger", "/dev/log")
	}
	for n := range 1 + i%4 {
		add(anytime(), "/usr/bin/once", fmt.Sprintf("198.19.%d.1:80", i/2))
		add(second(), "/usr/bin/new", fmt.Sprintf("198.18.%d.1:8443", i/3))
		add(second(), "/usr/bin/ssh", fmt.Sprintf("10.1.%d.%d:22", i, n))
		add(anytime(), "/usr/bin/ssh", fmt.Sprintf("172.%d.0.1:22", 10*(1+n))) // private in 172.16.0.0/12 alone
		add(anytime(), "/usr/bin/ssh", fmt.Sprintf("[fd00::%x]:22", i))
	}
	slices.SortFunc(visits, func(a, b visit) int { return cmp.Compare(a.at, b.at) })
	return visits
}

// writeFleetTape writes the tape of a host in two sealed segments.
func writeFleetTape(t *testing.T, dir, host string, i int) {
	t.Helper()
	now, err := store.ReadAnchor("start") // the second segment reads these clocks, too
	if err != nil {
		t.Fatal(err)
	}
	const begin = uint64(time.Hour)
	w, err := store.OpenWriter(dir, store.WriterOptions{Version: "test", Backend: "fexit", Host: host, MachineID: fmt.Sprintf("%032d", i),
		BootID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Now: store.Anchor{Boot: begin, Real: now.Real - int64(now.Boot) + int64(begin), Kind: "start"}})
	if err != nil {
		t.Fatal(err)
	}
	tasks, endpoints := map[string]*store.Task{}, map[string]*store.Endpoint{}
	tcp, local, refused := testtape.TCP(), testtape.TCP(), testtape.TCP()
	local.SocketFamily, local.Protocol = unix.AF_UNIX, 0
	refused.Errno = int32(unix.ECONNREFUSED)
	visits := visitsOf(i)
	var rows []store.Connection
	for n, v := range visits {
		if tasks[v.exe] == nil {
			tasks[v.exe] = testtape.Task(uint32(100+len(tasks)), v.exe)
		}
		if endpoints[v.to] == nil {
			endpoints[v.to] = endpointOf(v.to)
		}
		row := store.Connection{BootTime: begin + uint64(v.at), Task: tasks[v.exe], Remote: endpoints[v.to], Shape: tcp, Cookie: uint64(n), FD: 3}
		switch {
		case row.Remote.Family == unix.AF_UNIX:
			row.Shape = local
		case n%7 == 0:
			row.Shape = refused
		case n%11 == 0:
			row.Count, row.LastBootTime = 3, row.BootTime+uint64(2*time.Second)
		}
		rows = append(rows, row)
	}
	for _, part := range [][]store.Connection{rows[:len(rows)/2], rows[len(rows)/2:]} {
		if err := w.Append(store.Batch{Connections: part, Now: part[len(part)-1].BootTime}); err != nil {
			t.Fatal(err)
		}
		if err := w.RotateAndSeal(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(store.Gap{From: begin + uint64(49*time.Hour)}, nil); err != nil {
		t.Fatal(err)
	}
}

// endpointOf is an address with its sockaddr.
func endpointOf(text string) *store.Endpoint {
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		raw := binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX)
		return &store.Endpoint{Family: unix.AF_UNIX, Address: text, Port: -1, Raw: append(append(raw, text...), 0)}
	}
	e := &store.Endpoint{Family: unix.AF_INET, Address: to.Addr().String(), Port: int32(to.Port()), Raw: make([]byte, 16)}
	place := 4
	if to.Addr().Is6() {
		e.Family, e.Raw, place = unix.AF_INET6, make([]byte, 28), 8
	}
	binary.NativeEndian.PutUint16(e.Raw, e.Family)
	binary.BigEndian.PutUint16(e.Raw[2:], to.Port())
	copy(e.Raw[place:], to.Addr().AsSlice())
	return e
}

func conntape(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("conntape %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// A fleetRow is a connection of a tape, with the host that it is of.
type fleetRow struct {
	host                        string
	Exe, User, RemoteIP, Remote *string
	RemotePort                  *int64
	Outcome                     *string
	TimeNS, Count               int64
	Time                        time.Time
	LastTime                    time.Time `json:"last_time"`
}

func readFleetTape(t *testing.T, program, tape, host string) (rows []fleetRow) {
	t.Helper()
	const ask = `select exe, user, remote_ip "RemoteIP", remote_port "RemotePort", outcome, time_ns "TimeNS", time, last_time, count from connections`
	for line := range strings.Lines(string(conntape(t, program, "query", "sql", ask, "--dir", tape, "--format", "jsonl", "--limit", "0", "--quiet"))) {
		row := fleetRow{host: host}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if row.TimeNS == 0 { // the coverage
			continue
		}
		rows = append(rows, row)
	}
	return rows
}

// cells writes a row of an answer, whatever it came from.
func cells(values ...any) string {
	var texts []string
	for _, v := range values {
		switch v := v.(type) {
		case *string:
			if v == nil {
				texts = append(texts, "NULL")
			} else {
				texts = append(texts, *v)
			}
		case []byte:
			texts = append(texts, string(v))
		case *int64:
			if v == nil {
				texts = append(texts, "NULL")
			} else {
				texts = append(texts, fmt.Sprint(*v))
			}
		case nil:
			texts = append(texts, "NULL")
		case time.Time:
			texts = append(texts, v.UTC().Format(time.RFC3339Nano))
		case float64:
			texts = append(texts, fmt.Sprintf("%.9g", v))
		default: // integers of any width
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return strings.Join(texts, " | ")
}

// at is a time as DuckDB has it: of a timestamp in nanoseconds with a zone it keeps microseconds.
func at(t time.Time) time.Time { return t.Truncate(time.Microsecond) }

func answerOf(t *testing.T, db *sql.DB, query string) (answer []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range into {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		answer = append(answer, cells(values...))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return answer
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return "DuckDB: " + g + "\ntapes:  " + w
		}
	}
	return ""
}
