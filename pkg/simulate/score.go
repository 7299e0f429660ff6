package simulate

import (
	"cmp"
	"slices"

	"murmuration/pkg/detect"
)

// Score compares what was found with what is true.
type Score struct {
	Campaigns []CampaignScore // one per true campaign that can be decided
	False     int             // found campaigns of which no true campaign holds half of the members
	Found     int
	// Precision, Recall and F1 are of membership in any campaign, over all sources.
	Precision, Recall, F1 float64
}

// CampaignScore says how well one true campaign was found.
type CampaignScore struct {
	Name      string
	Sources   int
	Pieces    int // found campaigns whose members are mostly of this one
	Jaccard   float64
	Precision float64 // of the best match
	Recall    float64
	F1        float64
	Evidence  float64
	Pattern   detect.Pattern
	Cut       detect.Cut
}

// Judge scores found member lists against the truth. Undecidable campaigns count neither for nor against.
func Judge(truth []Truth, found []detect.Campaign) Score {
	lists := make([][]int, len(found))
	for i := range found {
		for _, m := range found[i].Members {
			lists[i] = append(lists[i], m.Source)
		}
	}
	s := JudgeLists(truth, lists)
	for i := range s.Campaigns {
		c := &s.Campaigns[i]
		t := truth[slices.IndexFunc(truth, func(t Truth) bool { return t.Name == c.Name })]
		if k := best(t, lists); k >= 0 {
			c.Evidence, c.Pattern, c.Cut = found[k].Evidence, found[k].Pattern, found[k].Cut
		}
	}
	return s
}

// JudgeLists is Judge for any method that returns lists of sources.
func JudgeLists(truth []Truth, found [][]int) Score {
	s := Score{Found: len(found)}
	owner := map[int]int{}
	for i, t := range truth {
		for _, m := range t.Sources {
			owner[m] = i
		}
	}
	pieces := make([]int, len(truth))
	claimed, right := map[int]bool{}, map[int]bool{}
	for _, list := range found {
		count := make([]int, len(truth))
		for _, m := range list {
			if i, ok := owner[m]; ok {
				count[i]++
			}
		}
		top := -1
		for i, n := range count {
			if 2*n > len(list) && (top < 0 || n > count[top]) {
				top = i
			}
		}
		if top < 0 {
			s.False++
		} else {
			pieces[top]++
		}
		if top >= 0 && !truth[top].Decidable {
			continue
		}
		for _, m := range list {
			claimed[m] = true
			if i, ok := owner[m]; ok && i == top {
				right[m] = true
			}
		}
	}
	members := 0
	for i, t := range truth {
		if !t.Decidable {
			continue
		}
		members += len(t.Sources)
		c := CampaignScore{Name: t.Name, Sources: len(t.Sources), Pieces: pieces[i]}
		if k := best(t, found); k >= 0 {
			both := common(t.Sources, found[k])
			c.Precision = ratio(both, len(found[k]))
			c.Recall = ratio(both, len(t.Sources))
			c.Jaccard = ratio(both, len(found[k])+len(t.Sources)-both)
			c.F1 = harmonic(c.Precision, c.Recall)
		}
		s.Campaigns = append(s.Campaigns, c)
	}
	s.Precision = 1
	if len(claimed) > 0 {
		s.Precision = ratio(len(right), len(claimed))
	}
	s.Recall = 1
	if members > 0 {
		s.Recall = ratio(len(right), members)
	}
	s.F1 = harmonic(s.Precision, s.Recall)
	return s
}

// best returns the found list with the greatest Jaccard index, -1 where none shares a source.
func best(t Truth, found [][]int) int {
	at, top := -1, 0.0
	for k, list := range found {
		both := common(t.Sources, list)
		if j := ratio(both, len(list)+len(t.Sources)-both); j > top {
			at, top = k, j
		}
	}
	return at
}

// common counts the members of list that are in sorted.
func common(sorted, list []int) int {
	n := 0
	for _, m := range list {
		if _, ok := slices.BinarySearchFunc(sorted, m, cmp.Compare[int]); ok {
			n++
		}
	}
	return n
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func harmonic(p, r float64) float64 {
	if p+r == 0 {
		return 0
	}
	return 2 * p * r / (p + r)
}
