// Package migrations holds the numbered SQL files that make a segment. A
// segment keeps the schema it was born with; files here are never edited after
// a release, only added to.
package migrations
