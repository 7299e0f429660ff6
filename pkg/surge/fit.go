package surge

import (
	"math"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

const (
	// Least number of references that say anything.
	fewest = 3
	// The prior of the dispersion (variance over mean): as much as so many sources tell whose variance is the mean times
	// 1 + clustering for each hour of the window. Sources come in groups, one operator with several addresses, and one may
	// come back in every hour. A past of zeros tells nothing about dispersion, however long it is, hence sources.
	priorWeight     = 20
	priorClustering = 0.5
	// The prior of the mean: half a source in the whole past (the mean of Jeffreys' prior of a Poisson rate).
	priorSources = 0.5
	// The side on which the variance is uncertain that matters.
	varianceLimit = 0.05
)

// reference is the count of a window of the past. Weekday 0 is that of the window judged.
type reference struct {
	weekday int
	value   float64
}

// expectation is the distribution of a count, negative binomial.
type expectation struct{ mean, variance float64 }

func (e *expectation) deviation() float64 { return math.Sqrt(e.variance) }

// tail is the probability of a count of at least c: with size k = mean^2 / (variance - mean) it is the regularised
// incomplete beta function of mean/(mean + k) at (c, k).
func (e *expectation) tail(c float64) float64 {
	if c <= 0 {
		return 1
	}
	k := e.mean * e.mean / (e.variance - e.mean)
	return mathext.RegIncBeta(c, k, e.mean/(e.mean+k))
}

// limits are the factors that put a variance at the upper limit of its uncertainty, by degrees of freedom: there are few of
// them, and each takes longer than all the rest of a fit.
type limits map[float64]float64

func (l limits) of(freedom float64) float64 {
	f, ok := l[freedom]
	if !ok {
		f = freedom / (distuv.ChiSquared{K: freedom}).Quantile(varianceLimit)
		l[freedom] = f
	}
	return f
}

// fit estimates the distribution of a window of w hours from references; nil if there are too few.
func (l limits) fit(refs []reference, w int) *expectation {
	n := float64(len(refs))
	if len(refs) < fewest {
		return nil
	}
	var count, total [7]float64
	all := 0.0
	for _, r := range refs {
		count[r.weekday]++
		total[r.weekday] += r.value
		all += r.value
	}
	overall := all / n
	within, between, squares, groups := 0.0, 0.0, 0.0, 0.0
	for g := range count {
		if count[g] > 0 {
			groups++
			squares += count[g] * count[g]
			between += count[g] * (total[g]/count[g] - overall) * (total[g]/count[g] - overall)
		}
	}
	for _, r := range refs {
		x := r.value - total[r.weekday]/count[r.weekday]
		within += x * x
	}
	// With one reference a weekday the spread over all days is all there is.
	freedom := n - groups
	if freedom < groups {
		within, freedom, between, groups = within+between, n-1, 0, 1
	}
	mean, err := credible(overall, count[0], total[0], credibility{n, within / freedom, between, squares, groups})
	mean += priorSources / n
	dispersion := (all*within/(freedom*mean) + priorWeight*(1+priorClustering*math.Sqrt(float64(w)))) / (all + priorWeight)
	// Counts of groups spread with the square of their mean: a weekday that is busier than the others spreads more than in proportion.
	variance := dispersion * mean * max(1, mean/(overall+priorSources/n))
	independent := freedom
	if w == 1 {
		independent = max(independent/3, fewest) // Neighbouring hours say nearly the same.
	}
	variance *= l.of(independent)
	// Room above the mean keeps the size finite.
	return &expectation{mean: mean, variance: max(variance+err, mean*1.01)}
}

// credibility is what Bühlmann's estimate needs: number of references, variance within weekdays, sum of squares between
// them, sum of squared group sizes, number of groups.
type credibility struct{ n, within, between, squares, groups float64 }

// credible is the mean of weekday 0, drawn towards the overall mean, and the variance of its error.
func credible(overall, count, total float64, c credibility) (mean, err float64) {
	effect := 0.0 // variance of the true means of weekdays
	if c.groups > 1 {
		effect = max(0, (c.between-(c.groups-1)*c.within)/(c.n-c.squares/c.n))
	}
	if count == 0 || effect == 0 {
		return overall, effect + c.within/c.n
	}
	z := effect / (effect + c.within/count)
	return z*total/count + (1-z)*overall, z*c.within/count + (1-z)*c.within/c.n
}
