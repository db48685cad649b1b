package table

import (
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/ask"
	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
	"zombiezen.com/go/sqlite"
)

// outcomeColumns are the view's columns from a connection's outcome. The shape has the other columns about the result.
const outcomeColumns = "local_port established_ns duration_ns bytes_sent bytes_received retransmits rtt_us closed_by outcome_source open_ns"

// outcomeSQL is the latest stored outcome of a row of connection in its segment.
const outcomeSQL = `coalesce((SELECT f.outcome FROM ending f WHERE f.id = connection.id AND f.cookie = 0 ORDER BY f.batch DESC LIMIT 1), outcome)`

// localPortSQL is the local port at connect.
const localPortSQL = `(SELECT nullif(l.port, -1) FROM endpoint l WHERE l.id = connection.local)`

// laterShape returns shape columns of the view for connections whose final differs from the shape's.
func (s *Source) laterShape(conn *sqlite.Conn, shape, remote int64, final store.Final, columns []string) ([]format.Value, error) {
	view := NewKnownView()
	says := make([]string, len(columns))
	for i, column := range columns {
		says[i] = view.says[column]
	}
	stmt, _, err := conn.PrepareTransient("SELECT " + s.Tape.Recording(s.Index).In(strings.Join(says, ",\n")) +
		" FROM (" + shapeWithFinal(shape, shape, final) + ") s JOIN endpoint e ON e.id = " + strconv.FormatInt(remote, 10) + " JOIN " + oneConnection(Never)) // which time it is of does not matter
	if err != nil {
		return nil, err
	}
	defer stmt.Finalize()
	if more, err := stmt.Step(); err != nil || !more {
		return make([]format.Value, len(columns)), err
	}
	values := ask.NewRowReader(len(columns)).Read(stmt)
	for i := range values {
		values[i] = keep(values[i])
	}
	return values, nil
}

// shapeWithFinal is a row of shape with another id and another final.
func shapeWithFinal(shape, id int64, final store.Final) string {
	return "SELECT " + strconv.FormatInt(id, 10) + " AS id, socket_family, type, protocol, via, address_source, backend, hook_errno, errno, addrlen, " +
		final.SQL() + " AS final FROM shape WHERE id = " + strconv.FormatInt(shape, 10)
}

// fate is the outcome of a single row.
type fate struct {
	known bool
	store.StoredOutcome
	bound format.Nullable // local port
}

// read reads outcomeSQL's value and reports whether there is one.
func (f *fate) read(row *sqlite.Stmt, column int) bool {
	*f = fate{}
	switch row.ColumnType(column) {
	case sqlite.TypeNull:
		return true
	case sqlite.TypeBlob:
	default:
		return false
	}
	b := make([]byte, row.ColumnLen(column))
	row.ColumnBytes(column, b)
	var err error
	f.StoredOutcome, err = store.ParseOutcome(b)
	f.known = err == nil && len(b) > 0
	return f.known
}

// value returns one of outcomeColumns, except outcome_source.
func (f *fate) value(column string) format.Value {
	if column == "local_port" {
		if f.known && f.LocalPort != 0 {
			return format.IntValue(int64(f.LocalPort))
		}
		return f.bound.Cell()
	}
	if !f.known {
		return format.Value{}
	}
	n := store.Unmeasured
	switch column {
	case "established_ns":
		n = f.Established
	case "duration_ns":
		n = f.Duration
	case "bytes_sent":
		n = f.Sent
	case "bytes_received":
		n = f.Received
	case "retransmits":
		n = f.Retransmits
	case "rtt_us":
		n = f.RTT
	case "open_ns":
		if n = f.SeenOpen; n == 0 {
			n = store.Unmeasured
		}
	case "closed_by":
		switch f.ClosedBy {
		case store.ClosedByLocal:
			return format.TextValue("local")
		case store.ClosedByRemote:
			return format.TextValue("remote")
		}
	}
	if n == store.Unmeasured {
		return format.Value{}
	}
	return format.IntValue(n)
}
