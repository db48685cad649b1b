package tapelog

// Why retention removed a segment.
const (
	ExpiredAge  = "age"  // older than MaxAge
	ExpiredSize = "size" // the tape would be larger than MaxBytes
	ExpiredFull = "full" // the file system took no more
)
