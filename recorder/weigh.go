package recorder

import (
	"github.com/conntape/conntape/store"
)

// processSize is the memory that a description takes. One that is inherited has its texts in common with the parent's.
func processSize(p *store.Process) int64 {
	if p.Source == store.SourceFork {
		return processBytes
	}
	return processBytes + int64(len(p.Exe)+len(p.Script)+len(p.Cwd)+len(p.Cgroup)) + argvSize(p)
}

// argvSize is that of its arguments.
func argvSize(p *store.Process) (n int64) {
	for _, arg := range p.Argv {
		n += int64(len(arg)) + argBytes
	}
	return n
}

// endpointSize is the memory that an endpoint takes, and its place in the cache.
func endpointSize(e *store.Endpoint) int64 {
	n := endpointBytes + 2*int64(len(e.Raw)+len(e.Names)) + int64(len(e.Address))
	if e.Requested != nil { // its raw bytes are in the key
		n += int64(len(e.Requested.Raw))
	}
	return n
}

func weighEndpoint(_ string, e *store.Endpoint) int { return int(endpointSize(e)) }
