// Package report answers the canned queries, the matching of indicators, comparisons, exports and tails.
//
// The SQL of a canned query over the views (canned/*.sql) defines its meaning. Some are answered faster by push-down (narrow.go)
// or by a plan over flows (plan.go), and give the same answer. It reads segments through package table alone.
package report
