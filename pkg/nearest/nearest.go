// Package nearest finds what somebody meant who mistyped a name.
package nearest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Hint is the end of a sentence that said that there is no such name: it asks for the nearest of names
// if one is within a third of the name's length in edits (at least two), and else lists them all. It
// is empty where there are no names.
func Hint(name string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	best, least := "", 0
	for _, n := range names {
		if d := levenshtein.ComputeDistance(name, n); best == "" || d < least {
			best, least = n, d
		}
	}
	if least <= max(2, len(name)/3) {
		return fmt.Sprintf(", did you mean %q?", best)
	}
	return ", there are: " + strings.Join(names, ", ")
}

// Order returns the names, nearest first; names that are equally near in their order.
func Order(name string, names []string) []string {
	out := slices.Clone(names)
	slices.SortStableFunc(out, func(a, b string) int {
		return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
	})
	return out
}
