// Package nearest finds the known word that a mistyped one was probably meant to be.
//
// [Word] is all there is to it. The distance is the restricted Damerau-Levenshtein distance (insert, delete,
// replace, swap of neighbours), without regard to case.
package nearest

import "strings"

// Word returns the word of known that is nearest to typed, or "" when none is near: more than a third of the
// longer word's letters would have to change. Of equally near words the first wins.
func Word(typed string, known []string) string {
	typed = strings.ToLower(typed)
	if len(typed) > 64 {
		return "" // no word; and the table below grows with the square
	}
	best, bestDistance := "", 1<<30
	for _, word := range known {
		d := distance(typed, strings.ToLower(word))
		if d < bestDistance && d*3 <= max(len(typed), len(word)) {
			best, bestDistance = word, d
		}
	}
	return best
}

func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
