package tapedir

const SealingSuffix = ".sealing"

const DamagedSuffix = ".damaged"

// ExpiringSuffix marks a segment during removal, so that a reader does not take it for a whole segment when its WAL is
// already gone.
const ExpiringSuffix = ".expiring"

// ReserveName is the name of the reserve in a tape.
const ReserveName = "reserve"
