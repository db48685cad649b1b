package input

import "strings"

// Nearest returns the name nearest to a misspelt word, "" if none is near: at most one letter in three may differ, and
// swapped neighbours count as one. A prefix of a name is near it.
func Nearest(word string, names []string) string {
	word = strings.ToLower(word)
	best, bestAt := "", max(1, len(word)/3)+1
	for _, name := range names {
		if d := distance(word, strings.ToLower(name)); d < bestAt {
			best, bestAt = name, d
		}
	}
	if best != "" || len(word) < 2 {
		return best
	}
	for _, name := range names {
		if strings.HasPrefix(name, word) {
			return name
		}
	}
	return ""
}

// distance counts the letters to insert, delete, replace, or swap with their
// neighbour, to turn a into b.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, this := rows[0], rows[1], rows[2]
		this[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			this[j] = min(change, last[j]+1, this[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				this[j] = min(this[j], before[j-2]+1)
			}
		}
		rows[0], rows[1], rows[2] = last, this, before
	}
	return rows[1][len(b)]
}
