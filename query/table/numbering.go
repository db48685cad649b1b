package table

import (
	"bytes"
	"context"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"

	"github.com/conntape/conntape/query/format"
)

// Connections share rows of a segment: the task, the endpoint and the shape. These are few, so each is judged once and
// numbered, per segment and for the whole tape.

// numbering numbers the ids of a table in order of appearance.
type numbering struct {
	ids    []int64 // by number
	dense  []int32 // number + 1 of small ids, 0: none
	sparse map[int64]int32
}

// mostSparse limits the missing ids per existing one: a normal segment has few holes.
const mostSparse = 16

// add gives an id the next number.
func (n *numbering) add(id int64) {
	n.ids = append(n.ids, id)
	number := int32(len(n.ids))
	if id >= 0 && id < 1024+mostSparse*int64(number) {
		for int64(len(n.dense)) <= id {
			n.dense = append(n.dense, 0)
		}
		n.dense[id] = number
		return
	}
	if n.sparse == nil {
		n.sparse = make(map[int64]int32)
	}
	n.sparse[id] = number
}

// of returns the number of an id, -1 if it has none.
func (n *numbering) of(id int64) int32 {
	if id >= 0 && id < int64(len(n.dense)) && n.dense[id] != 0 {
		return n.dense[id] - 1
	}
	if n.sparse == nil {
		return -1
	}
	return n.sparse[id] - 1
}

// Families and types that plans distinguish, with the kernel's numbers.
const (
	familyUnspec = 0
	FamilyIPv4   = 2
	FamilyIPv6   = 10

	typeDgram = 2
)

// place is a destination.
type place struct {
	Family  int64
	Address string
	Port    int64 // -1 none
}

// Label formats the place as the view's column remote does.
func (p place) Label() string {
	switch {
	case p.Port < 0:
		return p.Address
	case (p.Family == FamilyIPv4 || p.Family == FamilyIPv6) && strings.Contains(p.Address, ":"):
		return "[" + p.Address + "]:" + strconv.FormatInt(p.Port, 10)
	}
	return p.Address + ":" + strconv.FormatInt(p.Port, 10)
}

// plain returns family and address, with ::ffff:a.b.c.d as IPv4, as in the view's remote_ip.
func plain(family int64, address []byte, port int64) (int64, []byte) {
	v4, mapped := bytes.CutPrefix(address, []byte("::ffff:"))
	if family == FamilyIPv6 && port >= 0 && mapped && bytes.Contains(v4, []byte(".")) {
		return FamilyIPv4, v4
	}
	return family, address
}

// Actor is a program run as a user in a container.
type Actor struct {
	Exe             string       // or [comm] if unknown
	User, Container format.Value // user: its name, else the uid
}

// Key identifies the actor.
func (a *Actor) Key() string {
	return a.Exe + "\x00" + strconv.Itoa(int(a.User.Kind)) + string(a.User.AppendPlain(nil, false)) + "\x00" + string(a.Container.AppendPlain(nil, false))
}

// task is a row of table task in a plan.
type task struct {
	Actor, Process int32 // numbers in the tape's dictionary
	PID            int64
}

// shape is a row of table shape in a plan.
type shape struct {
	Failed, Denied, dgram bool // failed includes denied
	decided               bool // connect's result is final
	Protocol              int32
}

// numbers is the dictionary of a tape, over its segments' numberings.
type numbers struct {
	mu        sync.Mutex
	Actors    []Actor
	Programs  *Names  // exe of actors
	ProgramOf []int32 // of actors
	Places    []place
	processes *idTable
	Protocols *Names // number 0 is NULL

	actorOf map[string]int32
	placeOf map[string]int32 // by placeKey
}

func NewNumbers() *numbers {
	n := &numbers{Programs: NewNames(), Protocols: NewNames(), processes: &idTable{numbers: make(map[int64]int32)}, actorOf: make(map[string]int32), placeOf: make(map[string]int32)}
	n.Protocols.Of("")
	return n
}

// idTable numbers ids of the whole tape.
type idTable struct {
	numbers map[int64]int32
	ids     []int64
}

func (t *idTable) of(id int64) int32 {
	n, ok := t.numbers[id]
	if !ok {
		n = int32(len(t.ids))
		t.numbers[id] = n
		t.ids = append(t.ids, id)
	}
	return n
}

// Names numbers texts.
type Names struct {
	index map[string]int32
	List  []string
}

func NewNames() *Names { return &Names{index: make(map[string]int32)} }

// Of returns the number of a text.
func (n *Names) Of(text string) int32 {
	i, ok := n.index[text]
	if !ok {
		i = int32(len(n.List))
		n.index[text] = i
		n.List = append(n.List, text)
	}
	return i
}

func (n *numbers) actor(a Actor) int32 {
	key := a.Key()
	number, ok := n.actorOf[key]
	if !ok {
		number = int32(len(n.Actors))
		n.actorOf[key] = number
		n.Actors = append(n.Actors, a)
		n.ProgramOf = append(n.ProgramOf, n.Programs.Of(a.Exe))
	}
	return number
}

