package table

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/conntape/conntape/query/format"
	"github.com/conntape/conntape/store"
)

// cookieSegments is the number of segments searched, from the newest on: one may be sealed meanwhile.
const cookieSegments = 2

// FindCookies returns the socket cookies that the newest connections of a tape have.
func FindCookies(ctx context.Context, tape *store.Tape, cookies []uint64) (map[uint64]bool, error) {
	list := make([]string, len(cookies))
	for i, cookie := range cookies {
		list[i] = strconv.FormatInt(int64(cookie), 10)
	}
	found := make(map[uint64]bool)
	sources := Of(tape).Sources()
	for _, s := range slices.Backward(sources[max(0, len(sources)-cookieSegments):]) {
		err := s.each(ctx, "SELECT DISTINCT cookie FROM connection WHERE cookie IN ("+strings.Join(list, ",")+")", func(row []format.Value) {
			found[uint64(row[0].Int)] = true
		})
		if err != nil {
			return nil, err
		}
	}
	return found, ctx.Err()
}
