package input

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

var sizeForm = regexp.MustCompile(`^([0-9]+) ?(?:b|(k|m|g|t)(?:i?b)?)?$`)

// ParseSize reads a number of bytes with an optional unit: 4096, 64K, 64KB and
// 64KiB are all multiples of 1024.
func ParseSize(text string) (int64, error) {
	part := sizeForm.FindStringSubmatch(strings.ToLower(strings.TrimSpace(text)))
	if part == nil {
		return 0, Usagef("try 16MiB or 1GiB", "cannot read size %q", text)
	}
	shift := 0
	if part[2] != "" {
		shift = 10 * (1 + strings.Index("kmgt", part[2]))
	}
	n, err := strconv.ParseInt(part[1], 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, Usagef("try 16MiB or 1GiB", "size %q is too large", text)
	}
	return n << shift, nil
}
