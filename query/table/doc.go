// Package table makes the segments of a tape tables for SQL: connections and contacts, with push-down of what is compared.
// [RunSQL] answers a statement with them, and [ExplainSQL] says how.
//
// It is the only part of query that knows the tables of a segment and how sealed ones are packed. It hands them over as flows
// ([Reading]) and rows; it does not know what is asked of them.
package table
