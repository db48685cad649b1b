package tapedir

// LogDir is the directory of the log inside a tape.
const LogDir = "log"
