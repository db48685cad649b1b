package tapelog

import (
	"fmt"
	"slices"
	"time"
)

// mark is a checkpoint kept beside the log, with its cosignatures.
type mark struct {
	Checkpoint
	by    []Cosigned // of the given witnesses
	found bool       // the log reached this size
	right bool       // with the same root
}

// readMarks reads the cosigned checkpoints. Without a given witness the signatures prove nothing, but the log must match
// each checkpoint anyway.
func (v *verifier) readMarks() error {
	var witnesses []*Witness
	for _, text := range v.o.Witnesses {
		w, err := ParseWitness(text)
		if err != nil {
			return err
		}
		witnesses = append(witnesses, w)
	}
	notes, err := readCosigned(v.files)
	if err != nil {
		return err
	}
	for _, signed := range notes {
		c, _, err := ParseHead(signed)
		if err != nil {
			continue // splitCosigned has checked it
		}
		m := &mark{Checkpoint: c}
		for _, w := range witnesses {
			_, at, found, ok := w.cosignature(signed)
			if ok {
				m.by = append(m.by, Cosigned{Witness: w.Name(), Leaves: c.Size, At: at, Note: signed})
			} else if found {
				v.find(-1, cosignedName, time.Time{}, "the cosignature of %s is not good: it was altered, or the checkpoint above it", w.Name())
			}
		}
		v.marks = append(v.marks, m)
	}
	for _, w := range witnesses {
		if !slices.ContainsFunc(v.marks, func(m *mark) bool { return m.cosignedBy(w.Name()) }) {
			v.find(-1, cosignedName, time.Time{}, "there is no cosignature of %s: it was never asked, or what it said was removed", w.Name())
		}
	}
	return nil
}

func (m *mark) cosignedBy(name string) bool {
	return slices.ContainsFunc(m.by, func(c Cosigned) bool { return c.Witness == name })
}

// checkMarks compares the tree with the checkpoints of its size.
func (v *verifier) checkMarks() {
	for _, m := range v.marks {
		if m.Size == v.tree.size && m.Origin == v.origin {
			root, err := v.tree.root()
			m.found, m.right = true, m.right || err == nil && root == m.Root
		}
	}
}

// compareMarks reports problems with the checkpoints at the log's end.
func (v *verifier) compareMarks() {
	for _, m := range v.marks {
		who := "a witness"
		if len(m.by) > 0 {
			who = m.by[0].Witness + " at " + m.by[0].At.Format(time.RFC3339)
		}
		problem := ""
		switch {
		case m.right:
			v.result.Cosigned = append(v.result.Cosigned, m.by...)
		case m.found:
			problem = fmt.Sprintf("the first %d leaves are not those that were cosigned by %s: history was rewritten", m.Size, who)
		case m.Origin != v.origin:
			if len(m.by) > 0 {
				problem = fmt.Sprintf("what was cosigned by %s is %s, and this log is %s", who, m.Origin, v.origin)
			}
		case m.Size > v.tree.size && !v.lost:
			problem = fmt.Sprintf("the log ends with leaf %d, and %d leaves were cosigned by %s: the end was cut off, or the tape rolled back", v.tree.size-1, m.Size, who)
		case len(m.by) > 0:
			problem = fmt.Sprintf("the %d leaves that were cosigned by %s cannot be compared: they were removed from the log, or are damaged", m.Size, who)
		}
		if problem != "" {
			v.find(min(m.Size, v.tree.size), "", v.since(), "%s", problem)
		}
	}
}
