// Package query describes what a tape can be asked: the views and functions of docs/schema.md, the list of canned queries, and
// the words that a prompt completes.
//
// The answers are made below it: package ask runs SQL, package table makes a tape's segments tables for it, package report
// answers canned queries, package format writes answers and package coverage says what they cover. An import points from
// query to report, table, ask, format, coverage and input, in this order.
package query
