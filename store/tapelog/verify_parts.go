package tapelog

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// list lists the parts and reads their headers.
func (v *verifier) list() ([]int, error) {
	names, err := v.files.list()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list log: %w", err)
	}
	v.nexts = map[int]*partHeader{}
	var numbers []int
	all := partNumbers(names)
	for i, n := range all {
		header, unborn, err := v.readHeader(n)
		switch {
		case errors.Is(err, errPart) && unborn && i == len(all)-1:
			v.result.Torn = true // a recorder was killed when it began this part
			continue
		case errors.Is(err, errPart):
			v.find(-1, partName(n), time.Time{}, "the part does not begin as it should: it is damaged, or no part of a log")
			continue
		case err != nil:
			return nil, err
		}
		v.nexts[n] = header
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 && len(v.result.Findings) == 0 {
		return nil, ErrNoLog
	}
	v.numbers = numbers
	return numbers, nil
}

func (v *verifier) readHeader(n int) (header *partHeader, unborn bool, err error) {
	f, err := v.files.read(partName(n))
	if err != nil {
		return nil, false, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	p, err := examineHeader(f)
	if err != nil {
		if p != nil {
			unborn = p.unborn
		}
		return nil, unborn, err
	}
	return p.header, false, nil
}
