package tapelog

// Causes of an expiry.
const (
	ExpiredAge  = "age"  // older than MaxAge
	ExpiredSize = "size" // the tape would be larger than MaxBytes
	ExpiredFull = "full" // the file system was full
)
