package tapedir

const SealingSuffix = ".sealing"

const DamagedSuffix = ".damaged"

// ExpiringSuffix is the name of a segment while it is removed: a reader must not
// take it for one without a WAL when that has gone already.
const ExpiringSuffix = ".expiring"

// ReserveName is the name of the reserve in a tape.
const ReserveName = "reserve"