// appendPlaceKey appends a place's key.
func appendPlaceKey(key []byte, family int64, address []byte, port int64) []byte {
	return append(binary.AppendVarint(binary.AppendVarint(key, family), port), address...)
}

// place returns the number of a place by its key.
func (n *numbers) place(key []byte) int32 {
	number, ok := n.placeOf[string(key)]
	if !ok {
		number = int32(len(n.Places))
		n.placeOf[string(key)] = number
		family, used := binary.Varint(key)
		port, more := binary.Varint(key[used:])
		n.Places = append(n.Places, place{family, string(key[used+more:]), port})
	}
	return number
}

// read adds the tasks, endpoints and shapes of a segment.
func (n *numbers) read(ctx context.Context, s *SegmentSource) error {
	var tasks []Actor
	var processes []int64
	err := s.each(ctx, `SELECT t.id, t.process, p.tgid, coalesce(p.exe, '[' || t.comm || ']'), coalesce(nullif(coalesce(t.user, p.user), ''), t.uid), nullif(coalesce(t.container, p.container), '')
		FROM task t JOIN process p ON p.id = t.process`, func(row []format.Value) {
		s.tasks.add(row[0].Int)
		processes = append(processes, row[1].Int)
		s.Task = append(s.Task, task{PID: row[2].Int})
		tasks = append(tasks, Actor{string(row[3].Bytes), keep(row[4]), keep(row[5])})
	})
	if err != nil {
		return err
	}
	var keys []byte // of places, concatenated
	var ends []int  // end of each key
	err = s.Tape.ScanEndpoints(ctx, s.Index, func(id, family int64, address []byte, port int64) error {
		s.remotes.add(id)
		family, address = plain(family, address, port)
		keys = appendPlaceKey(keys, family, address, port)
		ends = append(ends, len(keys))
		return nil
	})
	if err != nil {
		return err
	}
	var protocols []format.Value
	view := NewKnownView()
	err = s.each(ctx, `SELECT id, type, `+view.says["failed"]+`, coalesce(hook_errno > 0, 0),
		coalesce(hook_errno > 0 OR errno NOT IN (0, 4, 11, 115, 512), 0), `+view.says["protocol"]+` FROM shape s`, func(row []format.Value) {
		s.shapes.add(row[0].Int)
		s.Shape = append(s.Shape, shape{dgram: row[1].Int == typeDgram, Failed: row[2].Int != 0, Denied: row[3].Int != 0, decided: row[4].Int != 0})
		protocols = append(protocols, keep(row[5]))
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, a := range tasks {
		s.Task[i].Actor, s.Task[i].Process = n.actor(a), n.processes.of(processes[i])
	}
	s.Place = make([]int32, 0, len(ends))
	begin := 0
	for _, end := range ends {
		s.Place = append(s.Place, n.place(keys[begin:end]))
		begin = end
	}
	for i, p := range protocols {
		if p.Kind != format.Null {
			s.Shape[i].Protocol = n.Protocols.Of(string(p.Bytes))
		}
	}
	return nil
}

// Labels returns the distinct labels of places, and the index of each place's label.
func (n *numbers) Labels() (labels []string, ofPlace []int32) {
	all := NewNames()
	for _, p := range n.Places {
		ofPlace = append(ofPlace, all.Of(p.Label()))
	}
	return all.List, ofPlace
}

// Addresses numbers the addresses of all places, over both families, without ports.
func (n *numbers) Addresses() []int32 {
	addresses, of := NewNames(), make([]int32, len(n.Places))
	for i := range n.Places {
		of[i] = addresses.Of(n.Places[i].Address)
	}
	return of
}

// isProbe reports whether findings leave out a connect.
func (n *numbers) isProbe(p int32, s *shape) bool {
	to := &n.Places[p]
	return to.Family == familyUnspec || to.Port == 0 && s.dgram
}

// keep copies a value so that it outlives its row.
func keep(v format.Value) format.Value {
	v.Bytes = []byte(string(v.Bytes))
	return v
}

// inView returns functions that report whether the view has connections of a task, to an endpoint, and of a shape.
func (s *SegmentSource) inView(ctx context.Context) (has [3]func(int64) bool, err error) {
	for i, sql := range []string{`SELECT t.id FROM task t JOIN process p ON p.id = t.process`, `SELECT id FROM endpoint`, `SELECT id FROM shape`} {
		ids, err := s.list(ctx, sql)
		if err != nil {
			return has, err
		}
		has[i] = among(ids)
	}
	return has, nil
}

// among returns a function that reports whether an id is in a list, fast where ids are small.
func among(ids []int64) func(int64) bool {
	if listed := bitmap(ids); listed != nil {
		return func(id int64) bool { return uint64(id) < uint64(len(listed)) && listed[id] }
	}
	all := make(map[int64]bool)
	for _, id := range ids {
		all[id] = true
	}
	return func(id int64) bool { return all[id] }
}
